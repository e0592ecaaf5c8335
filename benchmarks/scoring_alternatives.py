"""
The ways from a socket to run() that were open to us, in one run: why the scoring server is built as it is.

Each app does the same JSON and numpy work as `scoring.py`'s small payload, and nothing else; "ours" is the real server
with all that it does beside. Then one client keeps run() busy, with work that lets go of the interpreter as a model's
does, while another asks whether the server is alive.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import peers
from scoring_servers import REQUIREMENTS, Load, Server, loaded, need_wrk, started

from scoring import DOT, rows

WAYS = (
    "WSGI, 1 thread",
    "WSGI, 64 threads, semaphore",
    "WSGI, our turns",
    "RSGI",
    "RSGI, run() in a thread",
    "uvicorn ASGI",
    "uvicorn ASGI, run() in a thread",
    "ours",
)
CONNECTIONS = (1, 16, 64)
BUSY = """
import hashlib, time

def init():
    pass

def run(raw):
    block, end = bytes(1_000_000), time.monotonic() + 1
    while time.monotonic() < end:
        hashlib.sha256(block).digest()
    return "done"
"""


def throughput(python: Path, folder: Path, rounds: int) -> dict[tuple[str, int], list[Load]]:
    """What wrk saw of each way at each number of connections, in turns of a second."""
    data = rows(1, 10)
    body = json.dumps({"data": data}).encode()
    expected = {"result": np.array(data).dot(np.arange(10.0)).tolist()}
    seen: dict[tuple[str, int], list[Load]] = {}
    with ExitStack() as stack:
        servers = [stack.enter_context(started(name, python, folder / name, DOT)) for name in WAYS]
        for server in servers:
            server.check(body, expected)
            loaded(server, body, 16, 1)
        for _ in range(rounds):
            for number in CONNECTIONS:
                for server in servers:
                    seen.setdefault((server.name, number), []).append(loaded(server, body, number, 1))
    return seen


def probed(server: Server, probes: int) -> float:
    """The median of a probe on a new connection while run() is busy, in milliseconds."""
    ended = threading.Event()

    def keep_busy() -> None:
        while not ended.is_set():
            server.ask("POST", "/score", b"{}")

    client = threading.Thread(target=keep_busy)
    client.start()
    seen = []
    try:
        for _ in range(probes):
            begin = time.perf_counter()
            assert server.ask("GET", "/")[0] == 200
            seen.append((time.perf_counter() - begin) * 1000)
            time.sleep(0.11)  # no fraction of what run() takes
    finally:
        ended.set()
        client.join()
    return statistics.median(seen)


def main() -> int:
    need_wrk()
    quick = "--quick" in sys.argv[1:]
    with peers.environment(*REQUIREMENTS) as python, tempfile.TemporaryDirectory(prefix="mp-") as folder:
        seen = throughput(python, Path(folder), 1 if quick else 5)
        for name in WAYS:
            with started(name, python, Path(folder, f"{name}, busy"), BUSY) as server:
                server.check(b"{}", "done")
                probe = probed(server, 5 if quick else 10)
            rates = (statistics.median(load.per_second for load in seen[name, number]) for number in CONNECTIONS)
            told = ", ".join(f"{rate:,.0f} at {number}" for rate, number in zip(rates, CONNECTIONS, strict=True))
            processor = statistics.median(load.processor for load in seen[name, 16]) * 1000
            print(
                f"{name}: requests/s {told}; {processor:.0f} µs of processor each; busy, a probe takes {probe:.1f} ms"
            )
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
