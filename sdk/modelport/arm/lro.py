"""
Long-running operations: how to tell whether one has ended, and how.

Azure has three ways: an operation's own URL (`Azure-AsyncOperation`), a URL that
answers 202 until it is done (`Location`), or the state in the resource itself.
`start` finds out which one an answer means, `look` reads one poll. Neither sends.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any, Literal

from attrs import asdict, evolve, frozen

from modelport.arm.messages import Response
from modelport.errors import ValidationException

_LONGEST = 3600.0
ENDED = frozenset({"succeeded", "failed", "canceled", "cancelled"})
Way = Literal["operation", "location", "resource", "gone", "done"]
_UNREADABLE = "This is no continuation token: give what a poller's continuation_token() returned."
_WAYS = ("operation", "location", "resource", "gone", "done")


@frozen
class Follow:
    """Where to look, in which way, and what the first answer said already."""

    way: Way
    url: str
    resource: str | None
    """Path to GET in the end; None when there is nothing to get."""
    gone: str | None = None
    """Path of what is being deleted."""
    request_id: str | None = None
    """The id of the request that began it. All requests about an operation have the same."""

    def without_operation(self) -> Follow | None:
        """How to go on when the operation's own URL is no longer there: by the resource; None when it has none."""
        if self.way in ("operation", "location") and self.resource:
            return evolve(self, way="resource", url=self.resource)
        if self.way in ("operation", "location") and self.gone:
            return evolve(self, way="gone", url=self.gone)
        return None


@frozen
class Look:
    """What one poll said. `delay` is the seconds that the server asked for, None when it asked for none."""

    status: str
    ended: bool
    error: Any = None
    delay: float | None = None
    messages: tuple[str, ...] = ()
    """What the operation reported so far; Modelport's own servers send it."""
    progress: str = ""
    """What it is at now; the same ones send it."""


def start(response: Response, resource: str | None, gone: str | None = None) -> Follow:
    """
    How to follow the operation that `response` began.

    Args:
        response: A success answer to a PUT, PATCH, POST or DELETE.
        resource: Path of the resource, or None when it will be gone.
        gone: Path of what will be gone.
    """
    rest = {"resource": resource, "gone": gone, "request_id": response.headers.get("x-ms-client-request-id")}
    operation, location = response.headers.get("azure-asyncoperation"), response.headers.get("location")
    if operation:
        return Follow("operation", operation, **rest)
    if response.status == 202 and location:
        return Follow("location", location, **rest)
    state = _state(response.body)
    if resource and state and state.lower() != "succeeded":  # one that failed at once is looked at again, and raised
        return Follow("resource", resource, **rest)
    return Follow("done", "", **rest)


def token_of(follow: Follow, name: str) -> str:
    """A text from which another process can go on to follow an operation; `name` is what it is about."""
    return base64.urlsafe_b64encode(json.dumps({"name": name, **asdict(follow)}).encode()).decode()


def follow_of(token: str) -> tuple[Follow, str]:
    """
    What `token_of` was given.

    Raises:
        errors.ValidationException: It is no such text.
    """
    try:
        said = json.loads(base64.urlsafe_b64decode(token.encode()))
        name = str(said.pop("name"))
        follow = Follow(**said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValidationException(_UNREADABLE, target="continuation_token") from error
    if follow.way not in _WAYS or not all(isinstance(each, (str, type(None))) for each in said.values()):
        raise ValidationException(_UNREADABLE, target="continuation_token")
    return follow, name


def look(way: Way, response: Response) -> Look:
    """What a poll says. Error statuses are the caller's affair, but for a `Location` that answers with the failure."""
    asked = delay(response.headers)
    body = response.body if isinstance(response.body, Mapping) else {}
    if way == "gone":
        if response.status == 404:
            return Look("Succeeded", ended=True)
        state = _state(body) or "Succeeded"
        return Look("Failed", ended=True) if state.lower() in ENDED else Look(state, ended=False, delay=asked)
    if way == "location":
        if response.status == 202:
            return Look("InProgress", ended=False, delay=asked, messages=_messages(body))
        if response.status >= 400:
            return Look("Failed", ended=True, error=body.get("error", body))
        return Look("Succeeded", ended=True)
    status = _state(body) if way == "resource" else str(body.get("status") or "")
    ended = (status or "succeeded").lower() in ENDED
    return Look(
        status or "Succeeded",
        ended=ended,
        error=body.get("error"),
        delay=None if ended else asked,
        messages=_messages(body),
        progress=_progress(body),
    )


def _state(body: Any) -> str | None:
    properties = body.get("properties") if isinstance(body, Mapping) else None
    state = properties.get("provisioningState") if isinstance(properties, Mapping) else None
    return str(state) if state else None


def _messages(body: Mapping[str, Any]) -> tuple[str, ...]:
    properties = body.get("properties")
    said = properties.get("messages") if isinstance(properties, Mapping) else None
    return tuple(said) if isinstance(said, list) else ()


def _progress(body: Mapping[str, Any]) -> str:
    properties = body.get("properties")
    return str(properties.get("progress") or "") if isinstance(properties, Mapping) else ""


def delay(headers: Mapping[str, str]) -> float | None:
    """
    Seconds that an answer asks to wait, an hour at the most; None when it asks for none.

    A date is compared with the answer's own `Date`: the server's clock and this computer's may differ.
    """
    for name, unit in (("x-ms-retry-after-ms", 1000), ("retry-after", 1)):
        said = headers.get(name, "")
        try:
            value = float(said)
        except ValueError:
            value = _until(said, headers.get("date", ""))
        if 0 < value < inf:
            return min(value / unit, _LONGEST)
    return None


def _until(moment: str, now: str) -> float:
    try:
        return (parsedate_to_datetime(moment) - parsedate_to_datetime(now)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
