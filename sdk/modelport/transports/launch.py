"""
Finding the background server of a workspace on this machine, and starting it.

Starting is single-flight: two notebooks that start at once get one server. An older
server gives way to this version with its endpoints serving on.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests
from attrs import field, frozen

from modelport import __version__
from modelport.errors import LocalServerError
from modelport.transports.rest import pooled_session

_NEEDED = ("click", "envoy", "psutil", "sqlalchemy", "starlette", "uv", "uvicorn")
_START = 60.0
_POLL = 0.02
_LAST_LINES = 15


@frozen
class Server:
    """A running background server."""

    url: str
    token: str = field(repr=False)
    pid: int
    version: str
    home: Path
    backend: str = "process"


def home_folder(backend: str = "process") -> Path:
    """The workspace's folder: `MODELPORT_HOME`, else `~/.modelport`; that of another backend is in there."""
    home = Path(os.environ.get("MODELPORT_HOME") or Path.home() / ".modelport").expanduser()
    return home if backend == "process" else home / backend


def homes(home: Path) -> list[Path]:
    """The workspace in a folder, and that of Docker in there, when there is one."""
    beside = home / "docker"
    return [home, *([beside] if (beside / "state.db").exists() else [])]


def backend_of(home: Path) -> str:
    """What runs the replicas of the workspace in a folder, as it was when that was made."""
    try:
        return (home / "backend").read_text().strip() or "process"
    except OSError:
        return "process"


def find(home: Path) -> Server | None:
    """The server of a workspace, when one answers."""
    try:
        said = json.loads((home / "server.json").read_text())
        token = (home / "token").read_text()
        with pooled_session() as session:
            about = session.get(said["url"], timeout=5).json()
        backend = str(about.get("backend", "process"))
        found = Server(said["url"], token, int(about["pid"]), str(about["modelport"]), home, backend)
        return found if about["home"] == str(home.resolve()) else None
    except (OSError, ValueError, KeyError, TypeError, requests.RequestException):
        return None  # none, or another program has its port now


def find_or_start(home: Path, backend: str | None = None) -> Server:
    """
    The server of a workspace, started when none answers; an older one is replaced.

    Args:
        home: The workspace's folder.
        backend: What runs its replicas; None is what has run them before, at first processes.

    Raises:
        errors.LocalServerError: It could not be started, a newer version runs, or it has another backend.
        errors.DockerEngineNotAvailableError: It would need Docker's engine, which does not answer.
    """
    backend = backend or backend_of(home)
    server = _found(home, backend)
    if server and server.version == __version__:
        return server
    with _alone(home):
        server = _found(home, backend)
        if server and _number(server.version) > _number(__version__):
            raise LocalServerError(
                f"The server in '{home}' is of version {server.version}, newer than this client's {__version__}. "
                "Upgrade this client, or run `modelport down` with the newer one."
            )
        if server and server.version == __version__:
            return server
        if server:
            stop(server, replicas=False)
        return _start(home, backend)


def _found(home: Path, backend: str) -> Server | None:
    """
    The server of a workspace, when one answers.

    Raises:
        errors.LocalServerError: It has another backend.
    """
    server = find(home)
    if server and server.backend != backend:
        raise LocalServerError(
            f"The workspace in '{home}' has the backend '{server.backend}', not '{backend}'. Use that, or name another "
            "folder: MODELPORT_HOME, or home=…"
        )
    return server


def stop(server: Server, *, replicas: bool, seconds: float = 120.0) -> None:
    """
    End a server; with `replicas` also its replicas and the gateway, otherwise they serve on.

    Raises:
        errors.LocalServerError: It did not end in time.
    """
    headers = {"Authorization": f"Bearer {server.token}"}
    params = {"stop": str(replicas).lower()}
    # Without an answer it may be ending already: what counts is whether it ends.
    with suppress(requests.RequestException), pooled_session() as session:
        session.post(f"{server.url}/shutdown", params=params, headers=headers, timeout=10)
    deadline = time.monotonic() + seconds
    while not _ended(server.home):
        if time.monotonic() > deadline:
            raise LocalServerError(f"The server (process {server.pid}) did not end within {seconds:g} s.")
        time.sleep(_POLL)


def _start(home: Path, backend: str) -> Server:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise LocalServerError(f"MLClient.local() needs {', '.join(missing)}: pip install 'modelport[local]'")
    if backend == "docker":
        import_module("modelport.engine").connect().close()  # an engine that is away is told here, not in a log
    log = home / "logs" / "server.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    position = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "modelport.cli", "serve", "--home", str(home), "--backend", backend]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=home
        )
    deadline = time.monotonic() + _START
    try:
        while time.monotonic() < deadline:
            server = find(home)
            if server:
                # It may outlive this process; when it does not, it is collected.
                threading.Thread(target=process.wait, name="modelport-server", daemon=True).start()
                return server
            if process.poll() is not None:
                break
            time.sleep(_POLL)
        else:
            process.kill()
            process.wait()
    except BaseException:  # interrupted: nobody would know of the server
        process.kill()
        process.wait()
        raise
    lines = log.read_bytes()[position:].decode(errors="replace").strip().splitlines()
    said = "\n".join(lines[-_LAST_LINES:]) or "It said nothing."
    raise LocalServerError(f"The background server did not start. The end of '{log}':\n{said}")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the workspace's start lock; it goes with the process that holds it."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (home / "start.lock").open("w")
    except OSError as error:
        message = f"The folder '{home}' cannot be used: {error.strerror}. Set MODELPORT_HOME to one that can."
        raise LocalServerError(message) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ended(home: Path) -> bool:
    """Whether no server has the workspace: each holds this lock while it lives, and a zombie holds nothing."""
    with (home / "server.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _number(version: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))
