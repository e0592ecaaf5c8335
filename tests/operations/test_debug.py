"""`debug=True`: an editor attaches to the replica that answers, and nothing is restarted for it."""

import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from tests.dap import Dap

from modelport import errors
from modelport.entities import (
    CodeConfiguration,
    Environment,
    ManagedOnlineEndpoint,
    OnlineRequestSettings,
    ProbeSettings,
)

SCRIPT = """
import json, os, time

def init():
    pass

def run(raw_data):
    height = json.loads(raw_data)["height"]
    return {"metres": height / 100, "pid": os.getpid()}
"""
LINE = 1 + SCRIPT.splitlines().index('    return {"metres": height / 100, "pid": os.getpid()}')


def asked(client, height=250):
    return client.online_endpoints.invoke("tides", deployment_name="blue", input_data={"height": height}).json()


def debuggers(poller):
    """The configurations for launch.json that the operation told."""
    told = [each for each in poller.messages() if each.startswith("The debugger of replica ")]
    return [json.loads(each.partition("\n")[2]) for each in told]


def address(configuration):
    return "{host}:{port}".format(**configuration["connect"])


@pytest.fixture
def folder(sources):
    return Path(sources.code(SCRIPT))


@pytest.fixture
def deployment(sources, folder):
    def make(**values):
        code = CodeConfiguration(code=str(folder), scoring_script="score.py")
        probe = ProbeSettings(initial_delay=1, period=1, timeout=1, failure_threshold=20)
        return sources.deployment(code_configuration=code, readiness_probe=probe, liveness_probe=probe, **values)

    return make


def step_through(client, configuration, folder, *, height=250, meanwhile=lambda: None):
    """Stand at the breakpoint in a request, look at a variable, and let it go on: the variable and the answer."""
    answers = []
    asking = threading.Thread(target=lambda: answers.append(asked(client, height)))
    with Dap(address(configuration)) as editor:
        editor.attach(folder / "score.py", LINE, configuration["pathMappings"])
        asking.start()
        thread, frame = editor.stopped()
        assert (frame["source"]["path"], frame["line"]) == (str(folder / "score.py"), LINE)
        seen = editor.variables(frame)["height"]
        meanwhile()
        assert answers == []
        editor.go_on(thread)
        asking.join(30)
    return seen, answers


def test_an_editor_attaches_to_the_replica_that_answers(tides, deployment, folder):
    poller = tides.online_deployments.begin_create_or_update(deployment(), debug=True)
    poller.result(240)
    pid = asked(tides)["pid"]
    (configuration,) = debuggers(poller)
    assert (configuration["type"], configuration["request"]) == ("debugpy", "attach")
    assert configuration["pathMappings"][0]["localRoot"] == str(folder)
    seen, answers = step_through(tides, configuration, folder)
    assert (seen, answers) == ("250", [{"metres": 2.5, "pid": pid}])
    assert asked(tides)["pid"] == pid
    # An editor that has left may come again.
    assert step_through(tides, configuration, folder, height=120)[1] == [{"metres": 1.2, "pid": pid}]


def test_who_stands_at_a_breakpoint_loses_neither_the_request_nor_the_replica(tides, deployment, folder, until):
    """Longer than a request may take, and than probes have patience; then the answer comes all the same."""
    wanted = deployment(request_settings=OnlineRequestSettings(request_timeout_ms=1000))
    wanted.readiness_probe = ProbeSettings(initial_delay=8, period=1, timeout=1, failure_threshold=2)
    wanted.liveness_probe = ProbeSettings(initial_delay=1, period=1, timeout=1, failure_threshold=2)
    poller = tides.online_deployments.begin_create_or_update(wanted, debug=True)
    poller.result(240)
    over = threading.Event()
    (configuration,) = debuggers(poller)
    # To stand there for a while, also when the probes of one that serves have begun, is what this is about.
    seen, answers = step_through(tides, configuration, folder, meanwhile=lambda: over.wait(11))
    assert seen == "250"
    assert answers[0]["metres"] == 2.5
    until(lambda: asked(tides)["pid"] == answers[0]["pid"])


def test_each_replica_has_a_debugger_of_its_own(tides, deployment, folder):
    poller = tides.online_deployments.begin_create_or_update(deployment(instance_count=2), debug=True)
    poller.result(240)
    found = debuggers(poller)
    assert len({address(each) for each in found}) == 2
    for each in found:
        with Dap(address(each)) as editor:
            editor.attach(folder / "score.py", LINE, each["pathMappings"])


def test_one_that_runs_without_gets_a_debugger_by_an_update_and_loses_it_by_another(tides, deployment, runs, until):
    begin = tides.online_deployments.begin_create_or_update
    begin(deployment()).result(120)
    before = asked(tides)["pid"]
    poller = begin(deployment(), debug=True)
    poller.result(240)
    debugged = asked(tides)["pid"]
    assert len(debuggers(poller)) == 1
    assert debugged != before
    poller = begin(deployment())
    poller.result(120)
    assert debuggers(poller) == []
    until(lambda: not runs(debugged))


def test_a_deployment_whose_request_stands_at_a_breakpoint_can_be_deleted(tides, deployment, folder):
    poller = tides.online_deployments.begin_create_or_update(deployment(), debug=True)
    poller.result(240)
    (configuration,) = debuggers(poller)
    lost = []

    def ask():
        try:
            lost.append(asked(tides))
        except errors.ModelportError as error:
            lost.append(error)

    asking = threading.Thread(target=ask)
    with Dap(address(configuration)) as editor:
        editor.attach(folder / "score.py", LINE, configuration["pathMappings"])
        asking.start()
        editor.stopped()
        tides.online_deployments.begin_delete("blue", "tides").result(30)
        asking.join(30)
    assert isinstance(lost[0], errors.ModelportError)


def test_a_replica_that_is_started_again_listens_where_it_did(tides, deployment, until):
    poller = tides.online_deployments.begin_create_or_update(deployment(), debug=True)
    poller.result(240)
    (configuration,) = debuggers(poller)
    pid = asked(tides)["pid"]
    os.kill(pid, signal.SIGKILL)

    def told():
        return re.findall(r"attached to (\S+)\.\n", tides.online_deployments.get_logs("blue", "tides", 200))

    until(lambda: len(told()) == 2)
    assert told() == [address(configuration)] * 2


def test_azure_gives_no_debugger(azure_client, sources):
    with pytest.raises(errors.ValidationException, match=r"debug=True is for deployments on this machine"):
        azure_client().online_deployments.begin_create_or_update(sources.deployment(), debug=True)


def test_a_container_has_a_debugger_too(docker_engine, ml_client_docker, deployment, folder):
    client = ml_client_docker
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    wanted = deployment(environment=Environment(image="modelport-test/base:bookworm"))
    poller = client.online_deployments.begin_create_or_update(wanted, debug=True)
    poller.result(280)
    (configuration,) = debuggers(poller)
    assert configuration["pathMappings"][0]["remoteRoot"].startswith("/var/azureml-app/")
    seen, answers = step_through(client, configuration, folder)
    assert (seen, answers[0]["metres"]) == ("250", 2.5)
