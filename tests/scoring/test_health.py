"""Whether a server is ready and lives, asked of another process than the one that runs run()."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tests.scoring.conftest import UnixConnection

from modelport_scoring.listener import CONNECTIONS
from modelport_scoring.shared import SILENCE

SCRIPT = """
    import ctypes, json, os, threading, time
    hold = ctypes.PyDLL(None).sleep  # keeps the interpreter to itself
    def init():
        if "SLOW" in os.environ:
            print("in init", flush=True)
            hold(int(os.environ["SLOW"]))
    def run(data):
        what, seconds = json.loads(data)
        if what == "aside":
            threading.Timer(2, hold, [seconds]).start()
        elif what == "hold":
            print("holding", flush=True)
            hold(seconds)
        else:
            print("inside", flush=True)
            time.sleep(seconds)
        return what
"""


def ask(served, method="GET", path="/"):
    connection = UnixConnection(served.folder / "h", timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def heard(served, status):
    """Until it is answered so; before the listener is there, it is not."""

    def is_so():
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return ask(served)[0] == status
        return False

    served.wait_for(is_so)


@pytest.fixture
def observe(start):
    """As `serve`, with health on a socket of its own, and ready by its word."""

    def one(script, status=200, **environment):
        served = start(script, MODELPORT_HEALTH_UDS="h", **environment)
        heard(served, status)
        return served

    return one


def check_answers(served, over, seconds):
    """Until it is over, for so long, it answers; as a rule within 50 ms, for others are at work here, too."""
    took, first, last = [], time.perf_counter(), 0.0
    while not over():
        began = time.perf_counter()
        assert ask(served)[0] == 200
        took.append(time.perf_counter() - began)
        last = last if over() else began
    assert last - first > seconds
    assert sorted(took)[len(took) // 2] < 0.05


def test_it_is_ready_when_init_has_passed_and_not_before_though_init_keeps_the_interpreter(observe):
    served = observe(SCRIPT, 503, SLOW="2")
    served.wait_for(lambda: "in init" in served.log)
    assert ask(served) == (503, "init() has not passed yet.")
    heard(served, 200)
    assert served.score(["run", 0]).status == 200  # who is ready listens
    assert ask(served) == (200, "Healthy")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_answers_while_run_keeps_the_interpreter_to_itself(observe, workers):
    served = observe(SCRIPT, WORKER_COUNT=workers)
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, ["hold", int(SILENCE) + 2])
        served.wait_for(lambda: "holding" in served.log)
        check_answers(served, inside.done, SILENCE)
        assert inside.result().status == 200
    assert ask(served)[0] == 200


def test_a_server_that_is_stuck_outside_run_is_told_from_one_that_works(observe):
    served = observe(SCRIPT, WORKER_TIMEOUT="1.5")
    assert served.score(["aside", 60]).status == 200
    heard(served, 503)
    assert "no sign of life" in ask(served)[1]


def test_run_may_keep_the_interpreter_for_the_worker_s_timeout_and_no_longer(observe):
    served = observe(SCRIPT, WORKER_TIMEOUT="1.5")
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, ["hold", 60])
        served.wait_for(lambda: "holding" in served.log)
        assert ask(served)[0] == 200
        heard(served, 503)
        served.process.kill()
        with pytest.raises(OSError):
            inside.result()


def test_a_server_that_drains_is_not_ready(observe):
    served = observe(SCRIPT)
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, ["run", 1])
        served.wait_for(lambda: "inside" in served.log)
        served.process.terminate()
        heard(served, 503)
        assert "told to stop" in ask(served)[1]
        assert inside.result().status == 200
    assert served.process.wait(timeout=10) == 0
    served.wait_for(lambda: not (served.folder / "h").exists())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_companion_ends_with_the_server(observe, number):
    served = observe(SCRIPT)
    (companion,) = psutil.Process(served.process.pid).children()
    assert companion.name() == "modelport-probe"
    assert companion.num_threads() == 1
    served.process.send_signal(number)
    served.process.wait(timeout=10)
    served.wait_for(lambda: not companion.is_running())


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_server_that_is_told_to_stop_as_soon_as_it_is_ready_hears_it(observe, kind):
    for _ in range(10):  # Granian hears signals some milliseconds later than clients may connect
        served = observe(f"""
            def init():
                pass
            {kind}def run(data):
                return data
        """)
        served.process.terminate()
        assert served.process.wait(timeout=10) == 0, served.log


def test_the_companion_leaves_signals_to_the_server(observe):
    served = observe(SCRIPT)
    (companion,) = psutil.Process(served.process.pid).children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        companion.send_signal(number)
    assert ask(served)[0] == 200


def test_without_being_asked_for_there_is_one_process(serve):
    served = serve(SCRIPT)
    assert psutil.Process(served.process.pid).children() == []


def test_it_listens_on_a_port_by_azure_s_names(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = start(SCRIPT, HEALTH_PORT=str(port), SEPERATE_HEALTH_ENDPOINT="true")

    def is_healthy():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            return client.recv(4096).endswith(b"\r\n\r\nHealthy")
        return False

    served.wait_for(is_healthy)


def test_an_address_that_is_taken_is_refused_by_name(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = start(SCRIPT, HEALTH_PORT=str(port), SEPERATE_HEALTH_ENDPOINT="true")
        assert served.process.wait(timeout=20) == 2
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another one with --health" in served.log


def test_only_get_and_head_of_what_is_there_are_answered(observe):
    served = observe(SCRIPT)
    assert ask(served, "HEAD") == (200, "")
    assert ask(served, "POST")[0] == 405
    assert ask(served, path="/nowhere")[0] == 404
    assert ask(served, path="/?verbose=1") == (200, "Healthy")


def test_clients_that_stall_hold_nobody_up(observe):
    served = observe(SCRIPT)
    with contextlib.ExitStack() as stalled:
        for number in range(3 * CONNECTIONS):
            client = stalled.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(served.folder / "h"))
            client.settimeout(5)
            client.sendall(b"GET / HTTP" if number % 2 else b"")
        until = time.monotonic() + 1
        check_answers(served, lambda: time.monotonic() > until, 0.1)
        with contextlib.suppress(OSError):
            for _ in range(100):
                client.sendall(b"x" * 1000)
        assert ask(served)[0] == 200
    (companion,) = psutil.Process(served.process.pid).children()
    served.wait_for(lambda: companion.num_fds() < CONNECTIONS)
