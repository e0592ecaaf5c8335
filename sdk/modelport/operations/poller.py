"""
Waiting for a long-running operation.

The operation is polled in a thread, so that callbacks come when it ends and a
notebook can go on; what went wrong is raised by `result`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import tenacity

from modelport.arm import faults, lro
from modelport.arm.messages import Request
from modelport.errors import HttpResponseError, ModelportError, OperationCanceled, PollingTimeoutError
from modelport.transports.base import Transport

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST, _GROWTH, _LONGEST = 0.02, 1.5, 5.0


class LROPoller(Generic[T]):
    """What every `begin_*` returns. Threads may share it."""

    def __init__(self, follow: Callable[[LROPoller[T]], T], name: str) -> None:
        """
        Start to follow an operation.

        Args:
            follow: Returns the operation's result when it has ended, or raises; it reports by `_saw`.
            name: What the operation is about, for messages.
        """
        self._name = name
        self._status = "InProgress"
        self._messages: tuple[str, ...] = ()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[LROPoller[T]], Any]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._drive, args=(follow,), name=f"poll {name}", daemon=True).start()

    def result(self, timeout: float | None = None) -> T:
        """
        What the operation made; waits for its end.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            errors.PollingTimeoutError: The time is up. The operation goes on.
            errors.ModelportError: The operation failed: the cause itself.
        """
        if not self._ended.wait(timeout):
            raise PollingTimeoutError(f"{self._name}: not ended within {timeout:g} s. It goes on; wait again.")
        if self._error:
            raise self._error
        return self._result  # type: ignore[return-value]

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, or for `timeout` seconds, whatever comes of it."""
        self._ended.wait(timeout)

    def done(self) -> bool:
        """Whether the operation has ended."""
        return self._ended.is_set()

    def status(self) -> str:
        """`InProgress`, `Succeeded`, `Failed` or `Canceled`."""
        return self._status

    def messages(self) -> tuple[str, ...]:
        """What the operation said on its way: what is recorded but not acted on, what stands in for what."""
        return self._messages

    def add_done_callback(self, callback: Callable[[LROPoller[T]], Any]) -> None:
        """Call `callback(poller)` when the operation ends, from another thread; at once when it has ended."""
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(callback)
                return
        self._call(callback)

    def remove_done_callback(self, callback: Callable[[LROPoller[T]], Any]) -> None:
        """Do not call `callback` after all."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def _saw(self, look: lro.Look) -> None:
        for message in look.messages[len(self._messages) :]:
            if message.startswith("Warning: "):
                logger.warning("%s: %s", self._name, message.removeprefix("Warning: "))
        self._messages = look.messages or self._messages

    def _drive(self, follow: Callable[[LROPoller[T]], T]) -> None:
        try:
            self._result = follow(self)
            self._status = "Succeeded"
        except OperationCanceled as error:
            self._error, self._status = error, "Canceled"
        except BaseException as error:  # noqa: BLE001 (raised again by `result`)
            self._error, self._status = error, "Failed"
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
            self._ended.set()
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[[LROPoller[T]], Any]) -> None:
        try:
            callback(self)
        except Exception:
            logger.exception("A callback for the end of %s raised", self._name)


def follow_operation(
    transport: Transport, follow: lro.Follow, made: Callable[[Any], T], name: str
) -> Callable[[LROPoller[T]], T]:
    """
    What a poller needs to follow an operation of a service.

    Args:
        transport: Where to ask.
        follow: What the first answer said.
        made: Makes the result from the resource's document; gets None when there is none.
        name: What the operation is about.
    """

    def run(poller: LROPoller[T]) -> T:
        if follow.way != "done":
            _poll(transport, follow, poller, name)
        if follow.resource is None:
            return made(None)
        answer = transport.send(Request("GET", follow.resource))
        return made(faults.raise_for(answer, f"GET {follow.resource}").body)

    return run


def _poll(transport: Transport, follow: lro.Follow, poller: LROPoller[Any], name: str) -> None:
    """
    Ask until the operation has ended.

    Raises:
        errors.ModelportError: Why it failed.
    """
    growing = tenacity.wait_exponential(multiplier=_FIRST, exp_base=_GROWTH, max=_LONGEST)

    def ask() -> lro.Look:
        answer = transport.send(Request("GET", follow.url))
        if follow.way != "location":
            faults.raise_for(answer, f"GET {follow.url}")
        seen = lro.look(follow.way, answer)
        poller._saw(seen)  # noqa: SLF001 (the poller's own other half)
        return seen

    def pause(state: tenacity.RetryCallState) -> float:
        seen = state.outcome.result() if state.outcome else None
        grown = growing(state)
        return min(grown, seen.delay) if seen and seen.delay else grown

    retrying = tenacity.Retrying(retry=tenacity.retry_if_result(lambda seen: not seen.ended), wait=pause)
    last = retrying(ask)
    if last.status.lower() != "succeeded":
        raise _failure(last, name)


def _failure(last: lro.Look, name: str) -> ModelportError:
    if last.status.lower().startswith("cancel"):
        message = (last.error or {}).get("message") or f"{name} was canceled."
        return OperationCanceled(message)
    error = faults.error_of(last.error, 0, name)
    if isinstance(error, HttpResponseError) and not last.error:
        return HttpResponseError(f"{name} ended as {last.status}, and the service did not say why.")
    return error
