"""
The scoring server's process: `python -m modelport_scoring --uds … --entry_script score.py`.

The script is loaded, and init() run, before anybody listens: who can connect can be
served. A script that cannot be served ends the process with status 3.
"""

from __future__ import annotations

import atexit
import faulthandler
import logging
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

from modelport_scoring import __version__, debugger, health, telemetry
from modelport_scoring.app import App
from modelport_scoring.counting import Counting
from modelport_scoring.exchange import Exchange
from modelport_scoring.keeper import SCRIPT_FAULT, Keeper
from modelport_scoring.logs import configure_logging
from modelport_scoring.reload import NoWatcher
from modelport_scoring.script import Script, ScriptError
from modelport_scoring.server import Server
from modelport_scoring.settings import Settings, read_settings
from modelport_scoring.shared import Board
from modelport_scoring.swagger import Swagger
from modelport_scoring.worker import Worker, inherited

GENERATIONS = 4
"""How many workers may be there at once in one worker's place: the one that serves, those that leave, a new one."""

STAND_INS = Path(__file__).with_name("stand_ins")
"""Modules under names of Azure's packages. Last on the import path: they stand in only where Azure's are not there."""

CANNOT_BEGIN = 1
"""Exit status when the server cannot listen where it shall, or not watch what it shall."""

log = logging.getLogger(__package__)


def main() -> int:
    """Serve until told to stop; return the exit status."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # shows where an init() hangs
    settings = read_settings(sys.argv[1:], os.environ)
    configure_logging()
    worker = inherited(settings, os.environ)
    try:
        return _serve(worker) if worker else _begin(settings)
    except (OSError, NoWatcher) as error:
        log.error("%s", error)  # noqa: TRY400  # where it happened says nothing: the address is the fault
        return CANNOT_BEGIN


def _begin(settings: Settings) -> int:
    """Be what was started: the one process that serves, or the keeper of several."""
    is_kept = settings.worker_count > 1 or settings.reload
    board = None
    if is_kept or health.is_wanted(settings):
        board = Board.made(GENERATIONS * settings.worker_count)
    if board and health.is_wanted(settings):
        health.accompany(board, settings)
    if not (board and is_kept):
        return _serve(Worker(settings, board))
    if not settings.worker_preload:
        return Keeper(settings, board, sys.argv[1:]).keep()
    loaded = _loaded(settings)
    if loaded is None:
        return SCRIPT_FAULT
    return Keeper(settings, board, sys.argv[1:], partial(_serve_forked, loaded)).keep()


def _serve(worker: Worker, loaded: tuple[Script, Swagger] | None = None) -> int:
    """Serve the script, which is loaded first unless it has been, until told to stop; return the exit status."""
    settings = worker.settings
    server = Server(settings, worker)
    counting = Counting(worker.slot.counters) if worker.slot and health.is_wanted(settings) else None
    debugging = debugger.listen(settings.debug, settings.failure_file) if settings.debug else debugger.around()
    loaded = loaded or _loaded(settings)
    if loaded is None:
        return SCRIPT_FAULT
    traces = telemetry.tracing(settings, os.environ)
    if traces is not None:
        script = loaded[0]
        script.input.call = traces.around(script.input.call)  # type: ignore[method-assign]  # of this one
    made = traces.exchange if traces else Exchange
    app = App(*loaded, settings, server.end, worker.note_runs, counting, made)
    return server.serve(debugger.followed(debugging, app) if debugging else app)


def _serve_forked(loaded: tuple[Script, Swagger], worker: Worker) -> NoReturn:
    """Be a worker that was forked after init()."""
    _leave(_serve(worker, loaded))


def _loaded(settings: Settings) -> tuple[Script, Swagger] | None:
    """The script, its init() run, and its page; None when it cannot be served, which is told then."""
    try:
        script = _prepare(settings)
        return script, Swagger(script, settings)
    except ScriptError as error:
        log.error("%s\n%s", error.message, error.log)  # noqa: TRY400  # `log` is the traceback, without our frames
        if settings.failure_file is not None:
            error.write(settings.failure_file)
        return None


def _prepare(settings: Settings) -> Script:
    """Return the loaded script, its init() run."""
    if settings.model_dir is not None:
        os.environ["AZUREML_MODEL_DIR"] = settings.model_dir
    if not settings.app_root.is_dir():
        raise ScriptError("UserScriptImportError", f"The script's folder {settings.app_root} does not exist.")
    os.chdir(settings.app_root)
    sys.path.insert(0, str(settings.app_root))
    sys.path.append(str(STAND_INS))
    name = f" for {settings.deployment}" if settings.deployment else ""
    log.info("modelport_scoring %s%s: loading %s.", __version__, name, settings.entry_script)
    started = time.perf_counter()
    script = Script(settings.app_root, settings.entry_script)
    script.init()
    log.info("init() passed; ready after %.3f s.", time.perf_counter() - started)
    return script


def _leave(status: int) -> NoReturn:
    """
    End the process.

    Not by sys.exit(): a thread that the script left running would keep a process that cannot serve alive, and threads
    of Granian before 2.8 abort the process when they meet an interpreter that is being torn down.
    """
    if status != SCRIPT_FAULT:
        atexit._run_exitfuncs()  # noqa: SLF001  # what the script asked for; no public name runs them
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
