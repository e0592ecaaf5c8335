"""
Call a service by what it says of itself.

The first deployment's description is made from its script's decorators, the second
brings its own. The caller below knows neither: it reads where to send what.
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from azure.ai.ml import MLClient, load_online_deployment
from azure.ai.ml.entities import ManagedOnlineEndpoint
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent
subprocess.run([sys.executable, here / "train.py"], check=True)

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
name = f"warmth-{datetime.now(timezone.utc):%m%d%H%M%S}"


def ask(url, document=None):
    """GET a URL of the endpoint, or POST a document to it."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = None if document is None else json.dumps(document).encode()
    with urlopen(Request(url, body, headers), timeout=30) as answer:
        return json.load(answer)


def call_by_description():
    """Read the description, send its example to where it says, and tell both."""
    document = ask(f"{endpoint.openapi_uri}?version=3")
    ((path, operations),) = ((path, each) for path, each in document["paths"].items() if "post" in each)
    schema = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
    sample = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        sample = sample[step]
    print(f"{document['info']['title']} {document['info']['version']} (OpenAPI {document['openapi']})")
    print(f"  takes {', '.join(sample['properties'])}")
    answer = ask(urljoin(endpoint.openapi_uri, path.lstrip("/")), sample["example"])
    print(f"  POST {path} {json.dumps(sample['example'])} -> {json.dumps(answer)}")


endpoint = ml_client.begin_create_or_update(ManagedOnlineEndpoint(name=name)).result()
key = ml_client.online_endpoints.get_keys(name).primary_key
try:
    for code in ("generated", "own"):
        overrides = [{"name": code}, {"endpoint_name": name}, {"code_configuration.code": f"./{code}"}]
        deployment = load_online_deployment(here / "deployment.yml", params_override=overrides)
        ml_client.begin_create_or_update(deployment).result()
        endpoint.traffic = {code: 100}
        endpoint = ml_client.begin_create_or_update(endpoint).result()
        call_by_description()
    print("OpenAPI 2:", ask(endpoint.openapi_uri)["info"]["title"])
finally:
    ml_client.online_endpoints.begin_delete(name).result()
print("deleted")
