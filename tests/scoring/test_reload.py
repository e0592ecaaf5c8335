"""A script that is edited while it serves."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

import modelport_scoring

SDK = Path(modelport_scoring.__file__).parents[1]

SCRIPT = "def init(): pass\ndef run(data): return {}\n"


def edit(served, text):
    (served.folder / "app" / "score.py").write_text(text)


def answers(served, value):
    return lambda: json.loads(served.score(0).body) == value


def test_an_edit_goes_live(serve):
    served = serve(SCRIPT.format(1), "--reload")
    edit(served, SCRIPT.format(2))
    served.wait_for(answers(served, 2))


def test_with_it_nothing_is_loaded_before_the_workers(serve):
    served = serve(SCRIPT.format(1), "--reload", WORKER_PRELOAD="true")
    assert "WORKER_PRELOAD is not heeded with --reload" in served.log
    edit(served, SCRIPT.format(2))
    served.wait_for(answers(served, 2))


def test_a_module_beside_the_script_is_a_part_of_it(serve):
    served = serve(
        "import tide\ndef init(): pass\ndef run(data): return tide.high\n", "--reload", files={"tide.py": "high = 1\n"}
    )
    (served.folder / "app" / "tide.py").write_text("high = 234\n")
    served.wait_for(answers(served, 234))


def test_what_the_script_writes_beside_itself_is_no_edit(serve):
    served = serve(
        "import pathlib\ndef init(): pathlib.Path('made.txt').write_text('1')\ndef run(data): return 1\n", "--reload"
    )
    (served.folder / "app" / "notes.log").write_text("a line")
    edit(served, SCRIPT.format(2))
    served.wait_for(answers(served, 2))
    assert served.log.count("The script's folder has changed") == 1


def test_a_broken_edit_keeps_what_serves_and_says_why_and_the_next_good_one_goes_live(serve):
    served = serve(SCRIPT.format(1), "--reload")
    edit(served, "def init():\n    load()\ndef load():\n    raise ValueError('no table')\ndef run(data): return 2\n")
    served.wait_for(lambda: "what was there before serves on until it is changed again" in served.log)
    assert "init() raised ValueError: no table (score.py, line 4)." in served.log
    assert "modelport_scoring/" not in served.log.partition("Traceback")[2].partition("ValueError")[0]
    assert answers(served, 1)()
    edit(served, SCRIPT.format(3))
    served.wait_for(answers(served, 3))
    assert not served.failure_file.exists()  # of what is over


def test_a_script_that_is_broken_from_the_start_is_waited_for(start):
    served = start("def run(data) return 1\n", "--reload")
    served.wait_for(lambda: "nothing serves until it is changed again" in served.log)
    assert served.failure["code"] == "UserScriptImportError"
    edit(served, SCRIPT.format(2))
    served.wait_until_ready()
    assert answers(served, 2)()


def test_no_request_fails_over_ten_edits_under_load(serve):
    served = serve(SCRIPT.format(0), "--reload", WORKER_COUNT="2")
    failed, seen, stop = [], [], threading.Event()

    def ask(connection):
        try:
            connection.request("POST", "/score", body="0")
            seen.append(json.loads(connection.getresponse().read()))
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)
            connection.close()

    def fresh():
        while not stop.is_set():
            with contextlib.closing(served.connection()) as connection:
                ask(connection)

    def kept():
        with contextlib.closing(served.connection()) as connection:
            while not stop.is_set():
                ask(connection)

    with ThreadPoolExecutor(6) as clients:
        try:
            for client in (fresh, fresh, fresh, kept, kept, kept):
                clients.submit(client)
            for number in range(1, 11):
                edit(served, SCRIPT.format(number))
                served.wait_for(lambda number=number: seen[-12:] == [number] * 12, 40)
        finally:
            stop.set()
    assert failed == []
    assert seen[-1] == 10


def test_an_edit_in_the_middle_of_another_loses_no_request_of_a_worker_that_serves_already(serve):
    served = serve(SCRIPT.format(0), "--reload", WORKER_COUNT="2")
    half = """
import os, time
def init():
    try:
        os.close(os.open("one", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        time.sleep(600)
def run(data):
    print("inside", flush=True)
    while not os.path.exists("go"): time.sleep(0.01)
    return 1
"""
    served.wait_for(lambda: served.log.count("init() passed") == 2)
    edit(served, half)
    with ThreadPoolExecutor(8) as clients:
        served.wait_for(lambda: served.log.count("init() passed") == 3)
        asked = []

        def is_inside():
            asked.append(clients.submit(served.score, 0))
            return "inside" in served.log

        served.wait_for(is_inside)
        edit(served, SCRIPT.format(2))
        served.wait_for(lambda: served.log.count("init() passed") == 5)
        (served.folder / "app" / "go").touch()
        assert {each.result().status for each in asked} == {200}
    served.wait_for(answers(served, 2))


def test_an_edit_of_a_script_whose_init_hangs_takes_its_place(start):
    served = start(
        "import time\ndef init():\n    print('hangs', flush=True)\n    time.sleep(600)\ndef run(data): pass\n",
        "--reload",
    )
    served.wait_for(lambda: "hangs" in served.log)
    edit(served, SCRIPT.format(2))
    served.wait_until_ready()
    assert answers(served, 2)()
    served.wait_for(lambda: len(psutil.Process(served.process.pid).children()) == 1)
    assert "Traceback" not in served.log


def test_a_folder_that_cannot_be_watched_is_told_of_and_served(start, tmp_path):
    (tmp_path / "watchfiles.py").write_text(
        "class PythonFilter: pass\ndef watch(*_, **__): raise OSError('OS file watch limit reached')\n"
    )
    served = start(SCRIPT.format(1), "--reload", PYTHONPATH=f"{tmp_path}:{SDK}").wait_until_ready()
    served.wait_for(
        lambda: f"Changes of {served.folder / 'app'} are not seen: OS file watch limit reached." in served.log
    )
    assert "Traceback" not in served.log
    assert answers(served, 1)()


def test_without_watchfiles_it_says_what_to_install(start, tmp_path):
    (tmp_path / "watchfiles.py").write_text("raise ImportError('there is none')")
    served = start(SCRIPT.format(1), "--reload", PYTHONPATH=f"{tmp_path}:{SDK}")
    assert served.process.wait(timeout=20) == 1
    assert "--reload needs watchfiles: there is none. Run `pip install watchfiles`." in served.log
