"""What a change of a deployment does to what serves."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport.entities import ManagedOnlineEndpoint, OnlineRequestSettings, ProbeSettings
from modelport.errors import LocalServerError, ResourceExistsError, ResourceNotReady, ScoringError, UserScriptInitFailed
from modelport.testing import workspace

BROKEN = "def init(): raise ValueError('no tide tables')\ndef run(raw): return 1\n"


@pytest.fixture
def put(tides):
    return lambda deployment: tides.online_deployments.begin_create_or_update(deployment).result(60)


@pytest.fixture
def ask(tides):
    """Who answers for `blue`, with its pid."""
    return lambda said=1: json.loads(tides.online_endpoints.invoke("tides", input_data=said, deployment_name="blue"))


def _pids(ask, count):
    return {ask()["pid"] for _ in range(count)}


def test_new_replicas_are_ready_before_the_old_ones_go(tides, sources, put, ask):
    put(sources.deployment(environment_variables={"WHO": "old"}))
    stop = threading.Event()

    def load():
        return [ask()["who"] for _ in iter(stop.is_set, True)]

    ask()
    with ThreadPoolExecutor(1) as thread:
        loaded = thread.submit(load)
        put(sources.deployment(environment_variables={"WHO": "new"}))
        assert ask()["who"] == "new"
        stop.set()
        answers = loaded.result(30)
    assert sorted(answers, reverse=True) == answers, "the old one answered after the new one had begun to"
    assert len(sources.started()) == 2
    assert len(sources.alive()) == 1


def test_a_failed_update_leaves_the_old_one_serving(tides, sources, put, ask):
    good = sources.deployment()
    put(good)
    pid = ask()["pid"]
    with pytest.raises(UserScriptInitFailed) as caught:
        put(sources.deployment(script=BROKEN))
    said = str(caught.value)
    assert "Deployment 'blue' of 'tides' failed: init() raised ValueError: no tide tables (score.py, line 1)" in said
    assert tides.online_deployments.get("blue", "tides").provisioning_state == "Failed"
    assert ask()["pid"] == pid
    assert "no tide tables" in tides.online_deployments.get_logs(
        "blue", "tides", 50, container_type="storage-initializer"
    )
    put(sources.deployment(environment_variables={"WHO": "better"}))
    assert tides.online_deployments.get("blue", "tides").provisioning_state == "Succeeded"
    assert ask()["who"] == "better"
    assert len(sources.alive()) == 1


def test_a_deployment_that_never_served_leaves_no_process_and_says_why(tides, sources, put):
    with pytest.raises(UserScriptInitFailed):
        put(sources.deployment(script=BROKEN))
    assert "no tide tables" in tides.online_deployments.get_logs("blue", "tides", 50)
    backend = tides._service.transport.opened.app._parts.backend
    assert backend.revisions() == set()
    tides.online_deployments.begin_delete("blue", "tides").result(60)
    put(sources.deployment())


def test_scaling_keeps_the_replicas_that_run(tides, sources, put, ask):
    deployment = sources.deployment(instance_count=2)
    put(deployment)
    first = sources.started()
    assert len(first) == 2
    deployment.instance_count = 3
    put(deployment)
    assert first < sources.started()
    assert len(sources.alive()) == 3
    deployment.instance_count = 1
    put(deployment)
    assert len(sources.alive()) == 1
    assert sources.alive() <= first
    assert len(sources.started()) == 3
    assert _pids(ask, 5) == sources.alive()


def test_no_instances_serve_nothing_and_are_taken_up_again(tides, sources, put, ask):
    deployment = sources.deployment(instance_count=0)
    put(deployment)
    with pytest.raises(ScoringError) as caught:
        ask()
    assert caught.value.status_code == 503
    deployment.instance_count = 1
    put(deployment)
    assert ask()["who"] == "blue"


def test_a_change_of_tags_starts_nothing(tides, sources, put):
    deployment = sources.deployment()
    put(deployment)
    deployment.tags = {"reviewed": "yes"}
    assert put(deployment).tags == {"reviewed": "yes"}
    assert len(sources.started()) == 1


def test_a_change_of_the_time_limit_keeps_the_replicas(tides, sources, put, ask):
    deployment = sources.deployment()
    put(deployment)
    assert ask({"sleep": 0.4})["pid"]
    deployment.request_settings = OnlineRequestSettings(request_timeout_ms=200)
    put(deployment)
    with pytest.raises(ScoringError) as caught:
        ask({"sleep": 1})
    assert caught.value.status_code == 408
    assert len(sources.started()) == 1


def test_a_replica_that_never_becomes_ready_fails_in_the_time_its_probes_allow(tides, sources, put):
    quick = ProbeSettings(initial_delay=1, period=1, failure_threshold=1)
    hangs = "import time\ndef init(): time.sleep(600)\ndef run(raw): return 1\n"
    with pytest.raises(ResourceNotReady, match=r"Deployment 'blue' of 'tides' failed.*did not become ready"):
        put(sources.deployment(script=hangs, readiness_probe=quick, liveness_probe=quick))


def test_what_the_workspace_does_not_act_on_is_told_once(tides, sources):
    deployment = sources.deployment(instance_type="Standard_DS3_v2")
    poller = tides.online_deployments.begin_create_or_update(deployment)
    poller.result(60)
    assert len(poller.messages()) == 1
    assert "Standard_DS3_v2" in poller.messages()[0]


# Deleting


def test_a_deployment_with_live_traffic_stays(tides, sources, put, ask):
    put(sources.deployment())
    for rules in ({"traffic": {"blue": 100}}, {"traffic": {}, "mirror_traffic": {"blue": 10}}):
        tides.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides", **rules)).result(60)
        with pytest.raises(ResourceExistsError, match=r"Deployment 'blue' of 'tides' has 10.*traffic.*set it to 0"):
            tides.online_deployments.begin_delete("blue", "tides")
        assert ask()["who"] == "blue"
    cleared = ManagedOnlineEndpoint(name="tides", traffic={"blue": 0}, mirror_traffic={})
    tides.online_endpoints.begin_create_or_update(cleared).result(60)
    tides.online_deployments.begin_delete("blue", "tides").result(60)
    assert sources.alive() == set()
    assert list(tides.online_deployments.list("tides")) == []


def test_deleting_an_endpoint_deletes_its_deployments(tides, sources, put):
    for name in ("blue", "green"):
        put(sources.deployment(name))
    tides.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides", traffic={"blue": 100})).result(60)
    tides.online_endpoints.begin_delete("tides").result(60)
    assert sources.alive() == set()
    assert list(tides.online_endpoints.list()) == []
    tides.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    assert list(tides.online_deployments.list("tides")) == []
    assert tides.online_endpoints.get("tides").traffic == {}


def test_a_workspace_that_closes_while_replicas_start_ends_them_all(sources, tmp_path):
    slow = "import os, pathlib, time\ndef init():\n    pathlib.Path(os.environ['STARTS'], str(os.getpid())).touch()\n"
    slow += "    time.sleep(600)\ndef run(raw): return 1\n"
    with workspace(tmp_path / "home") as client:
        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
        poller = client.online_deployments.begin_create_or_update(sources.deployment(script=slow))
        while not sources.started():
            assert not poller.done()
    assert sources.alive() == set()
    with pytest.raises(LocalServerError, match="workspace was closed"):
        poller.result(10)
