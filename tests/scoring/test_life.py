"""How a server that is up comes to its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

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
    served = serve(SLEEPY)
    idle = served.connection()
    idle.request("GET", "/")
    idle.getresponse().read()
    with ThreadPoolExecutor(3) as clients:
        inside = [clients.submit(served.score, 0.4) for _ in range(3)]
        served.wait_for(lambda: "inside" in served.log)
        time.sleep(0.1)  # the others have sent their requests by now
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
        assert 0.4 < time.monotonic() - began < 3
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
