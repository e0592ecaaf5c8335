"""
Routes, limits, and whose turn it is.

What a request is refused for, and with which words, is azureml-inference-server-http's,
byte for byte: clients were written against it. What becomes of a run() is in `outcomes`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import parse_qs

from modelport_scoring.batches import Batches, MiscountError, results_of
from modelport_scoring.cors import Cors
from modelport_scoring.counting import Counting
from modelport_scoring.deadlines import Deadlines
from modelport_scoring.exchange import HTML, JSON, Exchange, WSGIProtocol, request_headers
from modelport_scoring.inputs import Refusal
from modelport_scoring.logs import AccessLog
from modelport_scoring.outcomes import RAN, Outcomes
from modelport_scoring.records import Records
from modelport_scoring.script import Script
from modelport_scoring.settings import Settings
from modelport_scoring.surroundings import Surroundings, found
from modelport_scoring.swagger import Swagger
from modelport_scoring.turns import Turns

log = logging.getLogger(__name__)

NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
HEAD_NOT_ALLOWED = "Method not allowed"

MANY = 1000
"""Places in an `async def run` when nothing says how many: a task that waits costs little."""

MORE = "The deployment's request_settings may let more in: max_concurrent_requests_per_instance."

READ = ("GET", "HEAD", "OPTIONS")
METHODS = {"/score": ("POST", "GET", "OPTIONS"), "/": READ, "/swagger.json": READ}
"""Of each route. They are served below SERVICE_PATH_PREFIX too, for a proxy that does not take it off."""


class App(Outcomes):
    """
    Answers requests with a script whose init() has passed.

    `end` is called when run() asks the process to end, `note_runs` with the number of calls of run() as it changes;
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
        super().__init__(script, settings, end, counting)
        self._swagger = swagger
        self._cors = Cors(settings.cors_origins) if settings.cors_origins.strip(", ") else None
        prefix = settings.path_prefix.strip("/")
        self._routes = {route: route for route in METHODS}
        self._routes.update({f"/{prefix}{route}": route for route in METHODS} if prefix else {})
        self._exchange = exchange
        self._bodies = Deadlines("bodies", settings.body_timeout, self._body_overdue)
        self.places = places_of(script, settings)
        if self.places > 1 or script.loop is not None:
            log.info("%s may be in run() at once. %s", _requests(self.places), MORE)
        self._turns = self._queue(note_runs)
        readers = [AccessLog().write]
        if counting is not None:
            counting.serve(script.init_seconds, self._load)
            readers.append(counting.count)
        self._records = Records(*readers)

    def _queue(self, note_runs: Callable[[int], None] | None) -> Turns[Exchange] | Batches[Exchange]:
        """Return what lets requests into run() in turn."""
        batching = self._script.batching
        calls = self.places if batching is None else calls_of(self._script, self.places)
        self._surroundings = Surroundings(found(alone=calls == 1))
        if batching is None:
            return Turns(calls, self._run, note_runs)
        sizes = self._counting.batched if self._counting is not None else None
        return Batches(calls, batching, self._run_batch, note_runs, sizes)

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
            self._surroundings.enter()
            result = self._input.call(exchange.data, lambda: request_headers(exchange.environ))
        except BaseException as error:  # noqa: BLE001  # the user's code: whatever comes out is an answer
            failure = error
        seconds = time.perf_counter() - started
        if not self._runs.release(exchange):
            self._came_late(seconds)
            return
        exchange.run_seconds = seconds
        if failure is not None:
            self._failed(exchange, failure)
        else:
            self._ran(exchange, result, seconds * 1000)

    def _run_batch(self, exchanges: list[Exchange]) -> None:
        """Call run() for several; one whose input does not fit fails before, and is none of them."""
        fitting = [exchange for exchange in exchanges if self._fits(exchange)]
        if fitting:
            self._run_items(fitting)

    def _fits(self, exchange: Exchange) -> bool:
        """Make of the request's data what a batch has of it; answer where that cannot be."""
        exchange.enter()
        try:
            exchange.data = self._input.item(exchange.data)
        except BaseException as error:  # noqa: BLE001  # a class of the script's may say no in its own way
            self._failed(exchange, error)
            return False
        return True

    def _run_items(self, exchanges: list[Exchange]) -> None:
        """Call run() for several; when it raises, once more for each alone, so that only those at fault fail."""
        for exchange in exchanges:
            self._runs.watch(exchange)
        exchanges[0].enter_with(exchanges[1:])
        started = time.perf_counter()
        try:
            self._surroundings.enter()
            outcomes = results_of(self._input.call_batch([each.data for each in exchanges]), len(exchanges))
        except BaseException as error:  # noqa: BLE001  # the user's code, as in `_run`
            if len(exchanges) > 1 and isinstance(error, Exception) and not isinstance(error, MiscountError):
                log.warning("run() raised %r for %d inputs: it is called for each alone.", error, len(exchanges))
                for exchange in exchanges:
                    if self._runs.release(exchange):
                        self._run_items([exchange])
                return
            outcomes = [error] * len(exchanges)
        seconds = time.perf_counter() - started
        # A stream is over when its client has read it: whoever else was in the batch has no part in that.
        answers = list(zip(exchanges, outcomes))  # noqa: B905  # Python 3.9 has no `strict`; they are as many
        for exchange, outcome in sorted(answers, key=lambda each: isinstance(each[1], Generator)):
            if not self._runs.release(exchange):
                self._came_late(seconds)
                continue
            exchange.run_seconds = seconds
            if isinstance(outcome, BaseException):
                exchange.enter()
                self._failed(exchange, outcome)
            else:
                self._ran(exchange, outcome, seconds * 1000)


def calls_of(script: Script, places: int) -> int:
    """Return how many calls of a batched run() so many requests are: no more than whole batches need."""
    assert script.batching is not None
    return max(-(-places // script.batching.max_size), script.concurrency or 1)


def _requests(number: int) -> str:
    return "One request" if number == 1 else f"Up to {number} requests"


def places_of(script: Script, settings: Settings) -> int:
    """Return how many requests may be in run() at once: what the deployment says, or the script where it says more."""
    said = settings.max_concurrent_requests or (MANY if script.loop is not None else 1)
    return max(said, script.concurrency or 1)
