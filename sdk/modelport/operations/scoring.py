"""What is sent to an endpoint and what comes back, without the sending."""

from __future__ import annotations

import io
import json
import mimetypes
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import frozen

from modelport.errors import ScoringError, ValidationException
from modelport.transports import multipart
from modelport.transports.scoring import Answer, Content, Opened

DEPLOYMENT = "azureml-model-deployment"
_JSON = "application/json"
_OCTETS = "application/octet-stream"
_SHOWN = 2000
_BY_THE_MODEL = (400, 424, 500)
"""Statuses of a model's server that did not get along with the request."""

_SMALL = 8 << 20
"""Bytes up to which a request file is read at once; a larger one is sent from the disk."""

_MODELS = (DEPLOYMENT, "x-ms-run-function-failed", "ms-azureml-model-error-statuscode")
"""Headers of an answer that a model's server gave, or that tell of it: with none of them, it was the gateway."""


class Result(str):
    """
    An answer's text, which is what Azure's `invoke` returns, with what else came with it.

    Attributes:
        status_code: HTTP status.
        headers: Names in lower case.
        content: The bytes, of an answer that is no text.
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


class Stream:
    """
    An answer that is read as it comes: iterate over it for bytes, or over `lines()` for text.

        with ml_client.online_endpoints.invoke("tides", input_data=…, stream=True) as answer:
            for line in answer.lines():
                …

    The connection is closed at the end of the block, or of the answer.

    Attributes:
        status_code: HTTP status.
        headers: Names in lower case.
        deployment: Who answers; None when the gateway did not say.
        request_id: By which the deployment's log names the request.
        latency_ms: From sending to the end of the headers, in milliseconds.
    """

    def __init__(self, opened: Opened) -> None:
        self.status_code, self.headers, self.latency_ms = opened.status, opened.headers, opened.seconds * 1000
        self.deployment, self.request_id = opened.headers.get(DEPLOYMENT), _request_id(opened.headers)
        self._opened = opened
        self._pieces: Generator[bytes, None, None] = self._read()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def __next__(self) -> bytes:
        return next(self._pieces)

    def __enter__(self) -> Stream:  # noqa: PYI034 (Self came with Python 3.11)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def lines(self) -> Iterator[str]:
        """The rest of the answer, line by line as they come, without their ends."""
        rest = b""
        for piece in self._pieces:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r").decode(self._opened.encoding, errors="replace")
        if rest:
            yield rest.decode(self._opened.encoding, errors="replace")

    def read(self) -> bytes:
        """The rest of the answer."""
        return b"".join(self._pieces)

    def close(self) -> None:
        """Close the connection; what has not come yet is given up."""
        self._pieces.close()
        self._opened.close()

    def _read(self) -> Generator[bytes, None, None]:
        try:
            yield from self._opened.pieces()
        finally:
            self._opened.close()


@frozen
class Body:
    """What is sent. `again` says whether it can be sent a second time: pieces from an iterator are gone."""

    content: Content
    kind: str
    again: bool = True

    def fault(self) -> str:
        """What keeps a body that is sent as JSON from being any; nothing when it is, or is sent from the disk."""
        if not (self.kind.partition(";")[0].strip() == _JSON and isinstance(self.content, bytes)):
            return ""
        try:
            json.loads(self.content)
        except ValueError as error:
            return f"The request was sent as JSON and is none: {error}."
        return ""


def body(
    request_file: str | os.PathLike[str] | None, input_data: Any, content_type: str | None, files: Any = None
) -> Body:
    """
    What to send, and its content type.

    Raises:
        errors.ValidationException: Neither or both were given, a file cannot be read, or JSON cannot say it.
    """
    if files is not None:
        return _form(request_file, input_data, content_type, files)
    if (request_file is None) == (input_data is None):
        raise ValidationException("Give invoke() either request_file or input_data.", target="request_file")
    if request_file is not None:
        return _file(Path(request_file), content_type)
    if isinstance(input_data, (bytes, bytearray, memoryview)):
        return Body(bytes(input_data), content_type or _OCTETS)
    if isinstance(input_data, str):
        return Body(input_data.encode(), content_type or _JSON)
    if isinstance(input_data, io.TextIOBase):
        raise ValidationException("input_data is a file in text mode: open it with 'rb'.", target="input_data")
    if hasattr(input_data, "read"):
        return Body(_Pieces(iter(lambda: input_data.read(1 << 16), b"")), content_type or _OCTETS, again=False)
    if isinstance(input_data, Iterator):
        return Body(_Pieces(input_data), content_type or _OCTETS, again=False)
    return Body(_json(input_data), content_type or _JSON)


class _Pieces:
    """An iterator's pieces as bytes; whatever else it has (`read`, a length) would be asked for."""

    def __init__(self, pieces: Iterable[Any]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if not isinstance(piece, (bytes, bytearray, memoryview, str)):
                message = f"The pieces of input_data must be bytes or text, not {type(piece).__name__} ({piece!r:.80})."
                raise ValidationException(message, target="input_data")
            if len(piece):  # an empty one would end a chunked body
                yield piece.encode() if isinstance(piece, str) else bytes(piece)


def _form(request_file: str | os.PathLike[str] | None, input_data: Any, content_type: str | None, files: Any) -> Body:
    if request_file is not None or not isinstance(input_data, (Mapping, type(None))):
        message = (
            "With files, invoke() takes no request_file, and input_data only as a mapping: the form's other fields."
        )
        raise ValidationException(message, target="files")
    made = multipart.form(files, input_data or {})
    return Body(made, content_type or made.content_type)


def _file(path: Path, content_type: str | None) -> Body:
    try:
        content: bytes | Path = path.read_bytes() if path.stat().st_size <= _SMALL else path
    except OSError as error:
        message = f"The request file '{os.fspath(path)}' cannot be read: {error.strerror}."
        raise ValidationException(message, target="request_file") from error
    return Body(content, content_type or _kind(path, content))


def _kind(path: Path, content: bytes | Path) -> str:
    """
    The content type that a file's name says, unless its name says little: then JSON, when that is what it has.

    Source: Azure's client takes every request file for JSON, whatever its name.
    """
    said = mimetypes.guess_type(path.name)[0]
    if said not in (None, "text/plain"):
        return str(said)
    with suppress(ValueError):
        if isinstance(content, bytes):
            json.loads(content)
            return _JSON
    return said or _OCTETS


def _json(data: Any) -> bytes:
    if hasattr(data, "to_json"):  # a data frame, in the shape that Azure's MLflow servers take
        return json.dumps({"input_data": json.loads(data.to_json(orient="split"))}).encode()
    try:
        return json.dumps(data, default=lambda value: value.tolist()).encode()  # arrays, of whatever library
    except (TypeError, ValueError, AttributeError) as error:
        message = f"input_data cannot be written as JSON: {error}. Give bytes, text, or lists and dicts."
        raise ValidationException(message, target="input_data") from error


def by_gateway(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer means that the gateway knows no such key or endpoint, before a model saw anything."""
    return status in (401, 404) and not any(name in headers for name in _MODELS)


def result(answer: Answer, endpoint: str, deployment: str | None, sent: Body) -> Result:
    """
    The answer as `invoke` returns it.

    Raises:
        errors.ScoringError: Its status is an error.
    """
    if answer.status >= 300:  # a redirect would send the body and the key elsewhere
        raise refusal(answer, endpoint, deployment, sent)
    return _result(answer)


def told(text: str) -> Result:
    """What is returned in an answer's stead, where Azure's client returns a text too."""
    return _result(Answer(404, text.encode(), {}, "utf-8", 0.0))


def _result(answer: Answer) -> Result:
    made = Result(answer.content.decode(answer.encoding, errors="replace"))
    made.status_code, made.headers, made.content = answer.status, answer.headers, answer.content
    made.deployment, made.request_id = answer.headers.get(DEPLOYMENT), _request_id(answer.headers)
    made.latency_ms = answer.seconds * 1000
    return made


def streamed(opened: Opened, endpoint: str, deployment: str | None, sent: Body) -> Stream:
    """
    The answer as `invoke(stream=True)` returns it.

    Raises:
        errors.ScoringError: Its status is an error.
    """
    if opened.status >= 300:
        raise refusal(opened.whole(), endpoint, deployment, sent)
    return Stream(opened)


def refusal(answer: Answer, endpoint: str, deployment: str | None, sent: Body) -> ScoringError:
    """The error that an answer tells of: who said it, what, and what can be done."""
    text = answer.content.decode(answer.encoding, errors="replace")
    who, request_id = answer.headers.get(DEPLOYMENT), _request_id(answer.headers)
    asked = f"Deployment '{who or deployment}' of '{endpoint}'" if who or deployment else f"Endpoint '{endpoint}'"
    named = f" (request {request_id})" if request_id else ""
    told = f"{asked} answered with status {answer.status}{named}: {_said(text) or 'it said nothing.'}"
    fault = sent.fault() if answer.status in _BY_THE_MODEL else ""
    return ScoringError(
        "\n".join(filter(None, (told, fault, _remedy(answer, endpoint, who or deployment)))),
        status_code=answer.status,
        body=text,
        headers=dict(answer.headers),
        deployment=who,
        request_id=request_id,
    )


def _remedy(answer: Answer, endpoint: str, deployment: str | None) -> str:
    """What to do, for the statuses whose cause is known; Source: Azure's table of status codes for scoring clients."""
    logs = f"online_deployments.get_logs('{deployment or 'NAME'}', '{endpoint}', lines=100) has its log."
    after = answer.headers.get("retry-after")
    later = f"Try again after {after} s." if after and after.isdigit() else "Try again a little later."
    if answer.headers.get("x-ms-run-function-failed", "").lower() == "true":
        return f"The scoring script failed. {logs}"
    if 300 <= answer.status < 400:
        return f"It points to '{answer.headers.get('location', '')}', where neither the key nor the data were sent."
    if answer.status == 401:
        return "The gateway refused the key, or token, that the service gives out. Look at the endpoint's auth_mode."
    if answer.status == 404 and not deployment:
        return f"No deployment of '{endpoint}' has traffic: set the endpoint's traffic, or name one: deployment_name=…"
    if answer.status == 424:
        status = answer.headers.get("ms-azureml-model-error-statuscode", "an error")
        why = answer.headers.get("ms-azureml-model-error-reason")
        return f"The deployment's container answered with {status}{f' ({why})' if why else ''}. {logs}"
    return {
        408: "It took longer than the deployment's request_settings.request_timeout_ms: raise that, or ask for less.",
        413: "The request is larger than the deployment's server takes. Send less at once.",
        429: "More requests wait than the deployment takes: twice max_concurrent_requests_per_instance for each "
        f"instance. {later} More instances, or a higher limit in request_settings, take more.",
        503: f"Nothing was ready to take it. {later} {logs}",
        504: f"It took longer than the gateway waits. {logs}",
    }.get(answer.status, logs if answer.status >= 500 else "")


def _request_id(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-request-id") or headers.get("x-ms-request-id")


def _said(text: str) -> str:
    """The sentence in an error's body, in Azure's shape or the scoring server's; else the body."""
    with suppress(ValueError, AttributeError):
        body = json.loads(text)
        text = str((body.get("error") or body).get("message") or text)
    return text.strip()[:_SHOWN]
