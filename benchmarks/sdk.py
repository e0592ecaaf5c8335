"""
The client library against azure-ai-ml, side by side in one run.

How long it takes to import and to read a file; how many requests the same script makes;
how much memory an upload needs; how much is installed. Requests go to the stand-in for
Azure that the tests use, so that both sides talk to the same service.

    python benchmarks/sdk.py [--quick] [--only bodies]      # --quick: 200 MB instead of 2 GB, fewer rounds
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import peers

sys.path.insert(0, str(peers.ROOT))

from tests.stub.azure import AzureStub

NAMES = {"ours": "modelport", "theirs": "azure.ai.ml"}
YAML = """\
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

# A body is made from ids; what resolves names is left out on both sides.
BODY = {
    "ours": """
from modelport import load_online_deployment
from modelport.schema import faces
def body(path):
    return faces.dump(load_online_deployment(path), faces.Face.REQUEST)
""",
    "theirs": """
from azure.ai.ml import load_online_deployment
def body(path):
    deployment = load_online_deployment(path)
    deployment.model, deployment.environment = "m", "e"
    return deployment._to_rest_object(location="westeurope").as_dict()
""",
}
TIMED = """
import json, statistics, sys, time
seen, end = [], time.perf_counter() + 1
while time.perf_counter() < end:  # for as long as the other side: the machine's moods are longer than a hundred bodies
    begin = time.perf_counter()
    made = body(sys.argv[1])
    seen.append(time.perf_counter() - begin)
assert "requestSettings" in json.dumps(made) or "request_settings" in json.dumps(made), made
print(statistics.median(seen))
"""

# The same script for both, but for the name of the package. It runs in a folder of its own.
SCRIPT = """
import importlib, json, logging, resource, sys, time, types
package, url, ca, task = sys.argv[1:5]
logging.disable()
MLClient = importlib.import_module(package).MLClient
e = importlib.import_module(package + ".entities")

class Credential:
    def get_token(self, *scopes, **_):
        return types.SimpleNamespace(token="faketoken", expires_on=int(time.time()) + 3600)

names = ("azure_portal", "resource_manager", "active_directory", "aml_resource_id", "registry_discovery_endpoint")
cloud = {**dict.fromkeys(names, url), "storage_endpoint": "core.windows.net"}
client = MLClient(Credential(), "00000000-0000-0000-0000-000000000000", "rg", "ws", cloud="Stub", cloud_metadata=cloud,
                  connection_verify=ca, show_progress=False)

def endpoint():
    client.online_endpoints.begin_create_or_update(e.ManagedOnlineEndpoint(name="tides")).result()

def deployment():
    client.online_deployments.begin_create_or_update(e.ManagedOnlineDeployment(
        name="teal", endpoint_name="tides", model=e.Model(path="weights"),
        code_configuration=e.CodeConfiguration("src", "score.py"),
        environment=e.Environment(image="registry.example.test/py:3"),
        instance_type="Standard_DS3_v2", instance_count=1)).result()

def invoke():
    for _ in range(100):
        assert "echo" in client.online_endpoints.invoke("tides", request_file="request.json")

def many():
    client.models.create_or_update(e.Model(name="many", version="1", path="many"))

def large():
    client.models.create_or_update(e.Model(name="large", version="1", path="large.bin"))

begin = time.perf_counter()
globals()[task]()
seconds = time.perf_counter() - begin
try:  # what getrusage says begins with the memory of the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    memory = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
except OSError:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
with open("result.json", "w") as file:  # azure-ai-ml prints dots whenever it likes
    json.dump({"seconds": seconds, "megabytes": memory}, file)
"""

SIZE = """
import importlib.metadata, json, pathlib, sysconfig
found = list(importlib.metadata.distributions())
files = [path for path in pathlib.Path(sysconfig.get_path("purelib")).rglob("*") if path.is_file()]
size = sum(path.stat().st_size for path in files if path.suffix != ".pyc" and not path.is_symlink())
print(json.dumps({"distributions": len(found), "megabytes": size / 1e6}))
"""


class Table:
    """Figures of both sides, each with its bound, printed when they are there."""

    def __init__(self) -> None:
        self.holds = True
        print(f"{'':58}{'ours':>10}{'theirs':>10}{'found':>9}{'bound':>8}")

    def ratio(self, what: str, ours: float, theirs: float, bound: float) -> None:
        self._row(what, ours, theirs, ours / theirs, bound)

    def amount(self, what: str, ours: float, theirs: float, bound: float) -> None:
        self._row(what, ours, theirs, ours, bound)

    def told(self, what: str, ours: float, theirs: float) -> None:
        """A figure without a bound: here the stand-in takes as long as the clients."""
        print(f"{what:58}{ours:10.4g}{theirs:10.4g}{ours / theirs:9.3g}", flush=True)

    def _row(self, what: str, ours: float, theirs: float, found: float, bound: float) -> None:
        holds = found <= bound
        self.holds &= holds
        said = "holds" if holds else "DOES NOT HOLD"
        print(f"{what:58}{ours:10.4g}{theirs:10.4g}{found:9.3g}{bound:8g}  {said}", flush=True)


def imports(table: Table, pythons: dict[str, Path], rounds: int) -> None:
    """Whole processes."""
    runs = {
        "ours": (pythons["ours"], "from modelport import MLClient"),
        "entities": (pythons["ours"], "from modelport import MLClient; from modelport.entities import *"),
        "theirs": (pythons["theirs"], "from azure.ai.ml import MLClient"),
    }
    timed = {name: lambda run=run: 1000 * peers.seconds([str(run[0]), "-c", run[1]]) for name, run in runs.items()}
    found = peers.alternating(rounds, **timed)
    table.ratio("from … import MLClient (ms)", found["ours"], found["theirs"], 0.1)
    table.ratio("… with every entity of ours (ms)", found["entities"], found["theirs"], 0.1)


def bodies(table: Table, pythons: dict[str, Path], rounds: int, folder: Path) -> None:
    """From a deployment's file to what is PUT."""
    path = folder / "blue.yml"
    path.write_text(YAML)
    timed = {
        name: lambda name=name: 1000 * float(run([pythons[name], "-c", BODY[name] + TIMED, path])[-1])
        for name in pythons
    }
    found = peers.alternating(rounds, **timed)
    table.ratio("YAML to entity to body (ms)", found["ours"], found["theirs"], 0.25)


def sizes(table: Table, pythons: dict[str, Path]) -> None:
    """What an environment has in it after its installation, without compiled files."""
    found = {name: json.loads(run([python, "-c", SIZE])[-1]) for name, python in pythons.items()}
    table.amount("installed (MB)", found["ours"]["megabytes"], found["theirs"]["megabytes"], 30)
    table.amount("distributions", found["ours"]["distributions"], found["theirs"]["distributions"], 25)


def calls(table: Table, pythons: dict[str, Path], folder: Path) -> None:
    """How many requests the service sees."""
    for task, what in [
        ("endpoint", "create an endpoint (requests)"),
        ("deployment", "create a deployment, all inline (requests)"),
        ("invoke", "invoke 100 times (requests)"),
    ]:
        found = {}
        for name in pythons:
            with AzureStub() as stub:
                if task != "endpoint":
                    stub.add("onlineEndpoints/tides", {"location": "westeurope", "properties": {"authMode": "Key"}})
                played(pythons, name, stub, task, folder)
                found[name] = len(stub.seen)
        table.ratio(what, found["ours"], found["theirs"], 1)


def uploads(table: Table, pythons: dict[str, Path], folder: Path, size: int) -> None:
    """Peak memory of the whole process, as the system counts it, and how long the call took."""
    with (folder / "large.bin").open("wb") as file:
        file.truncate(size)
    for task, what in [("many", "1,500 files"), ("large", f"{size / 1e9:g} GB")]:
        found = {}
        for name in pythons:
            with AzureStub(keep=False) as stub:
                found[name] = played(pythons, name, stub, task, folder)
                stored = sum(size for path, size in stub.sizes.items() if "?" not in path)
            assert stored == (1500 * 100 if task == "many" else size), f"{name} stored {stored} bytes"
        ours, theirs = found["ours"], found["theirs"]
        table.ratio(f"upload {what}: peak memory (MB)", ours["megabytes"], theirs["megabytes"], 1)
        table.told("… and its time (s)", ours["seconds"], theirs["seconds"])


def played(pythons: dict[str, Path], name: str, stub: AzureStub, task: str, folder: Path) -> dict[str, float]:
    command = [pythons[name], "-c", SCRIPT, NAMES[name], stub.url, str(stub.ca), task]
    run(command, cwd=folder, env={**os.environ, "REQUESTS_CA_BUNDLE": str(stub.ca)})
    return json.loads((folder / "result.json").read_text())


def run(command: list, **keywords) -> list[str]:
    """The lines that a program printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, **keywords)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-3000:]}")
    return done.stdout.splitlines()


def script_folder(folder: Path) -> None:
    """The files beside the script."""
    for place in ("src", "weights", "many"):
        (folder / place).mkdir()
    (folder / "src" / "score.py").write_text("def init():\n    pass\n\ndef run(data):\n    return data\n")
    (folder / "weights" / "net.bin").write_bytes(b"\0\1\2\3")
    (folder / "request.json").write_text('{"data": [1, 2]}')
    for number in range(1500):
        (folder / "many" / f"{number:04}.bin").write_bytes(f"{number:0100}".encode())


def main() -> int:
    parser = argparse.ArgumentParser(description="The SDK against azure-ai-ml.")
    parser.add_argument("--quick", action="store_true", help="200 MB instead of 2 GB, fewer rounds")
    parser.add_argument("--only", choices=["sizes", "imports", "bodies", "calls", "uploads"], help="one part of it")
    said = parser.parse_args()
    quick = said.quick
    with (
        tempfile.TemporaryDirectory() as name,
        peers.environment(str(peers.ROOT)) as ours,
        peers.environment(peers.AZURE) as theirs,
    ):
        folder, pythons, table = Path(name), {"ours": ours, "theirs": theirs}, Table()
        script_folder(folder)
        parts = {
            "sizes": lambda: sizes(table, pythons),
            "imports": lambda: imports(table, pythons, 3 if quick else 11),
            "bodies": lambda: bodies(table, pythons, 3 if quick else 5, folder),
            "calls": lambda: calls(table, pythons, folder),
            "uploads": lambda: uploads(table, pythons, folder, 200_000_000 if quick else 2_000_000_000),
        }
        for part in [said.only] if said.only else parts:
            parts[part]()
    return 0 if table.holds else 1


if __name__ == "__main__":
    sys.exit(main())
