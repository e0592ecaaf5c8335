"""
Routes, limits, and what becomes of a run().

Statuses, bodies and headers are those of azureml-inference-server-http, byte for
byte: clients were written against them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs

from modelport_scoring import raised, results
from modelport_scoring.cors import Cors
from modelport_scoring.counting import Counting
from modelport_scoring.deadlines import Deadlines
from modelport_scoring.exchange import HTML, JSON, Exchange, WSGIProtocol, request_headers
from modelport_scoring.inputs import Refusal
from modelport_scoring.logs import AccessLog
from modelport_scoring.records import Records
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
HEAD_NOT_ALLOWED = "Method not allowed"
SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
INTERNAL_ERROR = "An unexpected internal error occurred. Check the logs for more info."
WORKER_ENDED = (
    b"<html>\n  <head>\n    <title>Internal Server Error</title>\n  </head>\n  <body>\n"
    b"    <h1><p>Internal Server Error</p></h1>\n    \n  </body>\n</html>\n"
)
"""What gunicorn answers when run() calls sys.exit()."""

RAN = ("x-ms-run-function-failed", "False")
FAILED = (RAN[0], "True")

SERVER_HEADERS = {"connection", "content-length", "content-type", "transfer-encoding"}
"""What a script's response cannot decide alone; the content type is passed on in its own way."""

IDS = {"x-request-id", "x-ms-request-id", "x-ms-client-request-id"}
"""Headers with which a script's response cannot contradict the request."""

READ = ("GET", "HEAD", "OPTIONS")
METHODS = {"/score": ("POST", "GET", "OPTIONS"), "/": READ, "/swagger.json": READ}
"""Of each route. They are served below SERVICE_PATH_PREFIX too, for a proxy that does not take it off."""


class App:
    """
    Answers requests with a script whose init() has passed.

    `end` is called when run() asks the process to end, `note_runs` with the number of requests in run() as it changes;
    `counting` is told of everything; `exchange` is made of each request.
    """

    def __init__(
        self,
        script: Script,
        swagger: Swagger,
        settings: Settings,
        end: Callable[[], None],
        note_runs: Callable[[int], None] | None = None,
        counting: Counting | None = None,
        exchange: Callable[..., Exchange] = Exchange,
    ) -> None:
        self._script = script
        self._input = script.input
        self._swagger = swagger
        self._cors = Cors(settings.cors_origins) if settings.cors_origins.strip(", ") else None
        self._settings = settings
        self._end = end
        prefix = settings.path_prefix.strip("/")
        self._routes = {route: route for route in METHODS}
        self._routes.update({f"/{prefix}{route}": route for route in METHODS} if prefix else {})
        self._counting = counting
        self._exchange = exchange
        self._bodies = Deadlines("bodies", settings.body_timeout, self._body_overdue)
        self._runs = Deadlines("runs", settings.scoring_timeout_ms / 1000, self._run_overdue)
        self._written = results.by_orjson if script.input.is_typed and not settings.exact_results else results.by_json
        self._turns = Turns(settings.max_concurrent_requests, self._run, note_runs)
        readers = [AccessLog().write]
        if counting is not None:
            counting.serve(script.init_seconds, self._load)
            readers.append(counting.count)
        self._records = Records(*readers)

    def __call__(self, protocol: WSGIProtocol, environ: dict[str, Any]) -> None:
        """Answer a request, or see to it that another thread will."""
        exchange = self._exchange(protocol, environ, self._records.add)
        # A client that joins an address with a slash at its end and a path gets what it wants, as from Werkzeug.
        route = self._routes.get(exchange.path) or self._routes.get(f"/{exchange.path.lstrip('/')}")
        if route is None:
            exchange.refuse(404, NOT_FOUND)
        elif exchange.method not in METHODS[route] and exchange.method != "HEAD":
            exchange.refuse(405, NOT_ALLOWED, ("allow", ", ".join(METHODS[route])))
        elif (fault := exchange.identify(versioned=self._settings.version_header)) is not None:
            exchange.refuse(431, fault)
        else:
            if self._cors is not None:
                exchange.headers += self._cors.headers(environ)
            if route == "/score":
                self._score(exchange)
            elif exchange.method == "OPTIONS":
                exchange.answer(200, HTML, b"", ("allow", ", ".join(READ)))
            elif route == "/":
                exchange.answer(200, HTML, b"Healthy")
            else:
                version = parse_qs(environ["QUERY_STRING"], keep_blank_values=True).get("version", ["2"])[0]
                status, document = self._swagger.answer(version)
                exchange.answer(status, JSON, document, RAN)

    def _load(self) -> tuple[int, int, int]:
        """Requests that are not answered yet, those of them that wait for their turn, and calls of run()."""
        waiting = self._turns.waiting
        return len(self._bodies) + waiting + len(self._runs), waiting, self._turns.running

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
            elif exchange.method == "OPTIONS":
                exchange.answer(200, HTML, b"", RAN)
                return
            else:
                exchange.refuse(405, HEAD_NOT_ALLOWED, ("allow", ", ".join(METHODS["/score"])))
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
        exchange.received = len(body)
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
        exchange.enter()
        started = time.perf_counter()
        failure: BaseException | None = None
        result = None
        try:
            result = self._input.call(exchange.data, lambda: request_headers(exchange.environ))
        except BaseException as error:  # noqa: BLE001  # the user's code: whatever comes out is an answer
            failure = error
        exchange.run_seconds = seconds = time.perf_counter() - started
        milliseconds = seconds * 1000
        if not self._runs.release(exchange):
            if self._counting is not None:
                self._counting.ran(seconds)
            log.warning("run() came back after %.0f ms, long after its caller was answered.", milliseconds)
        elif failure is not None:
            self._failed(exchange, failure)
        else:
            self._ran(exchange, result, milliseconds)

    def _ran(self, exchange: Exchange, result: object, milliseconds: float) -> None:
        ran = ("x-ms-run-fn-exec-ms", f"{milliseconds:.3f}")
        try:
            body = self._written(result)
        except Exception as error:  # noqa: BLE001  # the user's objects: whatever their conversion raises
            # JSON cannot hold an `AMLResponse` or one of Flask's either, so only what it cannot is asked.
            if hasattr(result, "get_wsgi_response"):
                self._hand_over(exchange, result, ran)
                return
            try:
                body = self._converted(result, error)
            except Exception:
                log.exception("The result of run() cannot be written as JSON.")
                exchange.refuse(500, INTERNAL_ERROR)
                return
        exchange.answer(200, JSON, body, RAN, ran)

    def _converted(self, result: object, error: Exception) -> bytes:
        """Return a result that json refused with this error; may raise it, or another."""
        if self._settings.exact_results or not isinstance(error, TypeError):
            raise error
        return results.converted(result)

    def _hand_over(self, exchange: Exchange, response: Any, *headers: tuple[str, str]) -> None:
        """Answer with a response that the script made."""
        try:
            status, content_type, own, body = _parts(response, exchange.environ)
        except Exception as error:  # noqa: BLE001  # the user's: a generator, for one, runs only now
            self._failed(exchange, error)
            return
        ids = {name for name, _ in exchange.headers} & IDS
        own = [each for each in own if each[0] not in ids]
        if status >= 500:
            own = [*(each for each in own if each[0] != RAN[0]), FAILED]
        exchange.answer(status, content_type, body, *own, *headers)

    def _failed(self, exchange: Exchange, failure: BaseException) -> None:
        misfit = self._script.misfit(failure)
        if misfit is not None:
            log.info("run() was not called: %s", misfit)
            exchange.refuse(400, misfit)
            return
        if isinstance(failure, Refusal):
            log.info("run() was not called: %s", _on_one_line(failure.message))
            exchange.refuse(failure.status, failure.message)
            return
        answer = raised.answer(failure)
        if answer is not None and answer.status < 500:
            log.info("run() answered %d: %s", answer.status, _on_one_line(answer.message))
            exchange.answer(answer.status, JSON, answer.body, RAN, *answer.headers)
            return
        if self._counting is not None:
            self._counting.raised()
        log.error("run() raised an exception.\n%s", self._script.traceback_of(failure))
        advice = self._input.advice(failure)
        if advice is not None:
            log.error("%s", advice)
        if answer is not None:
            exchange.answer(answer.status, JSON, answer.body, FAILED, *answer.headers)
            return
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


def _on_one_line(message: str) -> str:
    """Return a message that may quote a request, as the log can have it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)


def _parts(response: Any, environ: dict[str, Any]) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """
    Return status, content type, other headers and body of a response that the script made.

    Raises:
        ValueError: No answer can have its status, or one of its headers: Granian would not survive it.
    """
    status: int = response.status_code
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of an answer.")
    with closing(response):
        chunks, _, named = response.get_wsgi_response(environ)
        body = b"".join(chunks)
    headers = [(name.lower(), value) for name, value in named]
    for each in headers:
        "".join(each).encode()  # what is no Unicode is a ValueError
    content_type = dict(headers).get("content-type", HTML)
    return status, content_type, [each for each in headers if each[0] not in SERVER_HEADERS], body
