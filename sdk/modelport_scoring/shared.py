"""
Numbers that a server's processes share: who is ready, who is alive, what was counted.

A process whose run() keeps the interpreter to itself can tell nobody anything. So what
others must know of it is written down as it happens, in memory that all of them have:
a file without a name, whose descriptor is inherited. A number is written whole, by one
process, and needs no lock.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import time

COUNTERS = 2040
"""Numbers of each worker that are for metrics; what is not used takes no memory."""
BEAT_SECONDS = 1.0
SILENCE = 5.0
"""Seconds without a sign of life that a worker may take for what is not run(): to parse a large body, say."""

_READY, _BEAT, _RUNS, _OWN = 0, 1, 2, 8
_SLOT = _OWN + COUNTERS
_FLOAT = 8


class Slot:
    """
    One worker's numbers.

    Attributes:
        counters: For metrics. They are the slot's, not the process's: who replaces a worker counts on.
    """

    def __init__(self, numbers: memoryview[float]) -> None:
        self._numbers = numbers
        self.counters = numbers[_OWN:]

    @property
    def ready(self) -> bool:
        """Whether init() has passed and the worker serves."""
        return bool(self._numbers[_READY])

    def open(self) -> None:
        """Say that the worker serves, and from now on every second that it lives."""
        self._numbers[_BEAT] = time.monotonic()
        self._numbers[_READY] = 1.0
        threading.Thread(target=self._live, name="heartbeat", daemon=True).start()

    def close(self) -> None:
        """Say that nobody serves here; for the process that has seen the worker end, too."""
        self._numbers[_READY] = self._numbers[_RUNS] = 0.0

    def note_runs(self, count: int) -> None:
        """Say how many requests are in run() now. That is a sign of life: after a long one, it comes in time."""
        self._numbers[_BEAT] = time.monotonic()
        self._numbers[_RUNS] = count

    def is_alive(self, now: float, timeout: float) -> bool:
        """
        Whether the worker has shown a sign of life lately, by `now` of the monotonic clock.

        The interpreter may be run()'s alone for `timeout` seconds, and anything else's for `SILENCE`.
        """
        allowed = timeout if self._numbers[_RUNS] else min(SILENCE, timeout)
        return now - self._numbers[_BEAT] < allowed

    def _live(self) -> None:
        while True:
            self._numbers[_BEAT] = time.monotonic()
            time.sleep(BEAT_SECONDS)


class Board:
    """
    The memory: a slot for each worker, and a word of the server's own.

    Attributes:
        descriptor: What another process opens it by.
        slots: The workers'.
    """

    def __init__(self, descriptor: int, slots: int) -> None:
        self.descriptor = descriptor
        numbers = memoryview(mmap.mmap(descriptor, _FLOAT * _SLOT * (1 + slots))).cast("d")
        self._numbers = numbers[:_SLOT]
        self.slots = [Slot(numbers[_SLOT * number :][:_SLOT]) for number in range(1, 1 + slots)]

    @classmethod
    def made(cls, slots: int) -> Board:
        """Return a new one."""
        descriptor = _nameless_file()
        os.ftruncate(descriptor, _FLOAT * _SLOT * (1 + slots))
        return cls(descriptor, slots)

    @property
    def ending(self) -> bool:
        """Whether the server was told to stop."""
        return bool(self._numbers[0])

    def end(self) -> None:
        """Say that the server was told to stop."""
        self._numbers[0] = 1.0


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("modelport")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
