"""A real scoring server for a script, on a Unix socket in a short folder, gone when the test ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder
from modelport.schema import files
from modelport.testing import environments_folder

SDK = Path(__file__).parents[2] / "sdk"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float = 20) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Served:
    """One server process."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str], python: str | None = None
    ) -> None:
        self.folder = folder
        self.uds = folder / "s"
        self.failure_file = folder / "failure.json"
        interpreter = python or sys.executable
        self._arguments = [interpreter, "-m", "modelport_scoring", "--entry_script", "score.py", *arguments]
        self._environment = {
            "PATH": os.environ["PATH"],
            # An environment that was built for a deployment has a copy of its own.
            **({} if python else {"PYTHONPATH": str(SDK)}),
            "AML_APP_ROOT": str(folder / "app"),
            "MODELPORT_FAILURE_FILE": str(self.failure_file),
            **environment,
        }
        self._launched: list[subprocess.Popen[bytes]] = []
        self.launch()

    def launch(self) -> None:
        """Start the process, or one more, which is `process` from then on."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments, cwd=self.folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._launched.append(self.process)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def failure(self) -> dict[str, str]:
        return json.loads(self.failure_file.read_text())

    def connection(self) -> UnixConnection:
        return UnixConnection(self.uds)

    def request(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Answer:
        connection = self.connection()
        try:
            spelled = {name.replace("_", "-"): value for name, value in headers.items()}
            # A refusal may be there, and the connection closed, before the body is sent.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, path, body=body, headers=spelled)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def score(self, data: object, **headers: str) -> Answer:
        return self.request("POST", "/score", json.dumps(data), **headers)

    def is_waiting(self, requests: int) -> bool:
        """Whether so many requests wait for their turn; for a server with `MODELPORT_METRICS_UDS="m"`."""
        return self.told("modelport_scoring_requests_waiting") == requests

    def told(self, name: str) -> float | None:
        """A metric that has no labels, of such a server."""
        connection = UnixConnection(self.folder / "m")
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            told = connection.getresponse().read().decode()
        found = re.search(rf"(?m)^{name} (\S+)$", told)
        return float(found[1]) if found else None

    def wait_until_ready(self) -> Served:
        def healthy() -> bool:
            assert self.process.poll() is None, self.log
            try:
                return self.request("GET", "/").status == 200
            except OSError:
                return False

        self.wait_for(healthy)
        return self

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def end(self) -> None:
        for process in self._launched:
            process.kill()
            process.wait()


Serve = Callable[..., Served]


@pytest.fixture
def start() -> Iterator[Serve]:
    """
    `start(script, *flags, VARIABLE=…)` starts a server (on a Unix socket unless flags name another place).

    `python` is the interpreter, unless the tests' own; `files` are written beside the script.
    """
    started: list[Served] = []

    def start_one(
        script: str | None,
        *flags: str,
        python: str | None = None,
        files: Mapping[str, str] | None = None,
        **environment: str,
    ) -> Served:
        folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        (folder / "app").mkdir()
        if script is not None:
            (folder / "app" / "score.py").write_text(textwrap.dedent(script))
        for name, text in (files or {}).items():
            (folder / "app" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "app" / name).write_text(text)
        listens = "--port" in flags or "--uds" in flags
        started.append(Served(folder, flags if listens else ("--uds", str(folder / "s"), *flags), environment, python))
        return started[-1]

    yield start_one
    for served in started:
        served.end()
        shutil.rmtree(served.folder)


@pytest.fixture
def serve(start: Serve) -> Serve:
    """As `start`, but the server answers."""
    return lambda script, *flags, **options: start(script, *flags, **options).wait_until_ready()


@pytest.fixture(scope="session")
def schema_python() -> str:
    return interpreter_with_schemas()


def interpreter_with_schemas() -> str:
    """The interpreter of a user's environment with inference-schema, built as for a deployment; the sample's own."""
    conda = files.read_mapping(SDK.parent / "samples" / "inference_schema" / "conda.yml")
    return str(PrefixBuilder(environments_folder()).build(Wanted(conda=conda), lambda _: None).python)
