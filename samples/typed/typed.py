"""
Say what a script takes by annotations, and what is wrong with a request comes back as a sentence.

Azure does not heed annotations: this one is for Modelport.
"""

from pathlib import Path

from modelport import MLClient, load_online_deployment, load_online_endpoint
from modelport.errors import HttpResponseError

here = Path(__file__).parent
ml_client = MLClient.local()
endpoint = load_online_endpoint(here / "endpoint.yml")
ml_client.begin_create_or_update(endpoint).result()
ml_client.begin_create_or_update(load_online_deployment(here / "deployment.yml")).result()
endpoint.traffic = {"blue": 100}
ml_client.begin_create_or_update(endpoint).result()

REQUESTS = {
    "fits": {"shelves": [{"length": 2, "thickness": 1, "wood": "oak"}, {"length": 2, "thickness": 1}], "load": 3},
    "does not": {"shelves": [{"length": 2, "thickness": 1, "wood": "steel"}]},
    "refused": {"shelves": [], "load": -1},
}


def ask(request):
    """What the endpoint answers, or why not."""
    try:
        return ml_client.online_endpoints.invoke(endpoint.name, input_data=request)
    except HttpResponseError as error:
        return f"{error.status_code} {error.message}"


for name, request in REQUESTS.items():
    print(f"{name}: {ask(request)}")

ml_client.online_endpoints.begin_delete(endpoint.name).result()
print("deleted")
