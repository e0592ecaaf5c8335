"""`local=True` on every operation: this machine's Docker, as Azure's client has it, with what G of azure.md adds."""

import json

import pytest

from modelport import engine
from modelport.entities import (
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)
from modelport.errors import (
    LocalDeploymentGPUNotAvailable,
    LocalEndpointNotFoundError,
    MultipleLocalDeploymentsFoundError,
    ResourceNotFoundError,
    UserScriptInitFailed,
    ValidationException,
)
from modelport.operations.assets import ModelOperations
from modelport.testing import workspace

BASE = "modelport-test/base:bookworm"
SCRIPT = """
import json, os
def init():
    global weights
    folder = os.environ.get("AZUREML_MODEL_DIR")
    weights = {name: open(os.path.join(folder, name)).read() for name in os.listdir(folder)} if folder else {}
    print("init of", os.environ["WHO"])
def run(raw):
    return {"who": os.environ["WHO"], "said": json.loads(raw), "weights": weights}
"""


@pytest.fixture(scope="module")
def client(docker_engine):
    """A client of processes, whose workspace in Docker is beside it."""
    with workspace() as made:
        yield made


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    def folder(script=SCRIPT):
        made = tmp_path_factory.mktemp("code")
        (made / "score.py").write_text(script)
        return str(made)

    return folder


@pytest.fixture
def deployment(code):
    def make(name="blue", endpoint="tides", script=SCRIPT, **values):
        values.setdefault("environment", Environment(image=BASE))
        return ManagedOnlineDeployment(
            name=name,
            endpoint_name=endpoint,
            code_configuration=CodeConfiguration(code(script), "score.py"),
            environment_variables={"WHO": name},
            instance_type="Standard_DS3_v2",
            **values,
        )

    return make


@pytest.fixture(autouse=True)
def _clean(client):
    yield
    for each in list(client.online_endpoints.list(local=True)):
        client.online_endpoints.begin_delete(each.name, local=True)


def test_the_whole_walk_of_azures_own_example(client, deployment, tmp_path, docker_engine):
    endpoints, deployments = client.online_endpoints, client.online_deployments
    poller = endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides"), local=True)
    assert poller.done()
    assert poller.result().provisioning_state == "Succeeded"
    said = endpoints.invoke("tides", input_data=1, local=True)
    assert said == "This local endpoint does not have any deployments, so it cannot be invoked."
    (tmp_path / "m" / "beside").mkdir(parents=True)
    (tmp_path / "m" / "weights.txt").write_text("7")
    (tmp_path / "m" / "beside" / "secret.txt").write_text("not to be seen")
    wanted = deployment(model=Model(path=str(tmp_path / "m" / "weights.txt")))
    poller = deployments.begin_create_or_update(wanted, local=True)
    assert poller.done()
    assert poller.result().name == "blue"
    (tmp_path / "request.json").write_text('{"n": 1}')
    answer = endpoints.invoke("tides", request_file=tmp_path / "request.json", local=True)
    assert json.loads(answer) == {"who": "blue", "said": {"n": 1}, "weights": {"weights.txt": "7"}}
    assert deployments.get("blue", "tides", local=True).instance_type == "Standard_DS3_v2"
    assert [each.name for each in endpoints.list(local=True)] == ["tides"]
    assert [each.name for each in deployments.list("tides", local=True)] == ["blue"]
    assert "init of blue" in deployments.get_logs("blue", "tides", 50, container_type="whatever", local=True)
    assert endpoints.get("tides", local=True).traffic == {"blue": 0}
    assert list(endpoints.list()) == []  # nothing of it is in the client's own workspace
    assert deployments.begin_delete("blue", "tides", local=True).done()
    assert endpoints.begin_delete("tides", local=True).done()
    assert list(endpoints.list(local=True)) == []
    home = client._service.docker().transport.opened.home
    assert docker_engine.containers.list(all=True, filters={"label": f"{engine.HOME}={home.runtime / 'r'}"}) == []
    assert docker_engine.networks.list(filters={"label": f"{engine.HOME}={home.runtime / 'r'}"}) == []


def test_a_deployment_makes_its_endpoint_when_there_is_none(client, deployment):
    client.online_deployments.begin_create_or_update(deployment(), local=True)
    assert client.online_endpoints.get("tides", local=True).auth_mode == "key"
    assert client.online_endpoints.invoke("tides", input_data=1, local=True).json()["who"] == "blue"


def test_several_deployments_share_an_endpoint_with_traffic_and_keys(client, deployment):
    endpoints, deployments = client.online_endpoints, client.online_deployments
    for name in ("blue", "green"):
        deployments.begin_create_or_update(deployment(name), local=True)
    with pytest.raises(MultipleLocalDeploymentsFoundError, match="'tides' has blue, green, and no traffic"):
        endpoints.invoke("tides", input_data=1, local=True)
    assert endpoints.invoke("tides", deployment_name="green", input_data=1, local=True).json()["who"] == "green"
    endpoint = endpoints.get("tides", local=True)
    endpoint.traffic = {"blue": 100}
    endpoints.begin_create_or_update(endpoint, local=True)
    assert {endpoints.invoke("tides", input_data=1, local=True).json()["who"] for _ in range(9)} == {"blue"}
    assert endpoints.invoke("tides", deployment_name="green", input_data=1, local=True).deployment == "green"
    deployments.begin_create_or_update(deployment("red", "waves"), local=True)
    every = {(each.endpoint_name, each.name) for each in deployments.list("tides", local=True)}
    assert every == {("tides", "blue"), ("tides", "green"), ("waves", "red")}  # Azure's list is of all endpoints


def test_what_the_clients_own_workspace_has_registered_is_brought_along(client, deployment, tmp_path):
    (tmp_path / "net" / "layers").mkdir(parents=True)
    (tmp_path / "net" / "top.txt").write_text("9")
    client.models.create_or_update(Model(name="net", version="3", path=str(tmp_path / "net" / "top.txt")))
    client.environments.create_or_update(Environment(name="plain", version="1", image=BASE))
    for model in ("azureml:net:3", "azureml:net@latest", f"{client._service.workspace}/models/net/versions/3"):
        wanted = deployment(model=model, environment="azureml:plain:1")
        client.online_deployments.begin_create_or_update(wanted, local=True)
        answer = client.online_endpoints.invoke("tides", input_data=1, local=True).json()
        assert answer["weights"] == {"top.txt": "9"}


def test_what_another_workspace_brought_along_is_not_mistaken_for_ones_own(client, deployment, tmp_path):
    (tmp_path / "tides.txt").write_text("mine")
    client.models.create_or_update(Model(name="moon", version="1", path=str(tmp_path / "tides.txt")))
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "tides.txt").write_text("somebody else's")
    docker = ModelOperations(client._service.docker())
    docker.create_or_update(Model(name="moon", version="1", path=str(tmp_path / "others" / "tides.txt")))
    for _ in range(2):
        client.online_deployments.begin_create_or_update(deployment(model="azureml:moon:1"), local=True)
        answer = client.online_endpoints.invoke("tides", input_data=1, local=True).json()
        assert answer["weights"] == {"tides.txt": "mine"}


def test_what_neither_has_is_told(client, deployment):
    with pytest.raises(ResourceNotFoundError, match="nobody"):
        client.online_deployments.begin_create_or_update(deployment(model="azureml:nobody:1"), local=True)
    wanted = deployment()
    wanted.code_configuration = CodeConfiguration("azureml:code:1", "score.py")
    with pytest.raises(ValidationException, match="takes code from this machine's disk"):
        client.online_deployments.begin_create_or_update(wanted, local=True)
    with pytest.raises(ValidationException, match="no environment: a container needs an image"):
        client.online_deployments.begin_create_or_update(deployment(environment=None), local=True)


def test_what_is_not_there_has_azures_name_for_it(client):
    endpoints, deployments = client.online_endpoints, client.online_deployments
    for call in (
        lambda: endpoints.get("nobody", local=True),
        lambda: endpoints.invoke("nobody", input_data=1, local=True),
        lambda: deployments.get("blue", "nobody", local=True),
        lambda: deployments.get_logs("blue", "nobody", 5, local=True),
    ):
        with pytest.raises(LocalEndpointNotFoundError, match="does not exist"):
            call()
    assert endpoints.begin_delete("nobody", local=True).result() is None


def test_a_script_that_fails_is_raised_by_the_call_itself(client, deployment):
    broken = deployment(script="def init():\n    raise ValueError('no tide table')\ndef run(raw):\n    return 1\n")
    with pytest.raises(UserScriptInitFailed, match=r"Deployment 'blue' of 'tides' failed: .*no tide table.*score.py"):
        client.online_deployments.begin_create_or_update(broken, local=True)
    assert client.online_deployments.get("blue", "tides", local=True).provisioning_state == "Failed"


def test_gpus_that_this_machine_does_not_have_are_told(client, deployment):
    with pytest.raises(LocalDeploymentGPUNotAvailable, match="Docker has none to give"):
        client.online_deployments.begin_create_or_update(deployment(), local=True, local_enable_gpu=True)


def test_a_client_of_docker_has_one_workspace_for_both(docker_engine, deployment):
    with workspace(backend="docker") as client:
        client.online_deployments.begin_create_or_update(deployment(), local=True)
        assert [each.name for each in client.online_endpoints.list()] == ["tides"]
        assert client.online_endpoints.invoke("tides", deployment_name="blue", input_data=1).json()["who"] == "blue"
