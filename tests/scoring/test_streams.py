"""Answers that come in pieces: from a thread, and from a loop."""

from __future__ import annotations

import http.client
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport_scoring import Event

PREAMBLE = """
    import json, os, pathlib, time, asyncio
    from modelport_scoring import Event
    def init(): pass

    def opened(name):
        while not pathlib.Path("..", name).exists():
            time.sleep(0.005)

    def run(data):
        return RUNS[json.loads(data)["how"]](json.loads(data))
"""

SYNC = (
    PREAMBLE
    + """
    EVENTS = [Event("a\\nb", event="tick", id="7", retry=50), Event({"k": 1}), "plain", {"x": 2}]

    def gated(data):
        try:
            for number in range(3):
                yield {"n": number}
                opened(f"go-{number}")
        finally:
            print("closed", flush=True)

    def endless(data):
        try:
            while True:
                yield "x" * 1000
                time.sleep(0.005)
        finally:
            print("closed", flush=True)

    def broken(data):
        yield {"json": {"n": 1}, "text": "one", "event": Event("one"), "bytes": b"one"}[data["form"]]
        raise ValueError("in the middle")

    def raises(data):
        raise ValueError("before the first")
        yield 1

    def late(data):
        time.sleep(30)
        yield 1

    RUNS = {
        "gated": gated, "endless": endless, "broken": broken, "raises": raises, "late": late,
        "items": lambda data: (each for each in data["items"]),
        "events": lambda data: iter(EVENTS),
        "bytes": lambda data: iter([b"\\x00\\xff", bytearray(b"ab")]),
        "odd": lambda data: (each for each in [1, object()]),
    }
"""
)

ASYNC = (
    SYNC.replace("    def run(data)", "    async def run(data)")
    .replace("    def gated", "    async def gated")
    .replace("    def endless", "    async def endless")
    .replace("    def broken", "    async def broken")
    .replace("    def raises", "    async def raises")
    .replace("    def late", "    async def late")
    .replace("    def opened", "    async def opened")
    .replace("time.sleep(", "await asyncio.sleep(")
    .replace("opened(f", "await opened(f")
)


@pytest.fixture(params=[SYNC, ASYNC], ids=["sync", "async"])
def script(request):
    return request.param


def ask(served, how, *, headers=None, **data):
    """The answer, whose body has not been read."""
    connection = served.connection()
    connection.request("POST", "/score", json.dumps({"how": how, **data}), headers or {})
    return connection, connection.getresponse()


def whole(served, how, **data):
    connection, answer = ask(served, how, **data)
    try:
        return answer.getheader("content-type"), answer.read()
    finally:
        connection.close()


def test_each_piece_is_sent_before_the_next_one_is_asked_for(serve, script):
    served = serve(script)
    connection, answer = ask(served, "gated")
    assert (answer.status, answer.getheader("transfer-encoding")) == (200, "chunked")
    assert float(answer.getheader("x-ms-run-fn-exec-ms")) < 1000
    assert answer.getheader("x-request-id")
    for number in range(3):
        assert json.loads(answer.readline()) == {"n": number}
        assert "closed" not in served.log
        (served.folder / f"go-{number}").touch()
    assert answer.read() == b""
    served.wait_for(lambda: "closed" in served.log)
    served.wait_for(lambda: "POST /score 200" in served.log)
    connection.close()


@pytest.mark.parametrize(
    ("items", "content_type", "body"),
    [
        ([{"a": 1}, [2], "x"], "application/x-ndjson", b'{"a": 1}\n[2]\n"x"\n'),
        (["ä", "b\n"], "text/plain; charset=utf-8", "äb\n".encode()),
        ([], "application/x-ndjson", b""),
    ],
)
def test_the_first_piece_says_what_the_answer_is(serve, script, items, content_type, body):
    assert whole(serve(script), "items", items=items) == (content_type, body)


def test_bytes_are_sent_as_they_are(serve, script):
    assert whole(serve(script), "bytes") == ("application/octet-stream", b"\x00\xffab")


def test_events_are_sent_as_html_has_them(serve, script):
    content_type, body = whole(serve(script), "events")
    assert content_type == "text/event-stream"
    assert body.decode().split("\n\n") == [
        "event: tick\nid: 7\nretry: 50\ndata: a\ndata: b",
        'data: {"k": 1}',
        "data: plain",
        'data: {"x": 2}',
        "",
    ]


def test_a_client_that_asks_for_events_gets_them(serve, script):
    content_type, body = whole(
        serve(script), "items", items=["a\r\nb", 1], headers={"Accept": "text/event-stream, */*;q=0.1"}
    )
    assert (content_type, body) == ("text/event-stream", b"data: a\ndata: b\n\ndata: 1\n\n")


@pytest.mark.parametrize("field", ["event", "id"])
def test_an_event_s_fields_are_one_line(field):
    with pytest.raises(ValueError, match="must be one line"):
        Event("x", **{field: "a\nb"})


def test_what_only_python_calls_a_line_is_not_broken():
    assert bytes(Event("a\u2028b\x0bc\rd")).decode() == "data: a\u2028b\x0bc\ndata: d\n\n"


def test_an_exception_before_the_first_piece_is_an_ordinary_failure(serve, script):
    served = serve(script)
    connection, answer = ask(served, "raises")
    assert (answer.status, answer.getheader("x-ms-run-function-failed")) == (500, "True")
    assert "unexpected error" in json.loads(answer.read())["message"]
    assert "ValueError: before the first" in served.log
    connection.close()


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("json", '{"n": 1}\n{"error": {"message": "An unexpected error occurred in scoring script. %s"}}\n'),
        (
            "event",
            'data: one\n\nevent: error\ndata: {"message": "An unexpected error occurred in scoring script. %s"}\n\n',
        ),
        ("text", "one"),
        ("bytes", "one"),
    ],
)
def test_an_exception_in_the_middle_is_told_where_the_form_has_words_for_it(serve, script, form, body):
    served = serve(script)
    expected = body % "Check the logs for more info." if "%s" in body else body
    assert whole(served, "broken", form=form)[1].decode() == expected
    assert re.search(r"in the middle of a stream\.( \[.*\])?\nTraceback", served.log)
    assert "ValueError: in the middle" in served.log
    assert "modelport_scoring/" not in served.log.partition("Traceback")[2]


def test_a_piece_that_is_no_json_ends_the_stream(serve, script):
    served = serve(script)
    assert whole(served, "odd")[1].startswith(b'1\n{"error":')
    assert "not JSON serializable" in served.log


def test_a_client_that_leaves_closes_the_generator(serve, script):
    served = serve(script)
    connection, answer = ask(served, "endless")
    assert len(answer.read(10)) == 10
    assert "closed" not in served.log
    connection.close()
    answer.close()
    served.wait_for(lambda: "closed" in served.log)
    assert whole(served, "items", items=[1])[1] == b"1\n"  # its place is free


def test_a_client_that_does_not_read_stops_the_generator_and_not_the_server(serve, script):
    served = serve(
        script.replace('"x" * 1000', 'print("another", flush=True) or "x" * 1_000_000').replace("0.005", "0")
    )
    connection, answer = ask(served, "endless")

    def stopped():
        before = served.log.count("another")
        time.sleep(0.3)  # nothing comes in this time: the condition itself
        return before > 0 and served.log.count("another") == before

    served.wait_for(stopped)
    assert served.log.count("another") < 100
    assert served.request("GET", "/").status == 200
    connection.close()
    answer.close()
    served.wait_for(lambda: "closed" in served.log)


def test_a_client_that_does_not_read_holds_no_place(serve, script):
    served = serve(
        script.replace('"x" * 1000', '"x" * 1_000_000').replace("0.005", "0"),
        MODELPORT_MAX_CONCURRENT_REQUESTS="1",
        MODELPORT_BODY_TIMEOUT_SECONDS="0.3",
    )
    connection, answer = ask(served, "endless")
    assert whole(served, "items", items=[1])[1] == b"1\n"
    assert "A client has not read its stream for 0.3 seconds: the stream is given up." in served.log
    assert "closed" in served.log
    assert "Traceback" not in served.log
    with pytest.raises((OSError, http.client.HTTPException)):  # and is not told that this was all
        answer.read()
    connection.close()
    answer.close()


def test_a_client_that_reads_slowly_gets_all_of_its_stream(serve, script):
    forty = 'for _ in range(40):\n                    yield "x" * 100_000\n                return'
    served = serve(script.replace('yield "x" * 1000', forty), MODELPORT_BODY_TIMEOUT_SECONDS="30")
    connection, answer = ask(served, "endless")
    size = 0
    while piece := answer.read(50_000):
        size += len(piece)
        time.sleep(0.005)  # it is slow
    assert size == 4_000_000
    connection.close()


def test_the_time_limit_is_for_the_first_piece(serve, script):
    served = serve(script, SCORING_TIMEOUT_MS="300")
    connection, answer = ask(served, "late")
    assert (answer.status, answer.read()) == (500, b'{"message": "Scoring timeout after 300 ms"}')
    connection.close()
    connection, answer = ask(serve(script, SCORING_TIMEOUT_MS="300"), "endless")
    began = time.monotonic()
    while time.monotonic() - began < 0.6:
        assert answer.read(1000)
    connection.close()


def test_a_stream_that_is_late_and_will_not_close_gives_its_place_back(serve):
    script = """
        import time
        class Late:
            def __next__(self): time.sleep(4)
            def close(self): raise ValueError("close")
        def init(): pass
        def run(data): return Late() if data == '"late"' else data
    """
    served = serve(script, SCORING_TIMEOUT_MS="1000")
    assert b"Scoring timeout" in served.score("late").body
    served.wait_for(lambda: "ValueError: close" in served.log)
    assert served.score("next").status == 200


def test_a_stream_keeps_its_place_until_it_ends(serve, script):
    served = serve(script, MODELPORT_MAX_CONCURRENT_REQUESTS="1")
    connection, answer = ask(served, "gated")
    assert json.loads(answer.readline()) == {"n": 0}
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(whole, served, "items", items=[1])
        assert served.request("GET", "/").status == 200
        assert not waiting.done()
        for number in range(3):
            (served.folder / f"go-{number}").touch()
        answer.read()
        assert waiting.result()[1] == b"1\n"
    connection.close()


def test_sigterm_lets_a_stream_go_on(serve, script):
    served = serve(script)
    connection, answer = ask(served, "gated")
    assert json.loads(answer.readline()) == {"n": 0}
    served.process.terminate()
    for number in range(3):
        (served.folder / f"go-{number}").touch()
    assert answer.read() == b'{"n": 1}\n{"n": 2}\n'
    connection.close()
    assert served.process.wait(timeout=10) == 0


@pytest.mark.parametrize("how", ["", "async "])
def test_a_run_that_yields_streams(serve, how):
    served = serve(f"def init(): pass\n{how}def run(data):\n    yield data\n    yield '2'\n")
    assert served.request("POST", "/score", "1").body == b"12"


RESPONSES = """
    import asyncio
    from azureml_inference_server_http.api.aml_response import AMLResponse
    def init(): pass
    def pieces():
        try:
            yield "a"
            yield b"b"
        finally:
            print("closed", flush=True)
    def run(data):
        return AMLResponse(pieces(), 201, {"Content-Type": "text/csv", "X-Own": "1"})
"""


@pytest.mark.parametrize("asynchronous", ["", "run", "run and pieces"])
def test_a_response_of_the_script_s_streams_under_its_own_name(serve, asynchronous):
    script = RESPONSES.replace("def run", "async def run") if "run" in asynchronous else RESPONSES
    served = serve(script.replace("def pieces", "async def pieces") if "pieces" in asynchronous else script)
    connection = served.connection()
    connection.request("POST", "/score", "1")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type"), answer.getheader("x-own")) == (201, "text/csv", "1")
    assert (answer.getheader("transfer-encoding"), answer.read()) == ("chunked", b"ab")
    connection.close()
    served.wait_for(lambda: "closed" in served.log)


def test_an_asynchronous_generator_in_a_synchronous_script_is_a_failure_that_says_why(serve):
    served = serve("async def pieces():\n    yield 1\ndef init(): pass\ndef run(data): return pieces()\n")
    assert served.score(1).status == 500
    assert "make it `async def run`" in served.log


def test_a_generator_that_swallows_its_end_streams_to_nobody(serve):
    script = """
        import asyncio
        def init(): pass
        async def run(data):
            while True:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    pass
                yield {"n": 1}
    """
    served = serve(script, MODELPORT_MAX_CONCURRENT_REQUESTS="1")
    connection, answer = ask(served, "any")
    assert answer.readline() == b'{"n": 1}\n'
    connection.close()
    answer.close()
    connection, answer = ask(served, "any")  # the place is free again
    assert answer.readline() == b'{"n": 1}\n'
    connection.close()
    answer.close()


def test_a_stream_that_breaks_off_while_nobody_reads_gives_its_place_back(serve):
    script = """
        def init(): pass
        async def run(data):
            for _ in range(int(data)):
                yield {"a": "x" * 1_000_000}
            if int(data):
                raise ValueError("broke")
    """
    served = serve(script, MODELPORT_BODY_TIMEOUT_SECONDS="0.5", MODELPORT_METRICS_UDS="m")
    connections = []
    for pieces in range(1, 9):  # with one of them Granian's queue is just full
        connections.append(served.connection())
        connections[-1].request("POST", "/score", str(pieces))
    served.wait_for(lambda: served.log.count("broke") + served.log.count("has not read its stream") >= 8)
    served.wait_for(lambda: served.told("modelport_scoring_runs") == 0)
    for each in connections:
        each.close()
