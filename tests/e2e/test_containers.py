"""What deployments can ask of containers, through the control plane: whose server, how large, what of the world."""

import json
import uuid

import pytest

from modelport.entities import (
    BuildContext,
    CodeConfiguration,
    Environment,
    InferenceConfig,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    Route,
)
from modelport.errors import OperationCanceled, UnsupportedByBackend, ValidationException
from modelport.testing import workspace

BASE = "modelport-test/base:bookworm"
PERL = (
    "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 50, ReuseAddr => 1) or die; "
    "while ($c = $s->accept) { $l = <$c>; $n = 0; while (($h = <$c>) =~ /\\S/) "
    "{ $n = $1 if $h =~ /^content-length: *(\\d+)/i } read $c, $b, $n if $n; ($p) = $l =~ /^\\S+ (\\S+)/; "
    '$r = "{\\"path\\": \\"$p\\"}"; print $c "HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: " '
    '. length($r) . "\\r\\n\\r\\n$r"; close $c }'
)
SCRIPT = "def init(): pass\ndef run(raw): return raw\n"


@pytest.fixture(scope="module")
def client(docker_engine):
    with workspace(backend="docker") as made:
        made.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
        yield made


@pytest.fixture
def deployed(client, tmp_path):
    """Deploys a script that gives back what it gets; what was deployed is deleted."""

    def deploy(name="blue", script=SCRIPT, **values):
        (tmp_path / name).mkdir()
        (tmp_path / name / "score.py").write_text(script)
        values.setdefault("environment", Environment(image=BASE))
        values.setdefault("code_configuration", CodeConfiguration(str(tmp_path / name), "score.py"))
        wanted = ManagedOnlineDeployment(name=name, endpoint_name="tides", **values)
        poller = client.online_deployments.begin_create_or_update(wanted)
        poller.result(240)
        return poller

    yield deploy
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides", traffic={})).result(60)
    for each in list(client.online_deployments.list("tides")):
        client.online_deployments.begin_delete(each.name, "tides").result(60)


@pytest.fixture
def perl_image(docker_engine):
    """Name of an image with a server in Perl, which answers every request with its path."""
    made = docker_engine.containers.create(BASE, ["perl", "-e", PERL])
    try:
        changes = f"CMD {json.dumps(['perl', '-e', PERL])}"
        image = made.commit(f"modelport-test/perl-{uuid.uuid4().hex[:8]}", "1", changes=changes)
    finally:
        made.remove()
    yield image.tags[0]
    docker_engine.images.remove(image.id, force=True)


def containers(docker_engine, name="blue"):
    return docker_engine.containers.list(
        filters={"label": [f"deployment={name}", "modelport.kind=replica"]}, ignore_removed=True
    )


def test_azures_own_server_serves_when_it_is_asked_for(client, deployed):
    conda = {"channels": ["conda-forge"], "dependencies": [{"pip": ["azureml-inference-server-http"]}]}
    environment = Environment(image=BASE, conda_file=conda)
    deployed(environment=environment, properties={"modelport.scoring_server": "azureml-inference-server-http"})
    answer = client.online_endpoints.invoke("tides", deployment_name="blue", input_data={"a": 1})
    assert answer.headers["x-ms-server-version"].startswith("azmlinfsrv/")
    assert json.loads(answer.json()) == {"a": 1}
    deployed("ours", environment=environment)
    ours = client.online_endpoints.invoke("tides", deployment_name="ours", input_data={"a": 1})
    assert json.loads(ours.json()) == {"a": 1}
    assert "Granian" not in str(answer.headers)


def test_a_replica_is_as_large_as_its_instance_type_when_that_is_asked_for(client, deployed, docker_engine):
    said = deployed(instance_type="Standard_DS2_v2", properties={"modelport.enforce_instance_type": "true"}).messages()
    assert not [each for each in said if "instance_type" in each]
    limits = [each.attrs["HostConfig"] for each in containers(docker_engine)]
    assert {each["Memory"] for each in limits} >= {7 * 2**30}
    said = deployed("green", instance_type="Standard_DS2_v2").messages()
    assert any("'Standard_DS2_v2' is recorded, not acted on" in each for each in said)


@pytest.mark.parametrize(
    ("said", "meant"), [("/var/tides", "/var/tides"), ("/a/../var: high tides/", "/var: high tides")]
)
def test_a_model_is_mounted_where_model_mount_path_says(client, deployed, tmp_path, said, meant):
    (tmp_path / "tides.txt").write_text("lisbon 3.6")
    script = (
        "import os\ndef init(): pass\n"
        "def run(raw):\n    folder = os.environ['AZUREML_MODEL_DIR']\n    return [folder, os.listdir(folder)]\n"
    )
    model = Model(name="tides", version="4", path=str(tmp_path / "tides.txt"))
    deployed(script=script, model=model, model_mount_path=said)
    answer = client.online_endpoints.invoke("tides", deployment_name="blue", input_data={})
    assert answer.json() == [f"{meant}/tides/4", ["tides.txt"]]


def test_a_server_of_ones_own_shares_an_endpoint_with_a_script(client, perl_image, deployed):
    routes = InferenceConfig(
        liveness_route=Route(port=8000, path="/v2/health/live"),
        readiness_route=Route(port=8000, path="/v2/health/ready"),
        scoring_route=Route(port=8000, path="/v2/models/tide/infer"),
    )
    deployed("script")
    deployed(
        "own",
        environment=Environment(image=perl_image, inference_config=routes),
        code_configuration=None,
    )
    endpoints = client.online_endpoints
    assert endpoints.invoke("tides", deployment_name="own", input_data={}).json() == {"path": "/v2/models/tide/infer"}
    assert endpoints.invoke("tides", deployment_name="script", input_data=1).json() == "1"
    endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides", traffic={"own": 100})).result(60)
    assert endpoints.invoke("tides", input_data={}).deployment == "own"


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"environment": None}, UnsupportedByBackend, "no environment: a container needs an image"),
        ({"code_configuration": None}, UnsupportedByBackend, "neither a code_configuration nor an environment with"),
        ({"environment": Environment(image=BASE, os_type="windows")}, UnsupportedByBackend, "is for Windows"),
        ({"environment": Environment(image=BASE, conda_file={"dependncies": []})}, ValidationException, "dependncies"),
    ],
)
def test_what_no_container_can_be_made_of_is_refused(deployed, values, error, said):
    with pytest.raises(error, match=said):
        deployed(**values)


def test_who_deletes_a_deployment_does_not_wait_for_a_build_that_says_nothing(docker_engine, tmp_path, until):
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN sleep 600 # {uuid.uuid4()}\n")
    route = Route(port=80, path="/")
    wanted = ManagedOnlineDeployment(
        name="blue",
        endpoint_name="tides",
        environment=Environment(
            build=BuildContext(path=tmp_path),
            inference_config=InferenceConfig(liveness_route=route, readiness_route=route, scoring_route=route),
        ),
    )
    with workspace(backend="docker") as client:
        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
        poller = client.online_deployments.begin_create_or_update(wanted)
        until(lambda: "Running in" in poller.progress(), "the build")
        client.online_deployments.begin_delete("blue", "tides").result(60)
        with pytest.raises(OperationCanceled, match="'blue' of 'tides' was deleted"):
            poller.result(60)
        assert list(client.online_deployments.list("tides")) == []
