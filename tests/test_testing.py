"""The pytest plugin, as somebody's own tests use it."""

import subprocess
import sys
from pathlib import Path

import pytest

from modelport.cli.server import left_running
from modelport.entities import ManagedOnlineEndpoint
from modelport.testing import environments_folder, workspace

THEIRS = """
from modelport.entities import CodeConfiguration, ManagedOnlineDeployment, ManagedOnlineEndpoint

def deploy(client, code):
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    blue = ManagedOnlineDeployment(
        name="blue", endpoint_name="tides",
        code_configuration=CodeConfiguration(code=str(code), scoring_script="score.py"))
    client.online_deployments.begin_create_or_update(blue).result(120)
    return client.online_endpoints.invoke("tides", input_data="high", deployment_name="blue")

def test_mine(ml_client, tmp_path):
    (tmp_path / "score.py").write_text("def init(): pass\\ndef run(raw): return raw.upper()\\n")
    assert deploy(ml_client, tmp_path) == '"HIGH"'

def test_is_private(ml_client):
    assert list(ml_client.online_endpoints.list()) == []

def test_makes(ml_client_session):
    ml_client_session.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)

def test_reads(ml_client_session):
    assert ml_client_session.online_endpoints.get("tides").name == "tides"
"""


def test_the_fixtures_are_there_without_an_import(tmp_path):
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert ended.returncode == 0, ended.stdout
    assert "4 passed" in ended.stdout


def test_nothing_is_left_behind_also_when_the_block_raises(sources, tmp_path):
    def fail():
        with workspace(tmp_path / "home") as client:
            client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
            client.online_deployments.begin_create_or_update(sources.deployment()).result(60)
            homes.append(client._service.transport.opened.home)
            raise ValueError("a failing test")

    homes = []
    with pytest.raises(ValueError, match="a failing test"):
        fail()
    assert sources.alive() == set()
    assert not homes[0].runtime.exists()
    assert left_running(homes[0].folder) == []


def test_a_temporary_workspace_is_removed():
    with workspace() as client:
        home = client._service.transport.opened.home
        assert home.folder.is_dir()
    assert not home.folder.exists()
    assert not home.runtime.exists()


def test_tests_share_environments_and_can_be_told_where(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELPORT_TEST_ENVIRONMENTS", str(tmp_path))
    assert environments_folder() == tmp_path
    monkeypatch.delenv("MODELPORT_TEST_ENVIRONMENTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert environments_folder() == tmp_path / "cache" / "modelport" / "test-environments"


KILLED = """
import os, signal, sys
from modelport.entities import ManagedOnlineEndpoint
from modelport.testing import workspace

with workspace() as client:
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    print(client._service.transport.opened.gateway.pid, client._service.transport.opened.home.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_has_left_is_ended_by_the_next(runs):
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    pid, folder = killed.stdout.split()
    assert runs(int(pid))
    with workspace():
        assert not runs(int(pid))
        assert not Path(folder).exists()
