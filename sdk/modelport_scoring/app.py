"""
Routes, limits, and what becomes of a run().

Statuses, bodies and headers are those of azureml-inference-server-http, byte for
byte: clients were written against them.
"""

from __future__ import annotations

import json
import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from modelport_scoring import streams
from modelport_scoring.batches import Batches, MiscountError, results_of
from modelport_scoring.cors import Cors
from modelport_scoring.deadlines import Deadlines
from modelport_scoring.exchange import HTML, JSON, Exchange, WSGIProtocol, request_headers
from modelport_scoring.inputs import Refusal
from modelport_scoring.logs import AccessLog
from modelport_scoring.script import Script
from modelport_scoring.settings import Settings
from modelport_scoring.swagger import Swagger
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

SERVER_HEADERS = {"connection", "content-length", "content-type", "transfer-encoding"}
"""What a script's response cannot decide alone; the content type is passed on in its own way."""

MANY = 1000
"""Places in an `async def run` when nothing says how many: a task that waits costs little."""

MORE = "The deployment's request_settings may let more in: max_concurrent_requests_per_instance."

ANSWERED = (Exception, CancelledError)
"""What may come out of a run() without being meant for the process."""

METHODS = {"/score": ("POST", "GET", "OPTIONS"), "/": ("GET", "HEAD"), "/swagger.json": ("GET", "HEAD")}


class App:
    """Answers requests with a script whose init() has passed; `end` is called when run() asks the process to end."""

    def __init__(self, script: Script, swagger: Swagger, settings: Settings, end: Callable[[], None]) -> None:
        self._script = script
        self._input = script.input
        self._swagger = swagger
        self._cors = Cors(settings.cors_origins) if settings.cors_origins else None
        self._settings = settings
        self._end = end
        self._access = AccessLog()
        self._bodies = Deadlines("bodies", settings.body_timeout, self._body_overdue)
        self._runs = Deadlines("runs", settings.scoring_timeout_ms / 1000, self._run_overdue)
        self.places = places_of(script, settings)
        if self.places > 1 or script.loop is not None:
            log.info("Up to %d requests may be in run() at once. %s", self.places, MORE)
        self._turns: Turns[Exchange] | Batches[Exchange] = Turns(self.places, self._run)
        if script.batching is not None:
            self._turns = Batches(self.places, script.batching, self._run_batch)

    def __call__(self, protocol: WSGIProtocol, environ: dict[str, Any]) -> None:
        """Answer a request, or see to it that another thread will."""
        exchange = Exchange(protocol, environ, self._access)
        allowed = METHODS.get(exchange.path)
        if allowed is None:
            exchange.refuse(404, NOT_FOUND)
        elif exchange.method not in allowed:
            exchange.refuse(405, NOT_ALLOWED, ("allow", ", ".join(allowed)))
        elif (fault := exchange.identify()) is not None:
            exchange.refuse(431, fault)
        else:
            if self._cors is not None:
                exchange.headers += self._cors.headers(environ)
            if exchange.path == "/score":
                self._score(exchange)
            elif exchange.path == "/":
                exchange.answer(200, HTML, b"Healthy")
            else:
                version = parse_qs(environ["QUERY_STRING"], keep_blank_values=True).get("version", ["2"])[0]
                status, document = self._swagger.answer(version)
                exchange.answer(status, JSON, document, RAN)

    def _score(self, exchange: Exchange) -> None:
        """Let run() have its turn; answer at once where the request is not for it."""
        try:
            if exchange.method in self._input.bodies:
                body = self._body(exchange)
                if body is None:
                    return
                exchange.data = self._input.of_body(exchange.environ, body)
            elif exchange.method == "GET":
                exchange.data = self._input.of_query(exchange.environ)
            else:
                exchange.answer(200, HTML, b"", RAN)
                return
        except Refusal as refusal:
            exchange.refuse(refusal.status, refusal.message)
            return
        self._turns.take(exchange)

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
        # All of what is declared, which takes Granian less than a number of bytes.
        body: bytes = environ["wsgi.input"].read() if length is not None else environ["wsgi.input"].read(expected)
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
            result = self._input.call(exchange.data, lambda: request_headers(exchange.environ))
        except BaseException as error:  # noqa: BLE001  # the user's code: whatever comes out is an answer
            failure = error
        milliseconds = (time.perf_counter() - started) * 1000
        if not self._runs.release(exchange):
            log.warning("run() came back after %.0f ms, long after its caller was answered.", milliseconds)
        elif failure is not None:
            self._failed(exchange, failure)
        else:
            self._ran(exchange, result, milliseconds)

    def _run_batch(self, exchanges: list[Exchange]) -> None:
        """Call run() for several; when it raises, once more for each alone, so that only those at fault fail."""
        for exchange in exchanges:
            self._runs.watch(exchange)
        started = time.perf_counter()
        try:
            result = self._input.call([exchange.data for exchange in exchanges], dict)
            results = results_of(result, len(exchanges))
        except BaseException as error:  # noqa: BLE001  # the user's code, as in `_run`
            if len(exchanges) > 1 and isinstance(error, Exception) and not isinstance(error, MiscountError):
                log.warning("run() raised %r for %d inputs: it is called for each alone.", error, len(exchanges))
                for exchange in exchanges:
                    if self._runs.release(exchange):
                        self._run_batch([exchange])
                return
            results = [error] * len(exchanges)
        milliseconds = (time.perf_counter() - started) * 1000
        for exchange, each in zip(exchanges, results):  # noqa: B905  # Python 3.9 has no `strict`; they are as many
            if not self._runs.release(exchange):
                log.warning("run() came back after %.0f ms, long after its caller was answered.", milliseconds)
            elif isinstance(each, BaseException):
                self._failed(exchange, each)
            else:
                self._ran(exchange, each, milliseconds)

    def _ran(self, exchange: Exchange, result: object, milliseconds: float) -> None:
        ran = ("x-ms-run-fn-exec-ms", f"{milliseconds:.3f}")
        try:
            body = json.dumps({} if result is None else result).encode()
        except Exception as error:  # noqa: BLE001  # the user's objects: whatever their conversion raises
            fault = error
        else:
            exchange.answer(200, JSON, body, RAN, ran)
            return
        # JSON cannot hold an `AMLResponse` or one of Flask's, nor a generator, so only what it cannot is asked.
        if hasattr(result, "get_wsgi_response"):
            self._hand_over(exchange, result, ran)
        elif streams.is_stream(result):
            self._stream(exchange, Streamed(result, 200, "", [RAN]))
        else:
            log.error("The result of run() cannot be written as JSON.", exc_info=fault)
            exchange.refuse(500, INTERNAL_ERROR)

    def _hand_over(self, exchange: Exchange, response: Any, *headers: tuple[str, str]) -> None:
        """Answer with a response that the script made."""
        try:
            status, content_type, own, body = _parts(response, exchange.environ)
        except Exception as error:  # noqa: BLE001  # the user's: whatever its response does
            self._failed(exchange, error)
            return
        if status >= 500:
            own = [*(each for each in own if each[0] != RAN[0]), (RAN[0], "True")]
        if isinstance(body, bytes):
            exchange.answer(status, content_type, body, *own, *headers)
        else:
            self._stream(exchange, Streamed(body, status, content_type, own))

    def _stream(self, exchange: Exchange, streamed: Streamed) -> None:
        """Answer piece by piece. Until the first one is there the caller waits for run(), as for any other answer."""
        self._runs.watch(exchange)
        started = time.perf_counter()
        failure: BaseException | None = None
        first = streams.NOTHING
        try:
            first = streams.first_of(streamed.items)
        except BaseException as error:  # noqa: BLE001  # the user's code, as in `_run`
            failure = error
        milliseconds = (time.perf_counter() - started) * 1000
        if not self._runs.release(exchange):
            log.warning("run() yielded after %.0f ms, long after its caller was answered.", milliseconds)
            streams.close(streamed.items)
        elif failure is not None:
            self._failed(exchange, failure)
        else:
            form = self._form(exchange, streamed, first)
            pieces = streams.pieces(first, streamed.items, form, self._broke_off)
            exchange.stream(streamed.status, form.content_type, pieces, *streamed.headers_after(milliseconds))

    def _form(self, exchange: Exchange, streamed: Streamed, first: object) -> streams.Form:
        if streamed.content_type:
            return streams.form_under(streamed.content_type, SCRIPT_FAILED)
        return streams.form_of(first, exchange.environ.get("HTTP_ACCEPT", ""), SCRIPT_FAILED)

    def _broke_off(self, failure: BaseException) -> None:
        """Log a failure of the script in the middle of its answer: the status is with the client already."""
        log.error("run() raised an exception in the middle of a stream.\n%s", self._script.traceback_of(failure))
        if not isinstance(failure, ANSWERED):
            log.error("run() asked the process to end.")
            self._end()

    def _failed(self, exchange: Exchange, failure: BaseException) -> None:
        misfit = self._script.misfit(failure)
        if misfit is not None:
            log.info("run() was not called: %s", misfit)
            exchange.refuse(400, misfit)
            return
        log.error("run() raised an exception.\n%s", self._script.traceback_of(failure))
        if isinstance(failure, ANSWERED):
            exchange.refuse(500, SCRIPT_FAILED, run_failed=True)
        else:
            exchange.headers = []
            exchange.answer(500, "text/html", WORKER_ENDED)
            log.error("run() asked the process to end.")
            self._end()

    def _run_overdue(self, exchange: Exchange) -> None:
        timeout = self._settings.scoring_timeout_ms
        log.error("run() takes longer than SCORING_TIMEOUT_MS=%d: its caller is answered, its place is kept.", timeout)
        self._refuse_overdue(exchange)

    def _refuse_overdue(self, exchange: Exchange) -> None:
        exchange.refuse(500, f"Scoring timeout after {self._settings.scoring_timeout_ms} ms", run_failed=True)


@dataclass(frozen=True)
class Streamed:
    """An answer whose pieces are still to come; without a content type the first one says what they are."""

    items: Any
    status: int
    content_type: str
    headers: Sequence[tuple[str, str]]

    def headers_after(self, milliseconds: float) -> list[tuple[str, str]]:
        """Return the headers; `milliseconds` went by before the first piece, which is all that is known by then."""
        return [*self.headers, ("x-ms-run-fn-exec-ms", f"{milliseconds:.3f}")]


def places_of(script: Script, settings: Settings) -> int:
    """Return how many requests may be in run() at once: what the deployment says, or the script where it says more."""
    said = settings.max_concurrent_requests or (MANY if script.loop is not None else 1)
    return max(said, script.concurrency or 1)


def _parts(response: Any, environ: dict[str, Any]) -> tuple[int, str, list[tuple[str, str]], Any]:
    """
    Return status, content type, other headers and body of a response that the script made.

    The body is an iterator, and to be closed, where the response was made of one.

    Raises:
        ValueError: No answer can have its status, or one of its headers: Granian would not survive it.
    """
    status: int = response.status_code
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of an answer.")
    chunks, _, named = response.get_wsgi_response(environ)
    body = response.response if hasattr(response.response, "__anext__") else chunks
    if not response.is_streamed:
        with closing(response):
            body = b"".join(chunks)
    headers = [(name.lower(), value) for name, value in named]
    for each in headers:
        "".join(each).encode()  # what is no Unicode is a ValueError
    content_type = dict(headers).get("content-type", HTML)
    return status, content_type, [each for each in headers if each[0] not in SERVER_HEADERS], body
