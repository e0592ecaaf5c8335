"""
Deploy a model, score with it, and take it down again.

The endpoint and the deployment are files; this is what one does with them.
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent
request = here / "sample-request.json"

# The model is trained with the scikit-learn that conda.yml pins; uv makes an environment for it.
subprocess.run([sys.executable, "-m", "uv", "run", "--quiet", here / "train.py"], check=True)

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)

# Endpoint names are shared by a whole region, so this one gets the time in its name.
name = f"diabetes-{datetime.now(timezone.utc):%m%d%H%M%S}"
endpoint = load_online_endpoint(here / "endpoint.yml", params_override=[{"name": name}])
endpoint = ml_client.online_endpoints.begin_create_or_update(endpoint).result()
print(
    f"endpoint: {endpoint.auth_mode}, {endpoint.tags['story']}, is there: {endpoint.provisioning_state == 'Succeeded'}"
)

try:
    deployment = load_online_deployment(here / "deployment.yml", params_override=[{"endpoint_name": name}])
    deployment = ml_client.online_deployments.begin_create_or_update(deployment).result()
    print(f"deployment: {deployment.name}, {deployment.instance_count} x {deployment.instance_type}")

    # It can be tried before anybody else gets there: so far the endpoint sends no traffic to it.
    answer = ml_client.online_endpoints.invoke(name, deployment_name="blue", request_file=str(request))
    print("by name:", answer)

    endpoint.traffic = {"blue": 100}
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    print("traffic:", ml_client.online_endpoints.get(name).traffic)

    answer = ml_client.online_endpoints.invoke(name, request_file=str(request))
    print("progression:", json.dumps(json.loads(answer)["progression"]))

    logs = ml_client.online_deployments.get_logs(name="blue", endpoint_name=name, lines=50)
    print("the log has the calls:", "POST /score 200" in logs)
    print("deployments:", [each.name for each in ml_client.online_deployments.list(name)])
finally:
    ml_client.online_endpoints.begin_delete(name).result()
print("deleted")
