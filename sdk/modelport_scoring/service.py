"""
What is started: one process that serves, or several and their keeper.

The script is loaded, and init() run, before anybody listens: who can connect can be
served. A script that cannot be served ends the process with status 3.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from modelport_scoring import __version__, debugger, health, telemetry
from modelport_scoring.app import App
from modelport_scoring.counting import Counting
from modelport_scoring.exchange import Exchange
from modelport_scoring.keeper import SCRIPT_FAULT, Keeper
from modelport_scoring.logs import LoggingError, replace_by_file
from modelport_scoring.script import Script, ScriptError
from modelport_scoring.server import Server
from modelport_scoring.settings import Settings
from modelport_scoring.shared import Board
from modelport_scoring.sockets import clear, files
from modelport_scoring.swagger import Swagger
from modelport_scoring.tasks import TaskApp
from modelport_scoring.worker import Worker

GENERATIONS = 4
"""How many workers may be there at once in one worker's place: the one that serves, those that leave, a new one."""

STAND_INS = Path(__file__).with_name("stand_ins")
"""Modules under names of Azure's packages. Last on the import path: they stand in only where Azure's are not there."""

log = logging.getLogger(__package__)


def begin(settings: Settings, arguments: Sequence[str], leave: Callable[[int], NoReturn]) -> int:
    """
    Be what was started with `arguments`: the process that serves, or the keeper of several; return the exit status.

    `leave` ends a process that was forked to serve.

    Raises:
        OSError: An address cannot be had.
        NoWatcherError: Changes of the script cannot be seen.
    """
    is_kept = settings.worker_count > 1 or settings.reload
    board = None
    if is_kept or health.is_wanted(settings):
        board = Board.made(GENERATIONS * settings.worker_count)
    if board and health.is_wanted(settings):
        health.accompany(board, settings)
    made = files(settings.health_uds, settings.metrics_uds)
    try:
        return _keep(settings, arguments, leave, board) if board and is_kept else serve(Worker(settings, board))
    finally:
        clear(made)


def _keep(settings: Settings, arguments: Sequence[str], leave: Callable[[int], NoReturn], board: Board) -> int:
    """Be the keeper."""
    if settings.worker_preload and settings.reload:
        log.warning("WORKER_PRELOAD is not heeded with --reload: a script that is loaded here cannot be loaded anew.")
    if settings.reload or not settings.worker_preload:
        return Keeper(settings, board, arguments).keep()
    here = Path.cwd()
    loaded = _loaded(settings, is_forked=True)
    if loaded is None:
        return SCRIPT_FAULT
    if loaded[0].loop is not None:
        log.warning("WORKER_PRELOAD is not heeded: the loop of an `async def run` cannot be shared. Each runs init().")
        os.chdir(here)  # what `arguments` say may begin there
        return Keeper(settings, board, arguments).keep()
    return Keeper(settings, board, arguments, lambda worker: leave(serve(worker, loaded))).keep()


def serve(worker: Worker, loaded: tuple[Script, Swagger] | None = None) -> int:
    """Serve the script, which is loaded first unless it has been, until told to stop; return the exit status."""
    settings = worker.settings
    server = Server(settings, worker)
    counting = None
    if worker.slot and health.is_wanted(settings):
        counting = Counting(worker.slot.counters, settings.path_prefix and f"/{settings.path_prefix.strip('/')}")
    debugging = _debugger(settings)
    loaded = loaded or _loaded(settings)
    if loaded is None:
        return SCRIPT_FAULT
    script = loaded[0]
    traces = telemetry.tracing(settings, os.environ)
    if traces is not None:
        script.input.call = traces.around(script.input.call)  # type: ignore[method-assign]  # of this one
        script.input.call_batch = traces.around(script.input.call_batch)  # type: ignore[method-assign]
    made = traces.exchange if traces else Exchange
    if script.loop is not None:
        tasks = TaskApp(*loaded, settings, server.end, worker.note_runs, counting, made)
        script.loop.end = server.end
        return server.serve_on(script.loop, tasks.handle)
    app = App(*loaded, settings, server.end, worker.note_runs, counting, made)
    return server.serve(debugger.followed(debugging, app) if debugging else app)


def _debugger(settings: Settings) -> Any:
    if settings.debug_port is not None:
        return debugger.connect(settings.debug_port)
    return debugger.listen(settings.debug, settings.failure_file) if settings.debug else debugger.around()


def _loaded(settings: Settings, *, is_forked: bool = False) -> tuple[Script, Swagger] | None:
    """
    The script, its init() run, and its page; None when it cannot be served, which is told then.

    One that would be forked with a loop has no init() run: that is on the loop, and for each worker.
    """
    try:
        script = _prepared(settings)
        if not (is_forked and script.loop is not None):
            script.init()
            log.info("init() passed; ready after %.3f s.", script.seconds)
        return script, Swagger(script, settings)
    except ScriptError as error:
        log.error("%s", f"{error.message}\n{error.log}".rstrip())  # noqa: TRY400  # without our frames
        if settings.failure_file is not None:
            error.write(settings.failure_file)
        return None


def _prepared(settings: Settings) -> Script:
    """The loaded script."""
    root = settings.app_root
    if not root.is_dir():
        raise ScriptError("UserScriptImportError", f"The script's folder {root} does not exist.")
    _tell_the_script(settings)
    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.path.append(str(root / settings.source_directory))
    sys.path.append(str(STAND_INS))
    try:
        replace_by_file((root, (root / settings.entry_script).parent))
    except LoggingError as error:
        raise ScriptError("UserScriptInitFailed", str(error)) from error
    name = f" for {settings.deployment}" if settings.deployment else ""
    log.info("modelport_scoring %s%s: loading %s.", __version__, name, settings.entry_script)
    return Script(root, settings.entry_script, typed=settings.typed)


def _tell_the_script(settings: Settings) -> None:
    """Put into the environment what scripts look for there, however it was said."""
    os.environ["AML_APP_ROOT"] = str(settings.app_root)
    os.environ["AZUREML_ENTRY_SCRIPT"] = settings.entry_script
    if settings.model_dir is not None:
        os.environ["AZUREML_MODEL_DIR"] = settings.model_dir
