"""
The event loop of a script whose run() is asynchronous.

It is made before `init()`, which runs on it, so that what `init()` opens there (a
client session, a pool of connections) can be used by run(). It runs in the main thread.

asyncio's own loop, also where uvloop is installed: with the work of a request in
between no difference was to be seen, and signals stay as `server` has them.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

BEAT_SECONDS = 0.5
BLOCKED_SECONDS = 1.0
QUIET_SECONDS = 60.0
"""Between two complaints."""
FRAMES = 3
"""Of the stack, the innermost, in a complaint."""

log = logging.getLogger(__name__)


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, with signals left to `server`: asyncio would take the descriptor that hears of them."""

    end: Callable[[], None] | None = None
    """What ends the server, once there is one."""

    def run_forever(self) -> None:
        """Run as asyncio's, which a SystemExit of any task ends, and all requests with it: here it calls `end`."""
        while True:
            try:
                super().run_forever()
            except SystemExit:  # noqa: PERF203  # it comes once
                if self.end is None:
                    raise
                log.exception("A task asked the process to end.")
                self.end()
            else:
                return

    def add_signal_handler(self, *_: Any) -> NoReturn:  # type: ignore[override]  # it takes nothing
        """Refuse, as loops do that have no signals: who asks then uses `signal.signal`."""
        raise NotImplementedError("Signals belong to the scoring server.")


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """Whether a call, below whatever decorators, returns something to be awaited or an asynchronous generator."""
    own = inspect.unwrap(function)
    tests = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(test(each) for each in (own, getattr(own, "__call__", None)) for test in tests)  # noqa: B004  # an object


def call(function: Callable[[], Any], loop: Loop | None) -> None:
    """Call a function, on the loop if there is one; on one of its own if it needs one that is not there."""

    async def called() -> None:
        result = function()
        if inspect.isawaitable(result):
            await result

    if loop is not None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(called())
    elif is_asynchronous(function):
        asyncio.run(called())
    else:
        function()


class Watch:
    """
    Says so in the log when something keeps the loop from all other requests, probes among them.

    A thread asks the loop for a sign of life twice a second; what the loop's thread does while
    none comes is what blocks it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._alive = threading.Event()
        threading.Thread(target=self._patrol, name="loop-watch", daemon=True).start()

    def _patrol(self) -> None:
        while not self._loop.is_closed():
            self._alive.clear()
            self._loop.call_soon_threadsafe(self._alive.set)
            if self._alive.wait(BLOCKED_SECONDS):
                time.sleep(BEAT_SECONDS)
            else:
                log.warning(
                    "The event loop was blocked for more than %g s: nobody is answered meanwhile, probes neither. "
                    "Await what takes long, or hand it to a thread (asyncio.to_thread). It was here:\n%s",
                    BLOCKED_SECONDS,
                    self._stack(),
                )
                self._alive.wait()
                time.sleep(QUIET_SECONDS)

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  # no other name for it
        return "".join(traceback.format_stack(frame)[-FRAMES:]) if frame is not None else ""
