"""What the stub is sent, what it answers, and what can go wrong on the way."""

import json
from typing import Any

from attrs import define, field, frozen


@define
class Seen:
    """One request as it arrived. `body` and `status` are filled in while it is served; a reset one has status 0."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    names: list[str]
    """Names as they were written, in order."""
    body: bytes = b""
    size_bytes: int = 0
    """Of the body, which a stub that does not keep contents forgets."""
    status: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@frozen
class Answer:
    """A status, headers and body. A dict or a list is sent as JSON."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(factory=dict)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@frozen
class Reset:
    """The connection is reset; nothing is read, nothing is answered."""


@frozen
class Cut:
    """The connection is reset when `after` bytes of the body were read."""

    after: int


@frozen
class Half:
    """The request is served, but half of the answer's body is sent (of its head, when it has no body), then closed."""


@frozen
class Say:
    """Something else is answered, and the request has no effect."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    body: Any = b""


Fault = Reset | Cut | Half | Say


def fault(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    """An error body as the management API's."""
    component = {"type": "ComponentName", "info": {"value": "managementfrontend"}}
    body = {"error": {"code": code, "message": message, "details": [], "additionalInfo": [component]}}
    return Answer(status, body, headers or {})
