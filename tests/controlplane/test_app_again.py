"""What is asked twice, at a bad moment, or under a name that looks like something else."""

import contextlib
import http.client
import json
import time
from urllib.parse import urlsplit

import psutil
import pytest
from tests.conftest import SCRIPT

from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder
from modelport.entities import DataCollector, DeploymentCollection, ManagedOnlineEndpoint, Model, ProbeSettings
from modelport.errors import (
    GatewayRejected,
    ImageBuildFailure,
    OperationCanceled,
    ResourceExistsError,
    ScoringError,
    ValidationException,
)

ENDPOINT = "onlineEndpoints/tides"
BLUE = f"{ENDPOINT}/deployments/blue"


@pytest.fixture
def slow(tides, sources):
    """The deployment `blue`, which takes `SLOW` seconds to start, and answers to `{"sleep": …}` after that time."""
    script = SCRIPT.replace("def init():", "def init():\n    time.sleep(float(os.environ.get('SLOW', 0)))")
    script = script.replace(
        "time.sleep(said", "pathlib.Path(os.environ['STARTS']).with_name('inside').touch()\n        time.sleep(said"
    )
    tides.online_deployments.begin_create_or_update(sources.deployment(script=script)).result(60)
    return tides


@pytest.fixture
def busy(slow, sources, until):
    """`blue` with a request inside, so that its end takes a while."""
    key = slow.online_endpoints.get_keys("tides").primary_key
    url = urlsplit(slow.online_endpoints.get("tides").scoring_uri)
    connection = http.client.HTTPConnection(url.hostname, url.port)
    headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": "blue"}
    connection.request("POST", url.path, json.dumps({"sleep": 2}), headers)
    until(sources.starts.with_name("inside").exists)
    yield slow
    assert connection.getresponse().status == 200
    connection.close()


def _asked(wire, method, place, body, name):
    return wire.ask(method, place, body, headers={"x-ms-client-request-id": name})


def test_a_put_that_is_sent_again_gets_its_own_operation(slow, wire_of):
    wire = wire_of(slow)
    body = wire.get(BLUE).body
    body["properties"]["environmentVariables"]["SLOW"] = "2"
    one, again, other = (_asked(wire, "PUT", BLUE, body, name) for name in "aab")
    assert (again.status, again.headers, again.body) == (one.status, one.headers, one.body)
    assert (other.status, other.body["error"]["code"]) == (409, "OperationInProgress")


def test_a_delete_that_is_sent_again_gets_its_own_operation(busy, wire_of):
    wire = wire_of(busy)
    one, again, other = (_asked(wire, "DELETE", BLUE, None, name) for name in "aab")
    assert (again.status, again.headers) == (one.status, one.headers)
    assert (other.status, other.body["error"]["code"]) == (409, "OperationInProgress")


def test_names_that_look_like_collections_are_names(ml_client, sources):
    ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="deployments")).result(60)
    ml_client.online_deployments.begin_create_or_update(sources.deployment("blue", "deployments")).result(60)
    endpoint = ManagedOnlineEndpoint(name="deployments", traffic={"blue": 100})
    ml_client.online_endpoints.begin_create_or_update(endpoint).result(60)
    (blue,) = ml_client.online_deployments.list("deployments")
    assert (blue.name, blue.endpoint_name) == ("blue", "deployments")
    with pytest.raises(ResourceExistsError, match="100% live traffic"):
        ml_client.online_deployments.begin_delete("blue", "deployments")


def test_a_collector_is_recorded(tides, sources):
    collector = DataCollector({"request": DeploymentCollection(enabled=True)}, sampling_rate=0.5)
    poller = tides.online_deployments.begin_create_or_update(sources.deployment(data_collector=collector))
    made = poller.result(60)
    assert made.data_collector.collections["request"].data.endswith("/data/tides-blue-request/versions/1")
    assert any("data_collector is recorded" in message for message in poller.messages())


def test_a_patch_that_removes_the_traffic_clears_it(tides, sources, wire_of, until):
    tides.online_deployments.begin_create_or_update(sources.deployment()).result(60)
    tides.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides", traffic={"blue": 100})).result(60)
    wire = wire_of(tides)
    wire.ask("PATCH", ENDPOINT, {"tags": {"team": "harbour"}})
    assert wire.settled(ENDPOINT, until)["properties"]["traffic"] == {"blue": 100}
    wire.ask("PATCH", ENDPOINT, {"properties": {"traffic": None}})
    assert wire.settled(ENDPOINT, until)["properties"]["traffic"] == {}


def test_an_etag_lasts_until_somebody_changes_the_resource(wire, endpoint_body, until):
    etag = wire.put(ENDPOINT, endpoint_body).headers["etag"]
    wire.settled(ENDPOINT, until)
    wire.ask("POST", f"{ENDPOINT}/regenerateKeys", {"keyType": "Primary"})
    assert wire.get(ENDPOINT).headers["etag"] == etag
    assert wire.put(ENDPOINT, endpoint_body, headers={"If-Match": etag}).status == 200
    wire.settled(ENDPOINT, until)
    assert wire.put(ENDPOINT, endpoint_body, headers={"If-Match": etag}).status == 412


def test_keys_of_an_endpoint_that_is_going_are_not_made(busy, wire_of):
    wire = wire_of(busy)
    assert wire.ask("DELETE", ENDPOINT).status == 202
    assert wire.ask("POST", f"{ENDPOINT}/regenerateKeys", {"keyType": "Primary"}).status == 404


def test_what_a_model_is_said_to_be_may_change_and_its_files_may_not(ml_client, tmp_path):
    path = tmp_path / "model.txt"
    path.write_text("one")
    first = ml_client.models.create_or_update(Model(name="tide-net", path=path))
    said = {"description": "Spring.", "tags": {"a": 1}}
    again = ml_client.models.create_or_update(Model(name="tide-net", version="1", path=path, **said))
    assert (again.version, again.path) == (first.version, first.path)
    assert ml_client.models.get("tide-net", "1").description == "Spring."
    path.write_text("two")
    with pytest.raises(ValidationException, match="version '1' with other files, and versions never change"):
        ml_client.models.create_or_update(Model(name="tide-net", version="1", path=path))
    assert ml_client.models.create_or_update(Model(name="tide-net", path=path)).version == "2"


def test_an_update_that_the_gateway_does_not_take_up_leaves_the_old_revision(slow, sources, until, monkeypatch):
    monkeypatch.setattr("modelport.gateway.runner.TAKE_UP_SECONDS", 2)
    monkeypatch.setattr("modelport.gateway.runner.ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("modelport.backends.supervisor.PATIENCE", 2)
    before = sources.alive()
    envoy = psutil.Process(slow._service.transport.opened.gateway.pid)
    update = slow.online_deployments.get("blue", "tides")
    update.environment_variables |= {"WHO": "blue-2", "SLOW": "1"}
    replicas = slow._service.transport.opened.app._parts.backend
    old = replicas.revisions()
    poller = slow.online_deployments.begin_create_or_update(update)
    until(lambda: replicas.revisions() > old)  # the new one starts
    envoy.suspend()
    try:
        with pytest.raises(GatewayRejected):
            poller.result(90)
    finally:
        envoy.resume()
    until(lambda: sources.alive() == before)
    assert replicas.revisions() == old

    def answers():
        with contextlib.suppress(ScoringError):
            return slow.online_endpoints.invoke("tides", input_data=1, deployment_name="blue").json()["who"] == "blue"

    until(answers)


def test_closing_ends_a_build(tmp_path):
    began = time.monotonic()
    builder = PrefixBuilder(tmp_path / "environments")
    seen = []

    def report(line):
        seen.append(line)
        builder.close()

    with pytest.raises(ImageBuildFailure, match="Environment could not be built"):
        builder.build(Wanted(conda={"dependencies": [{"pip": ["six"]}]}), report)
    assert seen
    assert builder._children.pids == set()
    assert time.monotonic() - began < 30


HANGS = """
import time
def init():
    print("tide tables are being read", flush=True)
    time.sleep(600)
def run(raw): return 1
"""


@pytest.fixture
def hanging(tides, sources, until):
    """The poller of a creation whose `init()` never returns, once that has begun."""
    probe = ProbeSettings(initial_delay=300)
    deployment = sources.deployment(script=HANGS, readiness_probe=probe, liveness_probe=probe)
    poller = tides.online_deployments.begin_create_or_update(deployment)
    until(lambda: "being read" in tides.online_deployments.get_logs("blue", "tides", 50))
    return poller


@pytest.mark.parametrize("whole", [False, True])
def test_deleting_gives_up_a_creation_that_hangs(tides, hanging, whole):
    if whole:
        tides.online_endpoints.begin_delete("tides").result(60)
        assert list(tides.online_endpoints.list()) == []
    else:
        tides.online_deployments.begin_delete("blue", "tides").result(60)
        assert list(tides.online_deployments.list("tides")) == []
    with pytest.raises(OperationCanceled, match="Deployment 'blue' of 'tides' was deleted"):
        hanging.result(60)
    assert hanging.status() == "Canceled"
    assert tides._service.transport.opened.app._parts.backend.revisions() == set()


def test_a_creation_that_was_given_up_can_be_made_again(tides, hanging, sources):
    tides.online_deployments.begin_delete("blue", "tides").result(60)
    tides.online_deployments.begin_create_or_update(sources.deployment()).result(60)
    answer = tides.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
    assert answer.json()["who"] == "blue"


def test_deleting_at_once_what_was_just_made_leaves_nothing(wire, endpoint_body, until):
    for _ in range(20):
        assert wire.put(ENDPOINT, endpoint_body).status == 201
        assert wire.ask("DELETE", ENDPOINT).status == 202
        assert wire.get(ENDPOINT).body.get("properties", {}).get("provisioningState") in ("Deleting", None)
        until(lambda: wire.get(ENDPOINT).status == 404)
