"""
The metrics as Prometheus reads them: the rows of all workers, added up.

Written where nothing of a worker is loaded, while it may be busy or gone. What only the
system knows of a process, such as its memory, is asked when it is wanted; on systems
without /proc it is left out.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, text format 0.0.4.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path

from modelport_scoring import __version__, metrics
from modelport_scoring.metrics import Histogram, Metric
from modelport_scoring.shared import Board

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PATH = "/metrics"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_PROC = Path("/proc")


class Exposition:
    """The text of all metrics of a server, which was started when this was made."""

    def __init__(self, board: Board, deployment: str) -> None:
        self._board = board
        self._started = time.time()
        self._about = {"version": __version__, "python": sys.version.split()[0], "deployment": deployment}

    def answer(self) -> tuple[int, str, bytes]:
        """Status, content type and body of an answer to GET."""
        return 200, CONTENT_TYPE, "".join(self._lines()).encode()

    def _lines(self) -> Iterable[str]:
        used = [slot for slot in self._board.slots if slot.counters[metrics.STARTS]]
        rows: list[Sequence[float]] = [slot.counters[: metrics.NUMBERS].tolist() for slot in used]
        live = [row for number, row in enumerate(rows) if used[number].ready]
        total = reduce(_added, rows, [0.0] * metrics.NUMBERS)
        yield from _series(metrics.REQUESTS, _requests(total))
        yield from _histogram(metrics.REQUEST_DURATION, metrics.REQUEST_SECONDS, total)
        yield from _histogram(metrics.RUN_DURATION, metrics.RUN_SECONDS, total)
        yield from _histogram(metrics.BATCH_SIZE, metrics.BATCH_SIZES, total)
        yield from _single(metrics.RUN_EXCEPTIONS, total[metrics.EXCEPTIONS])
        yield from _single(metrics.REQUEST_BYTES, total[metrics.RECEIVED])
        yield from _single(metrics.RESPONSE_BYTES, total[metrics.SENT])
        yield from _single(metrics.REQUESTS_IN_FLIGHT, sum(row[metrics.IN_FLIGHT] for row in live))
        yield from _single(metrics.REQUESTS_WAITING, sum(row[metrics.WAITING] for row in live))
        yield from _single(metrics.RUNS, sum(row[metrics.RUNNING] for row in live))
        yield from _single(metrics.WORKERS, len(live))
        yield from _single(metrics.WORKER_STARTS, total[metrics.STARTS])
        yield from _single(metrics.INIT, max((row[metrics.INIT_SECONDS] for row in live), default=0.0))
        yield from _single(metrics.CPU, total[metrics.CPU_SECONDS])
        yield from _of_system([int(row[metrics.PID]) for row in live])
        yield from _single(metrics.START, self._started)
        yield from _series(metrics.BUILD_INFO, [(self._about, 1)])


def _added(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return list(map(add, one, other))


def _requests(total: Sequence[float]) -> Iterable[tuple[Mapping[str, str], float]]:
    for place, route, code in metrics.routes_and_codes():
        if total[place]:
            yield {"route": route, "code": code}, total[place]


def _of_system(pids: Iterable[int]) -> Iterable[str]:
    if not _PROC.is_dir():
        return
    pages = [0, 0]
    files = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            virtual, resident = (_PROC / str(pid) / "statm").read_text().split()[:2]
            pages = [pages[0] + int(virtual), pages[1] + int(resident)]
            files += sum(1 for _ in (_PROC / str(pid) / "fd").iterdir())
    size = os.sysconf("SC_PAGESIZE")
    yield from _single(metrics.MEMORY, pages[1] * size)
    yield from _single(metrics.ADDRESSES, pages[0] * size)
    yield from _single(metrics.OPEN_FILES, files)


def _histogram(metric: Metric, histogram: Histogram, total: Sequence[float]) -> Iterable[str]:
    yield _head(metric)
    # The row may be copied at this moment, from its first number on.
    count = max(total[histogram.count], total[histogram.count - 1])
    for place, bound in enumerate(histogram.bounds, histogram.place):
        yield f'{metric.name}_bucket{{le="{_number(bound)}"}} {_number(total[place])}\n'
    yield f'{metric.name}_bucket{{le="+Inf"}} {_number(count)}\n'
    yield f"{metric.name}_sum {_number(total[histogram.sum])}\n"
    yield f"{metric.name}_count {_number(count)}\n"


def _single(metric: Metric, value: float) -> Iterable[str]:
    return _series(metric, [({}, value)])


def _series(metric: Metric, values: Iterable[tuple[Mapping[str, str], float]]) -> Iterable[str]:
    yield _head(metric)
    for labels, value in values:
        written = ",".join(f'{name}="{label.translate(_ESCAPES)}"' for name, label in labels.items())
        yield f"{metric.name}{{{written}}} {_number(value)}\n" if written else f"{metric.name} {_number(value)}\n"


def _head(metric: Metric) -> str:
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
