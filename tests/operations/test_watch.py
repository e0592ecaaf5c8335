"""`watch=True`: what is saved is served, and what cannot be served changes nothing."""

import logging
import threading
from pathlib import Path

import pytest

from modelport import MLClient, errors
from modelport.entities import CodeConfiguration, Environment, ManagedOnlineEndpoint
from modelport.transports import launch

SAYS = """
import os
WHAT = {what}
def init():
    pass
def run(raw_data):
    return [WHAT, os.getpid()]
"""


def save(folder, what, script=SAYS):
    (folder / "score.py").write_text(script.format(what=what))


def asked(client):
    return client.online_endpoints.invoke("tides", deployment_name="blue", input_data={}).json()


@pytest.fixture
def folder(sources):
    return Path(sources.code(SAYS.format(what=0)))


@pytest.fixture
def deployment(sources, folder):
    code = CodeConfiguration(code=str(folder), scoring_script="score.py")
    return sources.deployment(code_configuration=code)


@pytest.fixture
def deploy(tides, deployment):
    """Deploys it, watched, and returns the watch; it has ended when the test has."""
    made = []

    def begin(**keywords):
        poller = tides.online_deployments.begin_create_or_update(deployment, watch=True, **keywords)
        made.append(poller.watch)
        poller.result(120)
        return poller.watch

    yield begin
    for each in made:
        each.close()
        assert each.ended()


@pytest.fixture
def updates():
    """A list, and what adds to it: a watch's callback."""
    found = []
    return found, found.append


def test_what_is_saved_is_served_and_the_old_code_answers_until_then(tides, deploy, folder, until):
    watch = deploy()
    answers, over = [], threading.Event()

    def ask():
        while not over.is_set():
            answers.append(asked(tides)[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for what in (1, 2, 3):
            save(folder, what)
            until(lambda what=what: answers and answers[-1] == what)
    finally:
        over.set()
        asking.join()
    assert answers == sorted(answers)
    assert not watch.ended()


def test_a_file_beside_the_script_counts_and_what_is_never_sent_does_not(tides, deploy, folder, updates, until):
    found, add = updates
    deploy().add_callback(add)
    pid = asked(tides)[1]
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "score.pyc").write_text("cache")
    (folder / ".amlignore").write_text("*.log\n")
    until(lambda: len(found) == 1)
    (folder / "today.log").write_text("noise")
    (folder / "limits.json").write_text("{}")
    until(lambda: len(found) == 2)
    (folder / "today.log").write_text("more noise")
    (folder / "limits.json").write_text("[]")
    until(lambda: len(found) == 3)
    assert [each.error for each in found] == [None] * 3
    assert asked(tides)[1] != pid


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("def init(:\n", "score.py"),
        ("def init():\n    raise ValueError('no tide table')\ndef run(raw_data):\n    return 1\n", "no tide table"),
    ],
    ids=["syntax", "init"],
)
def test_a_broken_edit_keeps_the_old_code_and_the_next_one_is_taken(
    tides, deploy, folder, updates, until, caplog, broken, said
):
    found, add = updates
    deploy().add_callback(add)
    before = asked(tides)
    with caplog.at_level(logging.WARNING, "modelport.operations.watching"):
        (folder / "score.py").write_text(broken)
        until(lambda: found)
    assert said in str(found[0].error)
    (record,) = [each for each in caplog.records if each.name == "modelport.operations.watching"]
    assert record.getMessage().startswith("Deployment 'blue' of 'tides' goes on with the code that it had: ")
    assert said in record.getMessage()
    assert asked(tides) == before
    save(folder, 1)
    until(lambda: asked(tides)[0] == 1)


def test_saving_while_an_update_is_made_leads_to_one_more(tides, deploy, folder, updates, until):
    found, add = updates
    deploy().add_callback(add)
    slow = SAYS.replace("    pass", "    import time\n    time.sleep(1)")
    save(folder, 1, slow)
    until(lambda: tides.online_deployments.get("blue", "tides").provisioning_state == "Updating")
    for what in (2, 3, 4):
        save(folder, what)
    until(lambda: asked(tides)[0] == 4)
    until(lambda: len(found) == 2)
    assert [each.error for each in found] == [None, None]


def test_what_others_change_of_the_deployment_stays(tides, deploy, deployment, wire_client_of, folder, until):
    deploy()
    other = wire_client_of(tides)
    there = other.online_deployments.get("blue", "tides")
    there.tags = {"season": "spring"}
    other.online_deployments.begin_create_or_update(there).result(60)
    save(folder, 1)
    until(lambda: asked(tides)[0] == 1)
    until(lambda: tides.online_deployments.get("blue", "tides").provisioning_state == "Succeeded")
    assert tides.online_deployments.get("blue", "tides").tags == {"season": "spring"}


def test_what_is_saved_while_the_server_is_away_is_served_when_it_is_back(
    short_folder, deployment, folder, until, caplog
):
    home = short_folder / "home"
    client = MLClient.local(home=home)
    try:
        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
        poller = client.online_deployments.begin_create_or_update(deployment, watch=True)
        poller.result(120)
        launch.stop(launch.find(home), replicas=False)
        save(folder, 1)
        until(lambda: "waits with its new code: The background server of" in caplog.text)
        launch.find_or_start(home)
        until(lambda: asked(client)[0] == 1, 60)
        poller.watch.close()
    finally:
        launch.stop(launch.find_or_start(home), replicas=True)


def test_it_ends_when_it_is_closed(tides, deploy, folder):
    watch = deploy()
    watch.close()
    assert watch.wait(0)
    save(folder, 1)
    assert asked(tides)[0] == 0


def test_another_call_for_the_deployment_takes_over(tides, deploy, deployment, folder, until):
    first = deploy()
    second = deploy()
    assert (first.ended(), second.ended()) == (True, False)
    save(folder, 1)
    until(lambda: asked(tides)[0] == 1)
    tides.online_deployments.begin_create_or_update(deployment).result(60)
    assert second.ended()


def test_it_ends_with_the_deployment_whoever_deletes_that(tides, deploy, wire_client_of):
    watch = deploy()
    wire_client_of(tides).online_endpoints.begin_delete("tides").result(60)
    assert watch.wait(10)
    tides.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    again = deploy()
    tides.online_deployments.begin_delete("blue", "tides").result(60)
    assert again.ended()


def test_a_first_deployment_that_fails_is_not_followed(tides, deployment, folder):
    (folder / "score.py").write_text("def init():\n    raise ValueError('no')\ndef run(raw_data):\n    return 1\n")
    poller = tides.online_deployments.begin_create_or_update(deployment, watch=True)
    with pytest.raises(errors.UserScriptInitFailed):
        poller.result(60)
    assert poller.watch.wait(10)


def test_containers_follow_it_too(docker_engine, ml_client, deployment, folder, until):
    deployment.environment = Environment(image="modelport-test/base:bookworm")
    poller = ml_client.online_deployments.begin_create_or_update(deployment, local=True, watch=True)

    def answer():
        return ml_client.online_endpoints.invoke("tides", input_data={}, local=True).json()[0]

    try:
        assert answer() == 0
        for what in (1, 2, 3):
            save(folder, what)
            until(lambda what=what: answer() == what)
    finally:
        poller.watch.close()
    ml_client.online_deployments.begin_delete("blue", "tides", local=True)


def test_a_debugger_stays_over_an_update_and_where_it_is_then_is_logged(tides, deploy, folder, until, caplog):
    with caplog.at_level(logging.INFO, "modelport.operations.online_deployments"):
        deploy(debug=True)
        save(folder, 1)
        until(lambda: any("The debugger of replica" in each.getMessage() for each in caplog.records))
    assert asked(tides)[0] == 1


def test_code_that_is_registered_cannot_be_watched(tides, sources):
    begin = tides.online_deployments.begin_create_or_update
    said = CodeConfiguration(code="azureml:tides-code:1", scoring_script="score.py")
    with pytest.raises(errors.ValidationException, match=r"'azureml:tides-code:1' is registered. Name its folder"):
        begin(sources.deployment(code_configuration=said), watch=True)


def test_azure_is_not_watched(azure_client, sources):
    with pytest.raises(errors.ValidationException, match=r"watch=True is for deployments on this machine"):
        azure_client().online_deployments.begin_create_or_update(sources.deployment(), watch=True)
