"""Scripts whose run() is asynchronous. Azure's contract holds for them as for the others: test_golden.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport_scoring.turns import Places

SCRIPT = """
    import asyncio, contextlib, functools, json, os, sys, time
    from azureml_inference_server_http.api.aml_response import AMLResponse

    inside = most = 0

    async def init():
        global loop
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()

    def logged(run):
        @functools.wraps(run)
        def wrapped(*args, **kwargs):
            return run(*args, **kwargs)
        return wrapped

    @logged
    async def run(data, request_headers):
        global inside, most
        assert asyncio.get_running_loop() is loop
        data = json.loads(data or "null")
        inside += 1
        most = max(most, inside)
        try:
            return await HOW.get(data["how"] if isinstance(data, dict) and "how" in data else "", echo)(data)
        finally:
            inside -= 1

    async def echo(data):
        return data

    async def sleeps(data):
        print("inside", flush=True)
        try:
            await asyncio.sleep(data.get("seconds", 30))
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            if not data.get("stubborn"):
                raise
        return most

    async def blocks(data):
        time.sleep(data["seconds"])

    async def raises(data):
        1 / 0

    async def exits(data):
        sys.exit(4)

    async def cancels(data):
        task = asyncio.ensure_future(asyncio.sleep(5))
        task.cancel()
        await task

    async def answers(data):
        return AMLResponse("teapot", 418, {"X-Own": "1", "X-Odd": "\\u4e16"})

    HOW = {each.__name__: each for each in [sleeps, blocks, raises, exits, cancels, answers]}
"""

STALLED = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"


def sent(served, data) -> socket.socket:
    """A client that has sent its request and waits."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(served.uds))
    body = json.dumps(data).encode()
    client.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    return client


def test_many_requests_are_inside_at_once(serve):
    served = serve(SCRIPT)
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(served.score, [{"how": "sleeps", "seconds": 3}] * 20))
    assert max(json.loads(answer.body) for answer in answers) == 20
    assert "1000 requests may be in run() at once" in served.log
    assert "max_concurrent_requests_per_instance" in served.log


def test_no_more_than_the_deployment_says_are_inside_in_the_order_of_arrival(serve):
    served = serve(SCRIPT, MODELPORT_MAX_CONCURRENT_REQUESTS="2")
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(served.score, [{"how": "sleeps", "seconds": 0.1}] * 6))
    assert [json.loads(answer.body) for answer in answers][-1] == 2
    assert "2 requests may be in run() at once" in served.log


def test_probes_are_answered_while_runs_wait(serve):
    served = serve(SCRIPT, MODELPORT_MAX_CONCURRENT_REQUESTS="1")
    with ThreadPoolExecutor(4) as clients:
        busy = [clients.submit(served.score, {"how": "sleeps", "seconds": 0.3}) for _ in range(4)]
        times = []
        while not all(client.done() for client in busy):
            began = time.perf_counter()
            assert served.request("GET", "/").status == 200
            times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.05


def test_a_client_that_leaves_cancels_its_run(serve):
    served = serve(SCRIPT)
    client = sent(served, {"how": "sleeps"})
    served.wait_for(lambda: "inside" in served.log)
    client.close()
    served.wait_for(lambda: "cancelled" in served.log, seconds=30)
    served.wait_for(lambda: "POST /score 499" in served.log)
    assert "Traceback" not in served.log


def test_a_client_that_leaves_while_it_waits_never_enters_run(serve):
    served = serve(SCRIPT, MODELPORT_MAX_CONCURRENT_REQUESTS="1")
    first = sent(served, {"how": "sleeps"})
    served.wait_for(lambda: "inside" in served.log)
    waiting = [sent(served, {"how": "sleeps"}) for _ in range(3)]
    assert served.request("GET", "/").status == 200  # they were there before it
    for client in waiting:
        client.close()
    served.wait_for(lambda: served.log.count("POST /score 499") == 3)
    first.close()
    assert served.score("next").body == b'"next"'
    assert served.log.count("inside") == 1


def test_a_run_that_will_not_be_cancelled_disturbs_nobody(serve):
    served = serve(SCRIPT)
    client = sent(served, {"how": "sleeps", "stubborn": True})
    served.wait_for(lambda: "inside" in served.log)
    client.close()
    served.wait_for(lambda: "POST /score 499" in served.log)
    assert served.score("next").status == 200


def test_a_run_that_is_too_late_is_answered_for_and_cancelled(serve):
    served = serve(SCRIPT, SCORING_TIMEOUT_MS="300", MODELPORT_MAX_CONCURRENT_REQUESTS="1")
    began = time.monotonic()
    answer = served.score({"how": "sleeps"})
    assert (answer.status, answer.body) == (500, b'{"message": "Scoring timeout after 300 ms"}')
    assert served.score("next").status == 200
    assert time.monotonic() - began < 30
    assert "cancelled" in served.log
    served.wait_for(lambda: re.search(r"run\(\) came back after \d+ ms", served.log) is not None)


def test_a_run_that_blocks_the_loop_is_named_in_the_log_with_its_line(serve):
    served = serve(SCRIPT)
    with ThreadPoolExecutor(1) as clients:
        blocked = clients.submit(served.score, {"how": "blocks", "seconds": 3})
        served.wait_for(lambda: "The event loop was blocked" in served.log)
        assert 'time.sleep(data["seconds"])' in served.log
        blocked.result()
    assert served.log.count("The event loop was blocked") == 1


def test_failures_are_logged_from_the_script_s_first_frame_on(serve):
    served = serve(SCRIPT)
    answer = served.score({"how": "raises"})
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (500, "True")
    assert "ZeroDivisionError" in served.log
    assert "modelport_scoring/" not in served.log.partition("Traceback")[2]


def test_a_run_that_cancels_itself_is_a_failure_and_not_an_end(serve):
    served = serve(SCRIPT)
    assert served.score({"how": "cancels"}).status == 500
    assert served.score(1).status == 200


def test_a_run_that_exits_is_answered_for_and_ends_the_server(serve):
    served = serve(SCRIPT)
    answer = served.score({"how": "exits"})
    assert (answer.status, answer.headers["content-type"]) == (500, "text/html")
    assert served.process.wait(timeout=10) == 1


def test_a_response_of_the_script_s_is_sent_without_what_no_header_can_be(serve):
    answer = serve(SCRIPT).score({"how": "answers"})
    assert (answer.status, answer.body, answer.headers["x-own"]) == (418, b"teapot", "1")
    assert "x-odd" not in answer.headers


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_refused(serve, chunked):
    served = serve(SCRIPT, MODELPORT_MAX_BODY_BYTES="1000")
    body = b"1" * 1001
    answer = served.request("POST", "/score", iter([body]) if chunked else body)
    assert (answer.status, answer.body) == (413, b'{"message": "The request body is larger than 1000 bytes."}')
    assert served.score(1).status == 200


def test_large_and_chunked_and_repeated_bodies_are_read_whole(serve):
    served = serve(SCRIPT)
    rows = [[0.5] * 28] * 20_000
    assert json.loads(served.score(rows).body) == rows
    assert served.request("POST", "/score", iter([b'{"a":', b" 1}"])).body == b'{"a": 1}'
    connection = served.connection()
    for number in range(200):
        connection.request("POST", "/score", body=json.dumps([number]))
        assert json.loads(connection.getresponse().read()) == [number]
    connection.close()


def test_stalled_clients_cost_only_their_own_requests(serve):
    served = serve(SCRIPT, MODELPORT_BODY_TIMEOUT_SECONDS="0.5")
    clients = []
    for _ in range(40):
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].settimeout(20)
        clients[-1].connect(str(served.uds))
        clients[-1].sendall(STALLED)
    assert served.score(1).status == 200
    for client in clients:
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
        client.close()
    assert served.score(1).status == 200


@pytest.mark.parametrize(
    "head", [STALLED, STALLED.replace(b"content-length: 100", b"transfer-encoding: chunked") + b"\r\n"]
)
def test_a_client_that_leaves_in_the_middle_of_its_body_never_reaches_run(serve, head):
    served = serve("def init(): pass\nasync def run(data): print('RAN', data, flush=True)\n")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(served.uds))
        client.sendall(head)
    served.wait_for(lambda: "POST /score 400" in served.log)
    assert "RAN" not in served.log


def test_pages_of_named_origins_may_read_the_answers(serve):
    served = serve(SCRIPT, AML_CORS_ORIGINS="www.mine.com")
    assert served.score(1, Origin="www.mine.com").headers["access-control-allow-origin"] == "www.mine.com"
    assert served.request("OPTIONS", "/score", Origin="www.mine.com").status == 200


def test_sigterm_finishes_what_is_inside_and_what_waits(serve):
    served = serve(SCRIPT, MODELPORT_MAX_CONCURRENT_REQUESTS="1", MODELPORT_METRICS_UDS="m")
    with ThreadPoolExecutor(3) as clients:
        inside = [clients.submit(served.score, {"how": "sleeps", "seconds": 2}) for _ in range(3)]
        served.wait_for(lambda: served.is_waiting(2))
        served.process.terminate()
        served.process.terminate()
        assert [client.result().status for client in inside] == [200] * 3
    assert served.process.wait(timeout=10) == 0
    assert not served.uds.exists()


def test_the_grace_ends_requests_that_go_on(serve):
    served = serve(SCRIPT, MODELPORT_GRACE_SECONDS="0.5")
    client = sent(served, {"how": "sleeps"})
    served.wait_for(lambda: "inside" in served.log)
    began = time.monotonic()
    served.process.terminate()
    assert served.process.wait(timeout=10) == 1
    assert time.monotonic() - began > 0.4
    client.close()


def test_what_init_opens_on_the_loop_works_in_run(serve):
    served = serve(
        """
        import asyncio
        def init():
            global queue, reader
            queue = asyncio.Queue()
            reader = asyncio.get_running_loop().create_task(read())
        async def read():
            while True:
                data, answer = await queue.get()
                answer.set_result(data + " read")
        async def run(data):
            answer = asyncio.get_running_loop().create_future()
            await queue.put((data, answer))
            return await answer
        """
    )
    assert served.request("POST", "/score", "x").body == b'"x read"'


def test_an_asynchronous_init_is_awaited_for_a_synchronous_run_too(serve):
    served = serve("async def init():\n    global x\n    x = 7\ndef run(data): return x\n")
    assert served.score(1).body == b"7"


def test_an_asynchronous_init_that_fails_is_reported_with_its_line(start):
    served = start("async def init():\n    1 / 0\nasync def run(data): pass\n")
    assert served.process.wait(timeout=20) == 3
    assert served.failure["message"] == "init() raised ZeroDivisionError: division by zero (score.py, line 2)."


@pytest.mark.parametrize("said", ["xyz", "7"])
def test_a_header_that_only_resembles_content_length_is_none(serve, said):
    served = serve("def init(): pass\nasync def run(data): return data\n")
    with contextlib.closing(served.connection()) as connection:
        connection.connect()
        head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent_Length: {said}\r\n\r\n"
        connection.sock.sendall(head.encode() + b"abc")
        assert connection.sock.recv(100).startswith(b"HTTP/1.1 200 ")


def test_who_left_the_queue_is_no_longer_in_it():
    async def left() -> tuple[int, int]:
        places = Places(1, asyncio.get_running_loop())
        await places.enter()
        gone, stays, passed_over = (asyncio.ensure_future(places.enter()) for _ in range(3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        waiting = places.waiting
        passed_over.cancel()
        places.leave()
        places.leave()
        await asyncio.gather(stays, passed_over, return_exceptions=True)
        return waiting, places.running

    assert asyncio.run(left()) == (2, 0)


def test_what_a_run_does_at_its_end_is_not_cut_off_by_a_time_limit(serve):
    script = """
        import asyncio
        def init(): pass
        async def run(data):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)
                print("given back", flush=True)
    """
    served = serve(script, SCORING_TIMEOUT_MS="300")
    assert served.score(1).status == 500
    served.wait_for(lambda: "given back" in served.log)


def test_a_task_that_exits_ends_the_server_when_what_is_inside_has_ended(serve):
    script = """
        import asyncio, sys
        def init(): pass
        async def stop(): sys.exit(0)
        async def run(data):
            print("inside", flush=True)
            if data == '"exit"':
                await asyncio.gather(stop(), asyncio.sleep(60))
            await asyncio.sleep(1)
            return "done"
    """
    served = serve(script)
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, "live")
        served.wait_for(lambda: "inside" in served.log)
        assert served.score("exit").status == 500
        assert inside.result().body == b'"done"'
    assert served.process.wait(timeout=20) == 1
    assert not served.uds.exists()
