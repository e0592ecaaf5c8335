"""`vscode_debug=True`: the dev container that is written is one in which the script can be debugged."""

import contextlib
import http.client
import json
import shlex
import stat
import sys
import threading
from pathlib import Path

import pytest
from docker.types import Mount
from tests.dap import Dap

from modelport import errors
from modelport.entities import CodeConfiguration, Environment, Model
from modelport.operations import vscode

SCRIPT = """
import json, os

def init():
    global factor
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "factor.txt")) as file:
        factor = int(file.read())

def run(raw_data):
    height = json.loads(raw_data)["height"]
    return [height * factor, os.environ["WHO"]]
"""
LINE = 1 + SCRIPT.splitlines().index('    return [height * factor, os.environ["WHO"]]')
WAITS = "while sleep 1000; do :; done"
"""What a dev container runs when `overrideCommand` says so."""

CODE = """#!{python}
import json, pathlib, sys
pathlib.Path({record!r}).write_text(json.dumps(sys.argv[1:]))
print("no window could be opened", file=sys.stderr)
sys.exit({status})
"""


@pytest.fixture
def code_command(tmp_path, monkeypatch):
    """Puts a program `code` on the PATH, which ends with a status; returns where it writes its arguments."""

    def put(status=0):
        folder = tmp_path / "bin"
        folder.mkdir()
        program, record = folder / "code", tmp_path / "arguments.json"
        program.write_text(CODE.format(python=sys.executable, record=str(record), status=status))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        return record

    return put


@pytest.fixture
def folder(sources):
    return Path(sources.code(SCRIPT))


@pytest.fixture
def deployment(sources, folder, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "factor.txt").write_text("3")
    return sources.deployment(
        code_configuration=CodeConfiguration(code=str(folder), scoring_script="score.py"),
        environment=Environment(image="modelport-test/base:bookworm"),
        model=Model(path=str(model / "factor.txt")),
    )


@pytest.fixture
def dev_container(docker_engine):
    """Runs what a devcontainer.json describes, as VS Code would; the container ends with the test."""
    made = []

    def run(document):
        def mount(said):
            named = dict(each.partition("=")[::2] for each in said.split(","))
            return Mount(named["target"], named["source"], type=named["type"], read_only="readonly" in named)

        (label, *more) = document["runArgs"]
        labels = dict(each.removeprefix("--label=").split("=", 1) for each in (label, *more))
        container = docker_engine.containers.run(
            document["image"],
            entrypoint="/bin/sh",
            command=["-c", WAITS],
            detach=True,
            init=True,
            environment=document["containerEnv"],
            labels=labels,
            mounts=[mount(document["workspaceMount"]), *map(mount, document["mounts"])],
            working_dir=document["workspaceFolder"],
        )
        made.append(container)
        started = container.exec_run(["/bin/sh", "-c", document["postStartCommand"]])
        assert started.exit_code == 0, started.output
        container.reload()
        (network,) = container.attrs["NetworkSettings"]["Networks"].values()
        return container, network["IPAddress"]

    yield run
    for each in made:
        each.remove(force=True, v=True)


def folder_told(poller):
    (told,) = [each for each in poller.messages() if each.startswith("The dev container is in ")]
    return Path(shlex.split(told.removesuffix("."))[-1])


def scored(host):
    """The answer of the server in the dev container; None while it is not there."""
    with contextlib.closing(http.client.HTTPConnection(host, 5001, timeout=30)) as connection:
        try:
            connection.connect()
        except ConnectionRefusedError:
            return None
        connection.request("POST", "/score", b'{"height": 2}')
        return json.load(connection.getresponse())


def attached(address, folder, line, until):
    """An editor with a breakpoint in the script, once debugpy waits for one."""

    def attach():
        try:
            return Dap(address)
        except ConnectionRefusedError:
            return None

    editor = until(attach)
    with editor:
        editor.attach(f"{folder}/score.py", line)
        yield editor


def test_the_script_can_be_debugged_in_the_dev_container_that_is_written(
    ml_client, deployment, folder, code_command, dev_container, until
):
    record = code_command()
    poller = ml_client.online_deployments.begin_create_or_update(deployment, local=True, vscode_debug=True)
    assert ml_client.online_endpoints.invoke("tides", input_data={"height": 2}, local=True).json() == [6, "blue"]

    place = folder_told(poller)
    document = json.loads((place / ".devcontainer" / "devcontainer.json").read_text())
    inside = f"/var/azureml-app/{folder.name}"
    assert document["image"].startswith("modelport/")
    assert document["workspaceFolder"] == inside
    flag, where = json.loads(record.read_text())
    assert (flag, where) == ("--folder-uri", f"vscode-remote://dev-container+{str(place).encode().hex()}{inside}")

    container, host = dev_container(document)
    # What is edited here is what runs there.
    (folder / "score.py").write_text(SCRIPT.replace("[height * factor", "[height + factor"))
    answers = []

    asking = threading.Thread(target=lambda: answers.append(until(lambda: scored(host))))
    configurations = document["customizations"]["vscode"]["settings"]["launch"]["configurations"]
    connect = next(each["connect"] for each in configurations if each["request"] == "attach")
    for editor in attached(f"{host}:{connect['port']}", inside, LINE, until):
        asking.start()
        thread, frame = editor.stopped()
        assert frame["line"] == LINE
        assert editor.variables(frame)["height"] == "2"
        editor.go_on(thread)
        asking.join(30)
    assert answers == [[5, "blue"]]
    assert container.exec_run(["touch", f"{inside}/made.txt"]).exit_code == 0
    assert (folder / "made.txt").exists()


def test_without_the_command_code_all_is_done_and_the_folder_is_named(
    docker_engine, ml_client, deployment, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.VSCodeCommandNotFound, match="'code' is not on the PATH") as caught:
        ml_client.online_deployments.begin_create_or_update(deployment, local=True, vscode_debug=True)
    place = Path(str(caught.value).partition("The dev container is in '")[2].partition("'")[0])
    assert json.loads((place / ".devcontainer" / "devcontainer.json").read_text())["name"] == "tides/blue"
    assert ml_client.online_endpoints.invoke("tides", input_data={"height": 2}, local=True).json() == [6, "blue"]


def test_a_command_code_that_fails_is_told_in_its_own_words(code_command, tmp_path):
    code_command(status=4)
    with pytest.raises(errors.VSCodeCommandNotFound, match=r"failed with 4: no window could be opened\. The dev"):
        vscode.opened(tmp_path, "/var/azureml-app/code")


def test_registered_code_has_no_folder_to_open(ml_client, deployment):
    deployment.code_configuration = CodeConfiguration(code="azureml:tides-code:1", scoring_script="score.py")
    with pytest.raises(errors.ValidationException, match=r"'azureml:tides-code:1' is registered\. Name its folder"):
        ml_client.online_deployments.begin_create_or_update(deployment, local=True, vscode_debug=True)


def test_what_is_no_container_of_ours_is_refused_by_its_name(tides, sources):
    tides.online_deployments.begin_create_or_update(sources.deployment()).result(120)
    service = tides.online_deployments._service
    with pytest.raises(errors.UnsupportedByBackend, match=r"Deployment 'blue' of 'tides' has no container"):
        service.ask("POST", "onlineEndpoints/tides/deployments/blue/container")
