"""What the backends on this machine cannot do is said once, with what to do instead."""

import pytest

from modelport.backends import refusals
from modelport.entities import (
    BuildContext,
    CodeConfiguration,
    Environment,
    KubernetesOnlineDeployment,
    KubernetesOnlineEndpoint,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
)

ROUTES = {"liveness_route": {"port": 1, "path": "/"}}


def _deployment(kind=ManagedOnlineDeployment, *, code=True):
    code_configuration = CodeConfiguration(code="src", scoring_script="score.py") if code else None
    return kind(name="blue", endpoint_name="tides", code_configuration=code_configuration)


@pytest.mark.parametrize(
    ("environment", "deployment", "target", "said"),
    [
        (Environment(image="i"), _deployment(code=False), "code_configuration", "serving its image 'i' as it is needs"),
        (Environment(build=BuildContext(path="d")), _deployment(), "environment.build", "built from a Dockerfile"),
        (Environment(image="i", inference_config=ROUTES), _deployment(), "environment.inference_config", "own server"),
    ],
)
def test_what_only_a_container_can_give_is_refused(environment, deployment, target, said):
    refusal = refusals.of_deployment(deployment, environment, "process")
    assert refusal.message.startswith("Deployment 'blue' of 'tides'")
    assert said in refusal.message
    assert 'MLClient.local(backend="docker")' in refusal.message
    assert refusal.target == target


@pytest.mark.parametrize("backend", ["process", "docker"])
def test_a_model_that_only_azure_serves_by_itself_is_sent_to_no_other_backend(backend):
    refusal = refusals.of_deployment(_deployment(code=False), None, backend)
    assert refusal.target == "code_configuration"
    assert "Add a code_configuration with a scoring script that loads the model" in refusal.message
    assert "MLClient.local" not in refusal.message


def test_what_only_a_cluster_or_azure_can_give_is_refused():
    assert "runs no clusters" in refusals.of_deployment(_deployment(KubernetesOnlineDeployment), None, "docker").message
    cluster = refusals.of_endpoint(KubernetesOnlineEndpoint(name="tides", compute="azureml:harbour"))
    assert (cluster.target, "azureml:harbour" in cluster.message) == ("compute", True)
    assert refusals.of_endpoint(ManagedOnlineEndpoint(name="tides", auth_mode="aad_token")).target == "auth_mode"


def test_all_else_can_be():
    assert refusals.of_deployment(_deployment(), Environment(image="i"), "process") is None
    assert refusals.of_deployment(_deployment(), None, "process") is None
    assert refusals.of_endpoint(ManagedOnlineEndpoint(name="tides")) is None
