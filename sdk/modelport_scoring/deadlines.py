"""
A watch over things that must end within one fixed time.

The time is the same for all, so the oldest entry is always the next one due: one
thread can sleep until then without being told of anything that starts meanwhile,
and watching costs a request no more than a dictionary entry. The dictionary has no
lock: to put something in and to take it out are one step each of the interpreter.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

LONGEST_SLEEP = 3600.0
"""Seconds. Systems refuse to sleep for as long as a setting may say."""


class Deadlines(Generic[T]):
    """Calls `overdue(entry)`, in a thread of its own, for each entry that is not released within `seconds`."""

    def __init__(self, name: str, seconds: float, overdue: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._overdue = overdue
        self._open: dict[T, float] = {}
        threading.Thread(target=self._patrol, name=f"deadlines-{name}", daemon=True).start()

    def watch(self, entry: T) -> None:
        """Start the entry's time."""
        self._open[entry] = time.monotonic()

    def release(self, entry: T) -> bool:
        """Stop the entry's time; False when it had run out: `overdue` has it, or had it."""
        return self._open.pop(entry, None) is not None

    def __len__(self) -> int:
        """How many entries are open."""
        return len(self._open)

    def _patrol(self) -> None:
        while True:
            try:
                oldest = next(iter(self._open.items()), None)
            except RuntimeError:  # changed between the two steps
                continue
            if oldest is None:
                time.sleep(min(self._seconds, LONGEST_SLEEP))
                continue
            entry, started = oldest
            left = started + self._seconds - time.monotonic()
            if left > 0:
                time.sleep(min(left, LONGEST_SLEEP))
            elif self.release(entry):
                try:
                    self._overdue(entry)
                except Exception:  # noqa: BLE001  # a filter of the script's on the log, say: the watch goes on
                    traceback.print_exc()
