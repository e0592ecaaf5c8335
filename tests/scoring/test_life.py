"""How a server that is up comes to its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tests.scoring.conftest import UnixConnection

SLEEPY = """
    import json, os, sys, time
    def init(): print("pid", os.getpid(), flush=True)
    def run(data):
        data = json.loads(data)
        if data == "exit": sys.exit(4)
        if data == "die": os._exit(9)
        print("inside", flush=True)
        time.sleep(data)
        return "done"
"""


def test_sigterm_finishes_what_is_inside_and_what_waits(serve):
    served = serve(SLEEPY, MODELPORT_METRICS_UDS="m")
    idle = served.connection()
    idle.request("GET", "/")
    idle.getresponse().read()
    with ThreadPoolExecutor(3) as clients:
        inside = [clients.submit(served.score, 2) for _ in range(3)]
        served.wait_for(lambda: served.is_waiting(2))
        served.process.send_signal(signal.SIGTERM)
        assert [client.result().body for client in inside] == [b'"done"'] * 3
    assert served.process.wait(timeout=10) == 0
    assert not served.uds.exists()
    assert served.log.count("POST /score 200") == 3
    idle.close()


def test_nothing_new_is_accepted_after_sigterm(serve):
    served = serve(SLEEPY)
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, 1)
        served.wait_for(lambda: "inside" in served.log)
        served.process.terminate()

        def refused() -> bool:
            with socket.socket(socket.AF_UNIX) as late:
                late.settimeout(0.2)
                try:
                    late.connect(str(served.uds))
                    late.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                    return not late.recv(1)
                except OSError:
                    return True

        served.wait_for(refused)
        assert inside.result().body == b'"done"'
    assert served.process.wait(timeout=10) == 0


def test_the_grace_ends_requests_that_go_on(serve):
    served = serve(SLEEPY, MODELPORT_GRACE_SECONDS="0.5")
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, 60)
        served.wait_for(lambda: "inside" in served.log)
        began = time.monotonic()
        served.process.terminate()
        assert served.process.wait(timeout=10) == 1
        assert time.monotonic() - began > 0.4
        with pytest.raises(OSError):
            inside.result()


def test_a_second_sigterm_changes_nothing(serve):
    served = serve(SLEEPY)
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, 1)
        served.wait_for(lambda: "inside" in served.log)
        served.process.terminate()
        time.sleep(0.5)
        served.process.terminate()
        assert inside.result().body == b'"done"'
    assert served.process.wait(timeout=10) == 0


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_signals_that_come_in_a_burst_are_one(serve, kind):
    served = serve(f"""
        import asyncio, time
        def init(): pass
        {kind} run(data):
            print("inside")
            {"await asyncio" if "async" in kind else "time"}.sleep(0.5)
            return "done"
    """)
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, 1)
        served.wait_for(lambda: "inside" in served.log)
        for number in [signal.SIGTERM, signal.SIGINT] * 200:
            served.process.send_signal(number)
        assert inside.result().body == b'"done"'
    assert served.process.wait(timeout=10) == 0


def test_several_runs_that_exit_at_once_are_all_answered_for(serve):
    served = serve(
        """
        import threading
        from modelport_scoring import concurrent
        def init(): pass
        together = threading.Barrier(8)
        @concurrent(8)
        def run(data):
            together.wait()
            raise SystemExit
        """
    )
    with ThreadPoolExecutor(8) as clients:
        assert [each.status for each in clients.map(served.score, range(8))] == [500] * 8
    assert served.process.wait(timeout=10) == 1


def test_a_grace_beyond_what_a_system_can_wait_for_is_the_longest_there_is(serve):
    served = serve(SLEEPY, MODELPORT_GRACE_SECONDS="1e12")
    served.process.terminate()
    assert served.process.wait(timeout=10) == 0
    assert "Traceback" not in served.log


def test_a_script_that_exits_in_run_is_answered_for_and_ends_the_server(serve):
    served = serve(SLEEPY)
    answer = served.score("exit")
    assert (answer.status, answer.headers["content-type"]) == (500, "text/html")
    assert served.process.wait(timeout=10) == 1


def test_a_script_that_kills_its_process_leaves_nothing_behind(serve):
    served = serve(SLEEPY)
    with pytest.raises(OSError):
        served.score("die")
    assert served.process.wait(timeout=10) == 9
    with pytest.raises(OSError):
        served.request("GET", "/")


def test_the_server_is_one_process(serve):
    served = serve(SLEEPY)
    assert f"pid {served.process.pid}\n" in served.log
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()
    with pytest.raises(OSError):
        served.request("GET", "/")


def test_a_killed_predecessor_s_socket_is_taken_over(serve):
    served = serve(SLEEPY)
    served.process.kill()
    served.process.wait()
    assert served.uds.exists()
    served.launch()
    served.wait_until_ready()
    assert json.loads(served.score(0).body) == "done"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_successor_keeps_its_socket_when_its_predecessor_ends(serve, workers):
    served = serve(
        """
        import pathlib, time
        def init(): pass
        def run(data):
            print("inside", flush=True)
            while not pathlib.Path("go").exists(): time.sleep(0.01)
            return "done"
        """,
        MODELPORT_HEALTH_UDS="h",
        WORKER_COUNT=workers,
    )

    def health():
        with contextlib.closing(UnixConnection(served.folder / "h")) as probe, contextlib.suppress(OSError):
            probe.request("GET", "/")
            return probe.getresponse().status
        return None

    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, 1)
        served.wait_for(lambda: "inside" in served.log)
        first = served.process
        first.terminate()
        served.wait_for(lambda: health() == 503)
        served.launch()
        served.wait_for(lambda: health() == 200)
        (served.folder / "app" / "go").touch()
        assert inside.result().body == b'"done"'
    assert first.wait(timeout=10) == 0
    assert served.score(1).status == health() == 200
    served.process.terminate()
    assert served.process.wait(timeout=10) == 0
    assert not served.uds.exists()
    assert not (served.folder / "h").exists()


def test_it_listens_on_a_port_of_this_machine(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = start(SLEEPY, "--port", str(port))

    def up() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    served.wait_for(up)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/score", body="0")
    assert connection.getresponse().read() == b'"done"'
    connection.close()
    served.process.terminate()
    assert served.process.wait(timeout=10) == 0


LARGE = """
    def init(): pass
    def run(data): return "x" * (20_000_000 if data == "large" else 1)
"""


def stalled(served, sent, count):
    """Clients that have sent this, and then nothing; nor do they read."""
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(served.uds))
        client.sendall(sent)
        clients.append(client)
    return clients


STALLS = {
    "in the headers": b"POST /score HTTP/1.1\r\nhost: x\r\nx-",
    "in the body": b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n[1,",
    "in a chunk": b"POST /score HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n10\r\n[1,",
    "before anything": b"",
}


@pytest.mark.parametrize("sent", STALLS.values(), ids=STALLS)
def test_two_hundred_stalled_clients_hold_up_nobody(serve, sent):
    served = serve(LARGE)
    clients = stalled(served, sent, 200)
    took = []
    for _ in range(100):
        began = time.monotonic()
        assert served.score(1).status == 200
        took.append(time.monotonic() - began)
    assert sorted(took)[50] < 0.5  # one that holds up another does so for seconds
    for client in clients:
        client.close()


def test_clients_that_do_not_read_their_answers_keep_no_place_in_run(serve):
    served = serve(LARGE)
    head = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nlarge"
    clients = stalled(served, head, 5)
    served.wait_for(lambda: served.log.count("POST /score 200") == 5)
    assert served.score(1).body == b'"x"'
    for client in clients:
        client.close()


@pytest.mark.parametrize("head", [b"x: " + b"y" * 2_000_000, b"x: y\r\n" * 5_000], ids=["a long one", "many"])
def test_headers_without_an_end_are_refused(serve, head):
    served = serve(LARGE)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(served.uds))
        client.settimeout(10)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100).startswith(b"HTTP/1.1 431 ")
    assert served.score(1).status == 200


def test_memory_does_not_grow_with_requests(serve):
    served = serve(LARGE)
    process = psutil.Process(served.process.pid)

    def score(times):
        def one(_):
            with contextlib.closing(served.connection()) as connection:
                for _ in range(times // 8):
                    connection.request("POST", "/score", body="[1, 2, 3]")
                    assert connection.getresponse().read() == b'"x"'

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(one, range(8)))

    score(4_000)  # threads, buffers and pools have their size by now
    before = process.memory_info().rss
    score(20_000)
    assert process.memory_info().rss - before < 4 * 2**20  # 200 bytes a request


def test_the_grace_leaves_no_socket_behind(serve):
    served = serve(SLEEPY, MODELPORT_GRACE_SECONDS="0.5", MODELPORT_HEALTH_UDS="h")
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, 60)
        served.wait_for(lambda: "inside" in served.log)
        served.process.terminate()
        with pytest.raises((OSError, http.client.HTTPException)):
            inside.result()
    assert served.process.wait(timeout=20) == 1
    assert not served.uds.exists()
    assert not (served.folder / "h").exists()


def test_an_init_that_fails_leaves_no_socket_behind(start):
    served = start("def init(): raise ValueError('no')\ndef run(data): pass\n", MODELPORT_HEALTH_UDS="h")
    assert served.process.wait(timeout=20) == 3
    assert not (served.folder / "h").exists()


def test_a_log_that_fails_takes_no_place(serve):
    script = """
        import logging, time
        class Filter(logging.Filter):
            def filter(self, record):
                if record.levelno == logging.WARNING:
                    raise KeyError("tenant")
                return True
        def init():
            for each in logging.getLogger("azmlinfsrv").handlers:
                each.addFilter(Filter())
        def run(data):
            time.sleep(float(data))
            return "done"
    """
    served = serve(script, SCORING_TIMEOUT_MS="1000")
    assert served.score(4).status == 500
    assert served.score(0).body == b'"done"'
