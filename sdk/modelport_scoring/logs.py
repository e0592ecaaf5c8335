"""
The log: Azure's format, on standard output.

Only our own loggers are configured, so that a script's `logging.basicConfig`, or
the lack of it, means what it means in Azure.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import lru_cache

from modelport_scoring.records import Record
from modelport_scoring.request_ids import RequestFormatter, mark_records

FORMAT = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s"
GRANIAN = "_granian"
"""The name of Granian's logger; that of its Rust half too."""


def configure_logging() -> None:
    """Send our log and Granian's errors to standard output, and make `print()` appear line by line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # TextIO, unless a script replaced it
    mark_records()
    formatter = RequestFormatter(FORMAT)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    for name, level in ((__package__, logging.INFO), (GRANIAN, logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False


class AccessLog:
    """One line per request, `POST /score 200 0.412ms 13`, as Azure's server writes them; none for a probe."""

    def __init__(self) -> None:
        self._prefix = f" I [{os.getpid()}] {__package__}.access - "

    def write(self, records: Sequence[Record]) -> None:
        """Write the lines of these requests."""
        offset = time.time() - time.perf_counter()
        second, clock, lines = 0, "", []
        for started, ended, method, path, query, status, sent, _, _ in records:
            if path == "/":
                continue
            when = ended + offset
            if int(when) != second:  # most of them are of one second
                second = int(when)
                clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
            target = f"{_shown(path)}?{query}" if query else _shown(path)
            line = f"{method} {target} {status} {(ended - started) * 1000:.3f}ms {sent}"
            lines.append(f"{clock},{int(when * 1000) % 1000:03d}{self._prefix}{line}\n")
        if lines:
            sys.stdout.write("".join(lines))
            sys.stdout.flush()


@lru_cache(maxsize=64)
def _shown(path: str) -> str:
    """Return a path as one line can have it."""
    return ascii(path)[1:-1]
