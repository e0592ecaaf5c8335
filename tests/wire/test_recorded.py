"""What Azure's client sends for a file, Modelport sends for it too; every difference is in one table."""

import base64
import json
from copy import deepcopy
from pathlib import Path

import pytest

from modelport import load_environment, load_model, load_online_deployment, load_online_endpoint
from modelport.entities import OnlineDeployment, OnlineEndpoint
from modelport.entities.assets import Environment, Model
from modelport.schema import faces
from modelport.schema.faces import Face

HERE = Path(__file__).parent
UPLOADS = {"deployment-managed-inline-assets", "environment-build-context", "model-custom-local-folder"}
FILES = sorted(path.stem for path in (HERE / "recorded").glob("*.json") if path.stem not in UPLOADS)
ABSENT = object()

# Every difference, by the recordings that have it: where, what Azure's client sends, what Modelport sends, and the
# row of "What Modelport does differently, on purpose" (the first words of its left column) that asks for it.
DIFFERENCES = [
    (
        ("endpoint-aadtoken", "endpoint-key-minimal"),
        ("properties", "traffic"),
        {},
        ABSENT,
        "re-running a notebook's first cell (a PUT whose traffic is empty) unroutes a live endpoint",
    ),
    (
        ("endpoint-aadtoken", "endpoint-key-full", "endpoint-key-minimal", "endpoint-kubernetes"),
        ("properties", "mirrorTraffic"),
        {},
        ABSENT,
        "re-running a notebook's first cell (a PUT whose traffic is empty) unroutes a live endpoint",
    ),
    (
        ("deployment-managed-probes",),
        ("properties", "requestSettings", "maxQueueWait"),
        ABSENT,
        "PT0S",
        "get → change → put loses `model_mount_path`, sub-second waits, explicit zeros",
    ),
]


def recording(name):
    return json.loads((HERE / "recorded" / f"{name}.json").read_text(encoding="utf-8"))


def place_of(template):
    return template.partition("{workspaceName}")[2].strip("/")


def put(document, steps, value):
    for step in steps[:-1]:
        document = document[step]
    if value is ABSENT:
        document.pop(steps[-1])
    else:
        document[steps[-1]] = value


def get(document, steps):
    for step in steps:
        document = document.get(step, ABSENT)
    return document


def sent_by_azure(name):
    """Every JSON body that was PUT into the workspace, by its place, with the differences of the table."""
    recorded = recording(name)
    bodies = {
        place_of(each["url_template"]): each["body"]
        for each in recorded["sequence"]
        if each["method"] == "PUT" and "{workspaceName}" in each["url_template"]
    }
    body = deepcopy(recorded["body"])
    for names, steps, theirs, ours, _row in DIFFERENCES:
        if name in names:
            assert get(body, steps) == theirs
            put(body, steps, ours)
    return {**bodies, place_of(recorded["url_template"]): body}


@pytest.fixture
def folder(tmp_path):
    """Writes a recording's files; returns its YAML."""

    def write(name):
        recorded = recording(name)
        for path, text in recorded.get("files", {}).items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            coded = text.startswith("base64:")
            file.write_bytes(base64.b64decode(text.removeprefix("base64:")) if coded else text.encode())
        (tmp_path / "entity.yml").write_text(recorded["yaml"], encoding="utf-8")
        return tmp_path / "entity.yml"

    return write


@pytest.fixture
def send(client):
    """Loads a file and gives it to the client, as its kind asks."""

    def of(kind, path):
        if kind == "endpoint":
            return client.begin_create_or_update(load_online_endpoint(path)).result()
        if kind == "deployment":
            return client.begin_create_or_update(load_online_deployment(path)).result()
        return client.create_or_update({"model": load_model, "environment": load_environment}[kind](path))

    return of


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_sent_as_azures_client_sends_it(name, folder, send, service):
    send(recording(name)["kind"], folder(name))
    assert dict(service.sent) == sent_by_azure(name)
    assert service.sent[-1][0] == place_of(recording(name)["url_template"])


@pytest.mark.parametrize("name", FILES)
def test_what_comes_back_is_sent_again_as_it_came(name, folder, send, service, client):
    kind = recording(name)["kind"]
    answer = send(kind, folder(name))
    first = service.sent[-1]
    service.sent.clear()
    (client.begin_create_or_update if kind in ("endpoint", "deployment") else client.create_or_update)(answer)
    assert service.sent[-1] == first


@pytest.mark.parametrize("name", FILES)
def test_a_recorded_body_is_read_and_written_whole(name):
    recorded = recording(name)
    kinds = {"endpoint": OnlineEndpoint, "deployment": OnlineDeployment, "model": Model, "environment": Environment}
    body = recorded["body"]
    document = {**body, "id": place_of(recorded["url_template"]).join(["/x/", ""])}
    assert faces.dump(faces.load(kinds[recorded["kind"]], document, Face.RECORD), Face.REQUEST) == body


def test_there_are_at_most_eight_differences():
    assert len({row for *_, row in DIFFERENCES}) <= len(DIFFERENCES) <= 8


OWNED = {"provisioningState", "scoringUri", "swaggerUri", "latestVersion", "nextVersion"}
COLLECTIONS = {"onlineEndpoints": OnlineEndpoint, "deployments": OnlineDeployment, "models": Model}


def recorded_answers():
    """Every endpoint, deployment and model version that the recorded service answered, once."""
    seen = {}
    for operation in json.loads((HERE / "wire-sequences.json").read_text(encoding="utf-8"))["operations"]:
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
        expected = {key: value for key, value in document.items() if key in ("location", "tags", "identity", "sku")}
        expected["properties"] = {key: value for key, value in document["properties"].items() if key not in OWNED}
        entity = faces.load(COLLECTIONS[collection], document, Face.RECORD)
        assert faces.dump(entity, Face.REQUEST) == expected
        assert faces.dump(entity, Face.RECORD) == {k: v for k, v in document.items() if k not in ("name", "type")}
