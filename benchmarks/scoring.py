"""
Our scoring server beside Azure's, a thin Granian app that runs the same script, one that answers with a constant, and
FastAPI on uvicorn, which is what most people write who leave Azure's.

All in one environment, one worker each, the same wrk settings, kept connections, alternating; every server's answer is
compared with what the script returns before anything is measured. Ours is the real server with all that it does for a
request: ids, headers, limits, metrics, the access log in a file.
"""

from __future__ import annotations

import functools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peers
from scoring_servers import REQUIREMENTS, Load, NotMeasured, Server, loaded, need_wrk, started

DOT = """
import json
import numpy as np

def init():
    global weights
    weights = np.arange(10.0)

def run(raw):
    return {"result": np.array(json.loads(raw)["data"]).dot(weights).tolist()}
"""
RIDGE = """
import json
import numpy as np
from sklearn.linear_model import Ridge

def init():
    global model
    features = np.random.default_rng(0).normal(size=(500, COLUMNS))
    model = Ridge().fit(features, features.sum(axis=1))

def run(raw):
    return {"result": np.round(model.predict(np.array(json.loads(raw)["data"])), 1).tolist()}
"""
TYPED = RIDGE.replace("run(raw)", "run(data: dict)").replace("json.loads(raw)", "data")
MODEL = """
import json
import numpy as np
IMPORT
def init():
    global weights
    weights = np.full((1536, 1536), 1 / 1536)

def answers(rows):
    batch = np.zeros((32, 1536))
    batch[: len(rows), 0] = [row[0] for row in rows]
    return np.round((batch @ weights)[: len(rows), 0] * 1536, 3).tolist()

"""
UNBATCHED = MODEL.replace("IMPORT", "") + 'def run(raw):\n    return answers([json.loads(raw)["data"]])[0]\n'
BATCH_SIZE, MAX_WAIT_MS = 32, 5
BATCHED = (
    MODEL.replace("IMPORT", "from modelport_scoring import batched\n")
    + f"""
@batched(max_size={BATCH_SIZE}, max_wait_ms={MAX_WAIT_MS})
def run(raws):
    return answers([json.loads(raw)["data"] for raw in raws])
"""
)
"""A model of fixed shapes, as a compiled one's are: a batch is filled up with zeros, and takes as long as one."""

SERVERS = ("ours", "thin", "azmlinfsrv", "fastapi")


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: int
    starts: int
    requests: int


WHOLE, QUICK = Effort(15, 1, 5, 100_000), Effort(1, 1, 1, 10_000)
# Many short turns rather than three long ones: on a shared machine a neighbour spoils seconds, not medians.


@dataclass
class Bench:
    python: Path
    folder: Path
    effort: Effort
    holds: bool = True
    made: int = 0

    def serve(self, stack: ExitStack, who: str, script: str) -> Server:
        self.made += 1
        return stack.enter_context(started(who, self.python, self.folder / str(self.made), script))

    def check(self, what: str, found: float | None, bound: float, unit: str = "x", *, least: bool = False) -> None:
        if found is None:
            print(f"{what}: not measured: DOES NOT HOLD")
        self.holds &= found is not None and peers.verdict(what, found, bound, unit, least=least)

    def compared(
        self, scripts: dict[str, tuple[str, str]], body: bytes, expected: object, connections: Sequence[int]
    ) -> dict[tuple[str, int], list[float]]:
        """
        Requests per second by name and number of connections, one for each turn; who cannot be measured is told of.

        `scripts` is name → (server, script).
        """
        seen: dict[tuple[str, int], list[Load]] = {}
        with ExitStack() as stack:
            servers = {name: self.serve(stack, who, script) for name, (who, script) in scripts.items()}
            for name in list(servers):
                try:
                    servers[name].check(body, expected)
                    loaded(servers[name], body, 16, 1)  # warms it up
                except NotMeasured as fault:
                    print(f"  {name}: cannot be measured: {fault}")
                    del servers[name]
            for _ in range(self.effort.rounds):
                for number in connections:
                    for name, server in list(servers.items()):
                        try:
                            load = loaded(server, body, number, self.effort.seconds)
                        except NotMeasured as fault:
                            print(f"  {name}: cannot be measured at {number} connections: {fault}")
                            del servers[name]
                        else:
                            seen.setdefault((name, number), []).append(load)
        seen = {(name, number): loads for (name, number), loads in seen.items() if name in servers}
        speeds = {key: [load.per_second for load in loads] for key, loads in seen.items()}
        for number in connections:
            print(f"  {number} connections")
            for name in servers:
                loads = seen[name, number]
                latency, slow = (statistics.median(getattr(load, each) for load in loads) for each in ("median", "p99"))
                processor = statistics.median(load.processor for load in loads)
                speed = statistics.median(speeds[name, number])
                print(
                    f"    {name}: {speed:,.0f} requests/s, median {latency:.2f} ms, 99 % {slow:.2f} ms,"
                    f" {processor * 1000:.0f} µs of processor for each"
                )
        return speeds


def ratio(seen: dict[tuple[str, int], list[float]], ours: str, theirs: str, connections: int) -> float | None:
    """The median of the turns' ratios: what a neighbour takes in one turn, it takes from both."""
    if (ours, connections) not in seen or (theirs, connections) not in seen:
        return None
    pairs = zip(seen[ours, connections], seen[theirs, connections], strict=True)
    return statistics.median(one / other for one, other in pairs)


def rows(count: int, columns: int) -> list[list[float]]:
    values = random.Random(0)  # as long as real ones are: 58 KB for 100 x 28
    return [[values.gauss(0, 1) for _ in range(columns)] for _ in range(count)]


def ridge(data: list[list[float]]) -> dict[str, list[float]]:
    """What the fitted model answers: a Ridge of sums is all but the sum."""
    columns = len(data[0])
    features = np.random.default_rng(0).normal(size=(500, columns))
    centred = features - features.mean(axis=0)
    target = features.sum(axis=1)
    weights = np.linalg.solve(centred.T @ centred + np.eye(columns), centred.T @ (target - target.mean()))
    answer = (np.array(data) - features.mean(axis=0)) @ weights + target.mean()
    return {"result": np.round(answer, 1).tolist()}


def small(bench: Bench) -> None:
    print("small payload, numpy dot")
    data = rows(1, 10)
    body = json.dumps({"data": data}).encode()
    expected = {"result": np.array(data).dot(np.arange(10.0)).tolist()}
    seen = bench.compared({name: (name, DOT) for name in (*SERVERS, "constant")}, body, expected, (1, 16, 64))
    bench.check("small payload, 16 connections, of Azure's", ratio(seen, "ours", "azmlinfsrv", 16), 10, least=True)
    bench.check("small payload, 1 connection, of Azure's", ratio(seen, "ours", "azmlinfsrv", 1), 4, least=True)
    bench.check("small payload, 16 connections, of thin Granian's", ratio(seen, "ours", "thin", 16), 0.8, least=True)


def small_model(bench: Bench) -> None:
    print("small payload, fitted scikit-learn model")
    data = rows(1, 10)
    script = RIDGE.replace("COLUMNS", "10")
    scripts = {name: (name, script) for name in SERVERS}
    seen = bench.compared(scripts, json.dumps({"data": data}).encode(), ridge(data), (16,))
    bench.check("model, 16 connections, of Azure's", ratio(seen, "ours", "azmlinfsrv", 16), 4, least=True)


def large_model(bench: Bench) -> None:
    print("100 x 28 payload, fitted scikit-learn model")
    data = rows(100, 28)
    scripts = {name: (name, RIDGE.replace("COLUMNS", "28")) for name in SERVERS}
    scripts["ours, typed"] = ("ours", TYPED.replace("COLUMNS", "28"))
    seen = bench.compared(scripts, json.dumps({"data": data}).encode(), ridge(data), (16,))
    bench.check("json.loads script, of Azure's", ratio(seen, "ours", "azmlinfsrv", 16), 1.6, least=True)
    bench.check("script of parsed input, of Azure's", ratio(seen, "ours, typed", "azmlinfsrv", 16), 3.5, least=True)


def start_and_memory(bench: Bench) -> None:
    print("from start to the first 200, and memory after load")
    data = rows(1, 10)
    body, expected = json.dumps({"data": data}).encode(), ridge(data)
    held: dict[str, list[tuple[float, float]]] = {}

    def seconds(who: str) -> float:
        with ExitStack() as stack:
            begin = time.perf_counter()
            server = bench.serve(stack, who, RIDGE.replace("COLUMNS", "10"))
            server.check(body, expected)
            took = time.perf_counter() - begin
            loaded(server, body, 16, 1)
            # While no other server runs: pages of numpy that two had in common would count half.
            held.setdefault(who, []).append(server.megabytes())
            return took

    names = ("ours", "azmlinfsrv", "thin")
    found = peers.alternating(bench.effort.starts, **{name: functools.partial(seconds, name) for name in names})
    memory = {name: statistics.median(pss for pss, _ in held[name]) for name in names}
    for name in names:
        resident = statistics.median(rss for _, rss in held[name])
        print(
            f"  {name}: {found[name]:.2f} s; process tree {memory[name]:.0f} MB (resident, summed: {resident:.0f} MB)"
        )
    bench.check("start to first 200, of Azure's", found["ours"] / found["azmlinfsrv"], 1)
    bench.check("memory of the process tree, of Azure's", memory["ours"] / memory["azmlinfsrv"], 1)


def batching(bench: Bench) -> None:
    print(f"batching, at most {BATCH_SIZE} and {MAX_WAIT_MS} ms, a model whose calls all take as long")
    body = json.dumps({"data": [0.25]}).encode()
    seen: dict[tuple[str, int], list[Load]] = {}
    with ExitStack() as stack:
        servers = {
            "one by one": bench.serve(stack, "ours", UNBATCHED),
            "batched": bench.serve(stack, "ours", BATCHED),
        }
        try:
            for server in servers.values():
                server.check(body, 0.25)
            for _ in range(bench.effort.rounds):
                for connections in (1, 32):
                    for name, server in servers.items():
                        load = loaded(server, body, connections, bench.effort.seconds)
                        seen.setdefault((name, connections), []).append(load)
        except NotMeasured as fault:
            print(f"  cannot be measured: {fault}")
            bench.check("batched throughput, of one by one", None, 3, least=True)
            return
    many = {name: statistics.median(load.per_second for load in seen[name, 32]) for name in servers}
    alone = {name: statistics.median(load.median for load in seen[name, 1]) for name in servers}
    for name in servers:
        print(f"  {name}: {many[name]:,.0f} requests/s at 32 connections, median {alone[name]:.2f} ms at one")
    bench.check("batched throughput, of one by one", many["batched"] / many["one by one"], 3, least=True)
    bench.check("median at one connection, more", alone["batched"] - alone["one by one"], MAX_WAIT_MS, "ms")


def memory(bench: Bench) -> None:
    """As many requests are sent before it is looked at first: caches and pools fill, and are no leak."""
    print("memory over many requests")
    data = rows(1, 10)
    body = json.dumps({"data": data}).encode()
    with ExitStack() as stack:
        server = bench.serve(stack, "ours", DOT)
        server.check(body, {"result": np.array(data).dot(np.arange(10.0)).tolist()})
        counted = server.metrics.is_socket()
        print(f"  it tells what it counts on a socket of its own: {'holds' if counted else 'DOES NOT HOLD'}")
        bench.holds &= counted
        held = []
        for _ in range(2):
            answered = 0
            while answered < bench.effort.requests:
                answered += loaded(server, body, 16, 2).requests
            held.append(server.megabytes())
    (before, before_resident), (after, after_resident) = held
    print(f"  {before:.1f} MB (resident {before_resident:.1f}), then {after:.1f} MB ({after_resident:.1f})")
    # One small object kept for each request would be 5 MB.
    bench.check(f"growth over {answered:,} requests", after - before, 3, "MB")


def main() -> int:
    need_wrk()
    effort = QUICK if "--quick" in sys.argv[1:] else WHOLE
    named = [name for name in sys.argv[1:] if not name.startswith("-")]
    with peers.environment(*REQUIREMENTS) as python, tempfile.TemporaryDirectory(prefix="mp-") as folder:
        bench = Bench(python, Path(folder), effort)
        for case in (small, small_model, large_model, start_and_memory, batching, memory):
            if not named or case.__name__ in named:
                case(bench)
        print(f"load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    return 0 if bench.holds else 1


if __name__ == "__main__":
    sys.exit(main())
