"""
Serve a model with a server of your own, here one in shell: no Python, no scoring script.

The environment says how the container is asked: whether it lives, whether it is ready, and where it scores.
"""

import os
from datetime import datetime, timezone
from pathlib import Path
from urllib.request import Request, urlopen

from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent
ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
name = f"tides-{datetime.now(timezone.utc):%m%d%H%M%S}"

endpoint = load_online_endpoint(here / "endpoint.yml", params_override=[{"name": name}])
ml_client.begin_create_or_update(endpoint).result()
try:
    deployment = load_online_deployment(here / "deployment.yml", params_override=[{"endpoint_name": name}])
    ml_client.begin_create_or_update(deployment).result()
    endpoint.traffic = {"shell": 100}
    endpoint = ml_client.begin_create_or_update(endpoint).result()
    key = ml_client.online_endpoints.get_keys(name).primary_key

    request = Request(endpoint.scoring_uri, b'{"harbour": "brest"}', {"Authorization": f"Bearer {key}"})
    with urlopen(request, timeout=30) as answer:
        print(f"brest: {answer.read().decode()}")
    print(f"lisbon: {ml_client.online_endpoints.invoke(name, request_file=here / 'sample-request.json')}")
finally:
    ml_client.online_endpoints.begin_delete(name).result()
print("deleted")
