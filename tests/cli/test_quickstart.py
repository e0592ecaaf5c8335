"""`modelport quickstart` for real: the story is told, no request fails, and nothing stays."""

import json
import shlex
import signal
import subprocess
import sys

import pytest

ROWS = ["blue is live", "30% mirrored to green", "10% to green", "all to green", "blue is deleted"]


def table(output):
    """The rows of the table by name: (blue, green, copies, failed)."""
    rows = [[cell.strip() for cell in line.strip("│|").split("│")] for line in output.splitlines() if "│" in line]
    return {name: tuple(map(int, counts[:4])) for name, *counts in rows}


def test_the_story_is_told_and_nothing_is_left(home):
    done = home.run("quickstart")

    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert [name for name in rows if name in ROWS] == ROWS
    assert all(failed == 0 for *_, failed in rows.values())
    blue, green, copies, _ = rows["30% mirrored to green"]
    assert (green, blue >= copies > 0) == (0, True)
    blue, green, *_ = rows["10% to green"]
    assert blue > green
    assert rows["all to green"][0] == rows["blue is deleted"][0] == 0
    assert 'called with a key, blue says {"cultivar": [0]}' in done.stdout
    assert 'green says {"cultivar": [0]}' in done.stdout
    assert home.is_quiet(), home.processes()
    assert not (home.folder / "quickstart").exists()


def test_the_endpoint_can_be_kept_and_the_next_quickstart_replaces_it(home, until):
    done = home.run("quickstart", "--keep")
    assert done.returncode == 0, done.stderr
    _, call, _, end = done.stdout.strip().splitlines()[-4:]
    answer = subprocess.run([*shlex.split(call), "-sS"], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(answer.stdout) == {"cultivar": [0]}
    assert "Modelport is not up." in home.run("status").stdout, "the user's own workspace was touched"
    kept = home.processes()
    assert kept

    program, *arguments = shlex.split(end)
    assert program == "modelport"
    again = home.start("quickstart")
    try:
        assert again.stdout.readline() == "What an earlier quickstart left up has ended.\n"
        until(lambda: not kept.keys() & home.processes().keys(), seconds=30)
    finally:
        again.send_signal(signal.SIGTERM)
        again.communicate(timeout=60)
    assert home.run(*arguments).stdout == "Modelport is not up.\n"
    assert home.is_quiet(), home.processes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_stopped(home, number):
    story = home.start("quickstart")
    try:
        while "Blue deployed" not in story.stdout.readline():
            assert story.poll() is None, story.stderr.read()
        story.send_signal(number)
        _, said = story.communicate(timeout=60)
    finally:
        story.kill()
    assert story.returncode == 1
    assert said.endswith("Error: The quickstart was stopped; nothing runs any more.\n")
    assert home.is_quiet(), home.processes()


def test_a_server_that_is_still_starting_is_ended_too(home, until):
    story = home.start("quickstart")
    try:
        until((home.folder / "quickstart" / "logs" / "server.log").exists)
        story.send_signal(signal.SIGINT)
        story.communicate(timeout=60)
    finally:
        story.kill()
    assert story.returncode == 1
    assert home.is_quiet(), home.processes()


def test_a_second_quickstart_at_once_is_refused(home, until):
    first = home.start("quickstart")
    try:
        until((home.folder / "quickstart").exists)
        second = home.run("quickstart")
        assert second.returncode == 1
        assert second.stderr.startswith(f"Error: Another quickstart runs in '{home.folder}'.")
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)
    assert home.is_quiet(), home.processes()


def test_an_error_is_one_sentence(home):
    (home.folder / "environments").unlink()
    (home.folder / "environments").write_text("in the way")
    done = home.run("quickstart")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The folder ")
    assert "Traceback" not in done.stderr


LOST = """
import os, signal
from modelport.cli.quickstart import _Stop

class Deaf:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

stop = _Stop()
stop.check()
Deaf()
try:
    stop.check()
except KeyboardInterrupt:
    print("heard")
"""


def test_a_stop_that_python_loses_is_heard_at_the_next_step():
    story = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=False, timeout=60)
    assert "Exception ignored in" in story.stderr
    assert (story.returncode, story.stdout) == (0, "heard\n")
