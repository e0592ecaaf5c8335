"""
What a script has set in the thread that it was loaded in, for the threads that run() is in.

In Azure both are the main thread, and scripts stand on that without a word: a precision of
`decimal`, numpy's errors, torch without gradients, the loop that `asyncio.get_event_loop()`
finds. So each thread has it before its first run(). What is one thread's for good (a
`threading.local`, a connection of sqlite3) cannot be handed on, as README.md says.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from contextvars import copy_context
from typing import Any


class Surroundings(threading.local):
    """
    Of the thread that this is made in, for others.

    Args:
        of: What `found` has found there.
    """

    def __init__(self, of: dict[str, Any]) -> None:
        """Give them to this thread: a `threading.local` is made anew in each that asks it for anything."""
        for variable, value in of["variables"]:
            variable.set(value)
        if of["loop"] is not None:
            asyncio.set_event_loop(of["loop"])
        if of["errors"] is not None:
            sys.modules["numpy"].seterr(**of["errors"])
        if not of["gradients"]:
            sys.modules["torch"].set_grad_enabled(False)

    def enter(self) -> None:
        """Be in them."""


def found(*, alone: bool) -> dict[str, Any]:
    """Return what there is in this thread, the main one; its loop only where run() is `alone`: two cannot be in one."""
    return {
        "variables": list(copy_context().items()),
        "loop": _loop() if alone else None,
        "errors": _asked("numpy", "geterr", None),
        "gradients": _asked("torch", "is_grad_enabled", True),
    }


def _loop() -> asyncio.AbstractEventLoop | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return asyncio.get_event_loop()
        except RuntimeError:  # init() had one that is over
            return None


def _asked(module: str, name: str, otherwise: Any) -> Any:
    """Return what a function of a module says, if the script has loaded it."""
    function = getattr(sys.modules.get(module), name, None)
    return otherwise if function is None else function()
