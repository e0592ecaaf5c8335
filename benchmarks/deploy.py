"""
How long until a model serves on processes, until an edited or a saved script does, and until traffic is seen to move.

Two instances, Azure's default probes, environment cached, processes cold, no warm
pool; through the background server, as a user has it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from queue import SimpleQueue

import peers

from modelport import MLClient
from modelport.entities import CodeConfiguration, Environment, ManagedOnlineDeployment, ManagedOnlineEndpoint

ROUNDS = 9
MOST_SECONDS = 60
SCRIPT = "def init():\n    pass\n\ndef run(raw):\n    return {name!r}\n"


def deployment(folder: Path, name: str) -> ManagedOnlineDeployment:
    code = folder / name
    code.mkdir()
    (code / "score.py").write_text(SCRIPT.format(name=name))
    return ManagedOnlineDeployment(
        name=name,
        endpoint_name="tides",
        code_configuration=CodeConfiguration(str(code), "score.py"),
        environment=Environment(image="any"),
        instance_count=2,
    )


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        folder = Path(name)
        client = MLClient.local(home=folder / "home")
        try:
            return measure(client, folder)
        finally:
            subprocess.run([sys.executable, "-m", "modelport.cli", "down", "--home", folder / "home"], check=True)


def measure(client: MLClient, folder: Path) -> int:
    endpoint = ManagedOnlineEndpoint(name="tides")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    client.online_deployments.begin_create_or_update(deployment(folder, "first")).result()  # builds the environment
    took, seen = [], []
    for number in range(ROUNDS):
        wanted = deployment(folder, f"blue-{number}")
        begin = time.perf_counter()
        client.online_deployments.begin_create_or_update(wanted).result()
        took.append(time.perf_counter() - begin)
        endpoint.traffic = {wanted.name: 100}
        client.online_endpoints.begin_create_or_update(endpoint).result()
        begin = time.perf_counter()
        while client.online_endpoints.invoke("tides", input_data={}).deployment != wanted.name:
            pass
        seen.append((time.perf_counter() - begin) * 1000)
    changed = [edited(client, wanted, f"edit-{number}") for number in range(ROUNDS)]
    followed = watched(client, wanted)
    print(f"deploy: {', '.join(f'{each:.2f}' for each in took)} s")
    print(f"changed script, serving: {', '.join(f'{each:.2f}' for each in changed)} s")
    print(f"saved script, watched, serving: {', '.join(f'{each:.2f}' for each in followed)} s")
    print(f"traffic seen after: {', '.join(f'{each:.1f}' for each in seen)} ms")
    holds = peers.verdict("deploy, median", statistics.median(took), 2, "s")
    holds &= peers.verdict("changed script, serving, median", statistics.median(changed), 2, "s")
    holds &= peers.verdict("saved script, watched, serving, median", statistics.median(followed), 1.5, "s")
    holds &= peers.verdict("traffic seen, slowest, one request included", max(seen), 200, "ms")
    return 0 if holds else 1


def edited(client: MLClient, deployment: ManagedOnlineDeployment, answer: str) -> float:
    """Seconds from an edit of the script until what it says now is answered."""
    begin = time.perf_counter()
    save(deployment, answer)
    client.online_deployments.begin_create_or_update(deployment).result()
    while client.online_endpoints.invoke("tides", input_data={}).json() != answer:
        pass
    return time.perf_counter() - begin


def watched(client: MLClient, deployment: ManagedOnlineDeployment) -> list[float]:
    """Seconds from each save until what the script says now is answered, when nothing else is called."""
    poller = client.online_deployments.begin_create_or_update(deployment, watch=True)
    poller.result()
    updates: SimpleQueue[object] = SimpleQueue()
    poller.watch.add_callback(updates.put)
    seconds = []
    try:
        for number in range(ROUNDS):
            begin = time.perf_counter()
            save(deployment, f"save-{number}")
            while client.online_endpoints.invoke("tides", input_data={}).json() != f"save-{number}":
                if time.perf_counter() > begin + MOST_SECONDS:
                    raise TimeoutError(f"save {number} was never served")
                time.sleep(0.01)
            seconds.append(time.perf_counter() - begin)
            updates.get(timeout=MOST_SECONDS)  # the next one would wait for the end of this one
    finally:
        poller.watch.close()
    return seconds


def save(deployment: ManagedOnlineDeployment, answer: str) -> None:
    Path(deployment.code_configuration.code, "score.py").write_text(SCRIPT.format(name=answer))


if __name__ == "__main__":
    sys.exit(main())
