"""
One program for both sides: the calls of a user who deploys with `local=True`, edits the script, and deletes.

`deploy_docker.py` runs it, in our environment and in one with azure-ai-ml; only the client is made in another way, and
what says who serves in the image. A step ends when the new script has answered, not when the call returns.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import docker

SCRIPT = "def init():\n    pass\n\ndef run(raw):\n    return {answer!r}\n"
MOST_SECONDS = 120
ROOT, SCORE = SimpleNamespace(port=5001, path="/"), SimpleNamespace(port=5001, path="/score")
# Azure's client takes a dict here, and then its local mode asks it for attributes.
OWN_SERVER = SimpleNamespace(liveness_route=ROOT, readiness_route=ROOT, scoring_route=SCORE)


class NoCredential:
    """Nobody asks: nothing leaves the machine."""

    def get_token(self, *_, **__):
        return SimpleNamespace(token="none", expires_on=2**33)


def main(who: str, image: str, endpoint: str, folder: Path) -> dict[str, float]:
    package = "azure.ai.ml" if who == "theirs" else "modelport"
    client_of, entities = importlib.import_module(package).MLClient, importlib.import_module(f"{package}.entities")
    begin = time.perf_counter()
    if who == "theirs":
        client = client_of(NoCredential(), "subscription", "group", "workspace")
        said = {"environment": entities.Environment(image=image, inference_config=OWN_SERVER)}
    else:
        client = client_of.local(backend="docker", home=folder / "home")
        said = {"environment": entities.Environment(image=image)}
        if who == "image":
            said["properties"] = {"modelport.scoring_server": "azureml-inference-server-http"}
    seconds = {"client": time.perf_counter() - begin}
    code = folder / "code"
    code.mkdir()
    script = code / "score.py"
    model = folder / "model.txt"
    model.write_text("theirs wants a model, needed or not\n")
    deployment = entities.ManagedOnlineDeployment(
        name="blue",
        endpoint_name=endpoint,
        model=entities.Model(path=str(model)),
        code_configuration=entities.CodeConfiguration(code=str(code), scoring_script="score.py"),
        instance_type="Standard_DS3_v2",
        instance_count=1,
        **said,
    )
    request = folder / "request.json"
    request.write_text("{}")
    for step in ("first", "changed"):
        script.write_text(SCRIPT.format(answer=step))
        begin = time.perf_counter()
        client.online_deployments.begin_create_or_update(deployment, local=True)
        while not answers(client, endpoint, request, step):
            if time.perf_counter() > begin + MOST_SECONDS:
                raise TimeoutError(f"the {step} script did not answer")
            time.sleep(0.02)
        seconds[step] = time.perf_counter() - begin
        note_volumes(endpoint, folder)
    begin = time.perf_counter()
    client.online_deployments.begin_delete("blue", endpoint, local=True)
    seconds["delete"] = time.perf_counter() - begin
    return seconds


def note_volumes(endpoint: str, folder: Path) -> None:
    """Write down the unnamed volumes that Docker makes for theirs, which nobody removes."""
    engine = docker.from_env()
    with (folder / "volumes.txt").open("a") as notes:
        for container in engine.containers.list(filters={"label": ["azureml-local-endpoint", f"endpoint={endpoint}"]}):
            notes.writelines(f"{each['Name']}\n" for each in container.attrs["Mounts"] if each["Type"] == "volume")
    engine.close()


def answers(client, endpoint: str, request: Path, wanted: str) -> bool:
    try:
        answer = client.online_endpoints.invoke(
            endpoint_name=endpoint, deployment_name="blue", request_file=str(request), local=True
        )
    except Exception as error:  # noqa: BLE001 - theirs returns before its server listens
        print(f"not yet: {error!r}", file=sys.stderr)
        return False
    return wanted in str(answer)


if __name__ == "__main__":
    place = Path(sys.argv[4])
    found = main(sys.argv[1], sys.argv[2], sys.argv[3], place)
    (place / "seconds.json").write_text(json.dumps(found))  # azure-ai-ml prints dots whenever it likes
