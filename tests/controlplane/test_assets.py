"""Assets over the wire, as Azure's own client asks for them: datastore, code, containers of versions, lists."""

import json
import uuid
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree as ET

import pytest

from modelport.arm.messages import Request
from modelport.entities import Model
from modelport.testing import workspace

HASH = "2f" * 32
UPLOAD = f"/azureml-blobstore/LocalUpload/{HASH}/weights"
MODEL = {"modelType": "custom_model", "tags": {}, "properties": {}, "isAnonymous": False, "isArchived": False}


class Files:
    """Blobs of a workspace, by the URLs that its control plane gives out."""

    def __init__(self, wire):
        self._wire = wire

    def ask(self, method, url, **said):
        return self._wire._transport.send(Request(method, url, credential="none", **said))

    def put(self, url, content, **headers):
        answer = self.ask("PUT", url, content=content, headers={"x-ms-blob-type": "BlockBlob", **headers})
        assert answer.status == 201

    def model(self, name="net", version="1", *, content=b"net", **properties):
        """Register a model as Azure's client does."""
        self.put(f"local://modelport{UPLOAD}/net.bin", content)
        uri = self._wire._transport.workspace.datastore_uri(f"workspaceblobstore/paths/LocalUpload/{HASH}/weights")
        body = {"properties": {**MODEL, "modelUri": uri, **properties}}
        return self._wire.put(f"models/{name}/versions/{version}", body)


@pytest.fixture
def files(wire):
    return Files(wire)


def _names(answer):
    assert answer.status == 200, answer.body
    return [each["name"] for each in answer.body["value"]]


# The datastore


def test_the_datastore_is_this_server(wire, files):
    found = wire.get("datastores", query={"isDefault": "true"})
    assert _names(found) == ["workspaceblobstore"]
    body = wire.get("datastores/workspaceblobstore").body
    assert body == found.body["value"][0]
    said = body["properties"]
    assert said["credentials"] == {"credentialsType": "Sas"}
    assert (said["datastoreType"], said["isDefault"]) == ("AzureBlob", True)
    # What clients make of it; the `#` makes a fragment of all that follows.
    account = urlsplit(f"{said['protocol']}://{said['accountName']}.blob.{said['endpoint']}")
    assert (account.scheme, account.netloc, account.path) == ("local", "modelport", "")
    asked = {"expirableSecret": True, "expireAfterHours": 1}
    secret = wire.ask("POST", "datastores/workspaceblobstore/listSecrets", asked).body
    assert secret["secretsType"] == "Sas"
    url = f"local://modelport/{said['containerName']}/file?{secret['sasToken']}"
    files.put(url, b"x")
    assert files.ask("GET", url).status == 200
    assert files.ask("GET", url.replace("sig=", "sig=x")).status == 403


@pytest.mark.parametrize("place", ["datastores/other", "datastores/other/listSecrets"])
def test_there_is_one_datastore(wire, place):
    answer = wire.ask("POST" if place.endswith("s") else "GET", place)
    assert answer.status == 404
    assert "'workspaceblobstore'" in answer.body["error"]["message"]


def test_a_signature_lasts_as_long_as_is_asked(wire):
    signed = wire.ask("POST", "datastores/workspaceblobstore/listSecrets").body["sasToken"]
    again = wire.ask("POST", "datastores/workspaceblobstore/listSecrets", {"expireAfterHours": 1000}).body["sasToken"]
    said, later = dict(parse_qsl(signed)), dict(parse_qsl(again))
    assert said["sp"] == later["sp"]
    assert said["se"] < later["se"]


def test_uploads_and_signatures_outlast_the_server(short_folder, wire_of):
    url = f"local://modelport{UPLOAD}/net.bin"
    with workspace(short_folder / "home") as client:
        wire = wire_of(client)
        signature = wire.ask("POST", "datastores/workspaceblobstore/listSecrets").body["sasToken"]
        files = Files(wire)
        files.put(url, b"net", **{"x-ms-meta-upload_status": "completed"})
        files.ask("PUT", f"{url}2", query={"comp": "block", "blockid": "b25l"}, content=b"one")
    with workspace(short_folder / "home") as client:
        files = Files(wire_of(client))
        there = files.ask("HEAD", f"{url}?{signature}")
        assert (there.status, there.headers["x-ms-meta-upload_status"]) == (200, "completed")
        waiting = files.ask("GET", f"{url}2", query={"comp": "blocklist", "blocklisttype": "uncommitted"})
        assert [each.text for each in ET.fromstring(waiting.content).iter("Name")] == ["b25l"]


# Code


def _code(files, wire, name, content=b"def init(): pass\n", digest=HASH):
    """Register code as Azure's client does; returns the answer."""
    begun = wire.ask(
        "POST", f"codes/{name}/versions/1/startPendingUpload", {"pendingUploadType": "TemporaryBlobReference"}
    )
    assert begun.body["pendingUploadType"] == "TemporaryBlobReference"
    reference = begun.body["blobReferenceForConsumption"]
    url, signature = reference["credential"]["sasUri"].split("?")
    assert url == reference["blobUri"]
    files.put(f"{url}/src/score.py?{signature}", content)
    marks = {"hash_sha256": digest, "hash_version": "202208"}
    body = {"properties": {"codeUri": f"{url}/src", "isAnonymous": True, "properties": marks}}
    return wire.put(f"codes/{name}/versions/1", body)


def test_code_goes_to_a_container_of_its_own(wire, files):
    name = str(uuid.uuid4())
    made = _code(files, wire, name)
    assert made.status == 201
    assert made.body["properties"]["codeUri"] == f"local://modelport/code-{name}/src"
    assert made.body["properties"] == wire.get(f"codes/{name}/versions/1").body["properties"]
    there = wire.get(f"codes/{name}/versions", query={"hash": HASH, "hashVersion": "202208"})
    assert _names(there) == ["1"]
    assert _names(wire.get(f"codes/{name}/versions", query={"hash": "00" * 32})) == []


def test_an_upload_of_code_can_be_gone_on_with_until_it_is_there(wire, files):
    name = str(uuid.uuid4())
    places = [wire.ask("POST", f"codes/{name}/versions/1/startPendingUpload").body for _ in range(2)]
    first, second = (each["blobReferenceForConsumption"]["blobUri"] for each in places)
    assert first == second
    _code(files, wire, name)
    third = wire.ask("POST", f"codes/{name}/versions/1/startPendingUpload").body
    assert third["blobReferenceForConsumption"]["blobUri"] != first


def test_equal_code_is_found_under_a_name_that_was_made_up_just_now(wire, files):
    _code(files, wire, "11111111-1111-1111-1111-111111111111")
    found = wire.get(f"codes/{uuid.uuid4()}/versions", query={"hash": HASH, "hashVersion": "202208"}).body["value"]
    assert [each["id"].split("/codes/")[1] for each in found] == ["11111111-1111-1111-1111-111111111111/versions/1"]


def test_the_same_code_may_be_sent_twice_but_no_other(wire, files):
    name = str(uuid.uuid4())
    first = _code(files, wire, name).body["properties"]["codeUri"]
    again = _code(files, wire, name)
    assert (again.status, again.body["properties"]["codeUri"]) == (200, first)
    other = _code(files, wire, name, b"other", digest="3f" * 32)
    assert other.status == 409
    assert "never change" in other.body["error"]["message"]


# Models share their files


def test_models_with_equal_files_share_them(wire, files):
    assert [files.model(name).status for name in ("net", "same")] == [201, 201]
    assert wire.ask("DELETE", "models/net/versions/1").status == 200
    assert files.ask("GET", f"local://modelport{UPLOAD}/net.bin").status == 200
    listed = files.ask("GET", "local://modelport/azureml-blobstore", query={"restype": "container", "comp": "list"})
    assert [each.text for each in ET.fromstring(listed.content).iter("Name")] == [f"LocalUpload/{HASH}/weights/net.bin"]


def test_a_models_words_may_change_and_its_files_may_not(wire, files):
    uri = files.model().body["properties"]["modelUri"]
    assert wire.get("models/net/versions/1").body["properties"]["flavors"] == {}  # Azure's client fails without
    assert uri.endswith(f"/datastores/workspaceblobstore/paths/LocalUpload/{HASH}/weights")
    changed = files.model(tags={"a": "b"}, description="new", isArchived=True, modelUri=f"{uri}/")
    assert (changed.status, changed.body["properties"]["tags"]) == (200, {"a": "b"})
    assert changed.body["properties"]["modelUri"] == uri
    assert files.model(modelUri=uri.replace("weights", "others")).status == 409
    assert files.model(modelType="mlflow_model").status == 409


def test_a_short_datastore_path_gets_its_long_form(wire, files):
    short = "azureml://datastores/workspaceblobstore/paths/mine/net.bin"
    answer = files.model(modelUri=short)
    long = wire._transport.workspace.datastore_uri("workspaceblobstore/paths/mine/net.bin")
    assert answer.body["properties"]["modelUri"] == long


def test_a_build_context_keeps_its_place_and_gets_the_servers_address(wire, files):
    files.put(f"local://modelport{UPLOAD}/Dockerfile", b"FROM scratch")
    context = f"https://127.0.0.1:1{UPLOAD}/"
    body = {"properties": {"build": {"contextUri": context}}}
    made = wire.put("environments/e/versions/1", body).body["properties"]["build"]
    assert made["contextUri"] == f"local://modelport{UPLOAD}/"
    again = wire.put("environments/e/versions/1", {"properties": {"build": {**made}}})
    assert again.status == 200


def test_a_package_is_refused_with_what_to_do_instead(wire, files):
    files.model()
    answer = wire.ask("POST", "models/net/versions/1/package", {"targetEnvironmentId": "x"})
    assert (answer.status, answer.body["error"]["code"]) == (400, "UnsupportedByBackend")
    assert "Azure builds" in answer.body["error"]["message"]
    assert "environment" in answer.body["error"]["message"]


def test_our_own_client_brings_back_what_it_sent(ml_client, wire_of, tmp_path):
    (tmp_path / "weights" / "v2").mkdir(parents=True)
    (tmp_path / "weights" / "labels.txt").write_text("labels")
    (tmp_path / "weights" / "v2" / "net.bin").write_bytes(bytes(range(256)) * 40_000)  # more than one block
    for name in ("net", "same"):
        ml_client.models.create_or_update(Model(name=name, path=tmp_path / "weights"))
    uris = {
        wire_of(ml_client).get(f"models/{name}/versions/1").body["properties"]["modelUri"] for name in ("net", "same")
    }
    assert len(uris) == 1
    ml_client.models.download("net", "1", download_path=str(tmp_path / "there"))
    there = {each.name: each.read_bytes() for each in (tmp_path / "there").rglob("*") if each.is_file()}
    assert there == {each.name: each.read_bytes() for each in (tmp_path / "weights").rglob("*") if each.is_file()}


# Containers of versions


def test_a_container_tells_of_its_versions(wire, files):
    for version in ("1", "7"):
        files.model(version=version)
    body = wire.get("models/net").body
    assert body["properties"]["latestVersion"] == "7"
    assert body["properties"]["nextVersion"] == "8"
    assert body["type"] == "Microsoft.MachineLearningServices/workspaces/models"
    assert {"createdAt", "lastModifiedAt"} <= body["systemData"].keys()


def test_a_container_is_archived_as_azures_client_does_it(wire, files):
    files.model()
    files.model("other")
    body = wire.get("models/net").body
    body["properties"]["isArchived"] = True
    assert wire.put("models/net", body).status == 200
    assert _names(wire.get("models", query={"listViewType": "ActiveOnly"})) == ["other"]
    assert _names(wire.get("models", query={"listViewType": "ArchivedOnly"})) == ["net"]
    assert _names(wire.get("models", query={"listViewType": "All"})) == ["net", "other"]
    files.model(version="2")
    there = wire.get("models/net").body["properties"]
    assert (there["isArchived"], there["latestVersion"], there["nextVersion"]) == (True, "2", "3")
    body["properties"] = {"isArchived": False, "description": "back", "tags": {"a": "b"}}
    wire.put("models/net", body)
    there = wire.get("models/net").body["properties"]
    assert (there["isArchived"], there["description"], there["tags"]) == (False, "back", {"a": "b"})
    assert _names(wire.get("models/net/versions")) == ["1", "2"]


@pytest.mark.parametrize("properties", [{"isArchived": "yes"}, {"tags": [1]}, {"properties": "x"}, []])
def test_a_container_that_cannot_be_is_refused(wire, files, properties):
    files.model()
    assert wire.put("models/net", {"properties": properties}).status == 400


def test_a_container_is_deleted_with_its_versions(wire, files):
    for version in ("1", "2"):
        files.model(version=version)
    assert wire.ask("DELETE", "models/net").status == 200
    assert wire.get("models/net").status == wire.get("models/net/versions/1").status == 404
    assert wire.ask("DELETE", "models/net").status == 204


# Lists


def test_models_are_listed_as_they_are_asked_for(wire, files):
    files.model(version="1", stage="Production", tags={"team": "harbour"})
    files.model(version="2", stage="Staging", tags={"team": "sea", "big": ""}, properties={"kind": "x"})
    files.model(version="3", isArchived=True)
    place = "models/net/versions"
    assert _names(wire.get(place)) == ["1", "2"]
    assert _names(wire.get(place, query={"listViewType": "ArchivedOnly"})) == ["3"]
    assert _names(wire.get(place, query={"listViewType": "All", "$orderBy": "createdtime desc"})) == ["3", "2", "1"]
    assert _names(wire.get(place, query={"stage": "production"})) == ["1"]
    assert _names(wire.get(place, query={"tags": "team"})) == ["1", "2"]
    assert _names(wire.get(place, query={"tags": "team=sea,big"})) == ["2"]
    assert _names(wire.get(place, query={"properties": "kind=y"})) == []
    assert _names(wire.get(place, query={"$top": "1", "$skip": "1"})) == ["2"]
    files.model(version="1", description="changed last")
    assert _names(wire.get(place, query={"$orderBy": "updatedtime desc"})) == ["1", "2"]
    assert wire.get(place, query={"listViewType": "Sometimes"}).status == 400


def test_endpoints_are_listed_as_they_are_asked_for(wire, endpoint_body):
    for name in ("first", "second", "third"):
        wire.put(f"onlineEndpoints/{name}", {**endpoint_body, "tags": {"is": name}})
    place = "onlineEndpoints"
    assert _names(wire.get(place, query={"name": "second"})) == ["second"]
    assert _names(wire.get(place, query={"count": "2"})) == ["first", "second"]
    assert _names(wire.get(place, query={"count": "2", "$skip": "1"})) == ["second", "third"]
    assert _names(wire.get(place, query={"computeType": "managed"})) == ["first", "second", "third"]
    assert _names(wire.get(place, query={"computeType": "Kubernetes"})) == []
    assert _names(wire.get(place, query={"orderBy": "CreatedAtDesc"})) == ["third", "second", "first"]
    assert _names(wire.get(place, query={"tags": "is=third"})) == ["third"]
    assert wire.get(place, query={"count": "0"}).status == 400


# The workspace and its data


def test_the_workspace_is_listed_where_it_is(wire):
    subscription, group = wire.workspace.split("/")[2], wire.workspace.split("/")[4]
    kind = "providers/Microsoft.MachineLearningServices/workspaces"
    assert _names(wire.get(f"/subscriptions/{subscription}/{kind}")) == ["local"]
    assert _names(wire.get(f"/subscriptions/{subscription}/resourcegroups/{group.upper()}/{kind}")) == ["local"]
    assert _names(wire.get(f"/subscriptions/{subscription}/resourceGroups/other/{kind}")) == []
    body = wire.get("").body
    assert body == wire.get(f"/subscriptions/{subscription}/{kind}").body["value"][0]
    assert {"location", "tags", "properties"} <= body.keys()


def test_data_is_kept_by_where_it_is(wire):
    uri = "azureml://datastores/workspaceblobstore/paths/modelDataCollector/tides/blue/model_inputs"
    body = {"properties": {"dataType": "uri_folder", "dataUri": uri}}
    assert wire.put("data/tides-blue-model_inputs/versions/1", body).status == 201
    found = wire.get("data/tides-blue-model_inputs/versions/1").body["properties"]
    assert found["dataUri"] == wire._transport.workspace.datastore_uri(uri.removeprefix("azureml://datastores/"))
    assert wire.put("data/tides-blue-model_inputs/versions/1", body).status == 200


# Scripts


def test_a_script_finds_its_model_where_azures_client_put_it(tides, wire_of, tmp_path, until):
    wire = wire_of(tides)
    files = Files(wire)
    files.model(content=b"deep")
    script = """
import os, pathlib

def init():
    global seen
    folder = pathlib.Path(os.environ["AZUREML_MODEL_DIR"])
    seen = {each.relative_to(folder).as_posix(): each.read_text() for each in folder.rglob("*") if each.is_file()}

def run(raw_data):
    return seen
"""
    code = _code(files, wire, str(uuid.uuid4()), script.encode())
    properties = {
        "endpointComputeType": "Managed",
        "model": wire.get("models/net/versions/1").body["id"],
        "codeConfiguration": {"codeId": code.body["id"], "scoringScript": "score.py"},
        "instanceType": "local",
    }
    body = {"location": "local", "sku": {"name": "Default", "capacity": 1}, "properties": properties}
    assert wire.put("onlineEndpoints/tides/deployments/blue", body).status == 201
    after = wire.settled("onlineEndpoints/tides/deployments/blue", until)
    assert after["properties"]["provisioningState"] == "Succeeded"
    endpoint = {"location": "local", "properties": {"authMode": "Key", "traffic": {"blue": 100}}}
    assert wire.put("onlineEndpoints/tides", endpoint).status == 200
    wire.settled("onlineEndpoints/tides", until)
    (tmp_path / "request.json").write_text("{}")
    answer = tides.online_endpoints.invoke("tides", request_file=str(tmp_path / "request.json"))
    assert json.loads(str(answer)) == {"weights/net.bin": "deep"}
