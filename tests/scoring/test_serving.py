"""Routes, limits, concurrency and logs of a server that is up."""

from __future__ import annotations

import json
import re
import socket
import stat
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

ECHO = """
    import json
    def init(): print("in init")
    def run(data): return json.loads(data or "null")
"""

SLEEPY = """
    import json, threading, time
    lock = threading.Lock()
    inside = most = 0
    def init(): pass
    def run(data):
        global inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(json.loads(data))
        with lock:
            inside -= 1
        return most
"""

STALLED = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"


def stall(served) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(served.uds))
    client.sendall(STALLED)
    return client


def test_requests_on_one_connection_are_all_answered(serve):
    served = serve(ECHO)
    connection = served.connection()
    for number in range(200):
        connection.request("POST", "/score", body=json.dumps([number]))
        assert json.loads(connection.getresponse().read()) == [number]
    connection.close()


def test_a_chunked_body_is_read(serve):
    answer = serve(ECHO).request("POST", "/score", iter([b'{"a":', b" 1}"]))
    assert (answer.status, answer.body) == (200, b'{"a": 1}')


def test_a_large_body_is_read_whole(serve):
    rows = [[0.5] * 28] * 20_000
    assert json.loads(serve(ECHO).score(rows).body) == rows


def test_a_query_with_text_blanks_and_umlauts_becomes_json(serve):
    answer = serve(ECHO).request("GET", "/score?a=%C3%BC&b=&c=null&d=NaN&a=+x")
    assert answer.body == b'{"a": ["\\u00fc", " x"], "b": "", "c": null, "d": NaN}'


def test_wrong_methods_name_the_right_ones(serve):
    assert serve(ECHO).request("DELETE", "/score").headers["allow"] == "POST, GET, OPTIONS"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_refused(serve, chunked):
    served = serve(ECHO, MODELPORT_MAX_BODY_BYTES="1000")
    body = b"1" * 1001
    answer = served.request("POST", "/score", iter([body]) if chunked else body)
    assert answer.status == 413
    assert answer.body == b'{"message": "The request body is larger than 1000 bytes."}'
    assert served.score(1).status == 200


def test_stalled_clients_cost_only_their_own_requests(serve):
    served = serve(ECHO, MODELPORT_BODY_TIMEOUT_SECONDS="3")
    began = time.monotonic()
    clients = [stall(served) for _ in range(40)]
    assert served.score(1).status == 200
    assert served.request("GET", "/").status == 200
    assert time.monotonic() - began < 3
    for client in clients:
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
        client.close()
    assert served.score(1).status == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_never_reaches_run(serve):
    served = serve("def init(): pass\ndef run(data): print('RAN', data, flush=True)\n")
    stall(served).close()
    served.wait_for(lambda: "POST /score 400" in served.log)
    assert "RAN" not in served.log


def test_probes_are_answered_while_run_is_busy_and_others_wait(serve):
    served = serve(SLEEPY)
    with ThreadPoolExecutor(8) as clients:
        busy = [clients.submit(served.score, 3 / 8) for _ in range(8)]
        times = []
        while not all(client.done() for client in busy):
            began = time.perf_counter()
            assert served.request("GET", "/").status == 200
            times.append(time.perf_counter() - began)
            time.sleep(0.02)
    assert [json.loads(client.result().body) for client in busy] == [1] * 8
    assert statistics.median(times) < 0.05


def test_probes_are_answered_while_run_computes_without_pause(serve):
    served = serve(
        "import time\ndef init(): pass\ndef run(data):\n  end = time.time() + 1\n  while time.time() < end: pass\n"
    )
    with ThreadPoolExecutor(1) as client:
        busy = client.submit(served.score, 1)
        times = []
        while not busy.done():
            began = time.perf_counter()
            served.request("GET", "/")
            times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.15


@pytest.mark.parametrize("places", [1, 2])
def test_no_more_requests_are_in_run_than_allowed(serve, places):
    served = serve(SLEEPY, MODELPORT_MAX_CONCURRENT_REQUESTS=str(places))
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(served.score, [0.1] * 6))
    assert [answer.status for answer in answers] == [200] * 6
    assert max(json.loads(answer.body) for answer in answers) == places


def test_a_timed_out_run_keeps_its_place_and_says_when_it_came_back(serve):
    served = serve(SLEEPY, SCORING_TIMEOUT_MS="1000")
    began = time.monotonic()
    answer = served.score(3)
    assert (answer.status, answer.body) == (500, b'{"message": "Scoring timeout after 1000 ms"}')
    assert served.score(0).body == b"1"
    assert time.monotonic() - began > 3
    assert re.search(r"run\(\) came back after \d{4,} ms", served.log)


def test_errors_in_run_are_logged_from_the_script_s_first_frame_on(serve):
    served = serve("def init(): pass\ndef run(data):\n    return 1 / 0\n")
    assert served.score(1).status == 500
    assert "Traceback (most recent call last):\n  File" in served.log
    assert "line 3, in run" in served.log
    assert "modelport_scoring/" not in served.log


def test_the_log_has_azure_s_format_and_shows_prints_but_no_probes(serve):
    served = serve(ECHO, MODELPORT_DEPLOYMENT="blue")
    served.request("GET", "/")
    served.request("GET", "/nope%0Aforged")
    served.score(7)
    served.wait_for(lambda: "POST /score 200" in served.log)
    pattern = (
        r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} I \[\d+\] modelport_scoring.access - POST /score 200 [\d.]+ms 1$"
    )
    assert re.search(pattern, served.log)
    assert re.search(r"(?m)^[\d-]+ [\d:,]+ I \[\d+\] azmlinfsrv.print - in init$", served.log)
    assert "for blue" in served.log
    assert "GET / " not in served.log
    assert "\nforged" not in served.log


def test_the_script_s_own_logging_setup_works(serve):
    served = serve(
        """
        import logging
        def init():
            logging.basicConfig(level="DEBUG", filename="../own.log", filemode="w", format="own %(message)s")
        def run(data): logging.debug("in run")
        """
    )
    served.score(1)
    assert (served.folder / "own.log").read_text().endswith("own in run\n")


def test_the_script_finds_its_neighbours_its_folder_and_its_model(start):
    served = start(
        """
        import os, time
        while not os.path.exists("helper.py"): time.sleep(0.01)  # written below
        import helper
        def init(): pass
        def run(data): return [helper.X, os.getcwd(), os.environ["AZUREML_MODEL_DIR"]]
        """,
        AZUREML_MODEL_DIR="/models/1",
    )
    (served.folder / "app" / "helper.py").write_text("X = 5")
    served.wait_until_ready()
    assert json.loads(served.score(1).body) == [5, str(served.folder / "app"), "/models/1"]


def test_the_socket_is_its_owner_s_alone(serve):
    assert stat.S_IMODE(serve(ECHO).uds.stat().st_mode) == 0o600


def test_a_script_in_azure_s_designer_s_wrapping_is_called_itself(serve):
    served = serve(
        """
        import inner as driver_module
        def init(): driver_module.found = "by the wrapping"
        def run(*data): raise AssertionError("the wrapping's own")
        """,
        files={"inner.py": "def run(data): return [data, found]\n"},
    )
    assert served.score(7).body == b'["7", "by the wrapping"]'


def test_without_an_origin_pages_of_several_are_told_of_one(serve):
    served = serve(ECHO, AML_CORS_ORIGINS="http://b, http://a")
    connection = served.connection()
    connection.request("POST", "/score", body="1")
    answer = connection.getresponse()
    assert answer.headers.get_all("access-control-allow-origin") == ["http://a"]
    assert answer.headers["vary"] == "Origin"
    connection.close()


def test_origins_that_are_none_are_no_origins(serve):
    assert "access-control-allow-origin" not in serve(ECHO, AML_CORS_ORIGINS=" , ").score(1).headers


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("asked", ["result", "exception"])
def test_what_fails_when_it_is_asked_what_it_is_blocks_nobody(serve, kind, asked):
    script = f"""
        class Odd:
            def __getattr__(self, name): raise KeyError(name)
        class OddError(Exception):
            @property
            def response(self): raise KeyError("response")
        def init(): pass
        {kind} run(data):
            if data == '"exception"': raise OddError
            return Odd() if data == '"result"' else data
    """
    served = serve(script, MODELPORT_MAX_CONCURRENT_REQUESTS="1")
    answer = served.score(asked)
    assert answer.status == 500
    assert json.loads(answer.body)["message"].startswith("An unexpected internal error occurred")
    assert served.score("next").status == 200
    assert "KeyError" in served.log


def test_an_exception_that_fails_when_it_is_asked_fails_alone_in_a_batch(serve):
    script = """
        from modelport_scoring import batched
        class OddError(Exception):
            @property
            def response(self): raise KeyError("response")
        def init(): pass
        @batched
        def run(items): return [OddError() if item == '"odd"' else item for item in items]
    """
    served = serve(script)
    assert served.score("odd").status == 500
    assert served.score("next").status == 200


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_log_that_fails_stops_no_watch(serve, kind):
    filters = {"filters": ["failing"]}
    files = {
        "failing.py": "class Filter:\n    def filter(self, record): return 1 // ('takes longer' not in record.msg)\n",
        "logging.json": json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "filters": {"failing": {"()": "failing.Filter"}},
                "loggers": {"modelport_scoring.outcomes": filters, "modelport_scoring.tasks": filters},
            }
        ),
    }
    wait = "await asyncio.sleep(4)" if kind == "async def" else "time.sleep(4)"
    script = f"import asyncio, time\ndef init(): pass\n{kind} run(data): {wait}\n"
    served = serve(script, files=files, SCORING_TIMEOUT_MS="1000", MODELPORT_MAX_CONCURRENT_REQUESTS="2")
    for _ in range(2):
        assert served.score(1).body == b'{"message": "Scoring timeout after 1000 ms"}'


def test_a_time_limit_beyond_what_a_system_can_wait_for_is_none(serve):
    served = serve(ECHO, SCORING_TIMEOUT_MS="1e300")
    assert served.score("x").status == 200
    assert "Traceback" not in served.log


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_line_of_a_time_limit_says_whose_it_was(serve, kind):
    wait = "await asyncio.sleep(4)" if kind == "async def" else "time.sleep(4)"
    script = f"import asyncio, time\ndef init(): pass\n{kind} run(data): {wait}\n"
    served = serve(script, SCORING_TIMEOUT_MS="1000")
    assert served.score(1, x_request_id="late-one").status == 500
    served.wait_for(lambda: re.search(r"(?m)SCORING_TIMEOUT_MS=1000: .* \[late-one\]$", served.log) is not None)


def test_a_number_that_an_annotation_of_numpy_s_cannot_hold_is_the_caller_s_fault(serve):
    served = serve("import numpy as np\ndef init(): pass\ndef run(data: np.int8): return int(data)\n")
    assert served.score(100).body == b"100"
    assert served.score(300).status == 400
