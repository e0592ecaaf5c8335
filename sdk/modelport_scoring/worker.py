"""
What a process that serves has from the process that started it.

A server of one process has nothing. A worker of a keeper (`keeper`) inherits the socket
that all workers share, the memory in which it says how it is, and a line to the keeper:
it says "ready" there once, may hear that it is to leave, and sees the keeper's end.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

from modelport_scoring.asgi import ASGIHandler, Receive, Send
from modelport_scoring.orphans import end_with_parent
from modelport_scoring.settings import Settings
from modelport_scoring.shared import Board, Slot
from modelport_scoring.sockets import File, bound, clear, files

VARIABLE = "MODELPORT_WORKER"
READY, LEAVE = b"r", b"l"

log = logging.getLogger(__name__)


class Worker:
    """
    The server's one process.

    Args:
        settings: Those of the server.
        board: Where it says how it is; None: nobody asks.
        slot: Which of the board's slots is its own.
    """

    def __init__(self, settings: Settings, board: Board | None = None, slot: int = 0) -> None:
        self.settings = settings
        self._board = board
        self.slot: Slot | None = board.slots[slot] if board else None
        self._files: list[File] = []

    @property
    def note_runs(self) -> Callable[[int], None] | None:
        """What is told how many requests are in run(); None: nobody asks."""
        return self.slot.note_runs if self.slot else None

    def listening(self) -> socket.socket:
        """
        Return the socket to serve on.

        Raises:
            OSError: Its address cannot be had.
        """
        settings = self.settings
        made = bound(settings.uds, settings.host, settings.port)
        self._files = files(settings.uds, settings.health_uds, settings.metrics_uds)
        return made

    def handler(self, handler: Any) -> Any:
        """The handler, as it is to be called."""
        return handler

    def task_handler(self, handler: ASGIHandler) -> ASGIHandler:
        """The same for one that is called on a loop."""
        return handler

    def open(self) -> None:
        """Say that it serves: its socket is listened on."""
        if self.slot:
            self.slot.open()

    def end(self) -> None:
        """Say that it was told to stop."""
        if self._board:
            self._board.end()

    def close(self) -> None:
        """Clear away what the end of a server leaves."""
        clear(self._files)


class KeptWorker(Worker):
    """One of a keeper's workers; `line` is its connection to the keeper, `number` tells it from those beside it."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        slot: int,
        number: int,
        shared: socket.socket,
        line: socket.socket,
        keeper: int,
    ) -> None:
        super().__init__(_own(settings, number), board, slot)
        self._shared = shared
        self._line = line
        self._served = -1
        self._leaving = False
        # Ctrl-C reaches the keeper, too, which tells us in its own time.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        end_with_parent(keeper)
        threading.Thread(target=self._listen_to_keeper, name="keeper", daemon=True).start()

    def listening(self) -> socket.socket:
        """Return the socket that all workers share."""
        # Not `socket.dup()`: that makes the socket a blocking one, for all workers, and each would wait in accept().
        self._served = os.dup(self._shared.fileno())
        return socket.socket(fileno=self._served)

    def handler(self, handler: Any) -> Any:
        """The handler; while the worker leaves, its answers end their connections."""
        if not self.settings.reload:
            return handler

        def handle(protocol: Any, environ: dict[str, Any]) -> None:
            handler(_Last(protocol) if self._leaving else protocol, environ)

        return handle

    def task_handler(self, handler: ASGIHandler) -> ASGIHandler:
        """The same for one that is called on a loop."""
        if not self.settings.reload:
            return handler

        async def handle(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            def last(message: dict[str, Any]) -> Awaitable[None]:
                if self._leaving and message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
                return send(message)

            await handler(scope, receive, last)

        return handle

    def open(self) -> None:
        """Say that it serves."""
        super().open()
        self._line.sendall(READY)

    def end(self) -> None:
        """Nothing: whoever told it knows."""

    def close(self) -> None:
        """Nothing: the socket is the keeper's."""

    def _listen_to_keeper(self) -> None:
        while word := self._line.recv(1):
            if word == LEAVE:
                self._leave()
        os._exit(1)  # the keeper is gone, and nobody else would end this process

    def _leave(self) -> None:
        """
        Take no more connections, and end those that there are with their next answer.

        Granian would close a connection that was just accepted, whose request is on its way. So it is given
        a socket that nobody knows in the place of the shared one: whoever connects from now on is another's.
        """
        with socket.socket() as unknown:
            unknown.bind(("127.0.0.1", 0))
            unknown.listen(1)
            unknown.setblocking(False)
            os.dup2(unknown.fileno(), self._served, inheritable=False)
        self._leaving = True


def inherited(settings: Settings, environment: MutableMapping[str, str]) -> KeptWorker | None:
    """The worker that a keeper started this process to be; None when no keeper did."""
    said = environment.pop(VARIABLE, None)  # not for the processes that a script starts
    return kept(settings, json.loads(said)) if said else None


def kept(settings: Settings, said: Mapping[str, int]) -> KeptWorker:
    """The worker that a keeper describes, e.g. `{"shared": 3, "line": 4, "board": 5, "slots": 2, "slot": 0, …}`."""
    for name in ("shared", "line", "board"):
        os.set_inheritable(said[name], False)
    return KeptWorker(
        settings,
        Board(said["board"], said["slots"]),
        said["slot"],
        said["number"],
        socket.socket(fileno=said["shared"]),
        socket.socket(fileno=said["line"]),
        said["keeper"],
    )


def _own(settings: Settings, number: int) -> Settings:
    """A worker's share: of the places in run(), and the debugger for the first alone."""
    places = settings.max_concurrent_requests
    share = None if places is None else -(-places // settings.worker_count)
    return replace(settings, max_concurrent_requests=share, debug="" if number else settings.debug)


class _Last:
    """Granian's protocol object, for the last answer of a connection."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._protocol, name)
        if not name.startswith("response_"):
            return method
        return lambda status, headers, *rest: method(status, [*headers, ("connection", "close")], *rest)
