"""
What was answered, kept for a moment.

A line of the log and the counting of a request cost more than all the rest of a small
one. So a request leaves its figures in a queue, as they are, and a thread of its own
makes lines and counts of them, many at a time.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

FLUSH_SECONDS = 0.05

PORTION, PORTIONS, PAUSE_SECONDS = 100, 16, 0.001
"""
What came in meanwhile is read in portions of so many, or in so many portions where that would be more, with pauses
between them: no request gets the interpreter while one is read, and the slowest would wait for all of them.
"""

Record = tuple[float, float, str, str, str, int, int, int, float]
"""One answered request. A plain tuple: one with names takes four times as long to make."""

STARTED: Final = 0
"""Of `time.perf_counter()`."""
ENDED: Final = 1
METHOD: Final = 2
PATH: Final = 3
QUERY: Final = 4
STATUS: Final = 5
SENT: Final = 6
"""Bytes of the answer's body."""
RECEIVED: Final = 7
"""Bytes of the request's."""
RUN: Final = 8
"""Seconds that run() took; 0 where it was not called."""

Reader = Callable[[Sequence[Record]], None]
"""Is given the records since the last time, of which there may be none."""


class Records:
    """
    Hands records to its readers, in order, twenty times a second and when the process ends.

    A reader that fails (nobody reads the log any more, say) loses the records of that moment; the others go on.

    Attributes:
        add: Notes an answered request. May be called from any thread.
    """

    def __init__(self, *readers: Reader) -> None:
        self._readers = readers
        self._records: deque[Record] = deque()
        self.add = self._records.append
        self._reading = threading.Lock()
        self._has_complained = False
        threading.Thread(target=self._read_for_ever, name="records", daemon=True).start()
        atexit.register(self._read)

    def _read_for_ever(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            self._read()

    def _read(self) -> None:
        with self._reading:
            left = len(self._records)
            portion = max(PORTION, -(-left // PORTIONS))
            self._hand_out(portion)
            for _ in range(portion, left, portion):
                time.sleep(PAUSE_SECONDS)
                self._hand_out(portion)

    def _hand_out(self, number: int) -> None:
        records = [self._records.popleft() for _ in range(min(number, len(self._records)))]
        for reader in self._readers:
            self._hand(reader, records)

    def _hand(self, reader: Reader, records: Sequence[Record]) -> None:
        try:
            reader(records)
        except Exception as error:  # noqa: BLE001  # or all that follow would be kept, and never read
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say once that something is lost, where the log may be what fails."""
        if not self._has_complained:
            self._has_complained = True
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"modelport-scoring: Answered requests are not written down: {error!r}\n")
