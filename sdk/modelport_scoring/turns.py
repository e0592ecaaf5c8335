"""
Who may be in run() now, and who waits.

A semaphore would park one thread per waiting request, and a probe would find none
left. Here a request that finds no place free is put in a queue and its thread goes
back to the server; the thread that leaves run() takes the next one from the queue.
Under load one thread goes from request to request without a switch.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """
    Calls `work(item)` for each item taken, in order, in at most `places` threads at once; `work` must not raise.

    `note_runs` is told how many threads those are, whenever that changes.
    """

    def __init__(self, places: int, work: Callable[[T], None], note_runs: Callable[[int], None] | None = None) -> None:
        self._places = places
        self._free = deque(range(places))
        self._work = work
        self._note = note_runs
        self._noting = threading.Lock()
        self._told = 0
        self._waiting: deque[T] = deque()

    @property
    def running(self) -> int:
        """How many items are worked on."""
        return self._places - len(self._free)

    @property
    def waiting(self) -> int:
        """How many items wait for a place."""
        return len(self._waiting)

    def take(self, item: T) -> None:
        """Work on the item, and then on what came meanwhile, if a place is free; leave it to another thread if not."""
        waiting, free = self._waiting, self._free
        # No lock: who gives a place back looks at the queue after that, and who queues looks for a place after that.
        waiting.append(item)
        while waiting and free:
            try:
                place = free.pop()
            except IndexError:  # another thread was quicker
                return
            self._tell(1)
            while waiting:
                try:
                    first = waiting.popleft()
                except IndexError:
                    break
                try:
                    self._work(first)
                except BaseException:  # noqa: BLE001  # a filter of the script's on the log, say: the place is given on
                    traceback.print_exc()
            self._tell(-1)
            free.append(place)

    def _tell(self, change: int) -> None:
        """Say that there is one thread more, or one less before its place is given back: so one place needs no lock."""
        if not self._note:
            return
        if self._places == 1:
            self._note(change > 0)
            return
        with self._noting:  # or an older number could be the last one
            self._told += change
            self._note(self._told)


class Places:
    """The same on an event loop: a task that waits is a future in a queue."""

    def __init__(
        self, places: int, loop: asyncio.AbstractEventLoop, note_runs: Callable[[int], None] | None = None
    ) -> None:
        self._places = self._free = places
        self._loop = loop
        self._note = note_runs
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def running(self) -> int:
        """How many places are taken."""
        return self._places - self._free

    @property
    def waiting(self) -> int:
        """How many tasks wait for a place."""
        return len(self._waiting)

    async def enter(self) -> None:
        """Take a place, in the order of arrival."""
        if self._free > 0:
            self._free -= 1
            self._tell()
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # `leave` may have passed it over before it heard
                    self._waiting.remove(turn)
            else:  # it was given a place in the very moment
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to who waits longest, and still waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
        self._tell()

    def _tell(self) -> None:
        if self._note:
            self._note(self.running)
