"""Lines of the log say which request they belong to, and stay what Azure's users expect."""

from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor

from modelport_scoring.request_ids import RequestFormatter, of_batch

AZURE = r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [DIWEC] \[\d+\] %s - %s$"
"""A line of Azure's format: its name and its message."""

OWN = """
    import json, logging, sys, threading, time
    own = logging.getLogger("own")
    own.propagate = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("<%(modelport_request_id)s> %(message)s (%(otelTraceID)s)"))
    own.addHandler(handler)
    own.setLevel("INFO")
    logging.getLogger("azmlinfsrv").info("in init")
    def init(): own.info("in init")
    def run(data):
        what = json.loads(data)
        if what == "fail":
            raise ValueError("first\\nsecond")
        time.sleep(0.05)
        own.info("own %s", what, extra={"request_id": "the script's"})
        return what
"""


def test_a_script_s_own_format_can_ask_for_the_id(serve):
    served = serve(OWN)
    served.score("one", x_request_id="r-1")
    assert "\n<r-1> own one (0)\n" in served.log
    assert "\n<> in init (0)\n" in served.log


def test_concurrent_requests_have_each_their_own(serve):
    served = serve(OWN, MODELPORT_MAX_CONCURRENT_REQUESTS="4")
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda number: served.score(number, x_request_id=f"r-{number}"), range(20)))
    seen = re.findall(r"(?m)^<r-(\d+)> own (\d+) ", served.log)
    assert sorted(seen) == sorted((str(number), str(number)) for number in range(20))


def test_an_id_of_ours_is_the_one_of_the_answer(serve):
    served = serve(OWN)
    answer = served.score("one")
    assert f"<{answer.headers['x-request-id']}> own one" in served.log


def test_our_own_lines_have_it_behind_the_first_line_of_azure_s_format(serve):
    served = serve(OWN)
    assert served.score("fail", x_request_id="r-2").status == 500
    failed = re.search(AZURE % (r"modelport_scoring\.outcomes", r"run\(\) raised an exception\. \[r-2\]"), served.log)
    assert failed
    assert served.log[failed.end() :].startswith("\nTraceback (most recent call last):\n")
    assert "ValueError: first\nsecond\n" in served.log


def test_lines_outside_of_requests_and_the_access_log_are_azure_s_to_the_letter(serve):
    served = serve(OWN)
    served.score("one", x_request_id="r-3")
    served.wait_for(
        lambda: re.search(AZURE % (r"modelport_scoring\.access", r"POST /score 200 [\d.]+ms 5"), served.log)
    )
    assert re.search(AZURE % ("modelport_scoring", r"init\(\) passed; ready after [\d.]+ s\."), served.log)


def test_a_script_that_makes_its_own_records_changes_nothing_else(serve):
    script = """
        import logging
        def init(): logging.setLogRecordFactory(logging.LogRecord)
        def run(data): raise ValueError("as asked")
    """
    served = serve(script)
    assert served.score(1, x_request_id="r-4").status == 500
    assert re.search(AZURE % (r"modelport_scoring\.outcomes", r"run\(\) raised an exception\."), served.log)


def test_a_batch_s_line_shows_the_first_of_many_ids():
    ids = [f"r-{number}" for number in range(32)]
    assert of_batch(ids[:1]) == "r-0"
    assert of_batch(ids[:4]) == "r-0, r-1, r-2, r-3"
    assert of_batch(ids) == "r-0, r-1, r-2, r-3 and 28 more"


def test_a_trace_stands_beside_the_id():
    record = logging.makeLogRecord({"msg": "one\ntwo", "modelport_request_id": "r-5", "otelTraceID": "4bf9"})
    assert RequestFormatter("- %(message)s").format(record) == "- one [r-5, trace 4bf9]\ntwo"


def test_an_input_that_fits_no_batch_is_told_under_its_own_id(serve):
    served = serve(
        "from modelport_scoring import batched\ndef init(): pass\n@batched\ndef run(items: list[int]): return items\n"
    )
    assert served.score(1, x_request_id="r-6").status == 200
    assert served.score("no number", x_request_id="r-7").status == 400
    assert re.search(r"(?m) run\(\) was not called: .* \[r-7\]$", served.log)


def test_a_failure_in_a_batch_is_told_under_its_own_id(serve):
    script = """
        import pathlib, time
        from modelport_scoring import batched
        def init(): pass
        @batched(max_wait_ms=50)
        def run(items):
            print("called for", len(items))
            while not pathlib.Path(__file__).with_name("go").exists():
                time.sleep(0.01)
            return [KeyError() if item == '"bad"' else item for item in items]
    """
    served = serve(script, MODELPORT_METRICS_UDS="m")
    with ThreadPoolExecutor(3) as clients:
        busy = clients.submit(served.score, "good", x_request_id="r-8")
        served.wait_for(lambda: "called for 1" in served.log)
        others = [clients.submit(served.score, what, x_request_id=what) for what in ("bad", "fine")]
        served.wait_for(lambda: served.is_waiting(2))
        (served.folder / "app" / "go").touch()
        assert [each.result().status for each in (busy, *others)] == [200, 500, 200]
    assert "called for 2" in served.log
    assert re.search(r"(?m) run\(\) raised an exception\. \[bad\]$", served.log)
