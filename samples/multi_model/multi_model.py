"""
Serve several models from one deployment.

The folder of all models is registered as one model, under a name and a version, and
the deployment refers to it. Each request names the model that it is for.
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.ai.ml.constants import AssetTypes
from azure.ai.ml.entities import Model
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent
subprocess.run([sys.executable, here / "train.py"], check=True)

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
now = f"{datetime.now(timezone.utc):%m%d%H%M%S}"
name = f"models-{now}"

model = ml_client.models.create_or_update(
    Model(name="parcels-and-icecream", version=now, path=here / "models", type=AssetTypes.CUSTOM_MODEL)
)
print("registered:", model.name, model.version == now)

endpoint = load_online_endpoint(here / "endpoint.yml", params_override=[{"name": name}])
ml_client.begin_create_or_update(endpoint).result()
try:
    deployment = load_online_deployment(here / "deployment.yml", params_override=[{"endpoint_name": name}])
    deployment.model = f"azureml:{model.name}:{model.version}"
    ml_client.begin_create_or_update(deployment).result()
    endpoint.traffic = {"all": 100}
    ml_client.begin_create_or_update(endpoint).result()

    for each in ("parcels", "icecream"):
        answer = ml_client.online_endpoints.invoke(name, request_file=str(here / "requests" / f"{each}.json"))
        print(f"{each}:", json.dumps(json.loads(answer)))
    try:
        ml_client.online_endpoints.invoke(name, request_file=str(here / "requests" / "ships.json"))
    except HttpResponseError as error:
        print("ships:", error.status_code, error.message)
finally:
    ml_client.online_endpoints.begin_delete(name).result()
print("deleted")
