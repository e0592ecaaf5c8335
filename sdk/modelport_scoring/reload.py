"""
Changes of the script's folder, told through a descriptor.

watchfiles waits for them in Rust, in a thread of its own, and gathers those that come
together. Only Python's source files count: a script that writes a file beside itself, or
a log that goes there, would have it loaded anew for ever.
"""

from __future__ import annotations

import logging
import os
import threading
from importlib import import_module
from pathlib import Path

GATHER_MILLISECONDS = 200
"""How long changes are gathered: editors write a file in several steps."""

log = logging.getLogger(__name__)


class NoWatcherError(Exception):
    """watchfiles is not there."""


def changes(folder: Path) -> int:
    """
    Return a descriptor that has something to read when a file in the folder has changed.

    Raises:
        NoWatcherError: watchfiles is not installed.
    """
    try:
        watchfiles = import_module("watchfiles")
    except ImportError as error:
        raise NoWatcherError(f"--reload needs watchfiles: {error}. Run `pip install watchfiles`.") from error
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)

    def watch() -> None:
        sources = watchfiles.PythonFilter()
        gathered = {"debounce": GATHER_MILLISECONDS, "step": 20}
        try:
            for _ in watchfiles.watch(folder, watch_filter=sources, raise_interrupt=False, **gathered):
                os.write(theirs, b"!")
        except Exception as error:  # noqa: BLE001  # the system watches no more files for this user, say
            log.error("Changes of %s are not seen: %s. Mend that and start the server again.", folder, error)  # noqa: TRY400

    threading.Thread(target=watch, name="reload", daemon=True).start()
    return ours
