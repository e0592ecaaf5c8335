"""
Long-running operations: how to tell whether one has ended, and how.

Azure has three ways: an operation's own URL (`Azure-AsyncOperation`), a URL that
answers 202 until it is done (`Location`), or the state in the resource itself.
`start` finds out which one an answer means, `look` reads one poll. Neither sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from attrs import frozen

from modelport.arm.messages import Response

ENDED = frozenset({"succeeded", "failed", "canceled", "cancelled"})
Way = Literal["operation", "location", "resource", "done"]


@frozen
class Follow:
    """Where to look, in which way, and what the first answer said already."""

    way: Way
    url: str
    resource: str | None
    """Path to GET in the end; None when there is nothing to get."""


@frozen
class Look:
    """What one poll said. `delay` is the seconds that the server asked for, None when it asked for none."""

    status: str
    ended: bool
    error: Any = None
    delay: float | None = None
    messages: tuple[str, ...] = ()
    """What the operation reported so far; Modelport's own servers send it."""


def start(response: Response, resource: str | None) -> Follow:
    """
    How to follow the operation that `response` began.

    Args:
        response: A success answer to a PUT, PATCH, POST or DELETE.
        resource: Path of the resource, or None when it will be gone.
    """
    operation, location = response.headers.get("azure-asyncoperation"), response.headers.get("location")
    if operation:
        return Follow("operation", operation, resource)
    if response.status == 202 and location:
        return Follow("location", location, resource)
    state = _state(response.body)
    if resource and state and state.lower() not in ENDED:
        return Follow("resource", resource, resource)
    return Follow("done", "", resource)


def look(way: Way, response: Response) -> Look:
    """What a poll says. Error statuses are the caller's affair, but for a `Location` that answers with the failure."""
    delay = _delay(response.headers)
    body = response.body if isinstance(response.body, Mapping) else {}
    if way == "location":
        if response.status == 202:
            return Look("InProgress", ended=False, delay=delay, messages=_messages(body))
        if response.status >= 400:
            return Look("Failed", ended=True, error=body.get("error", body))
        return Look("Succeeded", ended=True)
    status = _state(body) if way == "resource" else str(body.get("status") or "")
    ended = (status or "succeeded").lower() in ENDED
    return Look(
        status or "Succeeded",
        ended=ended,
        error=body.get("error"),
        delay=None if ended else delay,
        messages=_messages(body),
    )


def _state(body: Any) -> str | None:
    properties = body.get("properties") if isinstance(body, Mapping) else None
    state = properties.get("provisioningState") if isinstance(properties, Mapping) else None
    return str(state) if state else None


def _messages(body: Mapping[str, Any]) -> tuple[str, ...]:
    properties = body.get("properties")
    said = properties.get("messages") if isinstance(properties, Mapping) else None
    return tuple(said) if isinstance(said, list) else ()


def _delay(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("x-ms-retry-after-ms", 1000), ("retry-after", 1)):
        try:
            value = float(headers.get(name, ""))
        except ValueError:
            continue
        if 0 < value < inf:
            return value / unit
    return None
