"""What a deployment refers to: the names of what is anonymous, and what is sent for it, in-process and over sockets."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.stub.azure import Reset

from modelport.arm import ids
from modelport.entities import (
    BuildContext,
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)
from modelport.errors import ServiceRequestError, ValidationException
from modelport.operations.references import (
    registered_code,
    registered_environment,
    registered_model,
    resolved,
)
from modelport.testing import workspace


@pytest.fixture(scope="module")
def in_process():
    with workspace() as client:
        yield client


@pytest.fixture(params=["azure", "in this process"])
def client(request):
    """A client of each service that is to be told apart by nothing."""
    if request.param == "azure":
        return request.getfixturevalue("azure_client")()
    return request.getfixturevalue("in_process")


@pytest.fixture
def service(client):
    return client._service


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    (folder / "deep er").mkdir(parents=True)
    (folder / "score.py").write_text("def init():\n    pass\n\ndef run(data):\n    return data\n")
    (folder / "deep er/ü #%.txt").write_text("1")
    return folder


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "labels.txt").write_text(str(tmp_path))
    return folder


def test_unchanged_code_keeps_its_id(service, source):
    first = registered_code(service, CodeConfiguration(str(source), "score.py"))
    (source / "__pycache__").mkdir()
    (source / "__pycache__/score.pyc").write_bytes(b"left by a run")
    assert registered_code(service, CodeConfiguration(str(source), "score.py")) == first
    (source / "score.py").write_text("def init(): pass\ndef run(data): return 1\n")
    assert registered_code(service, CodeConfiguration(str(source), "score.py")) != first


def test_code_may_be_a_file(azure_client, azure_stub, source):
    registered_code(azure_client()._service, CodeConfiguration(str(source / "score.py"), "score.py"))
    ((path, content),) = azure_stub.blobs.items()
    assert content == (source / "score.py").read_bytes()
    assert azure_stub.of("PUT", "/codes/")[-1].json["properties"]["codeUri"] == azure_stub.url + path.rpartition("/")[0]


def test_an_anonymous_model_is_named_by_its_files(service, weights):
    first = registered_model(service, Model(path=weights))
    assert (first.version, first.is_anonymous) == ("1", True)
    assert registered_model(service, Model(path=weights)).path == first.path
    (weights / "labels.txt").write_text("others")
    assert registered_model(service, Model(path=weights)).path != first.path


@pytest.mark.parametrize("prefix", ["azureml:", ""])
def test_names_are_taken_with_and_without_their_prefix(client, weights, prefix):
    name = f"net-{len(prefix)}"
    client.models.create_or_update(Model(name=name, version="1", path=str(weights)))
    said = {"model": f"{prefix}{name}@latest", "environment": f"{prefix}own:3"}
    made = resolved(client._service, ManagedOnlineDeployment(name="blue", endpoint_name="tides", **said))
    workspace = client._service.workspace
    assert (made.model, made.environment) == (
        f"{workspace}/models/{name}/versions/1",
        f"{workspace}/environments/own/versions/3",
    )
    curated = ManagedOnlineDeployment(name="blue", endpoint_name="tides", environment=f"{prefix}AzureML-minimal:3")
    assert resolved(client._service, curated).environment == "azureml:AzureML-minimal:3", "which Azure finds by itself"


def test_equal_files_in_another_folder_are_another_model(service, weights, tmp_path):
    first = registered_model(service, Model(path=weights))
    (tmp_path / "others").mkdir()
    (tmp_path / "others/labels.txt").write_bytes((weights / "labels.txt").read_bytes())
    other = registered_model(service, Model(path=tmp_path / "others"))
    assert other.path.endswith("/others")
    assert ids.place(other) != ids.place(first)
    assert registered_model(service, Model(path=tmp_path / "others")) == other
    typed = registered_model(service, Model(path=weights, type="mlflow_model"))
    assert (typed.type, registered_model(service, Model(path=weights)).type) == ("mlflow_model", "custom_model")


def test_an_anonymous_environment_is_named_as_azure_names_it(azure_client, azure_stub, tmp_path):
    service = azure_client()._service

    def version(**values):
        return registered_environment(service, Environment(**values)).version

    # Recorded.
    recorded = "a17574e0dcd26d25f404c3035cb84ada527ba5837c0041f2433b0f05f0c2d751"
    assert version(image="registry.example.test/py:3") == recorded
    conda = {"name": "tide", "channels": ["conda-forge"], "dependencies": ["python=3.11", {"pip": ["numpy==2.0.1"]}]}
    recorded = "9ee6c97c4cf4a07d4a4cec3c7d2ad7457c09dca383507c94d4c5c1c83efc4ca2"
    assert version(image="registry.example.test/base/python:3.11", conda_file=conda) == recorded
    # What azure-ai-ml 1.35.2 gives for these.
    routes = {f"{name}_route": {"port": 80, "path": f"/{name}"} for name in ("liveness", "readiness", "scoring")}
    assert (
        version(image="i", inference_config=routes)
        == "fef103cf769ea32741724a115cecdc1605356c85ee8093e51ec58d8ae4df27af"
    )
    assert (
        version(image="i", inference_config=routes, conda_file={"dependencies": ["python"]})
        == "5dd2b553ba4574fd6d3c7882bb5e067bb806055a63694baa16318b6d7265ecd4"
    )
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx/Dockerfile").write_text("FROM python:3.11-slim\n")
    assert (
        version(build=BuildContext(path=tmp_path / "ctx"))
        == "03743e576e2ff69b2e1be48c3ece96cccf3b14190eddfefc36a9434b47c3e648"
    )
    assert (
        version(build=BuildContext(path=tmp_path / "ctx", dockerfile_path="Dockerfile"))
        == "fa9e3e816e6559356077f7824bd39a334ad297e279ef668152bac6f35570ac3c"
    )
    assert len(azure_stub.blobs) == 1


def test_an_anonymous_build_context_with_other_routes_is_another_environment(service, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim\n")

    def registered(port):
        routes = {f"{name}_route": {"port": port, "path": "/"} for name in ("liveness", "readiness", "scoring")}
        environment = Environment(build=BuildContext(path=tmp_path), inference_config=routes)
        return registered_environment(service, environment)

    first, second = registered(8080), registered(9090)
    assert first.version != second.version, "else the second would be a version that exists with another content"
    assert second.inference_config.scoring_route.port == 9090
    assert registered(8080).version == first.version


def test_an_asset_that_came_from_the_service_is_referred_to(azure_client, azure_stub, weights):
    client = azure_client()
    azure_stub.add("onlineEndpoints/tides", {"location": "westeurope", "properties": {"authMode": "Key"}})
    model = client.models.create_or_update(Model(name="net", version="1", path=weights))
    environment = client.environments.create_or_update(Environment(name="env", version="1", image="i"))
    start = len(azure_stub.seen)
    deployment = ManagedOnlineDeployment(
        name="blue", endpoint_name="tides", model=model, environment=environment, instance_type="x", instance_count=1
    )
    client.online_deployments.begin_create_or_update(deployment).result(60)
    (put,) = [each for each in azure_stub.seen[start:] if each.method == "PUT"]
    assert put.json["properties"]["model"] == model.id
    assert put.json["properties"]["environmentId"] == environment.id


@pytest.mark.parametrize("missing", ["weights", "src"])
def test_a_path_that_does_not_exist_is_named(service, tmp_path, missing):
    model, code = Model(path=tmp_path / missing), CodeConfiguration(str(tmp_path / missing), "score.py")
    register = registered_model if missing == "weights" else registered_code
    with pytest.raises(ValidationException, match=f"{missing}' does not exist"):
        register(service, model if missing == "weights" else code)


def test_a_deployment_whose_upload_was_cut_off_is_made_by_the_next_call(azure_client, azure_stub, source, weights):
    client = azure_client()
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name="tides",
        model=Model(path=weights),
        code_configuration=CodeConfiguration(str(source), "score.py"),
        environment=Environment(image="i"),
        instance_type="x",
        instance_count=1,
    )
    azure_stub.faults.append(lambda seen: Reset() if seen.method == "PUT" and seen.path.endswith("score.py") else None)
    with pytest.raises(ServiceRequestError, match=r"src' was cut off.* call again"):
        client.online_deployments.begin_create_or_update(deployment)
    azure_stub.faults.clear()
    sent = set(azure_stub.blobs)
    start = len(azure_stub.seen)
    client.online_deployments.begin_create_or_update(deployment).result(60)
    again = {each.path for each in azure_stub.seen[start:] if each.method == "PUT" and not each.query.get("comp")}
    assert not sent & again
    assert len(azure_stub.blobs) == 3


def test_threads_that_register_the_same_files_agree(service, weights):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: registered_model(service, Model(path=weights)), range(8)))
    assert len(found) == 8
    assert {each.path for each in found} == {found[0].path}


def test_a_large_file_never_stands_in_memory(azure_stub, tmp_path):
    """In a process of its own, whose memory is its client's alone; the stub keeps nothing."""
    azure_stub.keep = False
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(400 << 20)
    names = (azure_stub.workspace.subscription, azure_stub.workspace.group, azure_stub.workspace.name)
    script = f"""
        import resource, sys
        from types import SimpleNamespace as Some
        from modelport import MLClient
        from modelport.entities import Model
        stub = dict.fromkeys(("resource_manager", "active_directory", "aml_resource_id"), {azure_stub.url!r})
        token = Some(token="t", expires_on=1 << 40)
        client = MLClient(
            Some(get_token=lambda *_, **__: token), *{names!r}, cloud="Stub", connection_verify={str(azure_stub.ca)!r},
            cloud_metadata={{**stub, "storage_endpoint": "core.windows.net"}},
        )
        client.workspaces.get()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client.models.create_or_update(Model(name="net", version="1", path={str(tmp_path / "large.bin")!r}))
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(more // (1024 if sys.platform == "linux" else 1 << 20))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 150  # 16 threads with a block each, and what carries it
    assert len(azure_stub.of("PUT", "large.bin")) == 102
