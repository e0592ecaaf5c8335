"""
Errors to ARM's error bodies and back.

An error that the control plane raises arrives in the client as the same class:
the body's `code` says which.
"""

from __future__ import annotations

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


def body_of(error: errors.ModelportError) -> dict[str, Any]:
    """`{"error": {"code", "message", "target", "details": [], "additionalInfo": []}}`."""
    return {"error": fault_of(error)}


def fault_of(error: errors.ModelportError) -> dict[str, Any]:
    """What stands under `error` in an error body, and in a failed operation."""
    return {
        "code": error.code,
        "message": error.message,
        "target": error.target,
        "details": error.details,
        "additionalInfo": [],
    }


def response_of(error: errors.ModelportError) -> Response:
    """The answer that tells a client of `error`."""
    return Response(error.status, body_of(error))


def error_of(fault: Any, status: int, said_by: str) -> errors.ModelportError:
    """
    The error that a fault describes: our own class where its code names one, else by HTTP status.

    Args:
        fault: `{"code", "message", …}`; anything else is told as it is.
        status: HTTP status of the answer.
        said_by: What was asked, for answers that say nothing: `PUT /subscriptions/…`.
    """
    said = fault if isinstance(fault, Mapping) else {}
    code, message = said.get("code"), said.get("message")
    shown = f": {fault}" if fault else ""
    text = str(message) if message else f"{said_by} was answered with HTTP status {status}{shown}."
    kind = _BY_CODE.get(str(code)) or _BY_STATUS.get(status)
    details = said.get("details") or []
    if kind:
        return kind(text, target=said.get("target"), details=details)
    return errors.HttpResponseError(
        f"({code}) {text}" if code else text,
        status_code=status,
        error_code=code,
        target=said.get("target"),
        details=details,
    )


def raise_for(response: Response, said_by: str) -> Response:
    """
    The response, when it is a success.

    Raises:
        errors.ModelportError: What its error body describes.
    """
    if response.status < 400:
        return response
    body = response.body
    fault = body.get("error", body) if isinstance(body, Mapping) else body
    raise error_of(fault, response.status, said_by)


def _tree(kind: type[errors.ModelportError]) -> Iterator[type[errors.ModelportError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _tree(each)


_BY_CODE = {each.code: each for each in _tree(errors.ModelportError) if not issubclass(each, errors.HttpResponseError)}
