"""
Who may be in run() now, and who waits.

A semaphore would park one thread per waiting request, and a probe would find none
left. Here a request that finds no place free is put in a queue and its thread goes
back to the server; the thread that leaves run() takes the next one from the queue.
Under load one thread goes from request to request without a switch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Calls `work(item)` for each item taken, in order, in at most `places` threads at once; `work` must not raise."""

    def __init__(self, places: int, work: Callable[[T], None]) -> None:
        self._free = places
        self._work = work
        self._waiting: deque[T] = deque()
        self._lock = threading.Lock()

    def take(self, item: T) -> None:
        """Work on the item, and then on what came meanwhile, if a place is free; leave it to another thread if not."""
        with self._lock:
            if self._free == 0:
                self._waiting.append(item)
                return
            self._free -= 1
        while True:
            self._work(item)
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                item = self._waiting.popleft()


class Places:
    """The same on an event loop: a task that waits is a future in a queue."""

    def __init__(self, places: int, loop: asyncio.AbstractEventLoop) -> None:
        self._free = places
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Take a place, in the order of arrival."""
        if self._free > 0:
            self._free -= 1
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given a place in the very moment
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
