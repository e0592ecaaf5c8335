"""
The app on an event loop: for an `async def run`.

The rules are `app`'s. What differs is how one waits: for a body, a turn and run() a
task awaits, where the others keep a thread. And here one hears of a client that goes
away, so its run() is cancelled, and one that still waits never enters it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import BytesIO
from typing import Any

from modelport_scoring import streams
from modelport_scoring.app import App
from modelport_scoring.asgi import Receive, Reply, Send, environ_of
from modelport_scoring.exchange import Exchange, request_headers
from modelport_scoring.loops import Watch
from modelport_scoring.outcomes import UNREAD, Streamed
from modelport_scoring.turns import Places

log = logging.getLogger(__name__)

CLIENT_GONE = 499
"""In the access log: nginx's word for a client that went away before its answer."""

LISTEN_SECONDS = 0.005
"""How long run() has before its client is listened to: which costs as much as all the rest of a short request."""


class TaskApp(App):
    """As `App`, for a script with a loop."""

    def _queue(self, note_runs: Callable[[int], None] | None) -> Any:
        loop = self._script.loop
        assert loop is not None
        self._loop: asyncio.AbstractEventLoop = loop
        self._free = Places(self.places, loop, note_runs)
        self._desk = _Desk()
        self._met: Exchange | None = None
        self._clients: dict[Exchange, Client] = {}
        self._streams: dict[Exchange, Streamed] = {}
        loop.call_soon(Watch, loop)
        return self._desk  # where `_score` leaves what run() is for

    def _load(self) -> tuple[int, int, int]:
        waiting = self._free.waiting
        return len(self._bodies) + waiting + self._free.running, waiting, self._free.running

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        reply = Reply(send)
        exchange = self._routed(reply, environ_of(scope))
        if exchange is None or (exchange.method in self._input.bodies and not await self._arrived(exchange, receive)):
            return
        super()._score(exchange)
        if self._desk.taken(exchange):
            await self._take(exchange, reply, receive)

    def _routed(self, reply: Reply, environ: dict[str, Any]) -> Exchange | None:
        """Return what is for `/score`; the rest is answered."""
        self._met = None
        self(reply, environ)  # type: ignore[arg-type]  # it is never asked for a stream: see `_stream`
        return self._met

    def _score(self, exchange: Exchange) -> None:
        self._met = exchange

    async def _arrived(self, exchange: Exchange, receive: Receive) -> bool:
        """Put the body, as far as anyone wants it, where `_body` reads; False when the request has been answered."""
        environ, limit = exchange.environ, self._settings.max_body_bytes
        length = environ.get("CONTENT_LENGTH")
        wanted = limit + 1 if length is None else int(length)
        pieces: list[bytes] = []
        if length is None or wanted <= limit:
            self._bodies.watch(exchange)
            more = wanted > 0
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    break
                pieces.append(message["body"])
                wanted -= len(message["body"])
                more = message["more_body"] and wanted > 0
            if not self._bodies.release(exchange):
                return False
            if more:
                exchange.refuse(400, "The request ended before its body did.")
                return False
        environ["wsgi.input"] = BytesIO(b"".join(pieces))
        return True

    async def _take(self, exchange: Exchange, reply: Reply, receive: Receive) -> None:
        """Let run() have its turn, as long as there is somebody to answer."""
        client = Client(receive, self._loop)
        try:
            await self._free.enter()
            try:
                await self._awaited(exchange, reply, client)
            finally:
                self._free.leave()
        except asyncio.CancelledError:
            if not client.gone:
                raise
            exchange.note(CLIENT_GONE, 0)
        finally:
            client.leave()

    async def _awaited(self, exchange: Exchange, reply: Reply, client: Client) -> None:
        self._watch(exchange, client)
        exchange.enter()
        started = time.perf_counter()
        failure: BaseException | None = None
        result = None
        try:
            result = self._input.call(exchange.data, lambda: request_headers(exchange.environ))
            if hasattr(result, "__await__"):
                result = await result
        except BaseException as error:  # noqa: BLE001  # the user's code: whatever comes out is an answer
            failure = error
        seconds = time.perf_counter() - started
        if not self._in_time(exchange):
            self._came_late(seconds)
            return
        exchange.run_seconds = seconds
        if client.gone:
            exchange.note(CLIENT_GONE, 0)
        elif failure is not None:
            self._failed(exchange, failure)
        else:
            self._ran(exchange, result, seconds * 1000)
            streamed = self._streams.pop(exchange, None)
            if streamed is not None:
                await self._sent(exchange, reply, client, streamed)

    def _stream(self, exchange: Exchange, streamed: Streamed) -> None:
        self._streams[exchange] = streamed

    async def _sent(self, exchange: Exchange, reply: Reply, client: Client, streamed: Streamed) -> None:
        """Answer piece by piece, as `App._stream` does."""
        items = streamed.items if hasattr(streamed.items, "__anext__") else _in_threads(streamed.items, self._loop)
        try:
            self._watch(exchange, client)
            started = time.perf_counter()
            failure: BaseException | None = None
            first = streams.NOTHING
            try:
                first = await _next(items)
            except BaseException as error:  # noqa: BLE001  # the user's code, as in `_awaited`
                failure = error
            milliseconds = (time.perf_counter() - started) * 1000
            if not self._in_time(exchange):
                log.warning("run() yielded after %.0f ms, after its caller was answered.", milliseconds)
            elif client.gone:
                exchange.note(CLIENT_GONE, 0)
            elif failure is not None:
                self._failed(exchange, failure)
            else:
                form = self._form(exchange, streamed, first)
                headers = [("content-type", form.content_type), *streamed.headers_after(milliseconds)]
                reply.start(streamed.status, [*headers, *exchange.headers])
                size = await self._pieces(reply, client, form, first, items)
                exchange.note(streamed.status, size)
        finally:
            await self._closed(items)

    async def _pieces(
        self, reply: Reply, client: Client, form: streams.Form, first: object, items: AsyncIterator[Any]
    ) -> int:
        """Send the pieces; return how many bytes they had."""
        size = 0
        item = first
        try:
            while item is not streams.NOTHING:
                if client.gone:  # and the script goes on all the same
                    return size
                piece = form.encode(item)
                size += len(piece)
                await client.reads(reply.piece(piece), self._settings.body_timeout)
                item = await _next(items)
        except BaseException as error:  # noqa: BLE001  # the user's code; or its client has gone
            if client.gone:
                return size
            self._broke_off(error)
            if form.fault:
                size += len(form.fault)
                await client.reads(reply.piece(form.fault), self._settings.body_timeout)
        client.leave()
        reply.finish()
        return size

    async def _closed(self, items: Any) -> None:
        """Let the script end what it yields from; its failure to do so is nobody's answer."""
        close = getattr(items, "aclose", None)
        if close is not None:
            try:
                await close()
            except BaseException as error:  # noqa: BLE001  # the script's `finally`
                self._broke_off(error)

    def _watch(self, exchange: Exchange, client: Client) -> None:
        self._clients[exchange] = client
        self._runs.watch(exchange)

    def _in_time(self, exchange: Exchange) -> bool:
        del self._clients[exchange]
        return self._runs.release(exchange)

    def _run_overdue(self, exchange: Exchange) -> None:
        self._refuse_overdue(exchange)
        client = self._clients.get(exchange)
        if client is not None:
            self._loop.call_soon_threadsafe(client.cancel)
        timeout = self._settings.scoring_timeout_ms
        log.error(
            "run() takes longer than SCORING_TIMEOUT_MS=%d: its caller is answered, and it is cancelled.", timeout
        )


class Client:
    """Who waits for an answer. When it goes away, the task that it was made in is cancelled."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.gone = False
        self._task: asyncio.Task[Any] | None = task
        self._receive = receive
        self._loop = loop
        self._listening: Any = None
        self._timer = loop.call_later(LISTEN_SECONDS, self._listen)

    async def reads(self, sending: Awaitable[None], seconds: float) -> None:
        """Wait until the client has taken a piece; give it up when that takes too long."""
        late = self._loop.call_later(seconds, self._give_up, seconds)
        try:
            await sending
        finally:
            late.cancel()

    def leave(self) -> None:
        """Listen no longer: the answer is there."""
        self._timer.cancel()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()

    def cancel(self) -> None:
        """Cancel the task, once: what it awaits at its end, a connection that it gives back say, is not cut off."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _give_up(self, seconds: float) -> None:
        log.warning(UNREAD, seconds)
        self.gone = True
        self.cancel()

    def _listen(self) -> None:
        self._listening = asyncio.ensure_future(self._receive())
        self._listening.add_done_callback(self._heard)

    def _heard(self, said: Any) -> None:
        if said is not self._listening:
            return  # cancelled: see `leave`
        if said.result()["type"] == "http.disconnect":
            self.gone = True
            self.cancel()
        else:
            self._listen()  # the end of the body, which nobody waited for


class _Desk:
    """In the place of `Turns`: keeps what is taken for the task that will see to it."""

    def __init__(self) -> None:
        self._item: Exchange | None = None

    def take(self, exchange: Exchange) -> None:
        self._item = exchange

    def taken(self, exchange: Exchange) -> bool:
        """Whether this was left here; it is no longer."""
        item, self._item = self._item, None
        return item is exchange


async def _next(items: AsyncIterator[Any]) -> Any:
    try:
        return await items.__anext__()
    except StopAsyncIteration:
        return streams.NOTHING


async def _in_threads(items: Iterator[Any], loop: asyncio.AbstractEventLoop) -> AsyncIterator[Any]:
    """Yield what an iterator does that blocks; one that is being waited for is waited for before it is closed."""
    try:
        while True:
            step = loop.run_in_executor(None, next, items, streams.NOTHING)
            try:
                item = await asyncio.shield(step)
            except asyncio.CancelledError:
                await asyncio.wait([step])
                raise
            if item is streams.NOTHING:
                return
            yield item
    finally:
        await loop.run_in_executor(None, streams.close, items)
