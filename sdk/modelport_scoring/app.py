"""
Routes, limits, and what becomes of a run().

Statuses, bodies and headers are those of azureml-inference-server-http, byte for
byte: clients were written against them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from modelport_scoring.deadlines import Deadlines
from modelport_scoring.exchange import HTML, JSON, Exchange, WSGIProtocol, request_headers
from modelport_scoring.logs import AccessLog
from modelport_scoring.script import Script
from modelport_scoring.settings import Settings
from modelport_scoring.turns import Turns

log = logging.getLogger(__name__)

NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
INTERNAL_ERROR = "An unexpected internal error occurred. Check the logs for more info."
WORKER_ENDED = (
    b"<html>\n  <head>\n    <title>Internal Server Error</title>\n  </head>\n  <body>\n"
    b"    <h1><p>Internal Server Error</p></h1>\n    \n  </body>\n</html>\n"
)
"""What gunicorn answers when run() calls sys.exit()."""

RAN = ("x-ms-run-function-failed", "False")


class App:
    """Answers requests with a script whose init() has passed; `end` is called when run() asks the process to end."""

    def __init__(self, script: Script, settings: Settings, end: Callable[[], None]) -> None:
        self._script = script
        self._settings = settings
        self._end = end
        self._access = AccessLog()
        self._bodies = Deadlines("bodies", settings.body_timeout, self._body_overdue)
        self._runs = Deadlines("runs", settings.scoring_timeout_ms / 1000, self._run_overdue)
        self._turns = Turns(settings.max_concurrent_requests, self._run)

    def __call__(self, protocol: WSGIProtocol, environ: dict[str, Any]) -> None:
        """Answer a request, or see to it that another thread will."""
        exchange = Exchange(protocol, environ, self._access)
        allowed = {"/score": ("POST", "GET", "OPTIONS"), "/": ("GET", "HEAD")}.get(exchange.path)
        if allowed is None:
            exchange.refuse(404, NOT_FOUND)
        elif exchange.method not in allowed:
            exchange.refuse(405, NOT_ALLOWED, ("allow", ", ".join(allowed)))
        elif (fault := exchange.identify()) is not None:
            exchange.refuse(431, fault)
        elif exchange.path == "/":
            exchange.answer(200, HTML, b"Healthy")
        elif exchange.method == "OPTIONS":
            exchange.answer(200, HTML, b"", RAN)
        elif exchange.method == "GET":
            exchange.data = _query_as_json(environ["QUERY_STRING"])
            self._turns.take(exchange)
        elif self._read(exchange):
            self._turns.take(exchange)

    def _read(self, exchange: Exchange) -> bool:
        """Put the body into `data`; False when the request has been answered instead."""
        body = self._body(exchange)
        if body is None:
            return False
        try:
            exchange.data = str(body, "utf-8")
        except UnicodeDecodeError as error:
            exchange.refuse(400, f"Input cannot be decoded as UTF-8: {error}")
            return False
        return True

    def _body(self, exchange: Exchange) -> bytes | None:
        """
        Return the body; None when the request has been answered instead.

        The read cannot be interrupted. When it takes too long the watch answers; the read, and its
        thread, end when the client (or the gateway before it) closes the connection, as the answer asks.
        """
        environ, limit = exchange.environ, self._settings.max_body_bytes
        length = environ.get("CONTENT_LENGTH")
        if length is None and "HTTP_TRANSFER_ENCODING" not in environ:
            return b""
        expected = limit + 1 if length is None else int(length)
        if expected > limit and length is not None:
            self._too_large(exchange)
            return None
        self._bodies.watch(exchange)
        body: bytes = environ["wsgi.input"].read(expected)
        if not self._bodies.release(exchange):
            return None
        if len(body) > limit:
            self._too_large(exchange)
            return None
        if length is not None and len(body) < expected:
            exchange.refuse(400, "The request ended before its body did.")
            return None
        return body

    def _too_large(self, exchange: Exchange) -> None:
        message = f"The request body is larger than {self._settings.max_body_bytes} bytes."
        exchange.refuse(413, message, ("connection", "close"))

    def _body_overdue(self, exchange: Exchange) -> None:
        message = f"The request body did not arrive within {self._settings.body_timeout:g} seconds."
        exchange.refuse(408, message, ("connection", "close"))

    def _run(self, exchange: Exchange) -> None:
        self._runs.watch(exchange)
        started = time.perf_counter()
        failure: BaseException | None = None
        result = None
        try:
            result = self._script.run(exchange.data, lambda: request_headers(exchange.environ))
        except BaseException as error:  # noqa: BLE001  # the user's code: whatever comes out is an answer
            failure = error
        milliseconds = (time.perf_counter() - started) * 1000
        if not self._runs.release(exchange):
            log.warning("run() came back after %.0f ms, long after its caller was answered.", milliseconds)
        elif failure is not None:
            self._failed(exchange, failure)
        else:
            self._ran(exchange, result, milliseconds)

    def _ran(self, exchange: Exchange, result: object, milliseconds: float) -> None:
        try:
            body = json.dumps({} if result is None else result).encode()
        except Exception:  # the user's objects: whatever their conversion raises
            log.exception("The result of run() cannot be written as JSON.")
            exchange.refuse(500, INTERNAL_ERROR)
            return
        exchange.answer(200, JSON, body, RAN, ("x-ms-run-fn-exec-ms", f"{milliseconds:.3f}"))

    def _failed(self, exchange: Exchange, failure: BaseException) -> None:
        log.error("run() raised an exception.\n%s", self._script.traceback_of(failure))
        if isinstance(failure, Exception):
            exchange.refuse(500, SCRIPT_FAILED, run_failed=True)
        else:
            exchange.headers = []
            exchange.answer(500, "text/html", WORKER_ENDED)
            log.error("run() asked the process to end.")
            self._end()

    def _run_overdue(self, exchange: Exchange) -> None:
        timeout = self._settings.scoring_timeout_ms
        log.error("run() takes longer than SCORING_TIMEOUT_MS=%d: its caller is answered, its place is kept.", timeout)
        exchange.refuse(500, f"Scoring timeout after {timeout} ms", run_failed=True)


def _query_as_json(query: str) -> str:
    """Return a query as a JSON object: values that are JSON as such, others as text, repeated keys as lists."""
    # WSGI hands bytes over as Latin-1.
    text = query.encode("latin-1").decode("utf-8", "replace")
    values = {
        key: [_json_or_text(item) for item in items] for key, items in parse_qs(text, keep_blank_values=True).items()
    }
    return json.dumps({key: items if len(items) > 1 else items[0] for key, items in values.items()})


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
