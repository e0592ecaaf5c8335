"""
What Granian's ASGI says, in the words of the rest: an environment as WSGI has it, and a way to answer.

So there is one description of the rules, in `app`, for both interfaces. ASGI and not
RSGI, which is a little faster: RSGI takes the pieces of a stream without ever asking the
script to wait, and a client that reads slowly would fill the memory.

Granian's `send` has done its work when it returns; what it returns is awaited only by who
wants to know that there is room for more. So an answer can be given from any thread here too.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Receive = Callable[[], Awaitable["dict[str, Any]"]]
Send = Callable[["dict[str, Any]"], Awaitable[None]]
ASGIHandler = Callable[["dict[str, Any]", Receive, Send], Awaitable[None]]
Headers = list[tuple[str, str]]

NAME, VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[\t\x20-\x7e]*")
"""What a header may be. Over WSGI, Granian leaves out what is not so; over ASGI the answer would be lost."""


class Reply:
    """The way to answer one request; only the first answer counts."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._answered = False

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer."""
        if self.start(status, headers):
            self._send({"type": "http.response.body", "body": body})

    def start(self, status: int, headers: Headers) -> bool:
        """Begin an answer; False when the request has been answered."""
        if self._answered:
            return False
        self._answered = True
        spelled = [
            (name.encode(), value.encode())
            for name, value in headers
            if NAME.fullmatch(name) and VALUE.fullmatch(value)
        ]
        self._send({"type": "http.response.start", "status": status, "headers": spelled})
        return True

    async def piece(self, piece: bytes) -> None:
        """Send a piece of the body; come back when there is room for the next."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    def finish(self) -> None:
        """End the body."""
        self._send({"type": "http.response.body", "body": b""})


def environ_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request as Granian's WSGI would have it; without a body."""
    environ = {
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "REMOTE_ADDR": scope["client"][0],
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "wsgi.url_scheme": scope["scheme"],
    }
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        if name not in (b"content-type", b"content-length"):  # not `content_length`, whatever that is
            key = f"HTTP_{key}"
        text = value.decode() if value.isascii() else ""
        if key in environ:
            text = f"{environ[key]}{';' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text
    return environ
