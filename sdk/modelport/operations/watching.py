"""
`watch=True`: a deployment that follows the code on this machine's disk.

A thread of the client's looks at the code folder and, when it has become another one,
updates the deployment with it. That is an update like any other: the new replicas are
ready before the old ones go, and one that fails leaves them serving. So nothing but the
client knows of it, and it ends with the client at the latest.

What counts is what would be uploaded: its hash. An editor's own files, caches and what
`.amlignore` names change nothing.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from attrs import frozen

from modelport.errors import (
    ModelportError,
    OperationInProgress,
    ResourceModifiedError,
    ServiceRequestError,
    ValidationException,
)
from modelport.transports.sources import LEFT_OUT_OF_CODE, source

logger = logging.getLogger(__name__)

_STEP, _LONGEST = 40, 400
"""Milliseconds without a change after which an editor has saved all of it; and how long it may go on with that."""
_TICK = 500
"""Milliseconds without a change after which a look is taken all the same."""
_LOOK = 2.0
"""Seconds between two looks at whether the deployment is still there."""
_PATIENCE = 30.0
"""Seconds that an end waits for an update which is being made."""
_PARTING = 1.0
"""The same when the interpreter ends."""


@frozen
class Update:
    """What became of a change of the code."""

    seconds: float
    """From when the change was noticed to when the new code had taken over, or was known not to."""
    error: ModelportError | None = None
    """Why the code of before goes on; None when the new one serves."""


class Watch:
    """
    Follows one folder. Threads may share it.

    It ends when it is closed, when the deployment is deleted, when this client deploys it again, or with the process.
    """

    def __init__(self, name: str, folder: Path, update: Callable[[], bool], there: Callable[[], bool]) -> None:
        """
        Take note of what the folder has now, which is about to be deployed.

        Args:
            name: Which deployment, for messages.
            folder: Its code.
            update: Deploys what the folder has; returns when that serves, or False when there is no such deployment.
            there: Whether there is one.

        Raises:
            errors.ValidationException: watchfiles is not installed, or the folder has nothing.
        """
        self.folder = folder
        self._name, self._update, self._there = name, update, there
        self._notify = _watchfiles()
        self._known: str | None = _digest(folder)
        self._closing, self._ended = threading.Event(), threading.Event()
        self._callbacks: list[Callable[[Update], Any]] = []
        self._thread: threading.Thread | None = None

    def start(self, status: Callable[[], str]) -> None:
        """Begin once the first operation, whose `status` this is, has succeeded; one that does not is not followed."""
        atexit.register(self._part)  # a thread that is in Rust then would end the process in its own way
        self._thread = threading.Thread(target=self._run, args=(status,), name=f"watch {self._name}", daemon=True)
        self._thread.start()

    def add_callback(self, callback: Callable[[Update], Any]) -> None:
        """Call `callback(update)` after each update, from another thread."""
        self._callbacks.append(callback)

    def ended(self) -> bool:
        """Whether changes are no longer followed."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, or for `timeout` seconds; whether it has ended."""
        return self._ended.wait(timeout)

    def close(self) -> None:
        """Follow no further change. The deployment stays as it is; an update that is being made is waited for."""
        self._close(_PATIENCE)

    def _close(self, patience: float) -> None:
        self._closing.set()
        if self._thread is None:
            self._ended.set()
        elif self._thread is not threading.current_thread():
            self._thread.join(patience)

    def _part(self) -> None:
        self._close(_PARTING)

    def _run(self, status: Callable[[], str]) -> None:
        try:
            self._follow(status)
        except Exception:
            logger.exception("%s: its code is no longer watched.", self._name)
        finally:
            self._ended.set()
            atexit.unregister(self._part)

    def _follow(self, status: Callable[[], str]) -> None:
        looked = time.monotonic()
        deployed = False
        for changed in self._changes():
            if not deployed:
                said = status()
                if said == "InProgress":
                    continue
                if said != "Succeeded":
                    return
            if (changed or not deployed) and not self._changed():
                return
            deployed = True
            if time.monotonic() >= looked + _LOOK:
                if self._is_gone():
                    return
                looked = time.monotonic()

    def _changes(self) -> Iterator[bool]:
        """Whether something has changed, as soon as it has and every half a second; what changes meanwhile is kept."""
        above = len(str(self.folder)) + 1
        for changes in self._notify.watch(
            self.folder,
            watch_filter=lambda _, path: not set(LEFT_OUT_OF_CODE) & set(Path(path[above:]).parts),
            debounce=_LONGEST,
            step=_STEP,
            rust_timeout=_TICK,
            yield_on_timeout=True,
            stop_event=self._closing,
            raise_interrupt=False,
        ):
            if self._closing.is_set():
                return
            yield bool(changes)

    def _is_gone(self) -> bool:
        try:
            return not self._there()
        except ModelportError as error:  # a server that is away comes back
            logger.debug("%s: %s", self._name, error.message)
            return False

    def _changed(self) -> bool:
        """Update the deployment, if its code is another one; False when there is none any more."""
        began = time.monotonic()
        away = False
        while not self._closing.is_set():
            digest = _digest_or_none(self.folder)
            if digest is not None and digest == self._known:
                return True
            try:
                if not self._update():
                    return False
            except (OperationInProgress, ResourceModifiedError) as error:  # somebody else changes it just now
                logger.debug("%s: %s", self._name, error.message)
                self._closing.wait(_TICK / 1000)
                continue
            except ServiceRequestError as error:  # what was saved meanwhile is deployed when the server is back
                if not away:
                    logger.warning("%s waits with its new code: %s", self._name, error.message)
                away = True
                self._closing.wait(_TICK / 1000)
                continue
            except ModelportError as error:
                self._known = digest
                logger.warning("%s goes on with the code that it had: %s", self._name, error)
                self._tell(Update(time.monotonic() - began, error))
            else:
                self._known = digest
                seconds = time.monotonic() - began
                logger.info("%s: updated in %.1f s.", self._name, seconds)
                self._tell(Update(seconds))
            return True
        return True

    def _tell(self, update: Update) -> None:
        for callback in self._callbacks:
            self._call(callback, update)

    def _call(self, callback: Callable[[Update], Any], update: Update) -> None:
        try:
            callback(update)
        except Exception:
            logger.exception("A callback for an update of %s raised", self._name)


def _digest(folder: Path) -> str:
    return source(folder, leave_out=LEFT_OUT_OF_CODE).content_hash()


def _digest_or_none(folder: Path) -> str | None:
    """The hash of what would be uploaded; None where an upload would say why there is none."""
    try:
        return _digest(folder)
    except ValidationException:
        return None


def _watchfiles() -> Any:
    try:
        return import_module("watchfiles")
    except ImportError as error:
        raise ValidationException(
            "watch=True needs the package watchfiles: pip install 'modelport[local]'.", target="watch"
        ) from error
