"""
What a trace tells of a request: a span for all of it, and one within for run().

Whether there are traces is decided once: the app makes its exchanges, and the script's
input calls run(), by way of here or not at all. So a server without traces asks no
request for them, and loads nothing of OpenTelemetry.

Source: OpenTelemetry's semantic conventions for HTTP servers, stable since 1.23.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from modelport_scoring import __version__
from modelport_scoring.exchange import Exchange, WSGIProtocol
from modelport_scoring.records import RECEIVED, SENT, STATUS, Record

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

ROUTES = ("/score", "/swagger.json")
"""Of these and of paths that are none of ours there are traces; of probes there are none, as in the log."""

HEADERS = {"HTTP_X_REQUEST_ID": "x-request-id", "HTTP_X_MS_CLIENT_REQUEST_ID": "x-ms-client-request-id"}


class Told(Protocol):
    """Who wants more in a request's span than OpenTelemetry's conventions have."""

    wants_answers: bool

    def attributes(self, exchange: Exchange, record: Record, body: bytes) -> Mapping[str, Any]:
        """Return what it wants; `body` is the answer's, and empty when it was a stream."""


class Tracing:
    """Makes spans, by the tracer provider that is set; `told` adds to them."""

    def __init__(self, told: Told | None = None) -> None:
        self._api: Any = import_module("opentelemetry.trace")
        self._context: Any = import_module("opentelemetry.context")
        self._propagate: Any = import_module("opentelemetry.propagate")
        self._tracer: Any = self._api.get_tracer(__package__, __version__)
        self._getter = _Headers()
        self._links = self._context.create_key("links")
        self._told = told
        self.keeps_answers = told is not None and told.wants_answers

    def exchange(self, protocol: WSGIProtocol, environ: dict[str, Any], note: Callable[[Record], None]) -> Exchange:
        """Return an exchange that has a span."""
        return TracedExchange(self, protocol, environ, note)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return what calls run() within a span, in the context that an exchange has entered."""

        def traced(*arguments: Any) -> Any:
            links = self._context.get_value(self._links) or ()
            span = self._tracer.start_span("run", links=links)
            try:
                with self._api.use_span(span):
                    result = call(*arguments)
            except BaseException:
                span.end()
                raise
            if hasattr(result, "__await__"):
                return self._awaited(result, span)
            span.end()
            return result

        return traced

    def begun(self, exchange: Exchange) -> Any:
        """Return the span of a request that has just come."""
        if exchange.path == "/":
            return self._api.INVALID_SPAN
        environ, method = exchange.environ, exchange.method
        parent = self._propagate.extract(environ, self._context.Context(), self._getter)
        name = method if method in METHODS else "HTTP"
        if exchange.path in ROUTES:
            name = f"{name} {exchange.path}"
        return self._tracer.start_span(
            name, parent, kind=self._api.SpanKind.SERVER, attributes=dict(_of_request(exchange, environ))
        )

    def enter(self, span: Any, others: Sequence[Any]) -> None:
        """Have the next run() in this thread, or task, be a part of the span, and linked to the others."""
        context = self._api.set_span_in_context(span, self._context.Context())
        links = tuple(self._api.Link(each.get_span_context()) for each in others)
        self._context.attach(self._context.set_value(self._links, links, context))

    def end(self, span: Any, exchange: Exchange, record: Record, body: bytes) -> None:
        """End the span of a request that was answered."""
        if not span.is_recording():
            return
        span.set_attributes(dict(_of_answer(exchange, record)))
        if self._told is not None:
            span.set_attributes(self._told.attributes(exchange, record, body))
        if record[STATUS] >= 500:
            span.set_status(self._api.Status(self._api.StatusCode.ERROR))
        span.end()

    async def _awaited(self, result: Any, span: Any) -> Any:
        """Await what an asynchronous run() returned, within the span of its call."""
        with self._api.use_span(span, end_on_exit=True):
            return await result


class TracedExchange(Exchange):
    """
    An exchange with a span.

    Attributes:
        span: From the request's head to its answer's end.
    """

    __slots__ = ("_body", "_then", "_tracing", "span")

    def __init__(
        self, tracing: Tracing, protocol: WSGIProtocol, environ: dict[str, Any], note: Callable[[Record], None]
    ) -> None:
        super().__init__(protocol, environ, self._end)
        self._then = note
        self._tracing = tracing
        self._body = b""
        self.span = tracing.begun(self)

    def enter(self) -> None:
        """As for any exchange; the span of run() is a part of this one's."""
        super().enter()
        self._tracing.enter(self.span, [])

    def enter_with(self, others: Sequence[Exchange]) -> None:
        """As for any exchange; the span of run() is a part of this one's, and linked to those of the others."""
        super().enter_with(others)
        self._tracing.enter(self.span, [each.span for each in others if isinstance(each, TracedExchange)])

    def answer(self, status: int, content_type: str, body: bytes, *headers: tuple[str, str]) -> None:
        """Answer."""
        if self._tracing.keeps_answers:
            self._body = body
        super().answer(status, content_type, body, *headers)

    def _end(self, record: Record) -> None:
        self._note = self._then  # no more in a circle with itself
        self._then(record)
        self._tracing.end(self.span, self, record, self._body)


class _Headers:
    """Reads a WSGI environment, for OpenTelemetry's propagators."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(f"HTTP_{key.upper().replace('-', '_')}")
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


def _of_request(exchange: Exchange, environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes that are known, and may decide whether a request is sampled."""
    method = exchange.method
    found: dict[str, Any] = {
        "http.request.method": method if method in METHODS else "_OTHER",
        "url.path": exchange.path,
        "url.scheme": environ["wsgi.url_scheme"],
        "client.address": environ["REMOTE_ADDR"],
        "network.protocol.version": environ["SERVER_PROTOCOL"].partition("/")[2],
    }
    host, port = _host_and_port(environ.get("HTTP_HOST", environ["SERVER_NAME"]))
    optional = {
        "http.request.method_original": "" if method in METHODS else method,
        "http.route": exchange.path if exchange.path in ROUTES else "",
        "url.query": environ["QUERY_STRING"],
        "server.address": host,
        "server.port": port,
        "user_agent.original": environ.get("HTTP_USER_AGENT", ""),
    }
    return {**found, **{name: value for name, value in optional.items() if value}}


def _host_and_port(said: str) -> tuple[str, int]:
    """Return the parts of a Host header; port 0 where it has none that could be one, which exporters would refuse."""
    found = re.fullmatch(r"(.*?)(?::(\d{1,5}))?", said)
    host, port = found.groups() if found else (said, None)
    return host, int(port or 0)


def _of_answer(exchange: Exchange, record: Record) -> Mapping[str, Any]:
    status = record[STATUS]
    found: dict[str, Any] = {
        "http.response.status_code": status,
        "http.request.body.size": record[RECEIVED],
        "http.response.body.size": record[SENT],
    }
    for name, value in exchange.headers:
        if name in HEADERS.values():
            found[f"http.response.header.{name}"] = [value]
    if status >= 500:
        found["error.type"] = str(status)
    return found
