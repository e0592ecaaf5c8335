"""Where lines go: prints, `logging.json`, levels, and the access log's two ways."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from modelport_scoring.records import Records

from .conftest import SDK

LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ([DIWEC]) \[\d+\] ([\w.]+) - (.*)")

PRINTS = """
    import contextlib, io, sys
    def init():
        print("several", 2, sep="-")
        print("two\\nlines")
        print()
        print("no", "end", end="")
        print("nothing between", 1, sep=None, end=None)
        print("to stderr", file=sys.stderr)
        sys.stdout.write("written\\n")
        kept = io.StringIO()
        with contextlib.redirect_stdout(kept):
            print("kept")
        assert kept.getvalue() == "kept\\n"
        print("100 %s %d")
    def run(data): print("in run", flush=True)
"""


def lines_of(served, logger):
    return [(m[2], m[4]) for m in map(LINE.fullmatch, served.log.splitlines()) if m and m[3] == logger]


def test_prints_are_lines_of_azure_s_logger(serve):
    served = serve(PRINTS)
    served.score(1, x_request_id="r-1")
    served.wait_for(lambda: "POST /score 200" in served.log)
    assert lines_of(served, "azmlinfsrv.print") == [
        ("I", text) for text in ("several-2", "two", "", "no end", "nothing between 1", "100 %s %d", "in run [r-1]")
    ]
    assert " - two\nlines\n" in served.log
    for unrouted in ("to stderr", "written"):
        assert unrouted in served.log.splitlines()
    assert "kept" not in served.log


def test_times_are_utc(serve):
    served = serve("def init(): print('now')\ndef run(data): pass\n", TZ="Asia/Tokyo")
    said = next(m[1] for m in map(LINE.fullmatch, served.log.splitlines()) if m and m[4] == "now")
    told = datetime.strptime(said, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    assert abs((datetime.now(timezone.utc) - told).total_seconds()) < 600


def test_a_higher_level_leaves_only_what_is_as_severe(serve):
    served = serve("def init(): print('quiet')\ndef run(data): return 1 / 0\n", AZUREML_LOG_LEVEL="error")
    assert served.score(1).status == 500
    served.wait_for(lambda: "ZeroDivisionError" in served.log)
    assert {m[2] for m in map(LINE.fullmatch, served.log.splitlines()) if m} == {"E"}
    assert "quiet" not in served.log
    assert "POST /score" not in served.log


def own_logging(**loggers):
    """A `logging.json` as Azure's documentation shows one, with a handler that writes to a file beside the log."""
    return json.dumps(
        {
            "version": 1,
            "filters": {"probes": {"()": "azureml_inference_server_http.log_config.RootAccessFilter"}},
            "formatters": {
                "own": {
                    "class": "azureml_inference_server_http.log_config.AMLLogFormatter",
                    "format": "%(name)s: %(message)s",
                }
            },
            "handlers": {
                "own": {
                    "class": "logging.FileHandler",
                    "filename": "../own.log",
                    "formatter": "own",
                    "filters": ["probes"],
                }
            },
            "loggers": loggers,
        }
    )


SCRIPT = """
    import logging
    def init(): print("in init")
    def run(data):
        logging.getLogger("mine").debug("in run")
        return 1 / int(data)
"""


@pytest.mark.parametrize("place", ["logging.json", "code/logging.json"])
def test_a_logging_json_replaces_the_configuration(serve, place):
    azure = {"level": "INFO", "handlers": ["own"], "propagate": False}
    files = {
        place: own_logging(azmlinfsrv=azure, mine={"level": "DEBUG", "handlers": ["own"]}),
        "code/score.py": "from score import *\n",
    }
    served = serve(SCRIPT, "--entry_script", "code/score.py", "--uds", "s", files=files)
    assert (served.score(1).status, served.score(0).status) == (200, 500)
    own = served.folder / "own.log"
    served.wait_for(lambda: "POST /score 500" in own.read_text())
    written = own.read_text()
    assert "azmlinfsrv: Loaded logging config from" in written
    assert "azmlinfsrv.print: in init\n" in written
    assert "mine: in run\n" in written
    assert re.search(r"(?m)^modelport_scoring\.access: POST /score 200 [\d.]+ms 3$", written)
    assert "ZeroDivisionError" in written
    assert "in init" not in served.log
    assert "POST /score" not in served.log


def test_a_logging_json_that_does_not_name_the_server_leaves_its_log_as_it_is(serve):
    served = serve(SCRIPT, files={"logging.json": own_logging(mine={"level": "DEBUG", "handlers": ["own"]})})
    served.score(0)
    served.wait_for(lambda: "POST /score 500" in served.log)
    assert "ZeroDivisionError" in served.log
    assert lines_of(served, "azmlinfsrv.print") == [("I", "in init")]
    assert (served.folder / "own.log").read_text() == "mine: in run\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ('{"version": 2}', "Unsupported version: 2"),
        ('{"version": 1, "handlers": {"h": {"class": "no.such.Handler"}}}', "No module named 'no'"),
        ("[]", "dictionary doesn't specify a version"),
    ],
)
def test_a_logging_json_that_cannot_be_followed_ends_the_server_with_its_reason(start, text, reason):
    served = start("def init(): pass\ndef run(data): pass\n", files={"logging.json": text})
    assert served.process.wait(timeout=20) == 3
    message = served.failure["message"]
    assert message.startswith(f"{served.folder / 'app' / 'logging.json'} is no configuration of logging: ")
    assert reason in message
    assert message in served.log
    assert "Traceback" not in served.log


def test_the_readme_s_logging_json_is_one(serve, tmp_path):
    readme = (Path(SDK) / "modelport_scoring" / "README.md").read_text()
    document = json.loads(re.search(r"(?s)```json\n(.*?)```", readme)[1])
    document["handlers"]["file"]["filename"] = str(tmp_path / "own.log")
    served = serve(SCRIPT, files={"logging.json": json.dumps(document)})
    served.score(1)
    served.wait_for(lambda: "modelport_scoring.access - POST /score 200" in (tmp_path / "own.log").read_text())


def test_a_query_cannot_say_more_to_a_terminal_than_its_letters(serve):
    served = serve("def init(): pass\ndef run(d): return d\n", PYTHONIOENCODING="ascii")
    with contextlib.closing(served.connection()) as connection:
        connection.connect()
        connection.sock.sendall(b"GET /score?a=\xc2\x9b31m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.sock.recv(100).startswith(b"HTTP/1.1 200 ")
    served.wait_for(lambda: r"GET /score?a=\xc2\x9b31m 200 " in served.log)


def test_each_request_has_a_line_with_its_path_as_it_was_sent(serve):
    served = serve("def init(): pass\ndef run(d): return d\n")
    for number in range(3):
        assert served.request("GET", f"/score?rate=5%25&place=%C3%B6&n={number}").status == 200
    assert served.request("GET", "/%s%d").status == 404
    for said in (*(f"GET /score?rate=5%25&place=%C3%B6&n={number} 200" for number in range(3)), "GET /%s%d 404"):
        served.wait_for(lambda said=said: len(re.findall(rf" - {re.escape(said)} [\d.]+ms \d+\n", served.log)) == 1)


def test_records_of_a_busy_moment_are_read_whole_and_in_order():
    read = []
    records = Records(read.extend)
    for number in range(20_000):
        records.add(number)
    deadline = time.monotonic() + 10
    while len(read) < 20_000:
        assert time.monotonic() < deadline
    assert read == list(range(20_000))


def test_a_reader_of_records_that_fails_keeps_none_from_the_others(capfd):
    def failing(_):
        raise BrokenPipeError

    read = []
    records = Records(failing, read.extend)
    for number in range(2):
        records.add(number)
        deadline = time.monotonic() + 10
        while number not in read:
            assert time.monotonic() < deadline
    assert capfd.readouterr().err == ("modelport-scoring: Answered requests are not written down: BrokenPipeError()\n")


def test_a_server_whose_log_nobody_reads_serves_and_ends_as_ever(start):
    served = start("def init(): pass\ndef run(d): return d\n")
    served.wait_until_ready()
    served.end()
    reader, writer = os.pipe()
    served.process = subprocess.Popen(served._arguments, env=served._environment, stdout=writer, stderr=writer)
    os.close(writer)
    served.wait_until_ready()
    os.close(reader)
    for _ in range(2):
        assert served.score("x").status == 200
    served.process.terminate()
    assert served.process.wait(20) == 0
