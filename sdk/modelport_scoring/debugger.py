"""
A debugger that can be attached while requests are answered.

It listens from the start and waits for nobody: who attaches finds the process that
serves, as it is. The other way round, which Azure has, it is the debugger that waits
and the server that goes to it (`AZUREML_DEBUG_PORT`). Only where a setting says so,
and loaded only then.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from modelport_scoring.exchange import WSGIProtocol
from modelport_scoring.settings import SettingsError

log = logging.getLogger(__name__)

FILE = "debug.json"
"""Beside the failure file, `{"host", "port"}`: where the debugger listens."""

Handler = Callable[[WSGIProtocol, "dict[str, Any]"], None]


def listen(where: str, failure_file: Path | None) -> Any:
    """
    Let a debugger be attached.

    Args:
        where: `host:port`; port 0 is the one of the process before, if it is free, or else any.
        failure_file: What the file that says where it listens is put beside.

    Returns:
        The debugger; None when there is none.
    """
    try:
        debugger = _loaded()
    except ImportError as error:
        log.error("No debugger can be attached: %s. Add debugpy to the environment.", error)  # noqa: TRY400
        return None
    host, _, said = where.rpartition(":")
    file = failure_file and failure_file.with_name(FILE)
    port = _listening(debugger, host, int(said) or _port_before(file))
    if port is None:
        return None
    log.info("A debugger can be attached to %s:%d.", host, port)
    if file is not None:
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        draft.write_text(json.dumps({"host": host, "port": port}), encoding="utf-8")
        draft.replace(file)
    return debugger


def connect(port: int) -> Any:
    """
    Go to the debugger that waits at this machine's port, and wait until it has set its breakpoints; return it.

    Raises:
        SettingsError: There is no debugpy, or no debugger at the port.

    Source: azureml-inference-server-http.
    """
    log.warning("AZUREML_DEBUG_PORT is set: nothing is served before a debugger is there. It is not for production.")
    try:
        debugger = _loaded()
        debugger.connect(port)
    except ImportError as error:
        raise SettingsError(f"AZUREML_DEBUG_PORT needs debugpy: {error}. Add debugpy to the environment.") from None
    except OSError as error:
        raise SettingsError(
            f"AZUREML_DEBUG_PORT is {port}, where no debugger waits: {error}. Start the one in the editor first."
        ) from None
    debugger.wait_for_client()
    return debugger


def around() -> Any:
    """The debugger that this process was started by, `python -m debugpy … -m modelport_scoring`; None without one."""
    return sys.modules.get("debugpy")


def followed(debugger: Any, handler: Handler) -> Handler:
    """The handler, in threads that the debugger would not know: Python did not start them."""

    def handle(protocol: WSGIProtocol, environ: dict[str, Any]) -> None:
        debugger.debug_this_thread()
        handler(protocol, environ)

    return handle


def _loaded() -> Any:
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of Python's own modules, in each log
    return import_module("debugpy")


def _listening(debugger: Any, host: str, port: int) -> int | None:
    """The port that it listens on: this one, or else any; None when there is none."""
    try:
        return int(debugger.listen((host, port))[1])
    except (RuntimeError, OSError) as error:
        log.warning("No debugger can be attached to port %d: %s", port, error)
        return _listening(debugger, host, 0) if port else None


def _port_before(file: Path | None) -> int:
    """The port of the process that was here before, by which editors know it; 0 when there was none."""
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["port"]) if file else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
