"""
The background server's process.

It holds a workspace open, listens on loopback, and writes down where, for clients
of the same user. When it dies, replicas and the gateway serve on; the next one
adopts them.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import time
from importlib import import_module
from logging.handlers import RotatingFileHandler
from pathlib import Path

import psutil
import uvicorn

from modelport import __version__
from modelport.controlplane import store
from modelport.controlplane.home import runtime_folder
from modelport.controlplane.http import application
from modelport.controlplane.workspace import REPLICAS, LocalWorkspace
from modelport.errors import LocalServerError
from modelport.transports import launch

logger = logging.getLogger(__name__)

_ENDING = 20.0
"""Seconds that a server which is ending may take: less than clients give its successor to start."""
_POLL = 0.02
_LOOK = 2.0
"""Seconds between two looks whether the workspace's folder is still there."""
_LOG_BYTES = 5_000_000
_LOG_FILES = 3
_FORMAT = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s"


def serve(home: Path, backend: str) -> None:
    """
    Run the server of the workspace in `home` until it is told to shut down.

    SIGTERM and SIGINT end the server only; what it runs serves on.

    Raises:
        errors.LocalServerError: The workspace cannot be opened, or another server has it.
    """
    home = home.expanduser().resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(home)
    _log_to(home / "logs")
    workspace = LocalWorkspace(home, backend=backend)
    stop = False
    try:
        stop = asyncio.run(_listen(home, workspace, lock))
    finally:
        (home / "server.json").unlink(missing_ok=True)
        workspace.close(stop=stop)
        logger.info("The server ended; %s", "its replicas too" if stop else "its replicas serve on")


def left_running(home: Path) -> list[int]:
    """
    Processes of a workspace that serve on although its server is gone: replicas and the gateway, by pid.

    What a replica forked, for its probes say, has its command line, but is no replica.

    Raises:
        errors.DockerEngineNotAvailableError: Its replicas are containers, and Docker's engine does not answer.
    """
    if not home.is_dir():
        return []
    runtime = str(runtime_folder(home))
    found = {
        process.pid: process.info["ppid"]
        for process in psutil.process_iter(["cmdline", "ppid"])
        if any(part.startswith(runtime) for part in process.info["cmdline"] or ())
    }
    left = [pid for pid, parent in found.items() if parent not in found]
    if launch.backend_of(home) == "docker":
        left += import_module("modelport.backends.docker").running(runtime_folder(home) / REPLICAS)
    return left


def end(home: Path) -> bool:
    """
    End the server of a workspace with all that it runs; False when nothing ran.

    Raises:
        errors.LocalServerError: It did not end in time.
    """
    found = launch.find(home)
    if found is None:
        if not left_running(home):
            return False
        found = launch.find_or_start(home)  # a server that died left replicas; the next one can end them
    launch.stop(found, replicas=True)
    return True


async def _listen(home: Path, workspace: LocalWorkspace, lock: int) -> bool:
    """Answer requests until the end; whether replicas should end too."""
    stop = False

    def shut_down(replicas: bool) -> None:
        nonlocal stop
        stop = replicas
        (home / "server.json").unlink(missing_ok=True)  # nobody need come any more
        server.should_exit = True

    listening = _listening(home)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    token = _token(home)
    about = {
        "modelport": __version__,
        "schema": store.SCHEMA,
        "pid": os.getpid(),
        "home": str(home),
        "backend": workspace.backend,
    }
    app = application(workspace.app.handle, token, about, shut_down)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    _write(home / "server.json", json.dumps({"url": url, "pid": os.getpid(), "version": __version__}))
    logger.info("Modelport %s listens at %s for '%s'", __version__, url, home)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn, which has handlers of its own, raises the signal again in the end: the workspace is closed after that
        signal.signal(number, lambda *_: None)
    watching = asyncio.create_task(_until_gone(home, lock))
    watching.add_done_callback(lambda task: None if task.cancelled() else shut_down(True))
    await server.serve(sockets=[listening])
    watching.cancel()
    return stop


async def _until_gone(home: Path, lock: int) -> None:
    """Return when the workspace's folder is no longer there: nobody could find what runs, or end it."""
    path = home / "server.lock"
    while path.exists() and path.stat().st_ino == os.fstat(lock).st_ino:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(_LOOK)


def _listening(home: Path) -> socket.socket:
    """A socket on the port that the last server had, so that clients find this one there; on another if it is taken."""
    kept = home / "server.port"
    try:
        listening = socket.create_server(("127.0.0.1", int(kept.read_text())))
    except (OSError, ValueError, OverflowError):
        listening = socket.create_server(("127.0.0.1", 0))
    _write(kept, str(listening.getsockname()[1]))
    return listening


def _token(home: Path) -> str:
    """The workspace's token, made once; whoever can read its file can use the server."""
    path = home / "token"
    if not path.exists():
        _write(path, secrets.token_urlsafe(32))
    return path.read_text()


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    part.replace(path)


def _lock(home: Path) -> int:
    """Take the lock that a workspace's one server holds until its process has ended; one that is ending is awaited."""
    descriptor = os.open(home / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _ENDING
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError as error:
            if time.monotonic() > deadline:
                os.close(descriptor)
                message = f"Another server has the workspace '{home}'. Use it, or end it with `modelport down`."
                raise LocalServerError(message) from error
        time.sleep(_POLL)


def _log_to(folder: Path) -> None:
    """Log to a file that rotates; what goes wrong before this is on the standard error."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(folder / "server.log", maxBytes=_LOG_BYTES, backupCount=_LOG_FILES)
    formatter = logging.Formatter(_FORMAT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal that started it may close
