"""
What becomes of a run(): its result, its failure, or its stream, as an answer.

Statuses, bodies and headers are those of azureml-inference-server-http, byte for
byte: clients were written against them.
"""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from modelport_scoring import raised, results, streams
from modelport_scoring.counting import Counting
from modelport_scoring.deadlines import Deadlines
from modelport_scoring.exchange import HTML, JSON, Exchange
from modelport_scoring.inputs import Refusal
from modelport_scoring.script import Script
from modelport_scoring.settings import Settings

log = logging.getLogger(__name__)

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

UNREAD = "A client has not read its stream for %g seconds: the stream is given up."

ANSWERED = (Exception, CancelledError)
"""What may come out of a run() without being meant for the process."""


class Outcomes:
    """
    Answers a request with what its run() came to.

    `end` is called when run() asks the process to end; `counting` hears of what run() raises.
    """

    def __init__(self, script: Script, settings: Settings, end: Callable[[], None], counting: Counting | None) -> None:
        self._script = script
        self._input = script.input
        self._settings = settings
        self._end = end
        self._counting = counting
        self._runs = Deadlines("runs", settings.scoring_timeout_ms / 1000, self._run_overdue)
        self._written = results.by_orjson if script.input.is_typed and not settings.exact_results else results.by_json

    def _ran(self, exchange: Exchange, result: object, milliseconds: float) -> None:
        ran = ("x-ms-run-fn-exec-ms", f"{milliseconds:.3f}")
        try:
            body = self._written(result)
        except BaseException as error:  # noqa: BLE001  # the user's objects: whatever their conversion raises
            fault = error
        else:
            exchange.answer(200, JSON, body, RAN, ran)
            return
        try:
            # JSON cannot hold an `AMLResponse` or one of Flask's, nor a generator, so only what it cannot is asked.
            if hasattr(result, "get_wsgi_response"):
                self._hand_over(exchange, result, ran)
            elif streams.is_stream(result):
                self._stream(exchange, Streamed(result, 200, "", [RAN]))
            else:
                self._convert(exchange, result, fault, ran)
        except BaseException as error:  # noqa: BLE001  # even `hasattr` runs code of theirs
            self._unsettled(exchange, error)

    def _convert(self, exchange: Exchange, result: object, fault: BaseException, ran: tuple[str, str]) -> None:
        """Answer with a result that json refused with this fault."""
        if isinstance(fault, TypeError) and not self._settings.exact_results:
            try:
                body = results.converted(result)
            except Exception as error:  # noqa: BLE001  # the user's objects, as above
                fault = error
            else:
                exchange.answer(200, JSON, body, RAN, ran)
                return
        log.error("The result of run() cannot be written as JSON.", exc_info=fault)
        exchange.refuse(500, INTERNAL_ERROR)

    def _hand_over(self, exchange: Exchange, response: Any, *headers: tuple[str, str]) -> None:
        """Answer with a response that the script made."""
        try:
            status, content_type, own, body = _parts(response, exchange.environ)
        except Exception as error:  # noqa: BLE001  # the user's: whatever its response does
            self._failed(exchange, error)
            return
        ids = {name for name, _ in exchange.headers} & IDS
        own = [each for each in own if each[0] not in ids]
        if status >= 500:
            own = [*(each for each in own if each[0] != RAN[0]), FAILED]
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
        except BaseException as error:  # noqa: BLE001  # the user's code: whatever comes out is an answer
            failure = error
        milliseconds = (time.perf_counter() - started) * 1000
        if not self._runs.release(exchange):
            log.warning("run() yielded after %.0f ms, long after its caller was answered.", milliseconds)
            try:
                streams.close(streamed.items)
            except BaseException as error:  # noqa: BLE001  # the script's `finally`
                self._broke_off(error)
        elif failure is not None:
            self._failed(exchange, failure)
        else:
            form = self._form(exchange, streamed, first)
            pipe = streams.Pipe(self._settings.body_timeout)
            exchange.stream(streamed.status, form.content_type, pipe, *streamed.headers_after(milliseconds))
            if not pipe.fill(streams.pieces(first, streamed.items, form, self._broke_off)):
                log.warning(UNREAD, self._settings.body_timeout)

    def _form(self, exchange: Exchange, streamed: Streamed, first: object) -> streams.Form:
        if streamed.content_type:
            return streams.form_under(streamed.content_type, SCRIPT_FAILED)
        return streams.form_of(first, exchange.environ.get("HTTP_ACCEPT", ""), SCRIPT_FAILED)

    def _broke_off(self, failure: BaseException) -> None:
        """Log a failure of the script in the middle of its answer: the status is with the client already."""
        if self._counting is not None:
            self._counting.raised()
        log.error("run() raised an exception in the middle of a stream.\n%s", self._script.traceback_of(failure))
        if not isinstance(failure, ANSWERED):
            log.error("run() asked the process to end.")
            self._end()

    def _failed(self, exchange: Exchange, failure: BaseException) -> None:
        try:
            self._fail(exchange, failure)
        except BaseException as error:  # noqa: BLE001  # to ask the user's exception what it is runs code of its own
            self._unsettled(exchange, error)

    def _unsettled(self, exchange: Exchange, error: BaseException) -> None:
        """Answer all the same: a request left alone would leave its place in run() taken, too, and block all others."""
        exchange.refuse(500, INTERNAL_ERROR)
        with suppress(Exception):  # a filter of the script's on the log may be what failed
            log.error("What run() returned or raised fails when it is asked what it is.", exc_info=error)

    def _fail(self, exchange: Exchange, failure: BaseException) -> None:
        misfit = self._script.misfit(failure)
        if misfit is not None:
            log.info("run() was not called: %s", _on_one_line(misfit))
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
        elif isinstance(failure, ANSWERED):
            exchange.refuse(500, SCRIPT_FAILED, run_failed=True)
        else:
            exchange.headers = []
            exchange.answer(500, "text/html", WORKER_ENDED)
            log.error("run() asked the process to end.")
            self._end()

    def _came_late(self, seconds: float) -> None:
        """Log a run() whose caller was answered before."""
        if self._counting is not None:
            self._counting.ran(seconds)
        log.warning("run() came back after %.0f ms, long after its caller was answered.", seconds * 1000)

    def _run_overdue(self, exchange: Exchange) -> None:
        self._refuse_overdue(exchange)
        timeout = self._settings.scoring_timeout_ms
        log.error("run() takes longer than SCORING_TIMEOUT_MS=%d: its caller is answered, its place is kept.", timeout)

    def _refuse_overdue(self, exchange: Exchange) -> None:
        exchange.enter()
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


def _on_one_line(message: str) -> str:
    """Return a message that may quote a request, as the log can have it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)


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
