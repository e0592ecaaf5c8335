"""
An exception of run() that is an answer: one with a status of HTTP.

`status_code` and `detail` are Starlette's and FastAPI's names, `code` and
`description` Werkzeug's and Flask's; a class of the script's own needs only a
`status_code`. Where an exception carries a `response`, a client library reports what
another service answered (azure-core, openai, …): that is a failure of run().
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from modelport_scoring.results import converted

DECIDED = {"connection", "content-length", "content-type", "transfer-encoding", "x-ms-run-function-failed"}
"""Headers that the answer has already, or that are not the script's."""


@dataclass(frozen=True)
class Answer:
    """What to answer: `body` is JSON, `message` what it says."""

    status: int
    body: bytes
    message: str
    headers: list[tuple[str, str]]


def answer(error: BaseException) -> Answer | None:
    """Return what the error asks to be answered; None where it asks for nothing, or for what cannot be sent."""
    if not isinstance(error, Exception) or getattr(error, "response", None) is not None:
        return None
    told: Any = error
    if _is_fault(getattr(told, "status_code", None)):
        status, detail = told.status_code, getattr(told, "detail", None)
    elif _is_fault(getattr(told, "code", None)) and hasattr(told, "description"):
        status, detail = told.code, told.description
    else:
        return None
    try:
        detail = detail or str(error) or _phrase(status)
        return Answer(int(status), _json({"message": detail}), str(detail), _headers(told))
    except Exception:  # noqa: BLE001  # the user's objects: whatever their conversion raises
        return None


def _is_fault(status: Any) -> bool:
    return isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _json(document: Any) -> bytes:
    try:
        return json.dumps(document).encode()
    except TypeError:
        return converted(document)


def _headers(error: Any) -> list[tuple[str, str]]:
    headers = getattr(error, "headers", None)
    if not isinstance(headers, Mapping):
        return []
    pairs = [(str(name).lower(), str(value)) for name, value in headers.items()]
    return [
        each for each in pairs if each[0] not in DECIDED and "".join(each).isascii() and "".join(each).isprintable()
    ]
