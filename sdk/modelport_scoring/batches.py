"""
Several requests in one call of run(), for models whose call costs as much for many inputs as for one.

While run() is busy a queue grows, and the next call takes it whole: that alone makes
batches under load. What it cannot do is wait for those who come at once: with two
clients in turn each would find the other one inside. So a call waits until as many are
there as there were at its predecessor's end, inside and in the queue, and never longer
than `max_wait_ms` after it could have begun. One client alone never waits, because its
predecessor left nobody behind; and when fewer come than were expected, fewer are expected.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from modelport_scoring.marks import Batching

T = TypeVar("T")


class MiscountError(ValueError):
    """What run() returned does not say which result is whose: nobody can be answered."""


class Batches(Generic[T]):
    """As `Turns`, with `work(items)` for several at once. `sizes(n)` hears how many each of them is for."""

    def __init__(
        self,
        places: int,
        batching: Batching,
        work: Callable[[list[T]], None],
        note_runs: Callable[[int], None] | None = None,
        sizes: Callable[[int], None] | None = None,
    ) -> None:
        self._places = self._free = places
        self._note = note_runs
        self._most = batching.max_size
        self._wait_seconds = batching.max_wait_ms / 1000
        self._work = work
        self._sizes = sizes
        self._waiting: deque[T] = deque()
        self._expected = 1
        self._gathering = False
        self._lock = threading.Lock()
        self._enough = threading.Condition(self._lock)

    @property
    def running(self) -> int:
        """How many calls there are, those included that gather."""
        return self._places - self._free

    @property
    def waiting(self) -> int:
        """How many items wait for a call."""
        return len(self._waiting)

    def take(self, item: T) -> None:
        """Work on the item and others, if a place is free and nobody gathers; leave it to another thread if not."""
        with self._lock:
            self._waiting.append(item)
            if self._gathering:
                if len(self._waiting) >= self._expected:
                    self._enough.notify()
                if len(self._waiting) <= self._most:  # what is beyond one batch is for another call
                    return
            if self._free == 0:
                return
            self._free -= 1
            self._tell()
            batch = self._gathered()
        while batch:
            if self._sizes:
                self._sizes(len(batch))
            try:
                self._work(batch)
            except BaseException:  # noqa: BLE001  # a filter of the script's on the log, say: the place is given on
                traceback.print_exc()
            with self._lock:
                self._expected = min(len(batch) + len(self._waiting), self._most)
                batch = [] if self._gathering and len(self._waiting) <= self._most else self._gathered()
                if not batch:
                    self._free += 1
                    self._tell()

    def _tell(self) -> None:
        if self._note:
            self._note(self.running)

    def _gathered(self) -> list[T]:
        """Wait for as many as are expected, and take them; the lock is held when it is called and when it returns."""
        if not self._waiting:
            return []
        deadline = time.monotonic() + self._wait_seconds
        another, self._gathering = self._gathering, True
        while len(self._waiting) < self._expected:
            left = deadline - time.monotonic()
            if left <= 0 or not self._enough.wait(left):
                break
        self._gathering = another
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]


def results_of(result: Any, size: int) -> list[Any]:
    """
    Return the results of one call, one for each input.

    Raises:
        MiscountError: There are not as many, or it is nothing that has results one after the other.
    """
    results = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(results, Sequence) or isinstance(results, (str, bytes, bytearray)):
        raise MiscountError(
            f"run() returned a {type(result).__name__} for {size} inputs: it must be a list of results."
        )
    if len(results) != size:
        raise MiscountError(f"run() returned {len(results)} results for {size} inputs: there must be one for each.")
    return list(results)
