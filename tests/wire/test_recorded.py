"""What Azure's client sends for a file, Modelport sends for it too; every difference is in one table."""

import json
import re

import pytest
from tests.wire.differences import TABLE, changed_body
from tests.wire.recordings import FILES, LABELS, OPERATIONS, recording, settled, write_files

from modelport import load_environment, load_model, load_online_deployment, load_online_endpoint
from modelport.entities import OnlineDeployment, OnlineEndpoint
from modelport.entities.assets import Environment, Model
from modelport.schema import faces
from modelport.schema.faces import Face

OWNED = {"provisioningState", "scoringUri", "swaggerUri", "latestVersion", "nextVersion"}
LOADERS = {
    "endpoint": load_online_endpoint,
    "deployment": load_online_deployment,
    "model": load_model,
    "environment": load_environment,
}


def place_of(template):
    return template.partition("{workspaceName}")[2].strip("/")


def sent_by_azure(name, storage):
    """Every JSON body that was PUT into the workspace, by its place, with the differences of the table."""
    recorded = recording(name)
    bodies = {
        place_of(each["url_template"]): each["body"]
        for each in recorded["sequence"]
        if each["method"] == "PUT" and "{workspaceName}" in each["url_template"]
    }
    bodies[place_of(recorded["url_template"])] = changed_body(name, recorded["body"])
    return settled(json.loads(json.dumps(bodies).replace("https://STORAGE", storage)))


@pytest.fixture
def sent(azure_stub):
    """What was PUT into the workspace so far: place → body, in order."""

    def of():
        here = f"{azure_stub.workspace}/"
        puts = [each for each in azure_stub.of("PUT") if each.path.startswith(here)]
        return {each.path.removeprefix(here): each.json for each in puts}

    return of


@pytest.fixture
def send(azure_stub, azure_client, tmp_path):
    """Loads a recording's file, and sends it to a workspace that has what it refers to; returns the client, too."""

    def of(name):
        recorded, client = recording(name), azure_client()
        place = place_of(recorded["url_template"])
        if "/deployments/" in place:
            endpoint = {"location": "westeurope", "properties": {"authMode": "Key"}}
            azure_stub.add(place.partition("/deployments/")[0], endpoint)
        said = json.dumps(recorded["body"])
        for found in re.findall(rf"{azure_stub.workspace}/([a-z]+/[^/]+/versions/[^/\"]+)", said):
            azure_stub.add(found, {"properties": {}})
        entity = LOADERS[recorded["kind"]](write_files(name, tmp_path))
        return client, save(client, entity)

    return of


def settable(document):
    """What of an answer a client may say itself."""
    said = {key: value for key, value in document.items() if key in ("location", "tags", "identity", "sku")}
    said["properties"] = {key: value for key, value in document["properties"].items() if key not in OWNED}
    return said


def save(client, entity):
    if isinstance(entity, OnlineEndpoint | OnlineDeployment):
        return client.begin_create_or_update(entity).result()
    return client.create_or_update(entity)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_sent_as_azures_client_sends_it(name, send, sent, azure_stub):
    send(name)
    assert settled(sent()) == sent_by_azure(name, azure_stub.url)
    assert list(sent())[-1] == place_of(recording(name)["url_template"])


@pytest.mark.parametrize("name", FILES)
def test_what_comes_back_is_sent_again_as_it_came(name, send, sent, azure_stub):
    client, answer = send(name)
    place = place_of(recording(name)["url_template"])
    came = settable(azure_stub.resources[place])
    azure_stub.seen.clear()
    save(client, answer)
    assert sent()[place] == came


@pytest.mark.parametrize("name", FILES)
def test_a_recorded_body_is_read_and_written_whole(name):
    recorded = recording(name)
    kinds = {"endpoint": OnlineEndpoint, "deployment": OnlineDeployment, "model": Model, "environment": Environment}
    body = recorded["body"]
    document = {**body, "id": place_of(recorded["url_template"]).join(["/x/", ""])}
    assert faces.dump(faces.load(kinds[recorded["kind"]], document, Face.RECORD), Face.REQUEST) == body


def test_there_are_at_most_eight_differences():
    assert len({each.row for each in TABLE}) <= len(TABLE) <= 8
    assert {name for each in TABLE for name in each.names} <= {*FILES, *LABELS}


COLLECTIONS = {"onlineEndpoints": OnlineEndpoint, "deployments": OnlineDeployment, "models": Model}


def recorded_answers():
    """Every endpoint, deployment and model version that the recorded service answered, once."""
    seen = {}
    for operation in OPERATIONS:
        for each in operation["requests"]:
            body = each.get("response_body")
            for document in body.get("value", [body]) if isinstance(body, dict) else ():
                steps = str(document.get("id", "")).partition("/workspaces/ws/")[2].split("/")
                collection = steps[-4] if steps[-2:-1] == ["versions"] else steps[-2] if len(steps) in (2, 4) else None
                container = collection == "models" and "versions" not in steps
                if not container and collection in COLLECTIONS and "properties" in document:
                    seen.setdefault(json.dumps(document, sort_keys=True), (collection, document))
    return list(seen.values())


def test_reading_recorded_answers_and_sending_them_again_changes_nothing():
    answers = recorded_answers()
    assert {collection for collection, _ in answers} == set(COLLECTIONS)
    for collection, document in answers:
        entity = faces.load(COLLECTIONS[collection], document, Face.RECORD)
        assert faces.dump(entity, Face.REQUEST) == settable(document)
        assert faces.dump(entity, Face.RECORD) == {k: v for k, v in document.items() if k not in ("name", "type")}
