"""
Waiting for a long-running operation.

The operation is polled in a thread, so that callbacks come when it ends and a
notebook can go on; what went wrong is raised by `result`.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from math import inf
from shutil import get_terminal_size
from typing import Any, Generic, TypeVar

import tenacity

from modelport.arm import faults, lro
from modelport.arm.messages import Request, Response
from modelport.errors import (
    DeploymentFailed,
    HttpResponseError,
    ModelportError,
    OperationCanceled,
    PollingTimeoutError,
    ServiceRequestError,
    ValidationException,
)
from modelport.operations.watching import Watch
from modelport.transports.base import Transport

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST, _GROWTH, _LONGEST = 0.02, 1.5, 5.0
_PATIENCE = 120.0
_FINE, _ABSENT, _BROKEN = 200, 404, 500
_BUSY = frozenset({408, 429, _BROKEN, 502, 503, 504})


class LROPoller(Generic[T]):
    """What every `begin_*` returns. Threads may share it."""

    def __init__(
        self,
        follow: Callable[[LROPoller[T]], T],
        name: str,
        *,
        token: str | None = None,
        show_progress: bool = False,
    ) -> None:
        """
        Start to follow an operation.

        Args:
            follow: Returns the operation's result when it has ended, or raises; it reports by `_saw`.
            name: What the operation is about, for messages.
            token: By which another process can follow it too; None when it cannot.
            show_progress: Whether a terminal is told while somebody waits.
        """
        self.watch: Watch | None = None
        """What follows the code from now on, where `watch=True` was said: `poller.watch.close()` ends it."""
        self._name, self._token, self._show_progress = name, token, show_progress
        self._status = "InProgress"
        self._messages: tuple[str, ...] = ()
        self._progress = ""
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
        self.wait(timeout)
        if not self._ended.is_set():
            resume = " Or resume it elsewhere: begin_…(…, continuation_token=poller.continuation_token())."
            message = f"{self._name}: not ended within {timeout:g} s. It goes on: wait again by result()."
            raise PollingTimeoutError(message + (resume if self._token else ""))
        if self._error:
            raise self._error
        return self._result  # type: ignore[return-value]

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, or for `timeout` seconds, whatever comes of it."""
        if self._show_progress and sys.stderr.isatty():
            self._wait_aloud(timeout)
        else:
            self._ended.wait(timeout)

    def done(self) -> bool:
        """Whether the operation has ended."""
        return self._ended.is_set()

    def status(self) -> str:
        """`InProgress`, `Succeeded`, `Failed` or `Canceled`."""
        return self._status

    def continuation_token(self) -> str:
        """
        A text by which another process can follow the operation: `begin_…(…, continuation_token=text)`.

        It is safe to store: it names the operation and has no key.

        Raises:
            errors.ValidationException: The operation had ended when it began, and there is nothing to follow.
        """
        if self._token is None:
            raise ValidationException(f"{self._name}: it has ended, there is nothing to resume.", target="poller")
        return self._token

    def messages(self) -> tuple[str, ...]:
        """What the operation said on its way: what is recorded but not acted on, what stands in for what."""
        return self._messages

    def progress(self) -> str:
        """What the operation is at now, such as a line of the build of its environment; empty when it does not say."""
        return "" if self._ended.is_set() else self._progress

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

    def _say(self, message: str) -> None:
        """Add what was done beside the operation."""
        self._messages = (*self._messages, message)

    def _saw(self, look: lro.Look) -> None:
        for message in look.messages[len(self._messages) :]:
            if message.startswith("Warning: "):
                logger.warning("%s: %s", self._name, message.removeprefix("Warning: "))
        self._messages = look.messages or self._messages
        self._progress = look.progress

    def _wait_aloud(self, timeout: float | None) -> None:
        """Wait, and keep one line of the terminal up to date."""
        began, left = time.monotonic(), inf if timeout is None else timeout
        try:
            while not self._ended.wait(min(1.0, left)):
                seconds = time.monotonic() - began
                line = f"{self._name}: {self._status}, {seconds:.0f} s  {self._progress}"
                sys.stderr.write(f"\r{line[: get_terminal_size().columns - 1].rstrip()}\x1b[K")
                sys.stderr.flush()
                left = inf if timeout is None else timeout - seconds
                if left <= 0:
                    return
        finally:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

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
    transport: Transport,
    follow: lro.Follow,
    made: Callable[[Any], T],
    name: str,
    *,
    document: Any = None,
    patience: float = _PATIENCE,
) -> Callable[[LROPoller[T]], T]:
    """
    What a poller needs to follow an operation of a service.

    Args:
        transport: Where to ask.
        follow: What the first answer said.
        made: Makes the result from the resource's document; gets None when there is none.
        name: What the operation is about.
        document: The resource as the first answer had it, which is the result when nothing is left to do.
        patience: Seconds without a usable answer after which the operation is given up.
    """
    return lambda poller: made(_Watch(transport, follow, poller, name, patience).result(document))


class _Watch:
    """Looks at one operation until it has ended. Answers that do not come, or say nothing, end nothing."""

    def __init__(
        self, transport: Transport, follow: lro.Follow, poller: LROPoller[Any], name: str, patience: float
    ) -> None:
        self._transport, self._follow, self._poller, self._name = transport, follow, poller, name
        self._patience = patience
        self._missing_since: float | None = None
        self._document: Any = None

    def result(self, document: Any) -> Any:
        """
        The resource's document in the end; None when there is none.

        Raises:
            errors.ModelportError: Why it failed.
        """
        if self._follow.way != "done":
            last = _repeated(self._look)
            if last.status.lower() != "succeeded":
                raise _failure(last, self._name)
        if self._follow.resource in (None, self._follow.url):
            return self._document
        known = document if self._follow.way == "done" else self._document
        if known is None:
            _repeated(self._fetch)
        return self._document if known is None else known

    def _look(self) -> lro.Look:
        way, url = self._follow.way, self._follow.url
        answer = self._asked(url)
        if isinstance(answer, lro.Look):
            return answer
        if answer.status == _ABSENT and way in ("operation", "location"):
            # Operations are forgotten some time after their end; what they made is not.
            following = self._follow.without_operation()
            if following:
                self._follow = following
                return lro.Look("InProgress", ended=False, delay=_FIRST)
        if not (way == "location" or (way == "gone" and answer.status == _ABSENT)):
            faults.raise_for(answer, f"GET {url}")
        seen = lro.look(way, answer)
        self._poller._saw(seen)  # noqa: SLF001 (the poller's own other half)
        if seen.ended and url == self._follow.resource:
            self._document = answer.body
        return seen

    def _fetch(self) -> lro.Look:
        assert self._follow.resource
        answer = self._asked(self._follow.resource)
        if isinstance(answer, lro.Look):
            return answer
        self._document = faults.raise_for(answer, f"GET {self._follow.resource}").body
        return lro.Look("Succeeded", ended=True)

    def _asked(self, url: str) -> Response | lro.Look:
        """The answer; a look that goes on when there is none to speak of."""
        # As azure-core polls: with the id of the request that began it.
        headers = {"accept": "*/*"}
        if self._follow.request_id:
            headers["x-ms-client-request-id"] = self._follow.request_id
        try:
            answer = self._transport.send(Request("GET", url, headers=headers))
        except ServiceRequestError as error:
            return self._missed(error, None)
        said = isinstance(answer.body, Mapping)
        failed = self._follow.way == "location" and said and answer.status == _BROKEN
        if (answer.status in _BUSY and not failed) or (answer.status == _FINE and not said and self._must_say()):
            told = faults.error_of(answer.body, answer.status, f"GET {url}")
            return self._missed(told, lro.delay(answer.headers))
        self._missing_since = None
        return answer

    def _must_say(self) -> bool:
        return self._follow.way in ("operation", "resource")

    def _missed(self, error: ModelportError, delay: float | None) -> lro.Look:
        now = time.monotonic()
        if self._missing_since is None:
            self._missing_since = now
            logger.warning("%s: %s Asking again for up to %.0f s.", self._name, error.message, self._patience)
        if now - self._missing_since >= self._patience:
            raise error
        return lro.Look("InProgress", ended=False, delay=delay)


def _repeated(look: Callable[[], lro.Look]) -> lro.Look:
    """The look that finds an end; between two the server's pause, else one that grows."""
    growing = tenacity.wait_exponential(multiplier=_FIRST, exp_base=_GROWTH, max=_LONGEST)

    def pause(state: tenacity.RetryCallState) -> float:
        seen = state.outcome.result() if state.outcome else None
        return (seen and seen.delay) or growing(state)

    return tenacity.Retrying(retry=tenacity.retry_if_result(lambda seen: not seen.ended), wait=pause)(look)


def _failure(last: lro.Look, name: str) -> ModelportError:
    if last.status.lower().startswith("cancel"):
        message = (last.error or {}).get("message") or f"{name} was canceled."
        return OperationCanceled(message)
    error = faults.error_of(last.error, 0, name)
    if type(error) is not HttpResponseError:
        return error
    if not last.error:
        return DeploymentFailed(f"{name} ended as {last.status}, and the service did not say why.")
    failed = DeploymentFailed(error.message, error_code=error.error_code, target=error.target, details=error.details)
    failed.innererror, failed.additional_info = error.innererror, error.additional_info
    return failed
