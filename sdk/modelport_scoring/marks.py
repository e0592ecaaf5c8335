"""
What a script says about its run() with words of ours.

The decorators only write it down on the function, and return the function: it is called
by a script's own tests as before, and may have other decorators below and above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, overload

Function = TypeVar("Function", bound=Callable[..., Any])

Json = Annotated[Any, "Any JSON, parsed"]
"""The annotation of a parameter that takes whatever JSON a request has, `def run(data: Json)`."""

BATCHED = "__modelport_batched__"
CONCURRENT = "__modelport_concurrent__"


@dataclass(frozen=True)
class Batching:
    """How many requests one call of run() may be for, and how long the first of them may wait for others."""

    max_size: int
    max_wait_ms: float


@overload
def batched(run: Function) -> Function: ...


@overload
def batched(*, max_size: int = 32, max_wait_ms: float = 5) -> Callable[[Function], Function]: ...


def batched(run: Any = None, *, max_size: int = 32, max_wait_ms: float = 5) -> Any:
    """
    Mark a run() that is called with a list of inputs, of several requests, and returns a list of as many results.

    A result that is an exception is the failure of its own request. When run() raises for
    several, it is called once more for each of them alone, so that only those at fault fail.

    Args:
        run: The function; None where the decorator has arguments.
        max_size: The most inputs of one call.
        max_wait_ms: The longest that an input waits for others. None waits while there are none to be expected.
    """
    if max_size < 1 or max_wait_ms < 0:
        raise ValueError(f"batched(max_size={max_size!r}, max_wait_ms={max_wait_ms!r}): at least 1, and at least 0.")

    def mark(function: Function) -> Function:
        setattr(function, BATCHED, Batching(max_size, max_wait_ms))
        return function

    return mark if run is None else mark(run)


def concurrent(places: int) -> Callable[[Function], Function]:
    """Mark a run() that may be called for up to so many requests at once: in threads, or on the loop if it is async."""
    if places < 1:
        raise ValueError(f"concurrent({places!r}): at least one request must be let in.")

    def mark(function: Function) -> Function:
        setattr(function, CONCURRENT, places)
        return function

    return mark


def batching_of(run: Callable[..., Any]) -> Batching | None:
    """Return what `@batched` said of run(), below whatever decorators."""
    found: Batching | None = _mark(run, BATCHED)
    return found


def concurrency_of(run: Callable[..., Any]) -> int | None:
    """Return what `@concurrent` said of run(), below whatever decorators."""
    found: int | None = _mark(run, CONCURRENT)
    return found


def _mark(run: Any, name: str) -> Any:
    while run is not None:
        found = getattr(run, name, None)
        if found is not None:
            return found
        run = getattr(run, "__wrapped__", None)
    return None
