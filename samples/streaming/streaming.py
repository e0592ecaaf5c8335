"""
Read an answer while the model is still at it, and go away when it is enough.

`async def run` with `yield` is Modelport's: Azure's server knows neither.
"""

import json
import re
import time
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


def ask(prompt):
    """The answer, as it comes: an iterator with headers, to be closed."""
    return ml_client.online_endpoints.invoke(endpoint.name, input_data=prompt, stream=True)


def words(answer):
    """The words of the events, each as soon as it is there. Browsers' EventSource reads the same."""
    return (json.loads(line.removeprefix("data: "))["word"] for line in answer.lines() if line.startswith("data: "))


with ask({"word": "gull"}) as answer:
    print(f"content type: {answer.headers['content-type']}")
    print("sentence:", *words(answer))

# This one never ends by itself. At the end of the block the connection is closed, and run() is cancelled.
with ask({"word": "tide", "forever": True}) as answer:
    heard = [word for word, _ in zip(words(answer), range(5))]  # noqa: B905  # as many as were wanted
    print("enough:", *heard)

# What fails before its first event has a status, as any other answer.
try:
    ask({"word": "submarine"})
except HttpResponseError as error:
    print(f"refused: {error.status_code} {error.message}")


def said():
    """How many words run() got out before it was cancelled, by its log; None until that is there."""
    log = ml_client.online_deployments.get_logs("blue", endpoint.name, lines=50)
    found = re.search(r"said (\d+) words, forever: True", log)
    return int(found[1]) if found else None


deadline = time.monotonic() + 20
while said() is None and time.monotonic() < deadline:
    time.sleep(0.1)
print("said, when five were heard:", said())

ml_client.online_endpoints.begin_delete(endpoint.name).result()
print("deleted")
