"""A workspace's folders: for their owner alone, and refused in a sentence where they cannot be."""

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelport.arm.messages import Request
from modelport.controlplane.home import open_home
from modelport.errors import LocalServerError
from modelport.testing import workspace
from modelport.transports.local import LocalTransport


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path):
    made = open_home(tmp_path / "a" / "home")
    yield made
    made.runtime.rmdir()


def test_every_folder_is_its_owners_alone(home):
    for folder in (home.folder, home.runtime, home.blobs, home.environments, home.logs):
        assert _mode(folder) == 0o700


def test_a_folder_that_was_open_to_others_is_closed(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o755)
    made = open_home(tmp_path / "home")
    made.runtime.rmdir()
    assert _mode(tmp_path / "home") == 0o700


def test_the_runtime_folder_is_short_and_the_same_every_time(home):
    assert len(str(home.runtime)) < 60
    assert open_home(home.folder).runtime == home.runtime


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(LocalServerError, match=r"The folder '.*home' cannot be used: .*MODELPORT_HOME"):
        open_home(tmp_path / "home")


def test_a_folder_that_cannot_be_written_is_told():
    with pytest.raises(LocalServerError, match=r"The folder '/proc/modelport' cannot be used: .*MODELPORT_HOME"):
        open_home(Path("/proc/modelport"))  # where not even root may write


def test_a_network_file_system_is_told(tmp_path, monkeypatch):
    part = SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: [part])
    with pytest.raises(LocalServerError, match=r"network file system \(nfs4\).*local disk"):
        open_home(tmp_path / "home")


def test_a_second_workspace_in_the_same_folder_is_refused_and_disturbs_nothing(tmp_path):
    with workspace(tmp_path) as client:
        with pytest.raises(LocalServerError, match=r"in use by another Modelport server .*modelport down"):
            LocalTransport(tmp_path)
        assert list(client.online_endpoints.list()) == []


def test_a_gateways_port_that_is_taken_is_told(tmp_path):
    with workspace(tmp_path / "one") as client:
        port = client._service.transport.opened.gateway.port
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "gateway.port").write_text(str(port))
        with pytest.raises(LocalServerError, match=f"port {port} of 127.0.0.1: another program does"):
            LocalTransport(tmp_path / "two")
    with workspace(tmp_path / "two") as client:  # nothing of the attempt is in the way
        assert client._service.transport.opened.gateway.port == port


def test_the_gateways_port_stays(tmp_path):
    ports = []
    for _ in range(2):
        with workspace(tmp_path) as client:
            ports.append(client._service.transport.opened.gateway.port)
    assert ports[0] == ports[1]


def test_a_workspace_that_cannot_be_opened_holds_nothing(tmp_path):
    (tmp_path / "state.db").write_text("not a database, but long enough to be looked at as one " * 100)
    for _ in range(2):
        with pytest.raises(LocalServerError, match="not a database"):
            LocalTransport(tmp_path)
    (tmp_path / "state.db").unlink()
    with workspace(tmp_path) as client:
        answer = client._service.transport.send(Request("GET", str(client._service.workspace)))
        assert answer.status == 200


def test_the_gateways_port_can_be_chosen(tmp_path, monkeypatch):
    with workspace(tmp_path / "one") as client:
        free = client._service.transport.opened.gateway.port
    monkeypatch.setenv("MODELPORT_GATEWAY_PORT", str(free))
    with workspace(tmp_path / "two") as client:
        assert client._service.transport.opened.gateway.port == free
