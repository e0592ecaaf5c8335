"""Several requests in one call of run()."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport_scoring import batched, concurrent
from modelport_scoring.batches import Batches
from modelport_scoring.marks import Batching, batching_of, concurrency_of

SCRIPT = """
    import json, pathlib, time
    from modelport_scoring import batched
    def init(): pass
    @batched(max_size=8, max_wait_ms=50)
    def run(items):
        print("called for", len(items), flush=True)
        items = [json.loads(item) for item in items]
        while "busy" in items and not pathlib.Path(__file__).with_name("go").exists():
            time.sleep(0.01)
        time.sleep(max([item for item in items if isinstance(item, float)], default=0.01))
        if "poison" in items:
            raise ValueError("poison")
        if "short" in items:
            return items[1:]
        if "table" in items:
            return {str(item): 1 for item in items}
        return [KeyError(item) if item == "bad" else [item, len(items)] for item in items]
"""


def together(served, *items):
    """The answers to these, sent while run() is busy, so that they make one batch."""
    with ThreadPoolExecutor(len(items) + 1) as clients:
        calls = served.log.count("called for")
        busy = clients.submit(served.score, "busy")
        served.wait_for(lambda: served.log.count("called for") > calls)
        others = [clients.submit(served.score, item) for item in items]
        served.wait_for(lambda: served.is_waiting(len(items)))
        (served.folder / "app" / "go").touch()
        answers = [other.result() for other in others]
        assert busy.result().status == 200
    return answers


def test_requests_that_wait_together_are_one_call(serve):
    answers = together(serve(SCRIPT, MODELPORT_METRICS_UDS="m"), *range(6))
    assert [json.loads(answer.body) for answer in answers] == [[number, 6] for number in range(6)]
    assert all(float(answer.headers["x-ms-run-fn-exec-ms"]) > 0 for answer in answers)
    assert len({answer.headers["x-request-id"] for answer in answers}) == 6


@pytest.mark.parametrize(("requests", "calls"), [("2", 1), ("3", 2)])
def test_as_many_calls_at_once_as_the_requests_need(serve, requests, calls):
    served = serve(
        """
        import threading, time
        from modelport_scoring import batched
        inside, most, lock = 0, 0, threading.Lock()
        def init(): pass
        @batched(max_size=2, max_wait_ms=0)
        def run(items):
            global inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with lock:
                inside -= 1
            return [most] * len(items)
        """,
        MODELPORT_MAX_CONCURRENT_REQUESTS=requests,
    )
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(served.score, range(48)))
    assert max(json.loads(answer.body) for answer in answers) == calls


def test_no_call_is_for_more_than_the_most(serve):
    served = serve(SCRIPT, MODELPORT_METRICS_UDS="m")
    answers = together(served, *range(20))
    assert max(json.loads(answer.body)[1] for answer in answers) == 8
    assert sorted(json.loads(answer.body)[0] for answer in answers) == list(range(20))


def test_a_result_that_is_an_exception_is_its_own_request_s_failure(serve):
    served = serve(SCRIPT, MODELPORT_METRICS_UDS="m")
    answers = together(served, 1, "bad", 2)
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert "KeyError: 'bad'" in served.log


def test_one_that_makes_run_raise_fails_alone(serve):
    served = serve(SCRIPT, MODELPORT_METRICS_UDS="m")
    answers = together(served, 1, "poison", 2)
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert json.loads(answers[0].body) == [1, 1]
    assert "for 3 inputs: it is called for each alone" in served.log


@pytest.mark.parametrize(
    ("item", "said"),
    [("short", "run() returned 2 results for 3 inputs"), ("table", "run() returned a dict for 3 inputs")],
)
def test_results_that_cannot_be_told_apart_are_nobody_s(serve, item, said):
    served = serve(SCRIPT, MODELPORT_METRICS_UDS="m")
    answers = together(served, 1, item, 2)
    assert [answer.status for answer in answers] == [500] * 3
    assert said in served.log
    assert served.score(1).status == 200


def test_an_input_that_is_refused_enters_no_batch(serve):
    served = serve(SCRIPT)
    assert served.request("POST", "/score", b"\xff").status == 400
    assert "called for" not in served.log


def test_numpy_s_results_are_results(serve):
    served = serve(
        """
        import numpy
        from modelport_scoring import batched
        def init(): pass
        @batched
        def run(items): return numpy.asarray([[float(item), 1] for item in items])
        """
    )
    assert served.score(2).body == b"[2.0, 1.0]"


def test_raw_requests_come_as_a_list(serve):
    served = serve(
        """
        from azureml_inference_server_http.api.aml_request import rawhttp
        from azureml_inference_server_http.api.aml_response import AMLResponse
        from modelport_scoring import batched
        def init(): pass
        @rawhttp
        @batched(max_size=4)
        def run(requests): return [AMLResponse(each.get_data(), 201) for each in requests]
        """
    )
    answer = served.request("POST", "/score", b"\x00\x01")
    assert (answer.status, answer.body) == (201, b"\x00\x01")


def test_the_time_limit_is_each_caller_s(serve):
    served = serve(SCRIPT, SCORING_TIMEOUT_MS="1000")
    answer = served.score(4.0)
    assert (answer.status, answer.body) == (500, b'{"message": "Scoring timeout after 1000 ms"}')
    assert served.score(0).status == 200


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("def run(items, request_headers): pass", "take one parameter, the list of inputs"),
        ("def run(a, b): pass", "take one parameter, the list of inputs"),
        ("async def run(items): pass", "not be asynchronous"),
        ("def run(items):\n    yield 1", "not be asynchronous, and not yield"),
    ],
)
def test_a_script_that_cannot_be_batched_is_refused_when_it_is_loaded(start, run, said):
    served = start(f"from modelport_scoring import batched\ndef init(): pass\n@batched\n{run}\n")
    assert served.process.wait(timeout=20) == 3
    assert said in served.failure["message"]


def test_a_script_says_how_many_threads_it_bears(serve):
    served = serve(
        """
        import threading
        from modelport_scoring import concurrent
        together = threading.Barrier(3)
        def init(): pass
        @concurrent(3)
        def run(data): return together.wait(10) >= 0
        """
    )
    with ThreadPoolExecutor(3) as clients:
        assert [answer.body for answer in clients.map(served.score, range(3))] == [b"true"] * 3
    assert "3 requests may be in run() at once" in served.log


def test_the_deployment_may_let_more_in_than_the_script_says(serve):
    script = "from modelport_scoring import concurrent\ndef init(): pass\n@concurrent(2)\ndef run(d): return d\n"
    assert "5 requests may be" in serve(script, MODELPORT_MAX_CONCURRENT_REQUESTS="5").log
    assert "2 requests may be" in serve(script, MODELPORT_MAX_CONCURRENT_REQUESTS="1").log


def test_a_marked_function_is_the_function():
    def run(items):
        return [item * 2 for item in items]

    assert batched(max_size=3)(concurrent(2)(run)) is run
    assert batched(run) is run
    assert run([1, 2]) == [2, 4]
    assert batching_of(run) == Batching(32, 5)
    assert concurrency_of(run) == 2


@pytest.mark.parametrize("mark", [lambda: batched(max_size=0), lambda: batched(max_wait_ms=-1), lambda: concurrent(0)])
def test_marks_that_make_no_sense_are_refused(mark):
    with pytest.raises(ValueError, match="at least"):
        mark()


def test_one_client_alone_never_waits():
    sizes = []
    batches = Batches(1, Batching(32, 10_000), lambda batch: None, sizes=sizes.append)
    began = time.monotonic()
    for number in range(50):
        batches.take(number)
    assert time.monotonic() - began < 5  # one wait would take 10
    assert sizes == [1] * 50


def test_clients_who_come_back_are_waited_for():
    sizes = []
    batches: Batches[threading.Event] = Batches(
        1, Batching(32, 5000), lambda batch: [time.sleep(0.01), *(each.set() for each in batch)], sizes=sizes.append
    )

    def client():
        for _ in range(20):
            answered = threading.Event()
            batches.take(answered)
            assert answered.wait(10)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sizes) == 80
    assert sizes.count(4) > 10


def test_who_does_not_come_is_waited_for_once():
    sizes = []
    batches = Batches(1, Batching(32, 2000), lambda batch: time.sleep(0.05), sizes=sizes.append)
    threads = [threading.Thread(target=batches.take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sizes) == 4
    batches.take(5)  # as many as before are expected, and do not come
    began = time.monotonic()
    batches.take(6)
    assert time.monotonic() - began < 1.9


TYPED = """
    from __future__ import annotations
    import time
    from dataclasses import dataclass
    from modelport_scoring import batched

    @dataclass
    class Tide:
        height: float
        port: str = "Emden"

    def init(): pass

    @batched(max_size=8, max_wait_ms=50)
    def run(tides: list[Tide]):
        print("called for", len(tides), flush=True)
        time.sleep(max(tide.height for tide in tides) if len(tides) == 1 else 0)
        return [[tide.height, tide.port, len(tides)] for tide in tides]
"""


def test_each_request_is_made_into_what_the_list_is_of(serve):
    served = serve(TYPED)
    with ThreadPoolExecutor(4) as clients:
        busy = clients.submit(served.score, {"height": 0.5})
        served.wait_for(lambda: "called for 1" in served.log)
        first, second, unfit = clients.map(
            served.score, [{"height": 1}, {"height": 2, "port": "Husum"}, {"height": "high"}]
        )
        assert json.loads(busy.result().body) == [0.5, "Emden", 1]
    assert json.loads(first.body) == [1.0, "Emden", 2]
    assert json.loads(second.body) == [2.0, "Husum", 2]
    assert unfit.status == 400
    assert "`float`" in json.loads(unfit.body)["message"]
    assert "called for 3" not in served.log


def test_the_page_shows_what_one_request_has(serve):
    document = json.loads(serve(TYPED).request("GET", "/swagger.json?version=3.1").body)
    given = document["components"]["schemas"]["ServiceInput"]
    assert "height" in json.dumps(given)
    assert given.get("type") != "array"


@pytest.mark.parametrize("annotation", ["list[str]", "list", "list[Any]", "Sequence[str]"])
def test_a_list_of_text_is_of_bodies_as_azure_gives_them(serve, annotation):
    served = serve(
        f"""
        from typing import Any, Sequence
        from modelport_scoring import batched
        def init(): pass
        @batched
        def run(items: {annotation}): return list(items)
        """
    )
    assert served.score({"a": 1}).body == b'"{\\"a\\": 1}"'


def test_what_is_no_list_is_refused_when_the_script_is_loaded(start):
    served = start("from modelport_scoring import batched\ndef init(): pass\n@batched\ndef run(data: dict): pass\n")
    assert served.process.wait(20) == 3
    assert "take a list of inputs" in served.failure["message"]
    assert "'data' is annotated as dict, not as list[…]" in served.failure["message"]


def test_what_is_beyond_one_batch_is_for_another_call_that_is_free():
    sizes, go = [], threading.Event()

    def work(items):
        sizes.append(len(items))
        go.wait(20)

    batches = Batches(2, Batching(8, 2000), work)
    batches._expected = 8  # as after a call for eight
    with ThreadPoolExecutor(12) as clients:
        for number in range(12):
            clients.submit(batches.take, number)
        deadline = time.monotonic() + 20
        while sum(sizes) < 12 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sum(sizes) == 12
        go.set()
    assert (batches.running, batches.waiting) == (0, 0)


def test_an_input_that_exits_is_answered_for_and_ends_the_server(serve):
    script = """
        import sys
        from dataclasses import dataclass
        from modelport_scoring import batched
        @dataclass
        class Tide:
            height: int
            def __post_init__(self):
                if self.height < 0:
                    sys.exit(1)
        def init(): pass
        @batched
        def run(tides: list[Tide]):
            return [tide.height for tide in tides]
    """
    served = serve(script)
    assert served.score({"height": 1}).body == b"1"
    assert served.score({"height": -1}).status == 500
    assert served.process.wait(timeout=20) == 1
