"""
The log: Azure's format, on standard output.

Only our own loggers are configured, so that a script's `logging.basicConfig`, or
the lack of it, means what it means in Azure.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections import deque

FORMAT = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s"
GRANIAN = "_granian"
"""The name of Granian's logger; that of its Rust half too."""

FLUSH_SECONDS = 0.05


def configure_logging() -> None:
    """Send our log and Granian's errors to standard output, and make `print()` appear line by line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # TextIO, unless a script replaced it
    formatter = logging.Formatter(FORMAT)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    for name, level in ((__package__, logging.INFO), (GRANIAN, logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False


class AccessLog:
    """
    One line per request, `POST /score 200 0.412ms 13`, as Azure's server writes them.

    A call of `logging` costs as much as all the rest of a small request. So lines are kept for a moment,
    and written by a thread of their own.
    """

    def __init__(self) -> None:
        self._prefix = f" I [{os.getpid()}] {__package__}.access - "
        self._lines: deque[tuple[float, str]] = deque()
        threading.Thread(target=self._write_for_ever, name="access-log", daemon=True).start()
        atexit.register(self._write)

    def add(self, method: str, path: str, status: int, seconds: float, size: int) -> None:
        """Note one answered request; `size` is the answer's, in bytes."""
        self._lines.append((time.time(), f"{method} {path} {status} {seconds * 1000:.3f}ms {size}\n"))

    def _write_for_ever(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            self._write()

    def _write(self) -> None:
        lines = []
        while self._lines:
            when, line = self._lines.popleft()
            lines.append(f"{_clock(when)}{self._prefix}{line}")
        if lines:
            sys.stdout.write("".join(lines))
            sys.stdout.flush()


def _clock(when: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(when))},{int(when * 1000) % 1000:03d}"
