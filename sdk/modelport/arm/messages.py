"""A request and a response of the management API, whichever way they travel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from attrs import field, frozen

Credential = Literal["service", "storage", "none"]
Method = Literal["GET", "PUT", "PATCH", "POST", "DELETE", "HEAD"]


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names in lower case, by which they are looked up."""
    return {name.lower(): value for name, value in headers.items()}


@frozen
class Request:
    """
    What is asked.

    `path` starts with `/subscriptions/`; an absolute URL stands there when a service gave one out, such as that of
    a storage account. `body` is a JSON document; `content` is raw bytes, a file to send, or pieces of one.
    """

    method: Method
    path: str
    query: Mapping[str, str] = field(factory=dict)
    headers: Mapping[str, str] = field(factory=dict, converter=lower)
    body: Any = None
    content: bytes | Path | Iterable[bytes] | None = None
    api_version: str | None = None
    """What is sent as such; None is what `versions` says of the place. A URL that a service gave out has its own."""
    credential: Credential = "service"
    """Whose token goes with it: the service's, and to no other host; storage's; or none, as the URL has a signature."""
    base_url: str = ""
    """What absolute URLs in the answer start with. Set by whoever received the request."""


@frozen
class Part:
    """A range of a file: `size` bytes from `start` on."""

    path: Path
    start: int
    size: int


@frozen
class Response:
    """What is answered. `body` is a JSON document or None; `content` bytes, a file or a part of one, if asked for."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(factory=dict, converter=lower)
    content: bytes | Path | Part | None = None


class Sender(Protocol):
    """Anything that carries a request to a control plane and brings the answer."""

    def send(self, request: Request) -> Response:
        """The answer, whatever its status. Raises `errors.ServiceRequestError` when none came."""
