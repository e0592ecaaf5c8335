"""`ml_client.models`, `environments`, `data`, `datastores` and `workspaces`, against a stand-in for Azure."""

import json
import math

import pytest
from tests.stub.azure import Say

from modelport.entities import (
    AzureBlobDatastore,
    AzureMLOnlineInferencingServer,
    BaseEnvironment,
    BuildContext,
    CodeConfiguration,
    CustomInferencingServer,
    Data,
    Environment,
    Model,
    ModelConfiguration,
    ModelPackage,
    ModelPackageInput,
    OnlineInferenceConfiguration,
    PackageInputPathUrl,
    Route,
)
from modelport.errors import (
    ImageBuildFailure,
    ResourceExistsError,
    ResourceNotFoundError,
    UnsupportedByBackend,
    ValidationException,
)
from modelport.schema import faces
from modelport.schema.faces import Face

LONG = "azureml://subscriptions/{0.subscription}/resourcegroups/{0.group}/workspaces/{0.name}/datastores"


@pytest.fixture
def client(azure_client):
    return azure_client()


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    (folder / "v2").mkdir(parents=True)
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "v2/net.bin").write_bytes(b"\0\1\2\3")
    return folder


def made(stub, method="PUT"):
    """What was asked below the workspace: place and body, in order."""
    top = f"{stub.workspace}/"
    return [(each.path.removeprefix(top), each.json) for each in stub.of(method) if each.path.startswith(top)]


def answers(stub, path, document):
    """Have the service answer a GET of what `path` ends."""
    said = Say(200, {"Content-Type": "application/json"}, json.dumps(document))
    stub.faults.append(lambda seen: said if seen.method == "GET" and seen.path.endswith(path) else None)


@pytest.mark.parametrize("collection", ["models", "environments", "data"])
def test_one_version_is_named_in_one_way(client, azure_stub, collection):
    assets = getattr(client, collection)
    with pytest.raises(ValidationException, match="Must provide either version or label"):
        assets.get("net")
    for verb in (assets.get, assets.archive, assets.restore):
        with pytest.raises(ValidationException, match=r"Cannot specify both version and label\."):
            verb("net", version="1", label="latest")
    with pytest.raises(ValidationException, match=r"Asset net with version label prod does not exist in workspace\."):
        assets.get("net", label="prod")
    assert azure_stub.seen == []
    with pytest.raises(ValidationException, match=r"Asset net does not exist in workspace ws\."):
        assets.get("net", label="latest")
    with pytest.raises(ResourceNotFoundError):
        assets.get("net", "1")


def test_the_latest_version_is_the_one_made_last(client):
    for version in ("9", "1"):
        client.environments.create_or_update(Environment(name="env", version=version, image=f"i:{version}"))
    assert client.environments.get("env", label="latest").image == "i:1"
    assert client.environments.get("azureml:env", "9").image == "i:9"


@pytest.mark.parametrize(("collection", "asset"), [("models", Model), ("environments", Environment), ("data", Data)])
def test_archiving_changes_nothing_else(client, azure_stub, collection, asset):
    assets = getattr(client, collection)
    values = {"image": "i"} if asset is Environment else {"path": "azureml://datastores/d/paths/p"}
    values |= {"stage": "prod"} if asset is Model else {}
    before = assets.create_or_update(asset(name="a", version="1", tags={"k": "v"}, **values))
    sent = made(azure_stub)[-1][1]
    assets.archive("a", "1")
    assert made(azure_stub)[-1][1]["properties"] == {
        **made(azure_stub)[-1][1]["properties"],
        **sent["properties"],
        "isArchived": True,
    }
    assert assets.get("a", "1").is_archived
    assets.restore("a", label="latest")
    assert assets.get("a", "1") == before


def test_a_whole_name_can_be_archived(client, azure_stub):
    said = {"latestVersion": "1", "nextVersion": "2", "isArchived": False, "tags": {"k": "v"}, "description": None}
    answers(azure_stub, "/models/net", {"id": f"{azure_stub.workspace}/models/net", "properties": said})
    client.models.archive("net")
    assert made(azure_stub)[-1] == ("models/net", {"properties": {"isArchived": True, "tags": {"k": "v"}}})
    client.models.restore("net")
    assert made(azure_stub)[-1] == ("models/net", {"properties": {"isArchived": False, "tags": {"k": "v"}}})


def test_lists_say_what_they_want(client, azure_stub):
    list(client.models.list())
    list(client.models.list("net", stage="prod", list_view_type="All"))
    list(client.environments.list(list_view_type="ARCHIVED_ONLY".title().replace("_", "")))
    list(client.data.list("d"))
    asked = [
        (each.path.rpartition("/workspaces/ws/")[2], {k: v for k, v in each.query.items() if k != "api-version"})
        for each in azure_stub.seen
    ]
    assert asked == [
        ("models", {"listViewType": "ActiveOnly"}),
        ("models/net/versions", {"listViewType": "All", "stage": "prod"}),
        ("environments", {"listViewType": "ArchivedOnly"}),
        ("data/d/versions", {"listViewType": "ActiveOnly"}),
    ]


def test_a_model_comes_back_as_it_went(client, weights, tmp_path):
    client.models.create_or_update(Model(name="net", version="1", path=weights))
    client.models.create_or_update(Model(name="net", version="2", path=weights / "v2/net.bin"))
    client.models.download("net", "1", tmp_path / "dl")
    client.models.download("net", version="2", download_path=str(tmp_path / "dl"))
    found = {path.relative_to(tmp_path / "dl").as_posix() for path in (tmp_path / "dl").rglob("*") if path.is_file()}
    assert found == {"net/weights/labels.txt", "net/weights/v2/net.bin", "net/net.bin"}
    assert (tmp_path / "dl/net/weights/v2/net.bin").read_bytes() == b"\0\1\2\3"


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("azureml://jobs/J/outputs/artifacts/paths/model", "not in a datastore of this workspace"),
        ("https://elsewhere.example.test/model", "not in a datastore of this workspace"),
        ("azureml://datastores/workspaceblobstore/paths/x/..", "Nothing outside the folder"),
        ("azureml://datastores/workspaceblobstore/paths/nothing", "There are no files at 'nothing'"),
    ],
)
def test_what_cannot_be_downloaded_is_told(client, azure_stub, tmp_path, uri, fault):
    azure_stub.blobs["/azureml-blobstore-1/x/../a"] = b"evil"
    client.models.create_or_update(Model(name="net", version="1", path=uri))
    with pytest.raises((ValidationException, ResourceNotFoundError), match=fault):
        client.models.download("net", "1", tmp_path / "dl")
    assert not (tmp_path / "dl").exists()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a?b", "a#b", "%2e", "a b", ""])
def test_what_no_url_can_have_as_a_step_is_no_name(client, azure_stub, tmp_path, name):
    for ask in (
        lambda: client.models.download(name, "1", tmp_path / "dl"),
        lambda: client.models.get("net", version=name or "/"),
        lambda: client.environments.get(name, label="latest"),
        lambda: client.data.archive(name),
        lambda: client.models.list(name) if name else client.data.archive(name),
        lambda: client.datastores.get(name),
        lambda: client.workspaces.get(name or "/"),
    ):
        with pytest.raises(ValidationException, match="no URL step can have"):
            ask()
    assert azure_stub.seen == []


@pytest.mark.parametrize(
    "uri",
    [
        "azureml://jobs/J/outputs/artifacts/paths/model",
        "runs:/ID/model",
        "wasbs://c@a.blob.core.windows.net/model",
        "https://a.blob.core.windows.net/c/model",
        "azureml://registries/R/models/net/versions/1",
    ],
)
def test_the_uri_of_a_model_is_sent_as_it_is(client, azure_stub, uri):
    client.models.create_or_update(Model(name="net", version="1", path=uri))
    assert made(azure_stub)[-1][1]["properties"]["modelUri"] == uri


def test_a_short_uri_is_sent_long(client, azure_stub):
    client.models.create_or_update(Model(name="net", version="1", path="azureml://datastores/d/paths/p/q"))
    assert made(azure_stub)[-1][1]["properties"]["modelUri"] == LONG.format(azure_stub.workspace) + "/d/paths/p/q"


def test_files_go_to_the_datastore_that_is_named(client, azure_stub, weights):
    said = {"datastoreType": "AzureBlob", "accountName": f"{azure_stub.host}#", "containerName": "other"}
    answers(azure_stub, "/datastores/other", {"properties": {**said, "credentials": {"credentialsType": "Sas"}}})
    model = client.models.create_or_update(Model(name="net", version="1", path=weights, datastore="azureml:other"))
    assert "/datastores/other/paths/LocalUpload/" in model.path
    assert all(path.startswith("/other/LocalUpload/") for path in azure_stub.blobs)


def test_other_datastores_than_of_blobs_are_refused(client, azure_stub, weights):
    answers(azure_stub, "/datastores/files", {"properties": {"datastoreType": "AzureFile", "accountName": "a"}})
    with pytest.raises(ValidationException, match="Datastore 'files' is of type AzureFile"):
        client.models.create_or_update(Model(name="net", version="1", path=weights, datastore="files"))


def test_a_datastore_without_secrets_takes_the_callers_token(client, azure_stub, weights, tmp_path):
    azure_stub.storage_credentials = "None"
    client.models.create_or_update(Model(name="net", version="1", path=weights))
    client.models.download("net", "1", tmp_path)
    to_storage = [each for each in azure_stub.seen if each.path.startswith("/azureml")]
    assert all(each.headers["authorization"].startswith("Bearer ") and "sig" not in each.query for each in to_storage)
    assert azure_stub.of("POST") == []


def test_data_is_registered_from_files(client, azure_stub, weights):
    data = client.create_or_update(Data(name="d", version="1", path=weights))
    assert data.path.startswith("azureml://datastores/workspaceblobstore/paths/LocalUpload/")
    assert len(azure_stub.blobs) == 2
    file = client.data.create_or_update(Data(name="d", path=weights / "labels.txt", type="uri_file"))
    assert (file.version, file.type) == ("2", "uri_file")
    with pytest.raises(ValidationException, match=r"of type uri_folder, and .* is a file"):
        client.data.create_or_update(Data(name="d", path=weights / "labels.txt"))
    with pytest.raises(ValidationException, match="has no path"):
        client.data.create_or_update(Data(name="d"))


def test_unchanged_environments_keep_their_version(client, azure_stub, tmp_path):
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx/Dockerfile").write_text("FROM x\n")

    def version(**values):
        return client.environments.create_or_update(Environment(name="env", **values)).version

    assert version(image="i:1") == "1"
    assert version(image="i:1", description="said later") == "1"
    assert client.environments.get("env", "1").description == "said later"
    assert version(image="i:2") == "2"
    assert version(image="i:2", conda_file={"dependencies": ["python"]}) == "3"
    assert version(build=BuildContext(path=tmp_path / "ctx")) == "4"
    assert version(build=BuildContext(path=tmp_path / "ctx", dockerfile_path="Dockerfile")) == "4"
    (tmp_path / "ctx/Dockerfile").write_text("FROM y\n")
    assert version(build=BuildContext(path=tmp_path / "ctx")) == "5"
    assert version(image="i:1") == "6"
    assert client.environments.get("env", "2").image == "i:2"


def test_two_clients_never_get_the_same_next_version(client, azure_stub):
    taken = iter([{"image": "of another"}])

    def race(seen):
        if seen.method == "PUT" and (other := next(taken, None)):
            azure_stub.add("environments/env/versions/1", {"properties": other})
            return Say(409, {}, json.dumps({"error": {"code": "Conflict", "message": "it exists"}}))
        return None

    azure_stub.faults.append(race)
    assert client.environments.create_or_update(Environment(name="env", image="mine")).version == "2"
    azure_stub.faults.append(
        lambda seen: (
            Say(409, {}, json.dumps({"error": {"code": "Conflict", "message": "no"}})) if seen.method == "PUT" else None
        )
    )
    with pytest.raises(ResourceExistsError, match="others took the next version"):
        client.environments.create_or_update(Environment(name="env", image="mine, again"))


def test_a_version_never_gets_other_files(client, azure_stub, weights):
    client.models.create_or_update(Model(name="net", version="1", path=weights))
    start = len(azure_stub.of("PUT"))
    (weights / "labels.txt").write_text("cow\n")
    with pytest.raises(ValidationException, match="'net' has a version '1' with other files"):
        client.models.create_or_update(Model(name="net", version="1", path=weights))
    assert len(azure_stub.of("PUT")) == start  # nothing was sent for it
    client.models.create_or_update(Model(name="net", version="2", path=weights))
    refusal = {"error": {"code": "UserError", "message": "Asset paths cannot be updated."}}
    azure_stub.faults.append(
        lambda seen: Say(400, {}, json.dumps(refusal)) if seen.method == "PUT" and "/models/" in seen.path else None
    )
    with pytest.raises(ValidationException, match="'net' has a version '1' with other files"):
        client.models.create_or_update(Model(name="net", version="1", path=weights))


def test_datastores_and_workspaces_are_read(client, azure_stub):
    store = client.datastores.get("workspaceblobstore")
    assert isinstance(store, AzureBlobDatastore)
    assert (store.type, store.container_name, store.is_default) == ("azure_blob", "azureml-blobstore-1", True)
    assert client.datastores.get_default() == store
    assert store.name in [each.name for each in client.datastores.list()]
    assert "sig" not in repr(store)
    with pytest.raises(UnsupportedByBackend, match="include_secrets"):
        client.datastores.get("workspaceblobstore", include_secrets=True)
    with pytest.raises(ResourceNotFoundError):
        client.datastores.get("absent")
    assert client.workspaces.get().location == "westeurope"
    assert client.workspaces.get("ws").name == "ws"
    assert [each.name for each in client.workspaces.list()] == ["ws"]


def test_a_package_becomes_an_environment(client, azure_stub, tmp_path):
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(x): return x\n")
    place = "models/net/versions/1/package"
    azure_stub.add("environments/packed/versions/3", {"properties": {"image": "made:3"}})
    where = "azureml://locations/westeurope/workspaces/11111111-1111-1111-1111-111111111111/environments/packed"
    done = {"targetEnvironmentId": f"{where}/versions/3"}
    azure_stub.faults.append(lambda seen: Say(200, {}, json.dumps(done)) if seen.path.endswith("/package") else None)
    package = ModelPackage(
        target_environment="azureml:packed:3",
        inferencing_server=AzureMLOnlineInferencingServer(
            code_configuration=CodeConfiguration(code=str(tmp_path), scoring_script="score.py")
        ),
        base_environment_source=BaseEnvironment(type="asset", resource_id="azureml:base:1"),
        environment_variables={"A": "1"},
        inputs=[ModelPackageInput(type="uri_file", path=PackageInputPathUrl(url="https://x"), mode="download")],
        model_configuration=ModelConfiguration(mode="Copy", mount_path="/m"),
        tags={"k": "v"},
    )
    assert client.models.package("net", "1", package).image == "made:3"
    (asked, body) = made(azure_stub, "POST")[-1]
    code = body["inferencingServer"]["codeConfiguration"].pop("codeId")
    assert code.startswith(f"azureml:/{azure_stub.workspace}/codes/")
    assert asked == place
    assert body == {
        "targetEnvironmentId": f"{where}/versions/3",
        "inferencingServer": {"serverType": "AzureMLOnline", "codeConfiguration": {"scoringScript": "score.py"}},
        "baseEnvironmentSource": {
            "baseEnvironmentSourceType": "asset",
            "resourceId": f"azureml:/{azure_stub.workspace}/environments/base/versions/1",
        },
        "environmentVariables": {"A": "1"},
        "inputs": [{"inputType": "UriFile", "path": {"inputPathType": "Url", "url": "https://x"}, "mode": "Download"}],
        "modelConfiguration": {"mode": "Copy", "mountPath": "/m"},
        "tags": {"k": "v"},
    }


@pytest.mark.parametrize("also_operation", [False, True])
def test_why_a_package_was_not_built_is_told(also_operation, client, azure_stub):
    azure_stub.also_operation = also_operation
    azure_stub.add("models/net/versions/1", {"properties": {"modelUri": "azureml://x"}})
    azure_stub.failing["models/net/versions/1"] = {"code": "ImageBuildFailure", "message": "No space left."}
    package = ModelPackage(target_environment="packed", inferencing_server=CustomInferencingServer())
    with pytest.raises(ImageBuildFailure, match="No space left"):
        client.models.package("net", "1", package)


def test_a_package_of_a_server_of_ones_own(client, azure_stub):
    azure_stub.polls = 2
    assert azure_stub.polls < math.inf
    server = CustomInferencingServer(
        inference_configuration=OnlineInferenceConfiguration(scoring_route=Route(port=5001, path="/score"))
    )
    body = faces.dump(ModelPackage(target_environment={"name": "packed"}, inferencing_server=server), Face.REQUEST)
    assert body == {
        "targetEnvironmentId": "packed",
        "inferencingServer": {
            "serverType": "Custom",
            "inferenceConfiguration": {"scoringRoute": {"port": 5001, "path": "/score"}},
        },
    }
    with pytest.raises(ValidationException, match="Say which server is packaged"):
        client.models.package("net", "1", ModelPackage(target_environment="packed"))
    with pytest.raises(TypeError, match="ModelPackage"):
        client.models.package("net", "1", {"target_environment": "packed"})
