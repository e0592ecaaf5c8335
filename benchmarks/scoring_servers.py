"""
Starting servers, asking them, and loading them with wrk: what the two benchmarks of scoring have in common.

One worker each. Where the machine has two processors, servers are on the first and wrk is on the second, and so is
this process, so that no server is slowed down by who measures it. All run in one environment: the same Python, numpy
and scikit-learn.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
import psutil

HERE = Path(__file__).resolve().parent
SDK = peers.ROOT / "sdk"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
MOST_SECONDS = 60
REQUIREMENTS = (
    "azureml-inference-server-http",
    "fastapi",
    "numpy",
    "scikit-learn",
    "uvicorn[standard]",
    "-r",
    str(SDK / "modelport_scoring" / "requirements.txt"),
)
GRANIAN = ("-m", "granian", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1")
UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning")
COMMANDS = {
    "ours": ("-m", "modelport_scoring", "--entry_script", "score.py", "--port", "{port}"),
    "azmlinfsrv": ("{bin}/azmlinfsrv", "--entry_script", "score.py", "--port", "{port}"),
    "thin": (*GRANIAN, "--interface", "wsgi", "--blocking-threads", "1", "scoring_apps:wsgi"),
    "constant": (*GRANIAN, "--interface", "wsgi", "--blocking-threads", "1", "scoring_apps:constant"),
    "fastapi": (*UVICORN, "--no-access-log", "scoring_fastapi:app"),
    "WSGI, 1 thread": (*GRANIAN, "--interface", "wsgi", "--blocking-threads", "1", "scoring_apps:wsgi"),
    "WSGI, 64 threads, semaphore": (
        *(*GRANIAN, "--interface", "wsgi", "--blocking-threads", "64"),
        "scoring_apps:semaphore",
    ),
    "WSGI, our turns": (*GRANIAN, "--interface", "wsgi", "--blocking-threads", "1024", "scoring_turns:handler"),
    "RSGI": (*GRANIAN, "--interface", "rsgi", "scoring_apps:rsgi"),
    "RSGI, run() in a thread": (*GRANIAN, "--interface", "rsgi", "scoring_apps:rsgi_thread"),
    "uvicorn ASGI": (*UVICORN, "--no-access-log", "scoring_apps:asgi"),
    "uvicorn ASGI, run() in a thread": (*UVICORN, "--no-access-log", "scoring_apps:asgi_thread"),
}
"""What each server is, as arguments of Python."""

POST = """
local file = io.open("{body}")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n{{"requests": %d, "microseconds": %d, "median": %d, "p99": %d, "errors": %d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class NotMeasured(Exception):  # noqa: N818  # a finding, told in the table
    """The server did not start, or what it answers is not what the case wants."""


def on_core(number: int, command: list[str]) -> list[str]:
    """The command, kept on one processor where there are two."""
    if len(CORES) < 2 or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(CORES[number]), *command]


def need_wrk() -> None:
    if shutil.which("wrk") is None:
        sys.exit("This benchmark loads servers with wrk, which is not on the PATH: apt-get install wrk.")


@dataclass
class Server:
    """One server process and its children, with a script in a folder of its own."""

    name: str
    python: Path
    folder: Path

    @property
    def metrics(self) -> Path:
        """Where ours is told to tell what it counts, so that counting is part of what is measured."""
        return self.folder / "metrics"

    def start(self) -> None:
        """Start the process; it does not answer yet."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        arguments = [each.format(port=self.port, bin=self.python.parent) for each in COMMANDS[self.name]]
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{SDK}:{HERE}",
            "AML_APP_ROOT": str(self.folder),
            "MODELPORT_METRICS_UDS": str(self.metrics),
        }
        with (self.folder / f"{self.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                on_core(0, [str(self.python), *arguments]),
                cwd=self.folder,
                env=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def await_answer(self, body: bytes) -> tuple[int, bytes]:
        """The first answer of the script's."""
        deadline = time.monotonic() + MOST_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotMeasured(f"ended with status {self.process.returncode}: {self._last_line()}")
            with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
                return self.ask("POST", "/score", body)
            time.sleep(0.002)
        raise NotMeasured(f"no answer within {MOST_SECONDS} s")

    def check(self, body: bytes, expected: object) -> None:
        """Ask once, and say what is wrong with the answer."""
        status, answer = self.await_answer(body)
        if status != 200:
            raise NotMeasured(f"answered {status}: {answer[:200].decode(errors='replace')}")
        if json.loads(answer) != expected:
            raise NotMeasured(f"answered {answer[:200].decode()} instead of {str(expected)[:200]}")

    def tree(self) -> list[psutil.Process]:
        """The process and its children."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def processor_seconds(self) -> float:
        return sum(sum(each.cpu_times()[:2]) for each in self.tree())

    def megabytes(self) -> tuple[float, float]:
        """What the process and its children hold: shared pages counted once (where that is known), and resident."""
        full = [each.memory_full_info() for each in self.tree()]
        return sum(getattr(each, "pss", each.rss) for each in full) / 1e6, sum(each.rss for each in full) / 1e6

    def end(self) -> None:
        children = self.tree()[1:] if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in psutil.wait_procs(children, 2)[1]:
            child.kill()

    def _last_line(self) -> str:
        lines = (self.folder / f"{self.name}.log").read_text().split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it says nothing")


@contextmanager
def started(name: str, python: Path, folder: Path, script: str) -> Iterator[Server]:
    """The server, started with this script in a new folder."""
    folder.mkdir(parents=True)
    (folder / "score.py").write_text(script)
    server = Server(name, python, folder)
    server.start()
    try:
        yield server
    finally:
        server.end()


@dataclass
class Load:
    """What wrk saw, and what the server's processors spent on it. Times in milliseconds."""

    requests: int
    per_second: float
    median: float
    p99: float
    processor: float
    """For one request, in all processes of the server: what a busy machine's noise hardly touches."""


def loaded(server: Server, body: bytes, connections: int, seconds: int) -> Load:
    """
    Load the server over kept connections.

    Raises:
        NotMeasured: A request failed, or none was answered.
    """
    payload, script = server.folder / "body.json", server.folder / "post.lua"
    payload.write_bytes(body)
    script.write_text(POST.format(body=payload))
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script)]
    begin = server.processor_seconds()
    done = subprocess.run(
        on_core(-1, [*wrk, f"http://127.0.0.1:{server.port}/score"]), check=True, capture_output=True, text=True
    )
    seen = json.loads(done.stdout.rsplit("\n", 1)[-1])
    if seen["errors"]:
        raise NotMeasured(f"{seen['errors']} of {seen['requests']} requests failed")
    if not seen["requests"]:  # the machine was so busy that the server had no turn
        if seconds > MOST_SECONDS:
            raise NotMeasured(f"no answer within {seconds} s")
        return loaded(server, body, connections, 2 * seconds)
    per_second = seen["requests"] / seen["microseconds"] * 1e6
    processor = (server.processor_seconds() - begin) / seen["requests"] * 1000
    return Load(seen["requests"], per_second, seen["median"] / 1000, seen["p99"] / 1000, processor)
