"""A server that dies at any point: what serves goes on, and the next server takes everything up, nothing twice."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from modelport import MLClient
from modelport.cli.server import left_running
from modelport.entities import Environment, ManagedOnlineEndpoint
from modelport.errors import ScoringError
from modelport.testing import environments_folder, workspace
from modelport.transports.local import LocalTransport

CRASH = Path(__file__).with_name("crash.py")
BROKEN = "def init(): raise ValueError('no tide tables')\ndef run(raw): return 1\n"


class Crashed:
    """What a server that died has left."""

    def __init__(self, home, called):
        self.home, self._called = home, called

    def ask(self):
        """Who answers at the gateway, without any control plane."""
        headers = {"Authorization": f"Bearer {self._called['key']}"}
        answer = requests.post(self._called["uri"], data="1", headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def crash(tmp_path, sources):
    """Run a server until it dies at a point; in the end nothing of it is left."""
    home = tmp_path / "home"

    def run(point, first, second=None, verb="put"):
        documents = {}
        for which, deployment in (("first", first), ("second", second)):
            documents[which] = str(tmp_path / f"{which}.yml") if deployment else None
            if deployment:
                deployment.dump(documents[which])
        plan = tmp_path / "plan.json"
        said = {"home": str(home), "environments": str(environments_folder()), "point": point, "verb": verb}
        plan.write_text(json.dumps({**said, **documents}))
        ended = subprocess.run([sys.executable, CRASH, plan], check=False, capture_output=True, text=True, timeout=120)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        return Crashed(home, json.loads(plan.with_suffix(".called").read_text()))

    yield run
    for pid in left_running(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _state(client, until):
    def ended():
        state = client.online_deployments.get("blue", "tides").provisioning_state
        return state if state in ("Succeeded", "Failed", "Canceled") else None

    return until(ended)


def test_an_idle_servers_replicas_are_adopted(crash, sources, until):
    crashed = crash("idle", sources.deployment(instance_count=2), verb="nothing")
    before = sources.alive()
    assert len(before) == 2
    assert crashed.ask()["pid"] in before
    with workspace(crashed.home) as client:
        assert crashed.ask()["pid"] in before
        assert _state(client, until) == "Succeeded"
        assert json.loads(client.online_endpoints.invoke("tides", input_data=1))["pid"] in before
    assert sources.started() == before
    assert sources.alive() == set()


@pytest.mark.parametrize(
    "point", ["accepted", "building", "before Run", "after Run", "after Await", "after Serve", "before Remove"]
)
def test_a_half_done_update_is_taken_up(crash, sources, until, point):
    old, new = (sources.deployment(environment_variables={"WHO": who}) for who in ("old", "new"))
    crashed = crash(point, old, new)
    assert crashed.ask()["who"] == ("new" if point in ("after Serve", "before Remove") else "old")
    with workspace(crashed.home) as client:
        assert _state(client, until) == "Succeeded"
        assert crashed.ask()["who"] == "new"
        assert len(sources.started()) == 2, "a replica was started twice"
        until(lambda: len(sources.alive()) == 1)


@pytest.mark.parametrize("point", ["accepted", "after Run", "after Await", "after Serve"])
def test_a_half_done_first_deployment_is_taken_up(crash, sources, until, point):
    crashed = crash(point, None, sources.deployment())
    with workspace(crashed.home) as client:
        assert _state(client, until) == "Succeeded"
        answer = client.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
        assert {json.loads(answer)["pid"]} == sources.started()


@pytest.mark.parametrize("point", ["after Run", "before Serve"])
def test_a_half_done_scaling_is_taken_up(crash, sources, until, point):
    deployment = sources.deployment()
    more = sources.deployment(code_configuration=deployment.code_configuration, instance_count=2)
    crashed = crash(point, deployment, more)
    with workspace(crashed.home) as client:
        assert _state(client, until) == "Succeeded"
        until(lambda: len(sources.alive()) == 2)
        assert client.online_deployments.get("blue", "tides").instance_count == 2
    assert len(sources.started()) <= 3, "what ran was started again"


def test_an_update_that_must_fail_fails_after_the_crash_and_says_why(crash, sources, until):
    crashed = crash("after Run", sources.deployment(), sources.deployment(script=BROKEN))
    with workspace(crashed.home) as client:
        assert _state(client, until) == "Failed"
        logs = client.online_deployments.get_logs("blue", "tides", 50, container_type="storage-initializer")
        assert "ValueError: no tide tables" in logs
        assert crashed.ask()["pid"] in sources.started()
    assert len(sources.started()) == 1


@pytest.mark.parametrize("point", ["accepted", "removing", "removed"])
def test_a_half_done_deletion_is_taken_up(crash, sources, until, point):
    crashed = crash(point, sources.deployment(), verb="delete")
    with workspace(crashed.home) as client:
        until(lambda: list(client.online_deployments.list("tides")) == [])
        assert sources.alive() == set()
    assert len(sources.started()) == 1


def test_a_half_done_deletion_of_an_endpoint_is_taken_up(crash, sources, until):
    crashed = crash("removed", sources.deployment(), verb="delete endpoint")
    with workspace(crashed.home) as client:
        until(lambda: list(client.online_endpoints.list()) == [])
        assert sources.alive() == set()


def test_a_workspace_that_was_closed_comes_back_whole(sources, tmp_path, until):
    with workspace(tmp_path / "home") as client:
        endpoint = ManagedOnlineEndpoint(name="tides")
        client.online_endpoints.begin_create_or_update(endpoint).result(60)
        client.online_deployments.begin_create_or_update(sources.deployment()).result(60)
        endpoint.traffic = {"blue": 100}
        client.online_endpoints.begin_create_or_update(endpoint).result(60)
        keys = client.online_endpoints.get_keys("tides")
    assert sources.alive() == set()
    with workspace(tmp_path / "home") as client:
        assert client.online_endpoints.get_keys("tides") == keys

        def answer():
            with contextlib.suppress(ScoringError):
                return client.online_endpoints.invoke("tides", input_data=1)

        assert json.loads(until(answer))["who"] == "blue"


def test_an_environment_that_is_gone_is_built_again(sources, tmp_path, until):
    environments = tmp_path / "environments"
    with workspace(tmp_path / "home", environments=environments) as client:
        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
        client.online_deployments.begin_create_or_update(sources.deployment()).result(120)
    shutil.rmtree(environments)
    with workspace(tmp_path / "home", environments=environments) as client:

        def answer():
            with contextlib.suppress(ScoringError):
                return client.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")

        assert json.loads(until(answer, 90))["who"] == "blue"


def test_environments_that_nobody_serves_from_are_removed_beyond_the_cap(sources, tmp_path, monkeypatch, until):
    monkeypatch.setattr("modelport.controlplane.workspace.MOST_BYTES", 0)
    conda = tmp_path / "conda.yml"
    conda.write_text("dependencies: [{pip: [six]}]")
    cache = tmp_path / "home" / "environments"

    def keys():
        return {each.name for each in cache.iterdir() if each.is_dir()}

    with opened(tmp_path / "home") as client:
        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
        client.online_deployments.begin_create_or_update(sources.deployment("blue")).result(120)
        kept = keys()
        green = sources.deployment("green", environment=Environment(image="any", conda_file=conda))
        client.online_deployments.begin_create_or_update(green).result(120)
        client.online_deployments.begin_delete("green", "tides").result(60)
        assert keys() > kept
    with opened(tmp_path / "home"):
        until(lambda: keys() == kept)


@contextlib.contextmanager
def opened(home):
    """A client of a workspace with a cache of environments of its own."""
    transport = LocalTransport(home)
    try:
        yield MLClient._over(transport)
    finally:
        transport.close()
