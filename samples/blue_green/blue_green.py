"""
Replace a model that is in use, without a failed request.

Blue serves. Green is deployed beside it, called by name, sees copies of the
requests, gets a tenth of them, then all; blue goes.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from modelport import MLClient, load_online_deployment, load_online_endpoint

here = Path(__file__).parent
request = here / "sample-request.json"

# Two models, trained with the scikit-learn that conda.yml pins; uv makes an environment for it.
subprocess.run([sys.executable, "-m", "uv", "run", "--quiet", here / "train.py"], check=True)

# Azure: MLClient(DefaultAzureCredential(), subscription, group, workspace). The rest stays as it is.
ml_client = MLClient.local()

# An endpoint is a URL with keys; blue is behind it.
endpoint = load_online_endpoint(here / "endpoint.yml")
ml_client.begin_create_or_update(endpoint).result()
ml_client.begin_create_or_update(load_online_deployment(here / "blue.yml")).result()
endpoint.traffic = {"blue": 100}
ml_client.begin_create_or_update(endpoint).result()
answer = ml_client.online_endpoints.invoke(endpoint.name, request_file=request)
print(f"{answer.deployment} says {answer}")

# Green is deployed beside blue. It has no traffic yet: only who names it gets there.
ml_client.begin_create_or_update(load_online_deployment(here / "green.yml")).result()
answer = ml_client.online_endpoints.invoke(endpoint.name, deployment_name="green", request_file=request)
print(f"{answer.deployment} says {answer}")


def callers(count):
    """Who answers that many callers."""
    answers = (ml_client.online_endpoints.invoke(endpoint.name, request_file=request) for _ in range(count))
    return dict(Counter(answer.deployment for answer in answers))


# Green gets a copy of 30% of the requests. Callers hear blue only.
endpoint.mirror_traffic = {"green": 30}
ml_client.begin_create_or_update(endpoint).result()
print("mirrored:", callers(200))

# Green gets 10%, then all.
endpoint.mirror_traffic = {}
for share in (10, 100):
    endpoint.traffic = {"blue": 100 - share, "green": share}
    ml_client.begin_create_or_update(endpoint).result()
    print(f"green {share}%:", callers(200))

# Blue has no traffic any more, so it may go.
ml_client.online_deployments.begin_delete("blue", endpoint.name).result()
print("without blue:", callers(200))

ml_client.online_endpoints.begin_delete(endpoint.name).result()
