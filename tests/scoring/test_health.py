"""Whether a server is ready and lives, asked of another process than the one that runs run()."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
            threading.Timer(0.2, hold, [seconds]).start()
        elif what == "hold":
            print("holding", flush=True)
            hold(seconds)
        else:
            print("inside", flush=True)
            time.sleep(seconds)
        return what
"""


def ask(served, method="GET", path="/"):
    connection = UnixConnection(served.folder / "h", timeout=5)
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
        served = start(script, MODELPORT_HEALTH_UDS="../h", **environment)
        heard(served, status)
        return served

    return one


@pytest.fixture
def start(start):
    def one(script, *flags, **environment):
        served = start(script, *flags, **environment)
        served.wait_for(lambda: (served.folder / "h").exists() or served.process.poll() is not None)
        return served

    return one


def slowest_answer(served, seconds):
    """How long the slowest of many answers took, in milliseconds."""
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        assert ask(served)[0] == 200
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[len(took) * 99 // 100]
