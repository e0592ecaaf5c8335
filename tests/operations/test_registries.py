"""Registries beside what is recorded in `tests/wire`: what goes wrong, and what is kept from going wrong."""

import json
import logging

import pytest
from tests.stub.azure import Cut, Say

from modelport import MLClient
from modelport.entities import BuildContext, Environment, ManagedOnlineDeployment, Model
from modelport.errors import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    UnsupportedByBackend,
    ValidationException,
)

SHARED = {"share_with_name": "net", "share_with_version": "3", "registry_name": "sea"}
WEIGHTS = {"properties": {"modelType": "custom_model", "modelUri": "azureml://x"}}


@pytest.fixture
def sea(azure_stub):
    """A registry, which has a model."""
    registry = azure_stub.registry("sea")
    registry.resources["models/net/versions/1"] = {
        "id": "azureml://registries/sea/models/net/versions/1",
        "properties": {"modelType": "custom_model", "modelUri": f"{azure_stub.url}/c/net"},
        "systemData": {"createdAt": "2026-01-01T00:00:00Z", "lastModifiedAt": "2026-01-01T00:00:00Z"},
    }
    azure_stub.add("models/net/versions/1", WEIGHTS)
    return registry


@pytest.fixture
def client(azure_client, sea):
    """A client of that registry."""
    assert sea
    return azure_client(registry_name="sea")


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "weights").mkdir()
    for name in "abc":
        (tmp_path / "weights" / name).write_text(f"{name}1")
    return tmp_path / "weights"


# Who asks whom


def test_a_client_of_a_registry_sends_nothing_until_it_is_used(client, azure_stub):
    assert repr(client) == "MLClient(registry_name='sea')"
    assert client.workspace_name == ""
    assert azure_stub.seen == []
    assert client.models.get("net", "1").id == "azureml://registries/sea/models/net/versions/1"
    assert client.environments.list()
    assert len(azure_stub.of("GET", "/discovery")) == 1  # whatever is asked afterwards
    assert (client.subscription_id, client.resource_group_name) == (
        "22222222-2222-2222-2222-222222222222",
        "registries-rg",
    )


def test_what_a_registry_does_not_have_is_told_at_once(client, azure_stub):
    for name in ("online_endpoints", "online_deployments", "data", "datastores", "workspaces"):
        with pytest.raises(UnsupportedByBackend, match=r"for registry 'sea', which has models and environments only"):
            getattr(client, name)
    for ask in (client.plan, client.preflight, client.apply):
        with pytest.raises(UnsupportedByBackend, match="workspace_name for all else"):
            ask(Model(name="net", path="weights"))
    assert azure_stub.seen == []
    with pytest.raises(UnsupportedByBackend, match="is in a registry already"):
        client.models.share("net", "1", **SHARED)
    with pytest.raises(UnsupportedByBackend, match="packages are made in a workspace"):
        client.models.package("net", "1", None)


@pytest.mark.parametrize("assets", ["models", "environments"])
def test_a_workspace_on_this_machine_shares_with_nobody(assets, ml_client):
    with pytest.raises(UnsupportedByBackend, match="Registry 'sea' is out of reach: registries are Azure's"):
        getattr(ml_client, assets).share("net", "1", **SHARED)


def test_a_redirected_client_has_no_registries_either(monkeypatch):
    monkeypatch.setenv("MODELPORT_BACKEND", "http://127.0.0.1:1")
    monkeypatch.setenv("MODELPORT_TOKEN", "t")
    with pytest.raises(UnsupportedByBackend, match="Registry 'sea' is out of reach"):
        MLClient(object(), registry_name="sea")


def test_a_registry_that_is_not_there_is_told(azure_client, sea):
    assert sea
    with pytest.raises(ResourceNotFoundError, match="Registry desert was not found"):
        azure_client(registry_name="desert").models.get("net", "1")
    with pytest.raises(ValidationException, match=r"'\.\.' in '\.\.' is no name"):
        azure_client().models.share("net", "1", **{**SHARED, "registry_name": ".."})


@pytest.mark.parametrize("said", ['{"registryName": "sea"}', "[]", "<html>proxy</html>"])
def test_an_answer_that_does_not_say_where_a_registry_is_is_told(said, client, azure_stub):
    azure_stub.faults.append(lambda seen: Say(200, {}, said) if "/discovery" in seen.path else None)
    with pytest.raises(HttpResponseError, match="does not say where it is"):
        client.models.get("net", "1")


def test_storage_never_sees_the_token(client, azure_stub, weights):
    client.models.create_or_update(Model(name="mesh", path=weights))
    assert {"authorization" in each.headers for each in azure_stub.seen if "/registries/" in each.path} == {True}
    assert {"authorization" in each.headers for each in azure_stub.seen if each.path.startswith("/sea-")} == {False}


# Sharing


def test_why_a_copy_failed_is_told(azure_client, sea):
    sea.failing["models/net/versions/3"] = {"code": "UserError", "message": "The registry is full."}
    with pytest.raises(HttpResponseError, match="The registry is full"):
        azure_client().models.share("net", "1", **SHARED)


def test_a_copy_has_the_same_name_where_no_other_is_said(azure_client, sea):
    said = {"share_with_name": "", "share_with_version": "", "registry_name": "sea"}
    with pytest.raises(ValidationException, match="already exists in registry"):
        azure_client().models.share("net", "1", **said)
    del sea.resources["models/net/versions/1"]
    shared = azure_client().models.share("net", "1", **said)
    assert (shared.name, shared.version) == ("net", "1")


def test_only_what_is_there_is_shared(azure_client, sea):
    assert sea
    with pytest.raises(ResourceNotFoundError, match="models/absent/versions/1 not found"):
        azure_client().models.share("absent", "1", **SHARED)


# Files


def test_files_that_an_earlier_try_left_are_not_taken_for_others(client, azure_stub, weights):
    azure_stub.faults.append(lambda seen: Cut(after=0) if seen.method == "PUT" and seen.path.endswith("/c") else None)
    with pytest.raises(ServiceRequestError, match="was cut off"):
        client.models.create_or_update(Model(name="mesh", version="1", path=weights))
    azure_stub.faults.clear()
    assert len(azure_stub.blobs) == 2
    for name in "abc":
        (weights / name).write_text(f"{name}2")  # as long as before
    client.models.create_or_update(Model(name="mesh", version="1", path=weights))
    assert {path.rpartition("/")[2]: said for path, said in azure_stub.blobs.items()} == {
        "a": b"a2",
        "b": b"b2",
        "c": b"c2",
    }


def test_files_of_an_upload_that_never_became_a_version_are_not_taken_for_others(client, azure_stub, weights):
    azure_stub.faults.append(
        lambda seen: Say(500) if seen.method == "PUT" and "/registries/sea/models" in seen.path else None
    )
    model = Model(name="mesh", version="1", path=weights)
    with pytest.raises(HttpResponseError):
        client.models.create_or_update(model)
    azure_stub.faults.clear()
    (weights / "a").write_text("a2")
    client.models.create_or_update(model)
    assert sorted(azure_stub.blobs.values()) == [b"a2", b"b1", b"c1"]


def test_files_that_are_gone_since_an_earlier_try_are_told(client, azure_stub, weights):
    azure_stub.faults.append(lambda seen: Cut(after=0) if seen.method == "PUT" and seen.path.endswith("/c") else None)
    with pytest.raises(ServiceRequestError, match=r"was cut off.*Call again\.$"):
        client.models.create_or_update(Model(name="mesh", version="1", path=weights))
    azure_stub.faults.clear()
    (weights / "b").unlink()
    with pytest.raises(ValidationException, match="left 'weights/b', which it does not have now"):
        client.models.create_or_update(Model(name="mesh", version="1", path=weights))


def test_versions_never_change(client, sea, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    build = Environment(name="benv", version="1", build=BuildContext(path=str(tmp_path)))
    client.environments.create_or_update(build)
    known = json.dumps(sea.resources["environments/benv/versions/1"])
    with pytest.raises(ResourceExistsError, match="'benv' has a version '1' in registry 'sea'"):
        client.environments.create_or_update(build)
    assert json.dumps(sea.resources["environments/benv/versions/1"]) == known


def test_what_is_no_file_of_a_storage_account_is_not_fetched(client, sea, tmp_path):
    sea.resources["models/net/versions/1"]["properties"]["modelUri"] = "azureml://datastores/d/paths/p"
    with pytest.raises(ValidationException, match="from where it cannot be fetched"):
        client.models.download("net", "1", tmp_path)


def test_archived_versions_are_listed_only_when_asked_for(client, weights):
    for _ in range(2):
        client.models.create_or_update(Model(name="mesh", path=weights, stage="Production"))
    client.models.archive("mesh", label="latest")

    def versions(**view):
        return [each.version for each in client.models.list("mesh", **view)]

    assert versions() == ["1"]
    assert versions(list_view_type="ArchivedOnly") == ["2"]
    assert versions(list_view_type="All", stage="Production") == ["1", "2"]
    assert versions(list_view_type="All", stage="Staging") == []


def test_long_lists_are_read_to_the_end(client, azure_stub, weights):
    azure_stub.page_size = 1
    for _ in range(3):
        client.models.create_or_update(Model(name="mesh", path=weights))
    assert [each.version for each in client.models.list("mesh")] == ["1", "2", "3"]


def test_a_label_that_names_nothing_is_told(client):
    with pytest.raises(ValidationException, match="Asset absent does not exist in registry sea"):
        client.models.get("absent", label="latest")


# Deployments of what a registry has


def deployment(model):
    environment = "azureml://registries/sea/environments/envoy/labels/latest"
    return ManagedOnlineDeployment(
        name="teal", endpoint_name="tides", model=model, environment=environment, instance_type="Standard_DS3_v2"
    )


@pytest.fixture
def deployed(azure_client, azure_stub):
    """Deploys a model; returns how the deployment was sent."""
    azure_stub.add("onlineEndpoints/tides", {"location": "westeurope", "properties": {"authMode": "Key"}})

    def deploy(model):
        azure_client().online_deployments.begin_create_or_update(deployment(model)).result(30)
        return azure_stub.of("PUT", "/deployments/teal")[-1].json["properties"]

    return deploy


def test_a_models_own_template_is_told(deployed, sea, caplog):
    template = "azureml://registries/sea/deploymentTemplates/fast/versions/1"
    sea.resources["models/net/versions/1"]["properties"]["defaultDeploymentTemplate"] = {"assetId": template}
    with caplog.at_level(logging.INFO, "modelport"):
        sent = deployed("azureml://registries/sea/models/net/versions/1")
    assert sent["model"] == "azureml://registries/sea/models/net/versions/1"
    assert f"default deployment template {template}" in caplog.text


@pytest.mark.parametrize("model", ["registries/desert/models/net/versions/1", "registries/sea/models/net/versions/9"])
def test_a_registry_that_cannot_be_read_keeps_nobody_from_deploying(model, deployed, sea):
    assert sea
    assert deployed(f"azureml://{model}")["model"] == f"azureml://{model}"


def test_the_model_of_a_registry_is_deployed_by_its_id(deployed, client):
    assert deployed(client.models.get("net", "1"))["model"] == "azureml://registries/sea/models/net/versions/1"
