"""
Send and get bytes: a picture for a picture, then several files in one form.

Scripts that are decorated with @rawhttp get the request itself, not its text.
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from azure.ai.ml import MLClient, load_online_endpoint
from azure.ai.ml.entities import CodeConfiguration, Environment, ManagedOnlineDeployment, Model
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent
subprocess.run([sys.executable, here / "train.py"], check=True)
picture = (here / "picture.pgm").read_bytes()

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
name = f"pictures-{datetime.now(timezone.utc):%m%d%H%M%S}"


def ask(body=None, content_type=None, query=""):
    """Status, headers and body of an answer."""
    headers = {"Authorization": f"Bearer {key}", **({"Content-Type": content_type} if content_type else {})}
    try:
        with urlopen(Request(scoring_uri + query, body, headers), timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def form(album, **files):
    """A form with files, as browsers write it: its body and its content type."""
    edge = b"--edge-of-a-part"
    parts = [b'Content-Disposition: form-data; name="album"\r\n\r\n' + album.encode()]
    for file, data in files.items():
        where = f'Content-Disposition: form-data; name="picture"; filename="{file}.pgm"\r\n'
        parts.append(where.encode() + b"Content-Type: image/x-portable-graymap\r\n\r\n" + data)
    body = b"".join(edge + b"\r\n" + part + b"\r\n" for part in parts) + edge + b"--\r\n"
    return body, f"multipart/form-data; boundary={edge[2:].decode()}"


endpoint = load_online_endpoint(here / "endpoint.yml", params_override=[{"name": name}])
ml_client.begin_create_or_update(endpoint).result()
try:
    deployment = ManagedOnlineDeployment(
        name="brighter",
        endpoint_name=name,
        model=Model(path=str(here / "models" / "curve.bin")),
        code_configuration=CodeConfiguration(code=str(here / "code"), scoring_script="picture_to_picture.py"),
        environment=Environment(
            conda_file=str(here / "conda.yml"),
            image="mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference",
        ),
        instance_type="Standard_DS2_v2",
        instance_count=1,
    )
    ml_client.online_deployments.begin_create_or_update(deployment).result()
    endpoint.traffic = {"brighter": 100}
    endpoint = ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    scoring_uri = endpoint.scoring_uri
    key = ml_client.online_endpoints.get_keys(name).primary_key

    status, headers, brighter = ask(picture, "image/x-portable-graymap")
    (here / "brighter.pgm").write_bytes(brighter)
    print(f"picture: {status}, {headers['Content-Type']}, {headers['X-Size']}, {len(brighter)} bytes")
    print("GET:", ask(query="?level=55")[2].decode())
    print("not a picture:", ask(b"\xff\xd8\xff", "image/jpeg")[2].decode())

    # The same deployment with another script: its replicas are replaced, the endpoint goes on.
    deployment.code_configuration = CodeConfiguration(code=str(here / "code"), scoring_script="files_to_json.py")
    ml_client.online_deployments.begin_create_or_update(deployment).result()
    status, headers, told = ask(*form("dusk", before=picture, after=brighter))
    print(f"files: {status}, {json.dumps(json.loads(told))}")
finally:
    ml_client.online_endpoints.begin_delete(name).result()
print("deleted")
