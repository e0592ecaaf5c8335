"""Bad input: one exception with the thing, the fault and the remedy, and what serves goes on."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import BASE, Sources, lived_in

from modelport.entities import (
    BuildContext,
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    ProbeSettings,
)
from modelport.errors import (
    ImageBuildFailure,
    OperationInProgress,
    ResourceNotFoundError,
    ResourceNotReady,
    UnsupportedByBackend,
    UserScriptFunctionNotFound,
    UserScriptImportError,
    UserScriptInitFailed,
    ValidationException,
)
from modelport.operations.loading import load_online_deployment, load_online_endpoint

GOOD = "def init(): pass\ndef run(raw): return 1\n"
BLUE = "Deployment 'blue' of 'tides'"
QUICK = ProbeSettings(initial_delay=6, period=1, failure_threshold=1)


@pytest.fixture(scope="module", params=["process", "docker"])
def backend(request):
    if request.param == "docker":
        request.getfixturevalue("docker_engine")
    return request.param


@pytest.fixture(scope="module")
def live(backend, tmp_path_factory):
    """As everywhere, with each backend."""
    with lived_in(tmp_path_factory.mktemp("live"), backend) as client:
        yield client


@pytest.fixture
def sources(backend, tmp_path):
    return Sources(tmp_path, Environment(image=BASE) if backend == "docker" else None)


on_processes = pytest.mark.parametrize("backend", ["process"], indirect=True)


@pytest.fixture
def untouched(live):
    """What serves before the test serves after it, by the same process, with the same record."""

    def now():
        answer = live.online_endpoints.invoke("tides", input_data=1)
        return answer.json()["pid"], live.online_deployments.get("blue", "tides")

    before = now()
    yield
    pid, record = now()
    assert pid == before[0]
    assert record == before[1]


@pytest.fixture
def refused(live, untouched):
    """The error of a deployment that is refused before anything is stored."""

    def put(deployment, **said):
        with pytest.raises(ValidationException) as caught:
            live.online_deployments.begin_create_or_update(deployment, **said)
        return caught.value

    return put


@pytest.fixture
def failed(live, sources):
    """The error of an update of `blue` that fails while the old one serves on."""

    def put(**values):
        before = live.online_endpoints.invoke("tides", input_data=1).json()["pid"]
        with pytest.raises(Exception) as caught:
            live.online_deployments.begin_create_or_update(sources.deployment(**values)).result(120)
        assert live.online_endpoints.invoke("tides", input_data=1).json()["pid"] == before
        assert live.online_deployments.get("blue", "tides").provisioning_state == "Failed"
        assert sources.alive() == set()
        return caught.value

    return put


# Names and files


@pytest.mark.parametrize(
    ("name", "fault"), [("ab", "at least 3"), ("a" * 33, "at most 32"), ("1abc", "start with"), ("a_b", "only consist")]
)
@pytest.mark.parametrize("kind", [ManagedOnlineEndpoint, ManagedOnlineDeployment])
def test_a_name_that_azure_would_refuse(kind, name, fault):
    with pytest.raises(ValidationException, match=fault) as caught:
        kind(name=name)
    assert f"'{name}'" in str(caught.value)


def test_a_typo_in_a_file_is_told_with_its_line_and_the_nearest_field(tmp_path):
    (tmp_path / "endpoint.yml").write_text("name: tides\nauth_mod: key\n")
    with pytest.raises(ValidationException) as caught:
        load_online_endpoint(tmp_path / "endpoint.yml")
    for part in ("endpoint.yml", "auth_mod", "auth_mode", "2"):
        assert part in str(caught.value)
    (tmp_path / "blue.yml").write_text("name: blue\nendpoint_name: tides\nrequest_settings:\n  request_timeout: 5\n")
    with pytest.raises(ValidationException, match="request_timeout_ms"):
        load_online_deployment(tmp_path / "blue.yml")


def test_a_missing_file_is_told_by_its_name(tmp_path):
    with pytest.raises(ValidationException, match=r"missing\.yml"):
        load_online_endpoint(tmp_path / "missing.yml")


# What is missing on this machine


def test_everything_that_is_missing_is_told_at_once_and_nothing_is_sent(refused, tmp_path, sources):
    deployment = sources.deployment(
        model=Model(path=str(tmp_path / "model.bin")),
        code_configuration=CodeConfiguration(code=str(tmp_path / "code"), scoring_script="score.py"),
        environment=Environment(image=BASE, conda_file=str(tmp_path / "conda.yml")),
    )
    error = refused(deployment)
    assert str(error).startswith(f"{BLUE}: ")
    for what in (
        f"The model '{tmp_path}/model.bin' does not exist",
        f"The code folder '{tmp_path}/code' does not exist",
        f"The conda file '{tmp_path}/conda.yml' does not exist",
    ):
        assert what in str(error)
    assert {each["target"] for each in error.details} == {
        "model.path",
        "code_configuration.code",
        "environment.conda_file",
    }


@pytest.mark.parametrize("variables", [{"A=B": "1"}, {"": "1"}, {"A": "1\0"}, {"A\0": "1"}])
def test_a_variable_that_no_program_can_be_given_is_refused(refused, sources, variables):
    message = str(refused(sources.deployment(environment_variables=variables)))
    assert f"environment_variables: {next(iter(variables))!r} cannot be given to a program" in message


def test_a_mount_path_that_is_not_absolute_is_refused(refused, sources):
    message = str(refused(sources.deployment(model_mount_path="var/tides")))
    assert "model_mount_path: 'var/tides' is not absolute. Write '/var/tides'." in message


def test_a_missing_script_is_told_with_what_is_there(refused, sources):
    code = CodeConfiguration(code=sources.code(), scoring_script="main.py")
    error = refused(sources.deployment(code_configuration=code))
    assert f"{BLUE}: code_configuration.scoring_script: 'main.py' is not in" in str(error)
    assert "which has score.py" in str(error)


def test_a_script_in_the_place_of_its_folder_is_told(refused, sources):
    code = CodeConfiguration(code=str(Path(sources.code()) / "score.py"), scoring_script="score.py")
    assert "is a file: name its folder" in str(refused(sources.deployment(code_configuration=code)))


# What can be seen in the script


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("def run(raw): return 1\n", "has no init() function"),
        ("def init(): pass\n", "has no run() function"),
        ("", "has no init() function"),
        ("def init(): pass\ndef run(raw: return 1\n", "line 2: "),
    ],
)
def test_a_script_that_cannot_serve_is_told_before_it_is_sent(refused, sources, script, fault):
    error = refused(sources.deployment(script=script))
    assert str(error).startswith(f"{BLUE}: code_configuration.scoring_script: ")
    assert fault in str(error)
    assert "skip_script_validation=True" in str(error)


@on_processes
def test_a_script_that_takes_its_functions_from_elsewhere_is_let_through(tides, sources):
    code = CodeConfiguration(code=sources.code("from serving import *\n", serving=GOOD), scoring_script="score.py")
    tides.online_deployments.begin_create_or_update(sources.deployment(code_configuration=code)).result(60)


def test_a_script_that_was_not_looked_into_fails_when_it_is_loaded(live, sources, until):
    deployment = sources.deployment("teal", script="def init(): pass\n")
    poller = live.online_deployments.begin_create_or_update(deployment, skip_script_validation=True)
    with pytest.raises(
        UserScriptFunctionNotFound, match=r"'teal' of 'tides' failed: score\.py has no run\(\) function"
    ):
        poller.result(60)
    live.online_deployments.begin_delete("teal", "tides").result(60)


# What only running it shows


def test_an_import_that_fails(failed):
    error = failed(script="import sklearn_of_old\n" + GOOD)
    assert isinstance(error, UserScriptImportError)
    assert f"{BLUE} failed: " in str(error)
    assert "ModuleNotFoundError: No module named 'sklearn_of_old' (score.py, line 1)" in str(error)
    assert "Add the package to the environment's conda file" in str(error)


def test_an_import_of_what_another_version_of_a_package_has(failed):
    error = failed(script="import json.tides\n" + GOOD)
    assert "Where 'json' is there in another version than the model was saved with, pin that version" in str(error)


def test_an_init_that_raises(failed):
    error = failed(script="def init():\n    raise KeyError('tide')\ndef run(raw): return 1\n")
    assert isinstance(error, UserScriptInitFailed)
    assert f"{BLUE} failed: init() raised KeyError: 'tide' (score.py, line 2)" in str(error)


def test_an_init_that_ends_the_process(failed):
    error = failed(script="import sys\ndef init(): sys.exit(3)\ndef run(raw): return 1\n")
    assert isinstance(error, UserScriptInitFailed)
    assert "sys.exit(3)" in str(error)


def test_an_init_that_never_returns(failed, monkeypatch):
    monkeypatch.setattr("modelport.backends.supervisor.DUMP", 3)
    hangs = "import time\ndef init():\n    while True: time.sleep(1)\ndef run(raw): return 1\n"
    error = failed(script=hangs, readiness_probe=QUICK, liveness_probe=QUICK)
    assert isinstance(error, ResourceNotReady)
    assert f"{BLUE} failed: " in str(error)
    assert "initial_delay" in str(error)
    assert "The script is at score.py, line 3, in init" in str(error)


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("os._exit(7)", "ended with exit code 7 before it was ready"),
        ("ctypes.string_at(0)", "was ended by signal SIGSEGV before it was ready (score.py, line 4, in init)"),
    ],
)
def test_an_init_that_kills_its_process(failed, death, how):
    says = f"import ctypes, os, signal\ndef init():\n    print('loading the weights', flush=True)\n    {death}\n"
    error = failed(script=says + "def run(raw): return 1\n")
    assert f"{BLUE} failed: A replica {how}" in str(error)
    assert "loading the weights" in str(error)


# Environments


def test_a_requirement_that_does_not_exist(failed):
    pip = {"pip": ["modelport-there-is-no-such-package==9.9"]}
    error = failed(environment=Environment(image=BASE, conda_file={"dependencies": [pip]}))
    assert isinstance(error, ImageBuildFailure)
    assert "modelport-there-is-no-such-package" in str(error)


def test_lines_that_are_no_conda_packages(refused, sources):
    conda_file = {"channels": ["./mine"], "dependencies": ["python", "r-base==="]}
    error = refused(sources.deployment(environment=Environment(image=BASE, conda_file=conda_file)))
    assert isinstance(error, ValidationException)
    assert "'r-base===' is not a conda package" in str(error)
    assert "'./mine' is a path" in str(error)


def test_a_conda_package_that_does_not_exist(failed, tmp_path):
    (tmp_path / "noarch").mkdir()
    (tmp_path / "noarch" / "repodata.json").write_text('{"packages": {}, "packages.conda": {}}')
    conda_file = {"channels": [tmp_path.as_uri()], "dependencies": ["r-base=4.3"]}
    error = failed(environment=Environment(image=BASE, conda_file=conda_file))
    assert isinstance(error, ImageBuildFailure)
    assert f"'r-base=4.3' (dependencies[0]) cannot be had: {tmp_path.as_uri()} has no such package" in str(error)


@on_processes
@pytest.mark.parametrize(
    ("environment", "code", "fault"),
    [
        (Environment(image="mcr/x"), False, "no code_configuration: serving its image 'mcr/x'"),
        (Environment(image="mcr/x", inference_config={"scoring_route": {"port": 80, "path": "/"}}), True, "inference_"),
        (None, True, "Dockerfile"),
    ],
)
def test_what_only_a_container_can_give(refused, sources, tmp_path, environment, code, fault):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    environment = environment or Environment(build=BuildContext(path=str(tmp_path)))
    values = {} if code else {"code_configuration": None}
    error = refused(sources.deployment(environment=environment, **values))
    assert isinstance(error, UnsupportedByBackend)
    assert BLUE in str(error)
    assert fault in str(error)
    assert 'MLClient.local(backend="docker")' in str(error)


@pytest.mark.parametrize("what", ["model", "environment"])
def test_an_asset_that_is_not_there(live, untouched, sources, what):
    deployment = sources.deployment(**{what: "azureml:nobody:7"})
    with pytest.raises(ResourceNotFoundError, match=f"{BLUE} names {what} .*nobody.* not in this workspace. Create it"):
        live.online_deployments.begin_create_or_update(deployment)


def test_an_asset_without_a_version(refused, sources):
    assert "azureml:nobody@latest" in str(refused(sources.deployment(model="azureml:nobody")))


def test_an_endpoint_that_is_not_there(live, sources):
    with pytest.raises(ResourceNotFoundError, match="Endpoint 'nobody' does not exist"):
        live.online_deployments.begin_create_or_update(sources.deployment(endpoint="nobody"))


def test_what_is_asked_of_something_that_is_not_there(live):
    with pytest.raises(ResourceNotFoundError, match=r"^Deployment 'nobody' of 'tides' does not exist"):
        live.online_deployments.get_logs("nobody", "tides", 10)
    with pytest.raises(ResourceNotFoundError, match=r"^Endpoint 'nobody' does not exist"):
        live.online_endpoints.get_keys("nobody")


@pytest.mark.parametrize("said", ["vscode_debug", "local_enable_gpu"])
def test_what_needs_a_container_of_this_machine_says_so(refused, sources, said):
    assert f"{said} needs local=True" in str(refused(sources.deployment(), **{said: True}))


def test_what_is_no_entity(live):
    with pytest.raises(TypeError, match="create_or_update docstring for valid input types"):
        live.begin_create_or_update(Model(path="x"))


# Two at once


def _at_once(count, act):
    """What `count` threads got from `act`: results and errors."""
    start = threading.Barrier(count)

    def run():
        start.wait(30)
        return act()

    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(run) for _ in range(count)]
        return [each.exception() or each.result() for each in futures]


def test_two_clients_that_create_the_same_endpoint(ml_client):
    endpoint = ManagedOnlineEndpoint(name="tides")
    found = _at_once(4, lambda: ml_client.online_endpoints.begin_create_or_update(endpoint).result(60))
    made = [each for each in found if not isinstance(each, Exception)]
    assert made
    for each in found:
        if isinstance(each, Exception):
            assert isinstance(each, OperationInProgress)
            assert "Another operation on Endpoint 'tides' has not ended. Wait for its poller" in str(each)
    assert ml_client.online_endpoints.get("tides").provisioning_state == "Succeeded"


@on_processes
def test_two_clients_that_create_the_same_deployment(tides, sources, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    code = CodeConfiguration(code=sources.code(), scoring_script="score.py")
    deployment = sources.deployment(code_configuration=code, model=Model(path=str(tmp_path / "model.bin")))
    found = _at_once(4, lambda: tides.online_deployments.begin_create_or_update(deployment).result(60))
    assert any(not isinstance(each, Exception) for each in found)
    assert all(isinstance(each, OperationInProgress) for each in found if isinstance(each, Exception)), found
    answer = tides.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
    assert {json.loads(answer)["pid"]} == sources.alive() == sources.started()


def test_two_clients_that_register_the_same_model(ml_client, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    model = Model(name="moon", version="1", path=str(tmp_path / "model.bin"))
    found = _at_once(4, lambda: ml_client.models.create_or_update(model))
    assert [each for each in found if isinstance(each, Exception)] == []
    assert len({each.path for each in found}) == 1


@pytest.mark.parametrize("said", ["tides", None, {"name": "tides"}, 3])
def test_something_that_is_no_entity_is_named(live, said):
    with pytest.raises(TypeError, match=rf"takes an OnlineEndpoint, not {type(said).__name__}"):
        live.online_endpoints.begin_create_or_update(said)
    with pytest.raises(TypeError, match=rf"takes an OnlineDeployment, not {type(said).__name__}"):
        live.online_deployments.begin_create_or_update(said)


def test_what_a_conda_file_asks_in_vain_is_warned_of(live, sources, caplog, tmp_path):
    conda = tmp_path / "conda.yml"
    conda.write_text("dependencies: [python]\nvariables: {TIDE: high}")
    deployment = sources.deployment("red", environment=Environment(image=BASE, conda_file=conda))
    poller = live.online_deployments.begin_create_or_update(deployment)
    poller.result(120)
    assert any(message.startswith("Warning: ") and "`variables`" in message for message in poller.messages())
    assert any(
        "`variables`" in record.message for record in caplog.records if record.name.startswith("modelport.operations")
    )
    live.online_deployments.begin_delete("red", "tides").result(60)
