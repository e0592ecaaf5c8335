"""
One request and its one answer.

Granian's WSGI protocol object takes an answer from any thread, once; what comes
after the first is dropped. That is what lets a watch answer for a script that
hangs, and a thread answer a request that another one read.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Protocol

from modelport_scoring import __version__
from modelport_scoring.records import Record
from modelport_scoring.request_ids import current, of_batch
from modelport_scoring.streams import Pipe

HEADER_LIMIT = 100
"""Longest request id, in characters. Source: azureml-inference-server-http."""

JSON = "application/json"
HTML = "text/html; charset=utf-8"
VERSION = ("x-ms-server-version", f"modelport/{__version__}")

PLAIN_IDS: tuple[None, None, None, None] = (None, None, None, None)
"""What most requests say about themselves."""


class WSGIProtocol(Protocol):
    """The part of Granian's protocol object that is used here."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer; only the first call counts."""

    def response_iter(self, status: int, headers: list[tuple[str, str]], body: Iterator[bytes]) -> None:
        """Answer with what `body` yields; come back at its end, or when the client has gone, and close it."""


class Exchange:
    """
    A request and the way to answer it.

    Attributes:
        environ: The request as a WSGI environment, without what WSGI adds that no request says.
        data: What the script's `input` made of the request, for run().
        headers: Those of every answer: server version and ids.
        request_id: The id that logs know it by.
        received: Bytes of its body.
        started: When it came, by `time.perf_counter`.
        run_seconds: How long run() took; 0 as long as it has not been called.
    """

    __slots__ = (
        "_note",
        "_protocol",
        "data",
        "environ",
        "headers",
        "method",
        "path",
        "received",
        "request_id",
        "run_seconds",
        "started",
    )

    def __init__(self, protocol: WSGIProtocol, environ: dict[str, Any], note: Callable[[Record], None]) -> None:
        self._protocol = protocol
        self._note = note
        self.started = time.perf_counter()
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"]
        self.headers: list[tuple[str, str]] = []
        self.data: Any = None
        self.request_id = ""
        self.received = 0
        self.run_seconds = 0.0

    def identify(self, *, versioned: bool) -> str | None:
        """
        Fill `headers` with the ids that the answer carries; return what is wrong with the request's, if anything is.

        Source: azureml-inference-server-http. `x-ms-request-id` is an older name of the client's id,
        and is answered with that one or, without one, with the request's.
        """
        said = self.environ.get
        trace_id, request_id, client_id, legacy_id = asked = (
            said("HTTP_TRACEID"),
            said("HTTP_X_REQUEST_ID"),
            said("HTTP_X_MS_CLIENT_REQUEST_ID"),
            said("HTTP_X_MS_REQUEST_ID"),
        )
        if request_id is None:
            request_id = _new_id()
            if asked == PLAIN_IDS and versioned:
                self.request_id = request_id
                self.headers = [VERSION, ("x-request-id", request_id), ("x-ms-request-id", request_id)]
                return None
        headers = self.headers
        if versioned:
            headers.append(VERSION)
        if trace_id is not None:
            headers.append(("TraceId", trace_id))
        if len(request_id) > HEADER_LIMIT:
            return f"x-request-id must not exceed {HEADER_LIMIT} characters"
        if request_id:
            self.request_id = request_id
            headers.append(("x-request-id", request_id))
        client_id = client_id or legacy_id or ""
        legacy_id = legacy_id or client_id or request_id
        if max(len(legacy_id), len(client_id)) > HEADER_LIMIT:
            return f"x-ms-request-id and x-ms-client-request-id must not exceed {HEADER_LIMIT} characters"
        if legacy_id:
            headers.append(("x-ms-request-id", legacy_id))
        if client_id:
            headers.append(("x-ms-client-request-id", client_id))
        return None

    def enter(self) -> None:
        """Say to the log that this thread, or task, handles this request from now on."""
        current.set(self.request_id)

    def enter_with(self, others: Sequence[Exchange]) -> None:
        """Say to the log that this thread, or task, handles this request and others in one run() from now on."""
        current.set(of_batch([self.request_id, *(each.request_id for each in others)]))

    def answer(self, status: int, content_type: str, body: bytes, *headers: tuple[str, str]) -> None:
        """Answer with this body, `headers` and those of every answer. Only the first answer counts."""
        self._protocol.response_bytes(status, [("content-type", content_type), *headers, *self.headers], body)
        query = self.environ["QUERY_STRING"]
        ended = time.perf_counter()
        self._note(
            (self.started, ended, self.method, self.path, query, status, len(body), self.received, self.run_seconds)
        )

    def stream(self, status: int, content_type: str, pieces: Pipe, *headers: tuple[str, str]) -> None:
        """Answer with these pieces, from a thread of its own, until there are no more or the client has gone."""
        spelled = [("content-type", content_type), *headers, *self.headers]

        def send() -> None:
            try:
                self._protocol.response_iter(status, spelled, pieces)
            finally:
                pieces.close()
                self.note(status, pieces.size)

        threading.Thread(target=send, name="stream", daemon=True).start()

    def note(self, status: int, size: int) -> None:
        """Write the request down, for the access log and all who count, with the size of its answer in bytes."""
        query = self.environ["QUERY_STRING"]
        ended = time.perf_counter()
        self._note((self.started, ended, self.method, self.path, query, status, size, self.received, self.run_seconds))

    def refuse(self, status: int, message: str, *headers: tuple[str, str], run_failed: bool = False) -> None:
        """Answer with an error in Azure's shape, `{"message": …}`."""
        body = json.dumps({"message": message}).encode()
        self.answer(status, JSON, body, ("x-ms-run-function-failed", str(run_failed)), *headers)


def request_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the request's headers under their usual spelling, e.g. `{"Content-Type": "application/json"}`."""
    headers = {}
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            headers[key[5:].replace("_", "-").title()] = value
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            headers[key.replace("_", "-").title()] = value
    return headers


class _Ids:
    """Makes ids that look like a UUID: the first part is the process's, and random, the last one counts."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        first = uuid.uuid4()
        self._prefix = str(first)[:24]
        self._next = count(first.node & 0x7FFF_FFFF_FFFF).__next__

    def __call__(self) -> str:
        return self._prefix + "%012x" % self._next()  # noqa: UP031  # half the time of an f-string


_new_id = _Ids()
