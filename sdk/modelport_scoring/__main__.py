"""
The scoring server's process: `python -m modelport_scoring --uds … --entry_script score.py`.

The script is loaded, and init() run, before there is a socket: who can connect
can be served. A script that cannot be served ends the process with status 3.
"""

from __future__ import annotations

import atexit
import faulthandler
import logging
import os
import signal
import sys
import time
from pathlib import Path

from modelport_scoring import __version__, debugger
from modelport_scoring.app import App
from modelport_scoring.logs import configure_logging
from modelport_scoring.script import Script, ScriptError
from modelport_scoring.server import Server
from modelport_scoring.settings import Settings, read_settings
from modelport_scoring.swagger import Swagger
from modelport_scoring.tasks import TaskApp

STAND_INS = Path(__file__).with_name("stand_ins")
"""Modules under names of Azure's packages. Last on the import path: they stand in only where Azure's are not there."""

SCRIPT_FAULT = 3
"""Exit status when the script cannot be served. Source: azureml-inference-server-http."""

log = logging.getLogger(__package__)


def main() -> int:
    """Serve until told to stop; return the exit status."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # shows where an init() hangs
    settings = read_settings(sys.argv[1:], os.environ)
    configure_logging()
    server = Server(settings)
    debugging = debugger.listen(settings.debug, settings.failure_file) if settings.debug else debugger.around()
    try:
        script = _prepare(settings)
        swagger = Swagger(script, settings)
    except ScriptError as error:
        log.error("%s\n%s", error.message, error.log)  # noqa: TRY400  # `log` is the traceback, without our frames
        if settings.failure_file is not None:
            error.write(settings.failure_file)
        return SCRIPT_FAULT
    if script.loop is not None:
        tasks = TaskApp(script, swagger, settings, server.end)
        return server.serve_on(script.loop, tasks.handle)
    app = App(script, swagger, settings, server.end)
    return server.serve(debugger.followed(debugging, app) if debugging else app)


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


if __name__ == "__main__":
    status = main()
    # Not sys.exit(): a thread that the script left running would keep a process that cannot serve alive, and threads
    # of Granian before 2.8 abort the process when they meet an interpreter that is being torn down.
    if status != SCRIPT_FAULT:
        atexit._run_exitfuncs()  # noqa: SLF001  # what the script asked for; no public name runs them
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
