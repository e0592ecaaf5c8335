"""
Errors to ARM's error bodies and back.

An error that the control plane raises arrives in the client as the same class:
the body's `code` says which, and a mark that it is Modelport's own word. The same
code from another service is that service's error answer, whatever it is called.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from modelport import errors
from modelport.arm.messages import Response

_BY_STATUS: dict[int, type[errors.ModelportError]] = {
    401: errors.ClientAuthenticationError,
    404: errors.ResourceNotFoundError,
    408: errors.ServiceRequestTimeoutError,
    409: errors.ResourceExistsError,
    412: errors.ResourceModifiedError,
}
_REQUEST_IDS = ("x-ms-request-id", "x-ms-correlation-request-id", "x-request-id", "x-ms-client-request-id")
_FIRST_REFUSAL = 300
"""Redirects that were not followed are no success either."""

_LONGEST, _PARTS = 300, 20
_MARK = {"type": "ModelportError", "info": {}}
"""In `additionalInfo`: the code is one of ours."""


def body_of(error: errors.ModelportError) -> dict[str, Any]:
    """`{"error": {"code", "message", "target", "details": [], "additionalInfo": [{"type", "info"}]}}`."""
    return {"error": fault_of(error)}


def fault_of(error: errors.ModelportError) -> dict[str, Any]:
    """What stands under `error` in an error body, and in a failed operation."""
    said = error.error_code if isinstance(error, errors.HttpResponseError) else None
    return {
        "code": said or error.code,
        "message": error.message,
        "target": error.target,
        "details": error.details,
        "additionalInfo": [_MARK],
    }


def response_of(error: errors.ModelportError) -> Response:
    """The answer that tells a client of `error`."""
    status = error.status_code if isinstance(error, errors.HttpResponseError) else error.status
    return Response(status, body_of(error))


def error_of(fault: Any, status: int, said_by: str) -> errors.ModelportError:
    """
    The error that a fault describes: our own class where its code names one, else by HTTP status.

    Args:
        fault: `{"code", "message", …}`; anything else is told as it is.
        status: HTTP status of the answer; 0 for the failure of an operation.
        said_by: What was asked, for answers that say nothing: `PUT /subscriptions/…`.
    """
    said = {str(key)[:1].lower() + str(key)[1:]: value for key, value in fault.items()} if _is_map(fault) else {}
    code = str(said["code"]) if said.get("code") else None
    info = said["additionalInfo"] if isinstance(said.get("additionalInfo"), list) else []
    known = _BY_CODE.get(code or "")
    if known and not issubclass(known, errors.HttpResponseError) and _MARK not in info:
        known = None
    kind = known or _BY_STATUS.get(status) or errors.HttpResponseError
    details = said["details"] if isinstance(said.get("details"), list) else []
    text = str(said["message"]) if said.get("message") else ""
    if not text:
        shown = f": {fault}" if fault else "."
        text = f"{said_by} was answered with HTTP status {status}{shown}"
    if known is None:  # ours say it all
        text = " ".join([text, *_beneath(text, {**said, "details": details})])
    if not issubclass(kind, errors.HttpResponseError):
        return kind(text, target=said.get("target"), details=details)
    if kind is errors.HttpResponseError and code:
        text = f"({code}) {text}"
    made = kind(text, status_code=status or None, error_code=code, target=said.get("target"), details=details)
    made.innererror = said.get("innererror") or said.get("innerError")
    made.additional_info = [each for each in info if each != _MARK]
    return made


def raise_for(response: Response, said_by: str) -> Response:
    """
    The response, when it is a success.

    Raises:
        errors.ModelportError: What its error body describes.
    """
    if response.status < _FIRST_REFUSAL:
        return response
    body = response.body
    fault = body.get("error", body) if _is_map(body) else _of_text(body) if isinstance(body, str) else body
    error = error_of(fault, response.status, said_by)
    if isinstance(error, errors.HttpResponseError):
        error.request_id = next((response.headers[name] for name in _REQUEST_IDS if name in response.headers), None)
    raise error


def _is_map(said: Any) -> bool:
    return isinstance(said, Mapping)


def _of_text(body: str) -> Any:
    """What a body says that is no JSON: storage's XML, a proxy's page."""
    code, message = (re.search(rf"<{name}>(.*?)</{name}>", body, re.DOTALL) for name in ("Code", "Message"))
    if code or message:
        said = {"code": code and code[1], "message": message and html.unescape(message[1]).partition("\n")[0]}
        return {key: value for key, value in said.items() if value}
    title = re.search(r"<title[^>]*>(.*?)</title>", body, re.DOTALL | re.IGNORECASE)
    text = title[1] if title else re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL | re.IGNORECASE)
    words = " ".join(html.unescape(text).split())
    return words[:_LONGEST]


def _beneath(text: str, said: Mapping[str, Any]) -> Iterator[str]:
    """What the error's parts say that its own message does not, the innermost last."""
    waiting, told, seen = [said], text, 0
    while waiting and seen < _PARTS:
        one = waiting.pop(0)
        below = [one.get("innererror"), one.get("innerError"), *(one.get("details") or [])]
        for each in filter(_is_map, below):
            seen += 1
            message = str(each.get("message") or "").strip()
            if message and message not in told:
                told += message
                yield message
            nested = each.get("details")
            waiting.append({**each, "details": nested if isinstance(nested, list) else []})


def _tree(kind: type[errors.ModelportError]) -> Iterator[type[errors.ModelportError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _tree(each)


_WITHOUT_CODE = (errors.HttpResponseError, errors.ScoringError)
_BY_CODE = {each.code: each for each in _tree(errors.ModelportError) if each not in _WITHOUT_CODE}
