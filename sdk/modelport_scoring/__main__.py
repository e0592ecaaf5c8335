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
from typing import Any, NoReturn

from modelport_scoring import __version__, address, debugger
from modelport_scoring.app import App
from modelport_scoring.configuration import read_settings
from modelport_scoring.greeting import page
from modelport_scoring.logs import LoggingError, configure_logging, replace_by_file
from modelport_scoring.script import Script, ScriptError
from modelport_scoring.server import Server
from modelport_scoring.settings import Settings, SettingsError
from modelport_scoring.swagger import Swagger

STAND_INS = Path(__file__).with_name("stand_ins")
"""Modules under names of Azure's packages. Last on the import path: they stand in only where Azure's are not there."""

SCRIPT_FAULT = 3
"""Exit status when the script cannot be served. Source: azureml-inference-server-http."""

SETTINGS_FAULT = 2
"""Exit status when the settings cannot be understood; argparse's own."""

log = logging.getLogger(__package__)


def main() -> int:
    """Serve until told to stop; return the exit status."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # shows where an init() hangs
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        address.check(settings)
        return _serve(settings)
    except SettingsError as error:
        sys.stderr.write(f"modelport-scoring: {error}\n")
        return SETTINGS_FAULT


def command() -> NoReturn:
    """Be the process: serve, and end with the exit status."""
    status = main()
    # Not sys.exit(): a thread that the script left running would keep a process that cannot serve alive, and threads
    # of Granian before 2.8 abort the process when they meet an interpreter that is being torn down.
    if status != SCRIPT_FAULT:
        atexit._run_exitfuncs()  # noqa: SLF001  # what the script asked for; no public name runs them
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve(settings: Settings) -> int:
    if not settings.deployment:
        sys.stdout.write(page(settings))
    configure_logging(settings.log_level)
    for warning in settings.warnings:
        log.warning("%s", warning)
    server = Server(settings)
    debugging = _debugger(settings)
    try:
        script = _prepare(settings)
        swagger = Swagger(script, settings)
    except ScriptError as error:
        log.error("%s", f"{error.message}\n{error.log}".rstrip())  # noqa: TRY400  # without our frames
        if settings.failure_file is not None:
            error.write(settings.failure_file)
        return SCRIPT_FAULT
    app = App(script, swagger, settings, server.end)
    return server.serve(debugger.followed(debugging, app) if debugging else app)


def _debugger(settings: Settings) -> Any:
    if settings.debug_port is not None:
        return debugger.connect(settings.debug_port)
    return debugger.listen(settings.debug, settings.failure_file) if settings.debug else debugger.around()


def _prepare(settings: Settings) -> Script:
    """Return the loaded script, its init() run."""
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
    started = time.perf_counter()
    script = Script(root, settings.entry_script)
    script.init()
    log.info("init() passed; ready after %.3f s.", time.perf_counter() - started)
    return script


def _tell_the_script(settings: Settings) -> None:
    """Put into the environment what scripts look for there, however it was said."""
    os.environ["AML_APP_ROOT"] = str(settings.app_root)
    os.environ["AZUREML_ENTRY_SCRIPT"] = settings.entry_script
    if settings.model_dir is not None:
        os.environ["AZUREML_MODEL_DIR"] = settings.model_dir


if __name__ == "__main__":
    command()
