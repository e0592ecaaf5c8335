"""A server of several processes: who serves, who is replaced, and how all of it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

SCRIPT = """
    import ctypes, json, os, threading, time
    def init():
        global loaded_by
        loaded_by = os.getpid()
        print("init by", loaded_by, flush=True)
    def run(data):
        data = json.loads(data)
        if data == "die": os._exit(9)
        if data == "exit": raise SystemExit
        if data == "hold":
            print("holding", flush=True)
            ctypes.PyDLL(None).sleep(30)
        if isinstance(data, float):
            print("inside", flush=True)
            time.sleep(data)
        return [os.getpid(), loaded_by]
"""


def workers(served):
    return {each.pid for each in psutil.Process(served.process.pid).children()}


def answering(served, times=40):
    """Pids of the workers that answered, each asked over a connection of its own."""
    with ThreadPoolExecutor(8) as clients:
        return {json.loads(each.body)[0] for each in clients.map(served.score, [0.002] * times)}


@pytest.mark.parametrize("preload", ["false", "true"])
def test_several_workers_serve_and_their_parent_never_runs_run(serve, preload):
    served = serve(SCRIPT, WORKER_COUNT="3", WORKER_PRELOAD=preload)
    served.wait_for(lambda: len(answering(served)) == 3)
    assert served.process.pid not in answering(served)
    loaded = set(re.findall(r"init by (\d+)", served.log))
    assert (loaded == {str(served.process.pid)}) if preload == "true" else (len(loaded) == 3)


def test_forked_workers_give_ids_of_their_own(serve):
    served = serve(SCRIPT, WORKER_COUNT="2", WORKER_PRELOAD="true")
    served.wait_for(lambda: len(answering(served)) == 2)
    answers = [served.score(0.002) for _ in range(40)]
    assert len({each.headers["x-request-id"] for each in answers}) == 40


def test_nobody_waits_while_other_workers_start(start):
    served = start(SCRIPT, WORKER_COUNT="4").wait_until_ready()
    with ThreadPoolExecutor(16) as clients:  # the first one serves, and the others come meanwhile
        began = time.monotonic()
        assert {each.status for each in clients.map(served.score, [1] * 400)} == {200}
    assert time.monotonic() - began < 15  # one that is stuck takes the client's 20 seconds
    served.wait_for(lambda: served.log.count("init() passed") == 4)


def test_the_places_in_run_are_shared_out(serve):
    served = serve(SCRIPT, WORKER_COUNT="2", MODELPORT_MAX_CONCURRENT_REQUESTS="3")
    served.wait_for(lambda: len(answering(served)) == 2)
    environment = psutil.Process(served.process.pid).environ()
    assert environment["MODELPORT_MAX_CONCURRENT_REQUESTS"] == "3"
    kept = [served.connection() for _ in range(16)]
    by_worker = {}
    for connection in kept:
        connection.request("POST", "/score", body="1")
        by_worker.setdefault(json.loads(connection.getresponse().read())[0], []).append(connection)
    crowded = max(by_worker.values(), key=len)
    assert len(crowded) >= 8
    for connection in crowded:
        connection.request("POST", "/score", body="0.5")
    served.wait_for(lambda: served.log.count("inside") >= 2 + served.log.count("POST /score 200 0.5"))
    began = time.monotonic()
    for connection in crowded:
        connection.getresponse().read()
    assert time.monotonic() - began > 0.5 * (len(crowded) / 2 - 1) - 0.25
    for connection in kept:
        connection.close()


def test_a_worker_that_dies_is_replaced_and_only_what_was_inside_it_fails(serve):
    served = serve(SCRIPT, WORKER_COUNT="2")
    served.wait_for(lambda: len(answering(served)) == 2)
    before = workers(served)
    failed, done, stop = [], [], threading.Event()

    def ask():
        try:
            done.append(json.loads(served.score(0.01).body))
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)

    def load():
        while not stop.is_set():
            ask()

    with ThreadPoolExecutor(8) as clients:
        for _ in range(8):
            clients.submit(load)
        served.wait_for(lambda: len(done) > 100)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        served.wait_for(lambda: len(workers(served) - before) == 1 and victim not in workers(served))
        so_far = len(done)
        served.wait_for(lambda: len(done) > so_far + 200)
        stop.set()
    assert len(failed) <= 8  # a connection of each client was in the worker, at most
    assert f"Worker {victim} was ended by signal SIGKILL; another one takes its place." in served.log
    served.wait_for(lambda: answering(served) == workers(served))


def test_a_script_that_asks_to_end_in_run_ends_its_worker_only(serve):
    served = serve(SCRIPT, WORKER_COUNT="2")
    assert served.score("exit").status == 500
    served.wait_for(lambda: "another one takes its place" in served.log)
    assert served.score(1).status == 200
    assert served.process.poll() is None


@pytest.mark.parametrize("preload", ["false", "true"])
def test_workers_that_cannot_start_end_the_server_with_the_reason(start, preload):
    served = start("def init(): 1 / 0\ndef run(d): pass\n", WORKER_COUNT="3", WORKER_PRELOAD=preload)
    assert served.process.wait(timeout=20) == 3
    assert served.failure["message"] == "init() raised ZeroDivisionError: division by zero (score.py, line 1)."
    assert not served.uds.exists()


def test_a_worker_that_cannot_start_again_is_tried_less_and_less_often_while_others_serve(serve):
    served = serve(SCRIPT, WORKER_COUNT="2")
    served.wait_for(lambda: len(answering(served)) == 2)
    script = served.folder / "app" / "score.py"
    good = script.read_text()
    script.write_text("1 / 0\n")
    os.kill(min(workers(served)), signal.SIGKILL)
    served.wait_for(lambda: "before it was ready; again in 0.2 s" in served.log)
    assert served.score(1).status == 200
    script.write_text(good)
    served.wait_for(lambda: len(answering(served)) == 2)


@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_machine_that_has_no_room_for_another_worker_keeps_those_that_serve(serve, preload):
    served = serve(SCRIPT, WORKER_COUNT="2", WORKER_PRELOAD=preload)
    served.wait_for(lambda: len(answering(served)) == 2)
    keeper = served.process.pid
    limits = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    held = len(list(Path(f"/proc/{keeper}/fd").iterdir()))
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (held - 1, limits[1]))
    os.kill(min(workers(served)), signal.SIGKILL)
    served.wait_for(lambda: "cannot be started: [Errno 24] Too many open files; again in 0.2 s" in served.log)
    assert served.score(1).status == 200
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, limits)
    served.wait_for(lambda: len(answering(served)) == 2)


def test_a_worker_that_is_silent_for_too_long_is_ended_and_its_log_says_where_it_was(serve):
    served = serve(SCRIPT, WORKER_COUNT="2", WORKER_TIMEOUT="1.5")
    with ThreadPoolExecutor(1) as clients:
        stuck = clients.submit(served.score, "hold")
        served.wait_for(lambda: "shows no sign of life: it is ended." in served.log)
        with pytest.raises((OSError, http.client.HTTPException)):
            stuck.result()
    assert 'score.py", line 13 in run' in served.log
    assert served.score(1).status == 200


def test_workers_that_were_paused_with_their_keeper_are_not_ended_for_it(serve):
    served = serve(SCRIPT, WORKER_COUNT="2", WORKER_TIMEOUT="4")
    served.wait_for(lambda: len(answering(served)) == 2)
    before = workers(served)
    keeper = psutil.Process(served.process.pid)
    for pid in [keeper.pid, *before]:
        os.kill(pid, signal.SIGSTOP)
    paused, switches = time.monotonic(), keeper.num_ctx_switches().voluntary
    served.wait_for(lambda: time.monotonic() - paused > 6)
    os.kill(keeper.pid, signal.SIGCONT)
    served.wait_for(lambda: keeper.num_ctx_switches().voluntary > switches + 2)  # it has looked
    for pid in before:
        os.kill(pid, signal.SIGCONT)
    assert {each for _ in range(5) for each in answering(served)} <= before
    assert "no sign of life" not in served.log


def test_a_long_run_that_lets_others_live_is_no_silence(serve):
    served = serve(SCRIPT, WORKER_COUNT="2", WORKER_TIMEOUT="4")
    assert served.score(6.0).status == 200
    assert "no sign of life" not in served.log


@pytest.mark.parametrize("preload", ["false", "true"])
def test_sigterm_finishes_what_is_inside_every_worker(serve, preload):
    served = serve(SCRIPT, WORKER_COUNT="2", WORKER_PRELOAD=preload, MODELPORT_MAX_CONCURRENT_REQUESTS="8")
    served.wait_for(lambda: len(answering(served)) == 2)
    already = served.log.count("inside")
    with ThreadPoolExecutor(4) as clients:
        inside = [clients.submit(served.score, 0.6) for _ in range(4)]
        served.wait_for(lambda: served.log.count("inside") == already + 4)
        served.process.terminate()
        assert {client.result().status for client in inside} == {200}
    assert served.process.wait(timeout=10) == 0
    assert not served.uds.exists()


def test_the_grace_ends_workers_that_go_on_even_with_the_interpreter_to_themselves(serve):
    served = serve(SCRIPT, WORKER_COUNT="2", MODELPORT_GRACE_SECONDS="0.5")
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, "hold")
        served.wait_for(lambda: "holding" in served.log)
        served.process.terminate()
        assert served.process.wait(timeout=10) == 1
        with pytest.raises((OSError, http.client.HTTPException)):
            inside.result()


@pytest.mark.parametrize("preload", ["false", "true"])
def test_no_worker_outlives_a_killed_keeper(serve, preload):
    served = serve(SCRIPT, WORKER_COUNT="2", WORKER_PRELOAD=preload)
    children = workers(served)
    assert len(children) == 2
    with ThreadPoolExecutor(1) as clients:
        inside = clients.submit(served.score, "hold")  # it would not see a closed pipe
        served.wait_for(lambda: "holding" in served.log)
        served.process.kill()
        served.wait_for(lambda: not any(Path(f"/proc/{each}").exists() for each in children))
        with pytest.raises((OSError, http.client.HTTPException)):
            inside.result()


def test_a_script_s_children_know_nothing_of_the_keeper(serve):
    served = serve(
        """
        import os, subprocess
        def init(): pass
        def run(data):
            lines = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True).stdout
            return [lines.count("socket:"), lines.count("modelport"), "MODELPORT_WORKER" in os.environ]
        """,
        WORKER_COUNT="2",
    )
    assert json.loads(served.score(1).body) == [0, 0, False]


def test_a_server_of_no_workers_is_refused_by_name(start):
    served = start(SCRIPT, WORKER_COUNT="0")
    assert served.process.wait(timeout=20) == 2
    assert "WORKER_COUNT is '0': it must be a whole number above 0." in served.log


def test_a_worker_that_is_killed_in_init_is_told_of(start):
    served = start("import os\ndef init(): os.kill(os.getpid(), 9)\ndef run(d): pass\n", WORKER_COUNT="2")
    assert served.process.wait(timeout=20) != 0
    assert "was ended by signal SIGKILL before it was ready: nobody serves." in served.log


def test_workers_that_cannot_be_forked_find_what_the_command_line_names(start):
    script = "def init(): pass\nasync def run(data): return data\n"
    served = start(script, "--config_file", "own.json", WORKER_COUNT="2", WORKER_PRELOAD="true")
    served.process.wait(timeout=20)  # the file is not there yet
    (served.folder / "own.json").write_text("{}")
    served.launch()
    assert served.wait_until_ready().score("x").status == 200
