"""
The scoring server's process: `python -m modelport_scoring --uds … --entry_script score.py`.

What it is told is understood, and its address is free, before anything is started:
who mistypes a setting learns it at once, in one sentence.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from modelport_scoring import address
from modelport_scoring.configuration import read_settings
from modelport_scoring.greeting import page
from modelport_scoring.keeper import SCRIPT_FAULT
from modelport_scoring.logs import configure_logging
from modelport_scoring.reload import NoWatcherError
from modelport_scoring.script import ScriptError
from modelport_scoring.settings import DECLARED, SettingsError
from modelport_scoring.worker import inherited

try:
    from modelport_scoring import service
except ModuleNotFoundError as missing:
    sys.exit(
        f"modelport-scoring needs {missing.name}: pip install 'modelport[scoring]', or "
        f"-r {Path(__file__).with_name('requirements.txt')}"
    )

CANNOT_BEGIN = 1
"""Exit status when the server cannot listen where it shall, or not watch what it shall."""

SETTINGS_FAULT = 2
"""Exit status when the settings cannot be understood; argparse's own."""

log = logging.getLogger(__package__)


def main() -> int:
    """Serve until told to stop; return the exit status."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # shows where an init() hangs
    try:
        return _served()
    except SettingsError as error:
        sys.stderr.write(f"modelport-scoring: {error}\n")
        _note(str(error))
        return SETTINGS_FAULT
    except (OSError, NoWatcherError) as error:
        log.error("%s", error)  # noqa: TRY400  # where it happened says nothing: the address is the fault
        _note(str(error))
        return CANNOT_BEGIN


def _note(fault: str) -> None:
    """Write down why nothing serves, for who started this process; the settings that name the place may be at fault."""
    place = os.environ.get(DECLARED["failure_file"].variable)
    if place:
        with contextlib.suppress(OSError):
            ScriptError("DeploymentFailed", fault).write(Path(place))


def _served() -> int:
    settings = read_settings(sys.argv[1:], os.environ)
    worker = inherited(settings, os.environ)
    if worker is not None:
        configure_logging(settings.log_level)
        return service.serve(worker)
    address.check(settings)
    if not settings.deployment:
        sys.stdout.write(page(settings))
    configure_logging(settings.log_level)
    for warning in settings.warnings:
        log.warning("%s", warning)
    return service.begin(settings, sys.argv[1:], leave)


def command() -> NoReturn:
    """Be the process: serve, and end with the exit status."""
    leave(main())


def leave(status: int) -> NoReturn:
    """
    End the process.

    Not by sys.exit(): a thread that the script left running would keep a process that cannot serve alive, and threads
    of Granian before 2.8 abort the process when they meet an interpreter that is being torn down.
    """
    if status != SCRIPT_FAULT:
        atexit._run_exitfuncs()  # noqa: SLF001  # what the script asked for; no public name runs them
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    command()
