"""
Let a model answer several requests in one call, each with its own result or its own failure.

`@batched` is Modelport's: Azure's server calls run() once for each request.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelport import MLClient, load_online_deployment, load_online_endpoint
from modelport.errors import HttpResponseError

here = Path(__file__).parent

# The model is trained with the scikit-learn that conda.yml pins; uv makes an environment for it.
subprocess.run([sys.executable, "-m", "uv", "run", "--quiet", here / "train.py"], check=True)

ml_client = MLClient.local()
endpoint = load_online_endpoint(here / "endpoint.yml")
ml_client.begin_create_or_update(endpoint).result()
ml_client.begin_create_or_update(load_online_deployment(here / "deployment.yml")).result()
endpoint.traffic = {"blue": 100}
ml_client.begin_create_or_update(endpoint).result()


def ask(patient):
    """What the endpoint answers for one patient, or with which status it does not."""
    try:
        return ml_client.online_endpoints.invoke(endpoint.name, input_data=patient).json()
    except HttpResponseError as error:
        return f"{error.status_code} {error.message}"


patients = json.loads((here / "patients.json").read_text())
print("alone:", json.dumps(ask(patients[0])))

# Sixteen clients at once, and among them one who asks for nobody.
with ThreadPoolExecutor(16) as clients:
    *answers, refused = clients.map(ask, [*(patients * 100), [1.0]])
progressions = [answer["progression"] for answer in answers]
print("progressions:", json.dumps(progressions[: len(patients)]))
print("always the same:", progressions == progressions[: len(patients)] * 100)
print("in one call, at most:", max(answer["together"] for answer in answers))
print(f"refused: {refused}")

ml_client.online_endpoints.begin_delete(endpoint.name).result()
print("deleted")
