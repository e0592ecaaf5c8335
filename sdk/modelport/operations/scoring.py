"""What is sent to an endpoint and what comes back, without the sending."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelport.errors import ScoringError, ValidationException
from modelport.transports.scoring import Answer

DEPLOYMENT = "azureml-model-deployment"
_JSON = "application/json"
_SHOWN = 2000


class Result(str):
    """
    An answer's text, which is what Azure's `invoke` returns, with what else came with it.

    Attributes:
        status_code: HTTP status.
        headers: Names in lower case.
        content: The bytes.
        deployment: Who answered; None when the gateway did not say.
        request_id: By which the deployment's log names the request.
        latency_ms: From sending to the last byte, in milliseconds.
    """

    __slots__ = ("content", "deployment", "headers", "latency_ms", "request_id", "status_code")

    status_code: int
    headers: Mapping[str, str]
    content: bytes
    deployment: str | None
    request_id: str | None
    latency_ms: float

    def json(self) -> Any:
        """The answer as JSON. Raises ValueError when it is something else."""
        return json.loads(self)


def body(request_file: str | os.PathLike[str] | None, input_data: Any, content_type: str | None) -> tuple[bytes, str]:
    """
    The bytes to send, and their content type.

    Raises:
        errors.ValidationException: Neither or both were given, the file cannot be read, or JSON cannot say it.
    """
    if (request_file is None) == (input_data is None):
        raise ValidationException("Give invoke() either request_file or input_data.", target="request_file")
    if request_file is not None:
        try:
            return Path(request_file).read_bytes(), content_type or _JSON
        except OSError as error:
            message = f"The request file '{os.fspath(request_file)}' cannot be read: {error.strerror}."
            raise ValidationException(message, target="request_file") from error
    if isinstance(input_data, (bytes, bytearray)):
        return bytes(input_data), content_type or "application/octet-stream"
    if isinstance(input_data, str):
        return input_data.encode(), content_type or _JSON
    return _json(input_data), content_type or _JSON


def _json(data: Any) -> bytes:
    if hasattr(data, "to_json"):  # a data frame, in the shape that Azure's MLflow servers take
        return json.dumps({"input_data": json.loads(data.to_json(orient="split"))}).encode()
    try:
        return json.dumps(data, default=lambda value: value.tolist()).encode()  # arrays, of whatever library
    except (TypeError, ValueError, AttributeError) as error:
        message = f"input_data cannot be written as JSON: {error}. Give bytes, text, or lists and dicts."
        raise ValidationException(message, target="input_data") from error


def _said(text: str) -> str:
    """The sentence in an error's body, in Azure's shape or the scoring server's; else the body."""
    with suppress(ValueError, AttributeError):
        body = json.loads(text)
        text = str((body.get("error") or body).get("message") or text)
    return text.strip()[:_SHOWN]


def result(answer: Answer, endpoint: str, deployment: str | None) -> Result:
    """
    The answer as `invoke` returns it.

    Raises:
        errors.ScoringError: Its status is an error.
    """
    text = answer.content.decode(answer.encoding, errors="replace")
    who = answer.headers.get(DEPLOYMENT)
    request_id = answer.headers.get("x-request-id")
    if answer.status >= 300:  # a redirect would send the body and the key elsewhere
        asked = f"Deployment '{who or deployment}' of '{endpoint}'" if who or deployment else f"Endpoint '{endpoint}'"
        named = f" (request {request_id})" if request_id else ""
        raise ScoringError(
            f"{asked} answered with status {answer.status}{named}: {_said(text)}",
            status_code=answer.status,
            body=text,
            headers=dict(answer.headers),
            deployment=who,
            request_id=request_id,
        )
    made = Result(text)
    made.status_code, made.headers, made.content = answer.status, answer.headers, answer.content
    made.deployment, made.request_id, made.latency_ms = who, request_id, answer.seconds * 1000
    return made
