"""
Answers that come in pieces: what run() yields, each piece sent when it is there.

Nobody knows how long such an answer is when it begins, so it is sent in chunks. The
first piece is waited for: it says what the answer is, and a script that fails before
it gets an ordinary answer with the status of a failure.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from modelport_scoring.results import by_any

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"

NOTHING: Any = object()
"""Stands for the piece that did not come."""

LINE_END = re.compile("\r\n|\r|\n")
"""Source: HTML, server-sent events; `str.splitlines` knows more, which would break lines that are whole."""


@dataclass(frozen=True)
class Event:
    """
    One Server-Sent Event, for run() to yield.

    Source: HTML, server-sent events: what a field may hold.
    """

    data: Any = ""
    """Text as it is, also of several lines; anything else as JSON."""
    event: str | None = None
    """The event's type; `message` to the client when it is None."""
    id: str | None = None
    """What a client that comes back says it saw last."""
    retry: int | None = None
    """How long a client should wait before it comes back, in milliseconds."""

    def __post_init__(self) -> None:
        """Refuse what would end the field in its middle, or be ignored."""
        for name, value in (("event", self.event), ("id", self.id)):
            if value is not None and re.search("[\r\n\0]", value):
                raise ValueError(f"The {name} {value!r} of an Event must be one line, without NUL.")

    def __bytes__(self) -> bytes:
        """Return the event as it is sent."""
        fields = (("event", self.event), ("id", self.id), ("retry", self.retry))
        lines = [f"{name}: {value}" for name, value in fields if value is not None]
        lines += [f"data: {line}" for line in LINE_END.split(_text(self.data))]
        return "\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Form:
    """How the pieces of one answer are written; `fault` tells a client that the script failed in the middle."""

    content_type: str
    encode: Callable[[Any], bytes]
    fault: bytes = b""


def is_stream(result: object) -> bool:
    """Whether the result of run() is to be sent piece by piece: a generator, or another iterator."""
    return hasattr(result, "__next__") or hasattr(result, "__anext__")


def first_of(items: Iterator[Any]) -> Any:
    """
    Return the first piece; NOTHING when there is none.

    Raises:
        TypeError: The iterator is an asynchronous one, and this is no place to await it.
    """
    if not hasattr(items, "__next__"):
        raise TypeError(f"run() returned a {type(items).__name__}, which needs a loop: make it `async def run`.")
    return next(items, NOTHING)


def form_of(first: object, accept: str, fault: str) -> Form:
    """
    Return the form of an answer.

    Args:
        first: The first piece; NOTHING when there is none.
        accept: The request's header of that name.
        fault: What a client is told when the script fails in the middle.
    """
    if isinstance(first, Event) or EVENTS in accept:
        return Form(EVENTS, _event, _fault_in(EVENTS, fault))
    if isinstance(first, str):
        return Form(TEXT, _piece)
    if isinstance(first, (bytes, bytearray, memoryview)):
        return Form(BYTES, _piece)
    return Form(LINES, _line, _fault_in(LINES, fault))


def form_under(content_type: str, fault: str) -> Form:
    """Return the form of an answer whose script said what it is."""
    return Form(content_type, _piece, _fault_in(content_type.partition(";")[0].strip().lower(), fault))


def pieces(first: object, rest: Iterator[Any], form: Form, failed: Callable[[BaseException], None]) -> Iterator[bytes]:
    """
    Yield an answer's pieces as bytes; `rest` is closed at the end, also when nobody takes them any more.

    A failure of the script is given to `failed`, and ends the answer with the form's fault.
    """
    try:
        if first is not NOTHING:
            yield form.encode(first)
            for item in rest:
                yield form.encode(item)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001  # the script's
        failed(error)
        if form.fault:
            yield form.fault
    finally:
        try:
            close(rest)
        except BaseException as error:  # noqa: BLE001  # the script's `finally`
            failed(error)


class Pipe:
    """
    Pieces on their way to a client, one at a time, from the thread that run() is in to one that sends them.

    The sender waits as long as the client does not read; run() does not, for longer than `seconds`: a client that
    stops reading costs its own answer and a thread, and no place in run().

    Attributes:
        size: Bytes of the pieces that were taken.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._piece: bytes | None = None
        self._is_whole = self._is_left = self._is_late = False
        self._change = threading.Condition()
        self.size = 0

    def fill(self, pieces: Iterator[bytes]) -> bool:
        """Pass on all pieces, and close them; False when one of them was not taken in time."""
        in_time = True
        try:
            for piece in pieces:
                with self._change:
                    in_time = self._change.wait_for(lambda: self._piece is None or self._is_left, self._seconds)
                    if self._is_left or not in_time:
                        break
                    self._piece = piece
                    self._change.notify_all()
        finally:
            with self._change:
                self._is_whole, self._is_late = True, not in_time
                self._change.notify_all()
            close(pieces)
        return in_time

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next piece, when it is there."""
        with self._change:
            self._change.wait_for(lambda: self._piece is not None or self._is_whole or self._is_left)
            if self._is_late:  # an end would make the answer look whole
                raise TimeoutError("A stream was not read for too long: its connection is cut.")
            if self._piece is None or self._is_left:
                raise StopIteration
            piece, self._piece = self._piece, None
            self.size += len(piece)
            self._change.notify_all()
            return piece

    def close(self) -> None:
        """Say that nobody takes pieces any more."""
        with self._change:
            self._is_left = True
            self._change.notify_all()


def close(items: Any) -> None:
    """Let an iterator know that nobody wants more of it, where it can be told."""
    done = getattr(items, "close", None)
    if done is not None:
        done()


def _text(data: object) -> str:
    if isinstance(data, str):
        return data
    return bytes(data).decode() if isinstance(data, (bytes, bytearray, memoryview)) else by_any(data).decode()


def _event(item: object) -> bytes:
    return bytes(item if isinstance(item, Event) else Event(item))


def _line(item: object) -> bytes:
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    return by_any(item.data if isinstance(item, Event) else item) + b"\n"


def _piece(item: object) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    return bytes(item) if isinstance(item, Event) else _line(item)


def _fault_in(content_type: str, message: str) -> bytes:
    if content_type == EVENTS:
        return bytes(Event({"message": message}, event="error"))
    return _line({"error": {"message": message}}) if content_type == LINES else b""
