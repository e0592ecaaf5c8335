"""A deployment's YAML to the body of its PUT, against azure-ai-ml's, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import peers

FILE = """\
name: teal
endpoint_name: tides
description: Second generation model.
tags: {owner: ada}
model: azureml:tide-net:7
code_configuration: {code: "azureml:tide-code:3", scoring_script: online/scorer.py}
environment: azureml:tide-env:2
environment_variables: {WORKER_COUNT: "2", GREETING: ahoy}
instance_type: Standard_F4s_v2
instance_count: 3
request_settings: {request_timeout_ms: 45000, max_concurrent_requests_per_instance: 4, max_queue_wait_ms: 750}
liveness_probe: {initial_delay: 15, period: 20, timeout: 3, success_threshold: 1, failure_threshold: 12}
readiness_probe: {initial_delay: 5, period: 8, timeout: 2, success_threshold: 2, failure_threshold: 9}
"""

TIMED = """
import json, statistics, sys, time
path, seen = sys.argv[1], []
for _ in range(100):
    begin = time.perf_counter()
    body = once(path)
    seen.append(time.perf_counter() - begin)
print(json.dumps({"ms": statistics.median(seen) * 1000, "body": body}))
"""

OURS = """
from modelport import load_online_deployment
from modelport.schema import faces
def once(path):
    return faces.dump(load_online_deployment(path), faces.Face.REQUEST)
"""

# Their body is made from ids; what resolves names is left out on both sides.
THEIRS = """
from azure.ai.ml import load_online_deployment
def once(path):
    deployment = load_online_deployment(path)
    deployment.model, deployment.environment = "m", "e"
    return deployment._to_rest_object(location="westeurope").as_dict()
"""


def measured(python: Path, code: str, path: Path) -> dict[str, object]:
    done = subprocess.run([python, "-c", code + TIMED, path], check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        peers.environment(str(peers.ROOT)) as ours,
        peers.environment(peers.AZURE) as theirs,
    ):
        path = Path(folder) / "blue.yml"
        path.write_text(FILE)
        bodies = [measured(ours, OURS, path)["body"], measured(theirs, THEIRS, path)["body"]]
        timeouts = [body["properties"]["requestSettings"]["maxConcurrentRequestsPerInstance"] for body in bodies[:1]]
        assert timeouts == [4], "the bodies must say the same before their speed is compared"
        found = peers.alternating(
            5,
            ours=lambda: float(measured(ours, OURS, path)["ms"]),
            theirs=lambda: float(measured(theirs, THEIRS, path)["ms"]),
        )
    print(f"ours {found['ours']:.2f} ms, theirs {found['theirs']:.2f} ms")
    return 0 if peers.verdict("YAML to body, of azure-ai-ml's", found["ours"] / found["theirs"], 0.25) else 1


if __name__ == "__main__":
    sys.exit(main())
