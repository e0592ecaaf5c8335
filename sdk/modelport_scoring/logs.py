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
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s"
GRANIAN = "_granian"
"""The name of Granian's logger; that of its Rust half too."""

FLUSH_SECONDS = 0.05

Answered = tuple[float, float, str, str, str, int, int]
"""Start and end by `time.perf_counter`, method, path, query, status, and the answer's size in bytes."""


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

    A call of `logging` costs as much as all the rest of a small request. So what a line says is kept for a
    moment, and lines are made of it, many at a time, by a thread of their own.
    """

    def __init__(self) -> None:
        self._prefix = f" I [{os.getpid()}] {__package__}.access - "
        self._answered: deque[Answered] = deque()
        self.add: Callable[[Answered], None] = self._answered.append
        """Note one answered request."""
        threading.Thread(target=self._write_for_ever, name="access-log", daemon=True).start()
        atexit.register(self._write)

    def _write_for_ever(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            self._write()

    def _write(self) -> None:
        lines = []
        epoch = time.time() - time.perf_counter()
        second, clock = 0, ""
        while self._answered:
            started, ended, method, path, query, status, size = self._answered.popleft()
            when = epoch + ended
            if int(when) != second:
                second = int(when)
                clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when))
            target = path if path.isascii() and path.isprintable() else ascii(path)[1:-1]
            if query:
                target = f"{target}?{query}"
            lines.append(
                f"{clock},{int(when * 1000) % 1000:03d}{self._prefix}"
                f"{method} {target} {status} {(ended - started) * 1000:.3f}ms {size}\n"
            )
        if lines:
            sys.stdout.write("".join(lines))
            sys.stdout.flush()
