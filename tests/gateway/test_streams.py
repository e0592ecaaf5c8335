"""Answers that come in pieces, from a real scoring server through a real gateway."""

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

SDK = Path(__file__).parents[2] / "sdk"

SYNC = """
import time
from pathlib import Path


def init():
    pass


def run(data):
    try:
        for number in range(100):
            yield {"n": number}
            while not Path(f"go-{number}").exists() and not Path("go-on").exists():
                time.sleep(0.01)
    finally:
        Path("closed").touch()
"""

ASYNC = (
    SYNC.replace("def run", "async def run")
    .replace("import time", "import asyncio")
    .replace("time.s", "await asyncio.s")
)


@pytest.fixture(params=[SYNC, ASYNC], ids=["sync", "async"])
def scoring(request, folder):
    """A scoring server's socket; its script waits for `go-0`, `go-1`, … in the folder, or `go-on`."""
    (folder / "score.py").write_text(request.param)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SDK), "AML_APP_ROOT": str(folder)}
    command = [sys.executable, "-m", "modelport_scoring", "--entry_script", "score.py", "--uds", str(folder / "s")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    wait_for((folder / "s").exists)
    yield folder / "s"
    process.kill()
    process.wait()


@pytest.fixture
def stream(scoring, gateway, endpoint):
    """The answer to one request through the gateway, not yet read, and its connection."""
    gateway.apply([endpoint(blue=[str(scoring)], traffic={"blue": 100}, timeout=2.0)])
    url = urlsplit(gateway.scoring_uri("tides"))
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    connection.request("POST", url.path, b"1", {"Authorization": "Bearer key-1"})
    yield connection, connection.getresponse()
    connection.close()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_piece_arrives_before_the_next_one_is_asked_for(stream, folder):
    _, answer = stream
    assert answer.status == 200
    for number in range(3):
        assert answer.readline() == b'{"n": %d}\n' % number
        (folder / f"go-{number}").touch()
    (folder / "go-on").touch()
    assert answer.read().endswith(b'{"n": 99}\n')


def test_a_client_that_leaves_the_gateway_closes_the_generator(stream, folder):
    connection, answer = stream
    answer.readline()
    connection.close()
    answer.close()
    # A thread finds out with the next pieces, a loop at once.
    for number in range(100):
        if (folder / "closed").exists():
            break
        (folder / f"go-{number}").touch()
        time.sleep(0.05)
    wait_for((folder / "closed").exists)
    assert not (folder / "go-99").exists()
