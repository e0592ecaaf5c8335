"""
Replace a model step by step, with a way back at each.

The new deployment is tried by name, then sees copies of the callers' requests, then
answers a tenth of them, then all. Only then the old one goes.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

from azure.ai.ml import MLClient, load_online_deployment
from azure.ai.ml.entities import (
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineRequestSettings,
)
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent
request = str(here / "sample-request.json")
subprocess.run([sys.executable, here / "train.py"], check=True)

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
name = f"deliveries-{datetime.now(timezone.utc):%m%d%H%M%S}"


def callers(count):
    """Which model answers that many callers, who name no deployment."""
    answers = (ml_client.online_endpoints.invoke(endpoint_name=name, request_file=request) for _ in range(count))
    return dict(Counter(json.loads(answer)["model"] for answer in answers))


def share(**percent):
    """Give each deployment its share of the traffic."""
    endpoint.traffic = percent
    ml_client.begin_create_or_update(endpoint).result()


endpoint = ManagedOnlineEndpoint(name=name, auth_mode="key", description="how long deliveries take")
ml_client.begin_create_or_update(endpoint).result()
try:
    blue = load_online_deployment(here / "blue.yml", params_override=[{"endpoint_name": name}])
    ml_client.online_deployments.begin_create_or_update(blue).result()
    share(blue=100)
    print("blue alone:", ml_client.online_endpoints.invoke(endpoint_name=name, request_file=request))

    green = ManagedOnlineDeployment(
        name="green",
        endpoint_name=name,
        model=Model(path=str(here / "models" / "green" / "model.json")),
        code_configuration=CodeConfiguration(code=str(here / "code"), scoring_script="score.py"),
        environment=Environment(
            conda_file=str(here / "conda.yml"),
            image="mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference",
        ),
        instance_type="Standard_DS3_v2",
        instance_count=1,
        request_settings=OnlineRequestSettings(request_timeout_ms=2000),
    )
    ml_client.online_deployments.begin_create_or_update(green).result()
    answer = ml_client.online_endpoints.invoke(endpoint_name=name, deployment_name="green", request_file=request)
    print("green, by name:", answer)
    print("callers hear:", callers(50))

    endpoint.mirror_traffic = {"green": 50}
    ml_client.begin_create_or_update(endpoint).result()
    print("with copies to green, callers hear:", callers(50))
    endpoint.mirror_traffic = {}

    share(blue=90, green=10)
    print("a tenth for green:", callers(200))
    share(blue=100, green=0)
    print("a step back:", callers(50))
    share(blue=0, green=100)
    print("all for green:", callers(50), ml_client.online_endpoints.get(name).traffic)

    ml_client.online_deployments.begin_delete(name="blue", endpoint_name=name).result()
    left = [each.name for each in ml_client.online_deployments.list(endpoint_name=name)]
    print("left:", left, "callers hear:", callers(50))
finally:
    ml_client.online_endpoints.begin_delete(name=name).result()
print("deleted")
