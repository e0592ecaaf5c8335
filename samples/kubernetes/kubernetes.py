"""
Deploy to a Kubernetes cluster that is attached to the workspace.

Beside what all deployments have, these say what a replica may take of its node, and
how many there are at which load. The entities are made, sent, changed and read back.
"""

import os
from pathlib import Path

from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.ai.ml.entities import (
    CodeConfiguration,
    Environment,
    KubernetesOnlineDeployment,
    Model,
    ResourceRequirementsSettings,
    ResourceSettings,
    TargetUtilizationScaleSettings,
)
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
name = os.environ.get("ENDPOINT_NAME", "ferries-of-the-bay")


def tell(deployment):
    """What one line has room for."""
    needs, scale = deployment.resources, deployment.scale_settings
    print(
        f"{deployment.name}: {type(deployment).__name__},",
        f"cpu {needs.requests.cpu} to {needs.limits.cpu}, memory {needs.requests.memory} to {needs.limits.memory},",
        f"gpu {needs.limits.gpu}, {scale.min_instances} to {scale.max_instances} replicas",
        f"at {scale.target_utilization_percentage}%",
    )


endpoint = load_online_endpoint(here / "endpoint.yml", params_override=[{"name": name}])
endpoint = ml_client.online_endpoints.begin_create_or_update(endpoint).result()
print(f"endpoint: {type(endpoint).__name__} on {endpoint.compute.rpartition('/')[2]}")
try:
    blue = load_online_deployment(here / "deployment.yml", params_override=[{"endpoint_name": name}])
    ml_client.online_deployments.begin_create_or_update(blue).result()

    green = KubernetesOnlineDeployment(
        name="green",
        endpoint_name=name,
        model=Model(path=str(here / "models" / "delays.json")),
        code_configuration=CodeConfiguration(code=str(here / "code"), scoring_script="score.py"),
        environment=Environment(
            conda_file=str(here / "conda.yml"),
            image="mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference",
        ),
        instance_count=1,
        resources=ResourceRequirementsSettings(
            requests=ResourceSettings(cpu="100m", memory="0.5Gi"),
            limits=ResourceSettings(cpu="1", memory="1Gi"),
        ),
        scale_settings=TargetUtilizationScaleSettings(
            min_instances=2, max_instances=6, polling_interval=10, target_utilization_percentage=70
        ),
    )
    ml_client.online_deployments.begin_create_or_update(green).result()
    endpoint.traffic = {"blue": 40, "green": 60}
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()

    # A change is read, made, and written back; the rest stays as it is.
    blue = ml_client.online_deployments.get(name="blue", endpoint_name=name)
    blue.scale_settings.max_instances = 8
    ml_client.online_deployments.begin_create_or_update(blue).result()

    print("traffic:", ml_client.online_endpoints.get(name).traffic)
    for deployment in sorted(ml_client.online_deployments.list(endpoint_name=name), key=lambda each: each.name):
        tell(deployment)
finally:
    ml_client.online_endpoints.begin_delete(name=name).result()
print("deleted")
