"""The background server: one per workspace, found by everybody, and replaced with its endpoints serving on."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

import modelport
from modelport.cli.server import left_running
from modelport.client import MLClient
from modelport.controlplane.home import open_home
from modelport.entities import ManagedOnlineEndpoint, Model
from modelport.errors import (
    ClientAuthenticationError,
    DockerEngineNotAvailableError,
    LocalServerError,
    ServiceRequestError,
    ValidationException,
)
from modelport.operations.doors import Door
from modelport.transports import launch

ASK = "from modelport import MLClient; import sys; c = MLClient.local(home=sys.argv[1]); print(list(c.models.list()))"


@pytest.fixture
def home(short_folder):
    """A workspace's folder; in the end its server, or what it left, is ended."""
    folder = short_folder / "home"
    yield folder
    server = launch.find(folder)
    if server:
        with contextlib.suppress(LocalServerError):
            launch.stop(server, replicas=True, seconds=30)
    for pid in left_running(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_nobody_is_found_where_nobody_is(home):
    assert launch.find(home) is None
    home.mkdir()
    assert launch.find(home) is None


def test_clients_that_start_at_once_get_one_server(home):
    clients = [subprocess.Popen([sys.executable, "-c", ASK, home], stdout=subprocess.PIPE) for _ in range(3)]
    assert [(each.communicate(timeout=60)[0], each.returncode) for each in clients] == [(b"[]\n", 0)] * 3
    server = launch.find(home)
    assert server == launch.find_or_start(home)
    log = (home / "logs" / "server.log").read_text()
    assert log.count("listens at") == 1


def test_what_it_writes_down_is_its_owners_alone(home):
    launch.find_or_start(home)
    for name in ("token", "server.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_endpoints_outlive_their_client_and_a_server_that_is_killed(home, sources, runs, until):
    client = MLClient.local(home=home)
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    client.online_deployments.begin_create_or_update(sources.deployment()).result(60)
    uri = client.online_endpoints.get("tides").scoring_uri
    first = launch.find(home)
    pid = client.online_endpoints.invoke("tides", input_data=1, deployment_name="blue").json()["pid"]
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not runs(first.pid))
    assert client.online_endpoints.invoke("tides", input_data=1, deployment_name="blue").json()["pid"] == pid
    again = MLClient.local(home=home)  # the file of the dead one is in the way of nobody
    assert launch.find(home).pid != first.pid
    assert again.online_endpoints.get("tides").scoring_uri == uri
    answer = again.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
    assert {answer.json()["pid"]} == sources.started() == {pid}
    assert client.online_endpoints.get("tides").scoring_uri == uri, "the first client found the new server"
    launch.stop(launch.find(home), replicas=True)
    assert sources.alive() == set()
    assert left_running(home) == []
    assert launch.find(home) is None


def test_a_client_of_a_server_that_is_down_is_told(home):
    client = MLClient.local(home=home)
    launch.stop(launch.find(home), replicas=True)
    with pytest.raises(ServiceRequestError, match=f"is not up. Run `modelport up --home {home}`"):
        list(client.online_endpoints.list())
    launch.find_or_start(home)
    assert list(client.online_endpoints.list()) == []


def test_a_client_needs_the_token(home):
    server = launch.find_or_start(home)
    stranger = MLClient.connect(server.url, credential="guess")
    with pytest.raises(ClientAuthenticationError, match="token"):
        list(stranger.online_endpoints.list())
    friend = MLClient.connect(server.url, credential=(home / "token").read_text())
    assert list(friend.online_endpoints.list()) == []


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"url": "http://127.0.0.1:1"}', '{"url": 7}'])
def test_a_file_that_says_nothing_useful_is_nobody(home, said):
    home.mkdir()
    (home / "token").write_text("x")
    (home / "server.json").write_text(said)
    assert launch.find(home) is None


def test_another_workspaces_server_is_not_taken_for_ours(home, short_folder):
    server = launch.find_or_start(home)
    other = short_folder / "other"
    other.mkdir()
    shutil.copy(home / "token", other)
    shutil.copy(home / "server.json", other)
    assert launch.find(home) == server
    assert launch.find(other) is None


@pytest.fixture
def of_version(tmp_path):
    """Start a workspace's server from a copy of the package that has another version."""

    def start(version, home):
        sdk = tmp_path / f"sdk-{version}"
        source = Path(modelport.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        for package in (source, source.with_name("modelport_scoring")):
            shutil.copytree(package, sdk / package.name, ignore=ignored)
        init = sdk / "modelport" / "__init__.py"
        text = init.read_text()
        assert f'"{modelport.__version__}"' in text
        init.write_text(text.replace(f'"{modelport.__version__}"', f'"{version}"'))
        environment = {**os.environ, "PYTHONPATH": str(sdk)}
        subprocess.run(
            [sys.executable, "-m", "modelport.cli", "up", "--home", home], env=environment, check=True, timeout=60
        )
        found = launch.find(home)
        assert found.version == version
        return found

    return start


def test_an_older_server_gives_way_and_its_endpoints_serve_on(home, of_version, sources, runs):
    old = of_version("0.0.1", home)
    client = MLClient.connect(old.url, credential=old.token)
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    client.online_deployments.begin_create_or_update(sources.deployment()).result(60)
    new = MLClient.local(home=home)
    found = launch.find(home)
    assert (found.version, found.pid == old.pid) == (modelport.__version__, False)
    assert not runs(old.pid)
    answer = new.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
    assert {answer.json()["pid"]} == sources.started() == sources.alive()


def test_a_newer_server_is_left_alone_and_told(home, of_version):
    newer = of_version("99.0.0", home)
    with pytest.raises(LocalServerError, match=r"of version 99\.0\.0, newer than this client's.*Upgrade this client"):
        MLClient.local(home=home)
    assert launch.find(home) == newer


def test_a_server_that_cannot_start_says_why(home):
    home.mkdir()
    (home / "state.db").write_text("not a database, but long enough to be looked at as one " * 100)
    with pytest.raises(LocalServerError, match="The background server did not start") as caught:
        MLClient.local(home=home)
    assert "not a database" in str(caught.value)
    assert "server.log" in str(caught.value)


def test_a_home_that_is_a_file_is_told(home):
    home.write_text("")
    with pytest.raises(LocalServerError, match=r"cannot be used: .*MODELPORT_HOME"):
        MLClient.local(home=home)


def test_a_backend_that_is_not_there_is_told(home):
    with pytest.raises(ValidationException, match="no backend 'podman' here: use process or docker"):
        MLClient.local(backend="podman", home=home)
    assert not home.exists()


def test_an_engine_that_is_away_is_told_before_a_server_is_started(home, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/nowhere.sock")
    with pytest.raises(DockerEngineNotAvailableError, match="Docker's engine does not answer"):
        MLClient.local(backend="docker", home=home)
    assert launch.find(home) is None


def test_a_workspace_keeps_its_backend(home):
    MLClient.local(home=home)
    for _ in range(2):  # while its server is up, and when it is not
        with pytest.raises(LocalServerError, match="has the backend 'process', not 'docker'"):
            launch.find_or_start(home, "docker")
        launch.stop(launch.find_or_start(home), replicas=True)
    assert launch.backend_of(home) == "process"


def test_a_workspace_of_before_there_was_docker_is_one_of_processes(home):
    made = open_home(home)
    made.state.touch()
    with pytest.raises(LocalServerError, match="has the backend 'process', not 'docker'"):
        made.must_have("docker")
    made.must_have("process")
    made.keep_backend("process")
    (home / "backend").write_text("")  # half written
    made.must_have("process")


def test_dockers_workspace_is_in_the_folder_of_the_other(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELPORT_HOME", str(tmp_path))
    assert launch.home_folder() == tmp_path
    assert launch.home_folder("docker") == tmp_path / "docker"


def test_files_come_whole_through_the_socket(home, sources, tmp_path):
    client = MLClient.local(home=home)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "ümlaut %41.bin").write_bytes(os.urandom(3_000_000))
    (tmp_path / "model" / "empty").write_bytes(b"")
    made = client.models.create_or_update(Model(name="moon", path=str(tmp_path / "model")))
    assert (made.name, made.version) == ("moon", "1")
    stored = {each.name: each.read_bytes() for each in (home / "blobs" / "containers").rglob("*") if each.is_file()}
    sent = {each.name: each.read_bytes() for each in (tmp_path / "model").iterdir()}
    assert {name: stored[name] for name in sent} == sent
    again = client.models.create_or_update(Model(name="moon", path=str(tmp_path / "model")))
    assert (again.version, again.path) == ("2", made.path)
    assert len(list((home / "blobs").rglob("empty"))) == 1, "unchanged files were sent again"


def test_a_document_that_is_no_json_is_a_400(home):
    server = launch.find_or_start(home)
    where = f"{server.url}/subscriptions/x"
    headers = {"Authorization": f"Bearer {server.token}"}
    answer = requests.put(where, data=b"{", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")
    assert json.loads(requests.get(server.url, timeout=10).text)["modelport"] == modelport.__version__


def test_a_server_whose_folder_is_gone_ends_with_all_that_it_runs(home, until, runs):
    server = launch.find_or_start(home)
    before = left_running(home)
    assert len(before) >= 1
    shutil.rmtree(home)
    until(lambda: not runs(server.pid) and not any(runs(pid) for pid in before))


def test_who_finds_a_server_that_came_up_finds_its_endpoints(home, sources):
    client = MLClient.local(home=home)
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    client.online_deployments.begin_create_or_update(sources.deployment(instance_count=2)).result(120)
    launch.stop(launch.find(home), replicas=True)
    again = MLClient.local(home=home)
    assert again.online_endpoints.invoke("tides", input_data=1, deployment_name="blue").json()["who"] == "blue"
    assert len(sources.alive()) == 2


def test_what_is_not_installed_is_named_before_anything_is_made(home, monkeypatch):
    monkeypatch.setattr(launch, "_NEEDED", ("psutil", "not_installed_here"))
    with pytest.raises(LocalServerError, match=r"needs not_installed_here: pip install 'modelport\[local\]'"):
        launch.find_or_start(home)
    assert not (home / "logs").exists()


def test_a_server_and_an_endpoints_door_are_shown_without_what_opens_them(tmp_path):
    shown = repr(launch.Server("http://127.0.0.1:1", "its-token", 1, "1", tmp_path)) + repr(Door("http://x", "its-key"))
    assert "its-" not in shown
