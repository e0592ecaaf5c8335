"""
A very small HTTP server for probes and scrapers.

One thread, and nothing in it waits for a client: who sends or reads slowly has five
seconds, and who comes when the house is full takes the place of the one who came first.
Every answer ends its connection.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

SECONDS = 5.0
"""Longest that a client may take, from its connection to the last byte of its answer."""
CONNECTIONS = 64
HEAD_BYTES = 8192
PLAIN = "text/plain; charset=utf-8"

Answer = tuple[int, str, bytes]
"""Status, content type, body."""


class Listener:
    """Answers GET and HEAD by path: each of `answers` is called for its path, and must be quick."""

    def __init__(self, listening: socket.socket, answers: Mapping[str, Callable[[], Answer]]) -> None:
        self._listening = listening
        self._answers = answers
        self._clients: dict[socket.socket, _Client] = {}
        self._selector = selectors.DefaultSelector()

    def serve(self, until: int) -> None:
        """Serve until the descriptor `until` has something to read, or its end."""
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(until, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(SECONDS if self._clients else None):
                if key.fd == until:
                    return
                if key.fileobj is self._listening:
                    self._accept()
                elif key.data in self._clients.values():
                    self._go_on(key.data)
            self._close_late()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it went away again
            accepted, _ = self._listening.accept()
            accepted.setblocking(False)
            while len(self._clients) >= CONNECTIONS:
                self._close(next(iter(self._clients.values())))
            client = self._clients[accepted] = _Client(accepted)
            self._selector.register(accepted, selectors.EVENT_READ, client)
            self._go_on(client)  # most have sent their request by now

    def _go_on(self, client: _Client) -> None:
        try:
            if not client.answered and client.has_asked():
                client.answer(self._answer(client.asked))
                self._selector.modify(client.socket, selectors.EVENT_WRITE, client)
            if client.answered and client.has_been_told():
                self._close(client)
        except BlockingIOError:
            return
        except OSError:
            self._close(client)

    def _answer(self, asked: bytes) -> bytes:
        method, _, rest = asked.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        status, content_type, body = self._found(method, path)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)

    def _found(self, method: str, path: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return 405, PLAIN, b"Only GET and HEAD are answered here."
        answer = self._answers.get(path)
        return answer() if answer else (404, PLAIN, f"Here are: {', '.join(self._answers)}".encode())

    def _close_late(self) -> None:
        now = time.monotonic()
        for client in [each for each in self._clients.values() if each.until <= now]:
            self._close(client)

    def _close(self, client: _Client) -> None:
        del self._clients[client.socket]
        self._selector.unregister(client.socket)
        client.socket.close()


class _Client:
    """One connection: what has come, and what has still to be sent."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.until = time.monotonic() + SECONDS
        self.asked = b""
        self.answered = False
        self._left = b""

    def has_asked(self) -> bool:
        """Whether the whole head has come; raises OSError when it never will."""
        chunk = self.socket.recv(HEAD_BYTES)
        self.asked += chunk
        if not chunk or len(self.asked) > HEAD_BYTES:
            raise OSError("No request that can be answered came.")
        return b"\r\n\r\n" in self.asked

    def answer(self, answer: bytes) -> None:
        self._left = answer
        self.answered = True

    def has_been_told(self) -> bool:
        """Whether all of the answer has been sent."""
        self._left = self._left[self.socket.send(self._left) :]
        return not self._left
