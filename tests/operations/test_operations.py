"""Endpoints' and deployments' operations: Azure's arguments, its order of requests, and its words."""

import inspect
import json

import pytest

from modelport.entities import (
    CodeConfiguration,
    EndpointAuthKeys,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)
from modelport.errors import (
    DockerEngineNotAvailableError,
    ResourceNotFoundError,
    UnsupportedByBackend,
    ValidationException,
)
from modelport.operations.online_deployments import OnlineDeploymentOperations
from modelport.operations.online_endpoints import OnlineEndpointOperations

# Source: inspect.signature on azure-ai-ml 1.35.2; what is left of `*` may be given without a name.
AZURE = {
    OnlineEndpointOperations: {
        "list": ("", {"local": False}),
        "get": ("name", {"local": False}),
        "get_keys": ("name", {}),
        "begin_create_or_update": ("endpoint", {"local": False}),
        "begin_delete": ("name", {"local": False}),
        "begin_regenerate_keys": ("name", {"key_type": "primary"}),
        "invoke": (
            "endpoint_name",
            {
                "request_file": None,
                "deployment_name": None,
                "input_data": None,
                "params_override": None,
                "local": False,
            },
        ),
    },
    OnlineDeploymentOperations: {
        "begin_create_or_update": (
            "deployment",
            {"local": False, "vscode_debug": False, "skip_script_validation": False, "local_enable_gpu": False},
        ),
        "get": ("name endpoint_name", {"local": False}),
        "list": ("endpoint_name", {"local": False}),
        "begin_delete": ("name endpoint_name", {"local": False}),
        "get_logs": ("name endpoint_name lines", {"container_type": None, "local": False}),
    },
}


@pytest.fixture
def client(azure_client, azure_stub):
    """A client of the stub, which has `tides` with its `teal`, and `ferry`, which takes tokens."""
    for name, mode in (("tides", "Key"), ("ferry", "AMLToken")):
        azure_stub.add(f"onlineEndpoints/{name}", {"location": "x", "properties": {"authMode": mode}})
    document = {"sku": {"name": "Default", "capacity": 1}, "properties": {"endpointComputeType": "Managed"}}
    azure_stub.add("onlineEndpoints/tides/deployments/teal", document)
    return azure_client()


def _asked(stub):
    return [f"{each.method} {each.path.rpartition('/workspaces/ws')[2] or each.path}" for each in stub.seen]


@pytest.mark.parametrize("kind", AZURE)
def test_every_method_takes_what_azures_takes(kind):
    public = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    assert public == set(AZURE[kind])
    for method, (positional, named) in AZURE[kind].items():
        parameters = inspect.signature(getattr(kind, method)).parameters
        ours = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert ours == ["self", *positional.split()]
        for name, default in named.items():
            assert (parameters[name].kind, parameters[name].default) == (inspect.Parameter.KEYWORD_ONLY, default)


def test_a_keyword_that_nobody_knows_is_named(client):
    deployment = ManagedOnlineDeployment(name="teal", endpoint_name="tides")
    with pytest.raises(TypeError, match="unexpected keyword argument 'vscode'"):
        client.online_deployments.begin_create_or_update(deployment, vscode=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'deployment'"):
        client.online_endpoints.invoke("tides", input_data=1, deployment="teal")


def test_azures_polling_keywords_are_taken(client):
    deployment = client.online_deployments.get("teal", "tides")
    poller = client.online_deployments.begin_create_or_update(deployment, polling=True, polling_interval=5)
    assert poller.result(60).name == "teal"


# Keys


def test_keys_are_what_the_endpoints_mode_says(client, azure_stub):
    assert client.online_endpoints.get_keys("tides") == EndpointAuthKeys(primary_key="p0", secondary_key="s0")
    assert client.online_endpoints.get_keys("ferry").access_token
    assert _asked(azure_stub) == [
        "GET /onlineEndpoints/tides",
        "POST /onlineEndpoints/tides/listKeys",
        "GET /onlineEndpoints/ferry",
        "POST /onlineEndpoints/ferry/token",
    ]


@pytest.mark.parametrize("kind", ["primary", "Secondary"])
def test_a_key_is_regenerated_with_the_one_that_was(client, azure_stub, kind):
    client.online_endpoints.begin_regenerate_keys("tides", key_type=kind).result(60)
    assert _asked(azure_stub)[:3] == [
        "GET /onlineEndpoints/tides",
        "POST /onlineEndpoints/tides/listKeys",
        "POST /onlineEndpoints/tides/regenerateKeys",
    ]
    assert json.loads(azure_stub.seen[2].body) == {"keyType": kind.capitalize(), "keyValue": f"{kind[0].lower()}0"}


def test_an_endpoint_with_tokens_has_no_keys_to_regenerate(client, azure_stub):
    with pytest.raises(ValidationException, match=r"^Endpoint 'ferry' does not use keys for authentication\.$"):
        client.online_endpoints.begin_regenerate_keys("ferry")
    assert _asked(azure_stub) == ["GET /onlineEndpoints/ferry"]
    with pytest.raises(ValidationException, match=r"^Key type must be 'primary' or 'secondary'\.$"):
        client.online_endpoints.begin_regenerate_keys("tides", key_type="tertiary")


# Deleting


def test_deleting_what_is_not_there_is_fine_and_deleting_nothing_is_not(client):
    client.online_endpoints.begin_delete("absent").result(60)
    client.online_deployments.begin_delete("absent", "tides").result(60)
    for nothing in (None, ""):
        with pytest.raises(ValidationException, match="deletes no endpoint without its name"):
            client.online_endpoints.begin_delete(nothing)


def test_a_poller_goes_on_in_another_client(client, azure_client):
    poller = client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="harbour"))
    token = poller.continuation_token()
    other = azure_client().online_endpoints
    assert other.begin_create_or_update(None, continuation_token=token).result(60).name == "harbour"
    token = client.online_endpoints.begin_delete("harbour").continuation_token()
    assert other.begin_delete(continuation_token=token).result(60) is None


# Lists


def test_lists_ask_for_a_page_when_it_is_needed(client, azure_stub):
    azure_stub.page_size = 1
    names = client.online_endpoints.list()
    assert _asked(azure_stub) == []
    assert next(names).name == "tides"
    assert len(_asked(azure_stub)) == 1
    assert [each.name for each in names] == ["ferry"]
    assert len(_asked(azure_stub)) == 2


# Logs


@pytest.mark.parametrize(
    ("container", "body"),
    [
        (None, {"tail": 50}),
        ("", {"tail": 50}),
        ("inference-server", {"tail": 50, "containerType": "InferenceServer"}),
        ("storage-initializer", {"tail": 50, "containerType": "StorageInitializer"}),
    ],
)
def test_logs_are_of_a_container(client, azure_stub, container, body):
    assert client.online_deployments.get_logs("teal", "tides", 50, container_type=container)
    assert json.loads(azure_stub.seen[-1].body) == body


def test_logs_that_cannot_be(client, azure_stub):
    told = r"^Invalid container type 'x'\. Supported container types are inference-server and storage-initializer$"
    with pytest.raises(ValidationException, match=told):
        client.online_deployments.get_logs("teal", "tides", 50, container_type="x")
    for lines in (0, -1, True, "50", None, 1.5):
        with pytest.raises(ValidationException, match="lines must be a whole number of at least 1"):
            client.online_deployments.get_logs("teal", "tides", lines)
    assert _asked(azure_stub) == []


# Packages


@pytest.fixture
def scored(tmp_path):
    """A deployment with a script, a registered model and an image."""
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(raw): return 1\n")
    return lambda **values: ManagedOnlineDeployment(
        name="lime",
        endpoint_name="tides",
        model="azureml:net:3",
        environment=Environment(image="registry.example.test/inference:3"),
        code_configuration=CodeConfiguration(code=str(tmp_path), scoring_script="score.py"),
        instance_type="Standard_DS3_v2",
        **values,
    )


@pytest.mark.parametrize(
    ("said", "values"), [({"package_model": True}, {}), ({"with_package": True}, {}), ({}, {"package_model": True})]
)
def test_a_package_takes_the_place_of_model_code_and_environment(client, azure_stub, scored, said, values):
    azure_stub.add("models/net/versions/3", {"properties": {"modelUri": "azureml://x", "flavors": {}}})
    client.online_deployments.begin_create_or_update(scored(**values), **said).result(60)
    (packaged,) = azure_stub.of("POST", "/models/net/versions/3/package")
    assert packaged.json["inferencingServer"]["serverType"] == "AzureMLOnline"
    assert packaged.json["inferencingServer"]["codeConfiguration"]["scoringScript"] == "score.py"
    assert packaged.json["baseEnvironmentSource"]["baseEnvironmentSourceType"] == "EnvironmentAsset"
    assert packaged.json["baseEnvironmentSource"]["resourceId"].startswith("azureml://subscriptions/")
    (put,) = azure_stub.of("PUT", "/deployments/lime")
    assert "/environments/packaged-env/versions/" in put.json["properties"]["environmentId"]
    assert not {"model", "codeConfiguration"} & set(put.json["properties"])


def test_a_package_is_made_by_azure_of_a_registered_model_only(client, live, sources, scored, tmp_path):
    with pytest.raises(UnsupportedByBackend, match="only Azure does"):
        live.online_deployments.begin_create_or_update(sources.deployment(), package_model=True)
    elsewhere = scored()
    elsewhere.model = "azureml://registries/sea/models/net/versions/1"
    with pytest.raises(ValidationException, match="packages a model of the workspace"):
        client.online_deployments.begin_create_or_update(elsewhere, package_model=True)
    (tmp_path / "net.bin").write_bytes(b"weights")
    local = scored()
    local.model = Model(path=str(tmp_path / "net.bin"))
    assert client.online_deployments.begin_create_or_update(local, package_model=True).result(60).model is None


# What is not there


def test_what_is_not_there_is_not_found(client):
    with pytest.raises(ResourceNotFoundError):
        client.online_endpoints.get("absent")
    with pytest.raises(ResourceNotFoundError):
        client.online_deployments.get("absent", "tides")
    with pytest.raises(ResourceNotFoundError):
        client.online_endpoints.invoke("absent", input_data=1)


def test_local_operations_ask_this_machines_docker(client, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    monkeypatch.setenv("MODELPORT_HOME", str(tmp_path / "home"))
    endpoints, deployments = client.online_endpoints, client.online_deployments
    for call in (
        lambda: endpoints.list(local=True),
        lambda: endpoints.get("tides", local=True),
        lambda: endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides"), local=True),
        lambda: endpoints.begin_delete("tides", local=True),
        lambda: endpoints.invoke("tides", input_data=1, local=True),
        lambda: deployments.list("tides", local=True),
        lambda: deployments.get("blue", "tides", local=True),
        lambda: deployments.begin_delete("blue", "tides", local=True),
        lambda: deployments.get_logs("blue", "tides", 5, local=True),
    ):
        with pytest.raises(DockerEngineNotAvailableError, match=r"does not answer at 'unix://.*nowhere.sock'"):
            call()


@pytest.mark.parametrize("name", ["..", ".", "../..", "a?b", "a#b", "%2e%2e", "a\\..", "tides/.."])
def test_a_name_that_would_ask_for_something_else_is_refused(client, azure_stub, name):
    azure_stub.seen.clear()
    for ask in (
        lambda: client.online_endpoints.begin_delete(name),  # '..': the workspace itself
        lambda: client.online_deployments.begin_delete(name, "tides"),  # '..': the endpoint
        lambda: client.online_deployments.begin_delete("teal", name),
        lambda: client.online_endpoints.get(name),
        lambda: client.online_endpoints.invoke(name, input_data={}),
        lambda: client.online_deployments.get_logs(name, "tides", 10),
    ):
        with pytest.raises(ValidationException, match="is no name"):
            ask()
    with pytest.raises(ValidationException, match="is no name"):
        client.online_deployments.begin_delete("", "tides")
    assert azure_stub.seen == []
