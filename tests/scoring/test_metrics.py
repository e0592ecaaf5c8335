"""What a server has counted, asked of the process beside it, and read by Prometheus' own parser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.scoring.conftest import SDK, UnixConnection

from modelport_scoring import metrics
from modelport_scoring.counting import Counting
from modelport_scoring.shared import COUNTERS

SCRIPT = """
    import json, os, time
    def init(): time.sleep(float(os.environ.get("INIT", "0")))
    def run(data):
        what = json.loads(data)
        if what == "fail":
            raise ValueError("as asked")
        if what == "die":
            os._exit(9)
        time.sleep(what)
        return "done"
"""


class Scraped(dict):
    """`{name: {labels: value}}`, labels as a frozenset of items."""

    def of(self, name: str, **labels: str) -> float:
        return self.get(name, {}).get(frozenset(labels.items()), 0.0)


def scrape(served) -> Scraped:
    connection = UnixConnection(served.folder / "m")
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        families = list(text_string_to_metric_families(response.read().decode()))
    finally:
        connection.close()
    found = Scraped()
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    found["families"] = {family.name: family for family in families}
    return found


def until(served, condition) -> Scraped:
    """What is scraped as soon as it is as it shall be."""
    last = []

    def is_so() -> bool:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            last[:] = [scrape(served)]
        return bool(last) and condition(last[0])

    served.wait_for(is_so)
    return last[0]


@pytest.fixture
def observed(serve):
    return lambda script, *flags, **environment: serve(script, *flags, MODELPORT_METRICS_UDS="m", **environment)


def test_requests_are_counted_by_route_and_code(observed):
    served = observed(SCRIPT)
    probes = until(served, lambda found: found.of("modelport_scoring_requests_total", route="/", code="200") > 0)
    before = probes.of("modelport_scoring_requests_total", route="/", code="200")
    for _ in range(7):
        assert served.score(0).status == 200
    assert served.score("fail").status == 500
    assert served.request("GET", "/").status == 200
    assert served.request("GET", "/swagger.json?version=9").status == 404
    for path in ("/nope", "/never"):
        assert served.request("GET", path).status == 404
    found = until(served, lambda found: found.of("modelport_scoring_requests_total", route="other", code="404") == 2)
    assert found["modelport_scoring_requests_total"] == {
        frozenset({"route": route, "code": code}.items()): number
        for route, code, number in [
            ("/score", "200", 7),
            ("/score", "500", 1),
            ("/", "200", before + 1),
            ("/swagger.json", "404", 1),
            ("other", "404", 2),
        ]
    }
    assert found.of("modelport_scoring_run_exceptions_total") == 1


def test_times_are_in_the_bucket_that_they_belong_to(observed):
    served = observed(SCRIPT)
    served.score(0.3)
    found = until(served, lambda found: found.of("modelport_scoring_run_duration_seconds_count") == 1)
    for name in ("run", "request"):
        of = f"modelport_scoring_{name}_duration_seconds"
        assert 0.3 <= found.of(f"{of}_sum") < 5
        assert found.of(f"{of}_bucket", le="0.25") == 0
        assert found.of(f"{of}_bucket", le="+Inf") == found.of(f"{of}_count") == 1
    buckets = found["modelport_scoring_run_duration_seconds_bucket"]
    bounds = sorted(float(dict(labels)["le"]) for labels in buckets)
    assert (bounds[0], bounds[-2], bounds[-1]) == (0.0001, 100, float("inf"))


def test_bodies_are_counted_in_bytes(observed):
    served = observed("def init(): pass\ndef run(data): return 'x' * 998\n")
    served.request("POST", "/score", b"y" * 5000)
    found = until(served, lambda found: found.of("modelport_scoring_request_bytes_total") > 0)
    assert found.of("modelport_scoring_request_bytes_total") == 5000
    assert found.of("modelport_scoring_response_bytes_total") == 1000 + len(b"Healthy") * found.of(
        "modelport_scoring_requests_total", route="/", code="200"
    )


def test_what_is_inside_is_told_while_it_is(observed):
    served = observed(SCRIPT)
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(served.score, 3) for _ in range(3)]
        found = until(served, lambda found: found.of("modelport_scoring_requests_waiting") == 2)
        assert found.of("modelport_scoring_requests_in_flight") == 3
        assert found.of("modelport_scoring_runs") == 1
    assert [answer.result().status for answer in answers] == [200] * 3
    found = until(served, lambda found: found.of("modelport_scoring_requests_in_flight") == 0)
    assert found.of("modelport_scoring_runs") == found.of("modelport_scoring_requests_waiting") == 0


def test_a_run_whose_caller_was_answered_before_is_counted_too(observed):
    served = observed(SCRIPT, SCORING_TIMEOUT_MS="1000")
    assert served.score(4).status == 500
    found = until(served, lambda found: found.of("modelport_scoring_run_duration_seconds_count") == 1)
    assert found.of("modelport_scoring_run_duration_seconds_sum") >= 4
    assert found.of("modelport_scoring_request_duration_seconds_sum") < 4


def test_metrics_are_told_while_init_runs_and_while_run_keeps_the_interpreter_to_itself(start):
    script = """
        import ctypes, time
        hold = ctypes.PyDLL(None).sleep
        def init(): time.sleep(0.5)
        def run(data):
            print("holding", flush=True)
            hold(2)
    """
    served = start(script, MODELPORT_METRICS_UDS="m")
    found = until(served, lambda _: True)
    assert found.of("modelport_scoring_worker_starts_total") <= 1
    assert found.of("modelport_scoring_workers") == 0
    served.wait_until_ready()
    with ThreadPoolExecutor(1) as client:
        busy = client.submit(served.score, 1)
        served.wait_for(lambda: "holding" in served.log)
        assert scrape(served).of("modelport_scoring_workers") == 1
        assert not busy.done()
    assert busy.result().status == 200
    assert 0.5 <= scrape(served).of("modelport_scoring_init_seconds") < 10


def test_the_process_is_described_as_by_prometheus_own_clients(observed):
    began = time.time()
    served = observed(SCRIPT, MODELPORT_DEPLOYMENT='bl"ue')
    found = until(served, lambda found: found.of("process_cpu_seconds_total") > 0)
    assert began < found.of("process_start_time_seconds") < time.time()
    status = Path(f"/proc/{served.process.pid}/status")
    if status.exists():
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1]) * 1024
        assert resident / 2 < found.of("process_resident_memory_bytes") < resident * 2
        assert found.of("process_open_fds") > 5
    (about,) = found["modelport_scoring_build_info"]
    assert dict(about)["deployment"] == 'bl"ue'


def test_several_workers_are_added_up_and_who_replaces_one_counts_on(observed):
    served = observed(SCRIPT, WORKER_COUNT="2")
    with ThreadPoolExecutor(4) as clients:
        assert {answer.status for answer in clients.map(served.score, [0.02] * 40)} == {200}
    count = "modelport_scoring_run_duration_seconds_count"
    before = until(served, lambda found: found.of(count) == 40 and found.of("modelport_scoring_workers") == 2)
    assert before.of("modelport_scoring_worker_starts_total") == 2
    with pytest.raises(OSError):
        served.score("die")
    after = until(served, lambda found: found.of("modelport_scoring_worker_starts_total") == 3)
    assert after.of(count) == 40
    assert after.of("process_cpu_seconds_total") >= before.of("process_cpu_seconds_total")
    served.wait_until_ready()
    served.score(0)
    until(served, lambda found: found.of(count) == 41 and found.of("modelport_scoring_workers") == 2)


def test_they_are_told_on_a_port_and_beside_health_too(serve):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = serve(SCRIPT, "--metrics_port", str(port), MODELPORT_HEALTH_UDS="m")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"\nmodelport_scoring_workers " in answer
    assert scrape(served).of("modelport_scoring_workers") == 1
    served.process.terminate()
    assert served.process.wait(timeout=10) == 0


def test_a_kept_connection_s_probes_do_not_fill_the_log(observed):
    served = observed(SCRIPT)
    served.score(0)
    until(served, lambda found: found.of("modelport_scoring_requests_total", route="/score", code="200") == 1)
    assert "GET / " not in served.log


def test_every_declared_metric_is_told_and_no_other(observed):
    found = until(observed(SCRIPT), lambda found: found.of("process_cpu_seconds_total") > 0)
    told = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, family.documentation)
        for family in found["families"].values()
    }
    assert told == {(each.name, each.kind, each.help) for each in metrics.METRICS}


def test_the_readme_has_every_metric():
    text = (SDK / "modelport_scoring" / "README.md").read_text().partition("\n## Seen from outside\n")[2]
    table = text.partition("\n## ")[0].splitlines()
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.help} |"
        for each in metrics.METRICS
    ]
    assert [line for line in table if line.startswith(("| `modelport_scoring_", "| `process_"))] == rows


def test_a_row_of_numbers_has_its_place_in_the_shared_memory():
    assert metrics.NUMBERS <= COUNTERS
    places = [place for place, _, _ in metrics.routes_and_codes()]
    assert places == list(range(metrics.CODES, metrics.REQUEST_SECONDS.place))


def test_a_status_that_is_none_and_a_path_that_is_below_the_prefix_have_their_counts():
    shared = memoryview(array("d", bytes(8 * COUNTERS)))
    counting = Counting(shared, "/api")
    counting.count([(0.0, 1.0, "POST", "/api/score", "", 999, 0, 0, 0.5), (0.0, 1.0, "GET", "/x", "", 404, 0, 0, 0.0)])
    assert shared[metrics.place_of("/score", 999)] == 1
    assert shared[metrics.place_of(metrics.OTHER, 404)] == 1
    assert shared[metrics.REQUEST_SECONDS.count] == 1
    assert {code for place, _, code in metrics.routes_and_codes() if shared[place]} == {metrics.OTHER, "404"}


def test_batches_are_counted_by_their_size():
    shared = memoryview(array("d", bytes(8 * COUNTERS)))
    counting = Counting(shared)
    for size in (1, 3, 32):
        counting.batched(size)
    counting.count([])
    sizes = metrics.BATCH_SIZES
    assert list(shared[sizes.place : sizes.end]) == [1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 36]


def test_the_companion_s_end_is_the_server_s(observed):
    served = observed(SCRIPT)
    assert json.loads(served.score(0).body) == "done"
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()

    def silent() -> bool:
        try:
            scrape(served)
        except OSError:
            return True
        return False

    served.wait_for(silent)


@pytest.mark.parametrize("count", ["1", "2"])
def test_the_end_of_a_server_leaves_no_socket(serve, count):
    served = serve(SCRIPT, "--metrics_uds", "m", WORKER_COUNT=count)
    assert (served.folder / "m").exists()
    served.process.terminate()
    served.process.wait(timeout=20)
    assert not (served.folder / "m").exists()
