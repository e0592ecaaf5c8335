"""
Counting what a worker does, many requests at a time.

Nothing here is called by a request, but for what is rare: a row of numbers is added to by
the thread that writes the access log, in steps that C does for all requests of a moment
at once, and then copied to where other processes see it.
"""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from operator import itemgetter

from modelport_scoring import metrics
from modelport_scoring.records import ENDED, PATH, RECEIVED, RUN, SENT, STARTED, STATUS, Record

Load = Callable[[], "tuple[int, int, int]"]
"""How many requests are not answered yet, how many of them wait for their turn, how many calls of run() there are."""

_PATH_AND_STATUS = itemgetter(PATH, STATUS)


class Counting:
    """
    One worker's numbers.

    Args:
        shared: Where others see them. What stands there, from a worker that was here before, is counted on.
        prefix: What paths may begin with.
    """

    def __init__(self, shared: memoryview[float], prefix: str = "") -> None:
        self._shared = shared[: metrics.NUMBERS]
        self._row = array("d", self._shared)
        self._routes = {before + route: route for before in ("", prefix) for route in metrics.ROUTES}
        self._rare: deque[tuple[metrics.Histogram, float]] = deque()
        self._raised: deque[None] = deque()
        self._cpu_before = self._row[metrics.CPU_SECONDS]
        self._load: Load = lambda: (0, 0, 0)
        self._row[metrics.PID] = os.getpid()
        self._row[metrics.STARTS] += 1
        self.count([])

    def serve(self, init_seconds: float, load: Load) -> None:
        """Say that init() has passed, and what tells of the requests that are inside."""
        self._row[metrics.INIT_SECONDS] = init_seconds
        self._load = load

    def raised(self) -> None:
        """Note that run() raised. May be called from any thread."""
        self._raised.append(None)

    def ran(self, seconds: float) -> None:
        """Note a run() that no request's record tells of, as its caller was answered before. From any thread."""
        self._rare.append((metrics.RUN_SECONDS, seconds))

    def batched(self, size: int) -> None:
        """Note how many requests one run() was for. May be called from any thread."""
        self._rare.append((metrics.BATCH_SIZES, size))

    def count(self, records: Sequence[Record]) -> None:
        """Add these requests, and what else was noted; copy all to where others see it."""
        row = self._row
        if records:
            self._count(records)
        for _ in range(len(self._rare)):
            histogram, value = self._rare.popleft()
            self._observe(histogram, [value])
        for _ in range(len(self._raised)):
            self._raised.popleft()
            row[metrics.EXCEPTIONS] += 1
        row[metrics.CPU_SECONDS] = self._cpu_before + time.process_time()
        row[metrics.IN_FLIGHT], row[metrics.WAITING], row[metrics.RUNNING] = self._load()
        self._shared[:] = memoryview(row)

    def _count(self, records: Sequence[Record]) -> None:
        row, routes = self._row, self._routes
        for (path, status), number in Counter(map(_PATH_AND_STATUS, records)).items():
            row[metrics.place_of(routes.get(path, metrics.OTHER), status)] += number
        scored = [each for each in records if routes.get(each[PATH]) == "/score"]
        self._observe(metrics.REQUEST_SECONDS, [each[ENDED] - each[STARTED] for each in scored])
        self._observe(metrics.RUN_SECONDS, [each[RUN] for each in scored if each[RUN] > 0])
        row[metrics.RECEIVED] += sum([each[RECEIVED] for each in records])
        row[metrics.SENT] += sum([each[SENT] for each in records])

    def _observe(self, histogram: metrics.Histogram, values: list[float]) -> None:
        row = self._row
        values.sort()
        for place, bound in enumerate(histogram.bounds, histogram.place):
            row[place] += bisect_right(values, bound)
        row[histogram.count] += len(values)
        row[histogram.sum] += sum(values)
