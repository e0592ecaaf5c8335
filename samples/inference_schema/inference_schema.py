"""
Let a scoring script say what it takes, so that it gets arrays and tables instead of text.

Three deployments of one model differ in that only: an array, a table, and plain
arguments. Input of the wrong shape never reaches the script.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from azure.ai.ml import MLClient, load_online_deployment
from azure.ai.ml.entities import ManagedOnlineEndpoint
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent

# The model is trained with numpy; uv makes an environment for it.
subprocess.run([sys.executable, "-m", "uv", "run", "--quiet", here / "train.py"], check=True)

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
name = f"rents-{datetime.now(timezone.utc):%m%d%H%M%S}"

requests = {
    "numpy": {"flats": [[70, 3, 2], [28.5, 1, 7]]},
    "pandas": {"flats": [{"floor": 2, "rooms": 3, "size": 70}, {"size": 28.5, "rooms": 1, "floor": 7}]},
    "standard": {"size": 70, "rooms": 3, "floor": 2},
}
wrong = {
    "numpy": {"flats": [[70, 3]]},
    "pandas": {"flats": [{"size": "large", "rooms": 3, "floor": 2}]},
    "standard": {"size": 70, "rooms": 3},
}


def ask(deployment, document):
    """What a deployment answers to a document."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        return ml_client.online_endpoints.invoke(name, deployment_name=deployment, request_file=file.name)


ml_client.begin_create_or_update(ManagedOnlineEndpoint(name=name)).result()
try:
    for kind, request in requests.items():
        changed = {"name": kind, "endpoint_name": name, "code_configuration.scoring_script": f"score_{kind}.py"}
        overrides = [{field: value} for field, value in changed.items()]
        deployment = load_online_deployment(here / "deployment.yml", params_override=overrides)
        ml_client.begin_create_or_update(deployment).result()
        print(f"{kind}:", ask(kind, request))
        try:
            ask(kind, wrong[kind])
        except HttpResponseError as error:
            print(f"{kind}, wrong input: {error.status_code} {error.message}")
finally:
    ml_client.online_endpoints.begin_delete(name).result()
print("deleted")
