"""
Azure, as far as clients of online endpoints see it, on loopback.

A real https server that keeps connections, so that a client is tested whole, down to
its sockets: what it sends is in `seen`, and `faults` breaks what tests want broken.
It imitates Azure, not Modelport: it was written after the recordings in `tests/wire`.

    python -m tests.stub.azure --port 0     # prints its URL and the file of its certificate, serves until killed
"""

import argparse
import contextlib
import signal
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import arm, blobs, certificate, registries, scoring
from .messages import Answer, Cut, Fault, Half, Reset, Say, Seen
from .state import State

__all__ = ["AzureStub", "Cut", "Fault", "Half", "Reset", "Say", "Seen"]

_PIECE = 1 << 18


class AzureStub(State):
    """A context manager: it serves between `with` and its end, which raises what went wrong inside the stub itself."""

    def __init__(
        self, *, port: int = 0, tls: bool = True, certificates: tuple[Path, Path] | None = None, **values: Any
    ):
        """
        Prepare; nothing is opened.

        Args:
            port: Where on 127.0.0.1; 0 for any free port.
            tls: https, else http.
            certificates: The certificate to trust and its key; made when not given.
            values: First values of any of `State`'s fields: `polls`, `keep`, `page_size`, …
        """
        super().__init__(**values)
        self._port, self._tls, self._certificates = port, tls, certificates
        self._stack = contextlib.ExitStack()
        self.ca: Path | None = None
        self.crashes: list[BaseException] = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            context = None
            if self._tls:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stub-")))
                self.ca, key = self._certificates or certificate.make(folder)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.ca, key)
            server = stack.enter_context(_Server(("127.0.0.1", self._port), self, context))
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="azure-stub", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.hang_up)
            stack.callback(server.shutdown)
            self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{server.server_port}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self.crashes:
            raise AssertionError("the stub itself failed") from self.crashes[0]

    def add(self, place: str, document: dict[str, Any]) -> dict[str, Any]:
        """Have a resource, as if it had been PUT; returns it as it is read."""
        with self.lock:
            added = self.resources[place] = arm.document_of(self, place, document)
        return added

    def registry(self, name: str) -> State:
        """What a registry has, which is made when there is none; its `resources` are as the workspace's."""
        with self.lock:
            return registries.of(self, name)

    def answer(self, seen: Seen, body: bytes) -> Answer:
        """What Azure would say; `body` is the whole body, whether or not `seen` keeps it."""
        if seen.path.startswith("/subscriptions/"):
            return arm.answer(self, seen)
        if registries.serves(seen.path):
            return registries.answer(self, seen)
        if seen.path == "/score":
            return scoring.score(self, seen)
        if seen.path == "/swagger.json":
            return Answer(200, scoring.SWAGGER)
        if "/oauth2/" in seen.path or "/.well-known/" in seen.path:
            return scoring.login(self, seen)
        return blobs.answer(self, seen, body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], stub: AzureStub, context: ssl.SSLContext | None) -> None:
        super().__init__(address, _Handler)
        self.stub, self.context = stub, context
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; these are the connection's own errors, as handlers keep theirs."""

    @contextlib.contextmanager
    def held(self, connection: socket.socket) -> Iterator[None]:
        """While it is served, it is hung up with the server."""
        with self._guard:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._guard:
                self._open.discard(connection)
            connection.close()

    def hang_up(self) -> None:
        with self._guard:
            for each in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # below TLS, whose state is its thread's own


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "stub", ""
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        """The handshake is here, in the connection's own thread, so that a slow one stops nobody."""
        if self.server.context:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        """The connection's requests, one after another."""
        with self.server.held(self.connection), contextlib.suppress(OSError):
            super().handle()

    def finish(self) -> None:
        for each in (self.wfile, self.rfile):
            with contextlib.suppress(OSError, ValueError):
                each.close()

    def serve(self) -> None:
        """One request."""
        stub, seen = self.server.stub, self._head()
        with stub.lock:
            stub.seen.append(seen)
            asked = list(stub.faults)
        try:
            played = next((found for each in asked if (found := each(seen)) is not None), None)
            if isinstance(played, Reset):
                self._reset()
                return
            body = self._body(seen, played.after if isinstance(played, Cut) else None)
            if isinstance(played, Cut):
                self._reset()
                return
            with stub.lock:
                said = (
                    Answer(played.status, played.body, played.headers)
                    if isinstance(played, Say)
                    else stub.answer(seen, body)
                )
            seen.status = said.status
            if not stub.keep:
                seen.body = b""
            self._say(said, half=isinstance(played, Half))
        except OSError:
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - told when the stub ends; a client only sees that it was hung up
            stub.crashes.append(error)
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """The log is `seen`."""

    def _head(self) -> Seen:
        split = urlsplit(self.path)
        return Seen(
            self.command,
            unquote(split.path),
            dict(parse_qsl(split.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            list(self.headers),
        )

    def _body(self, seen: Seen, most: int | None) -> bytes:
        """The request's body, or its first `most` bytes. A stub that keeps nothing keeps none of a blob's."""
        kept: list[bytes] = []
        read = seen.query.get("comp") == "blocklist" or "content-md5" in seen.headers or not self._is_blob(seen)
        keep = self.server.stub.keep or read
        for piece in self._pieces():
            room = len(piece) if most is None else most - seen.size_bytes
            seen.size_bytes += len(piece[:room])
            if keep:
                kept.append(piece[:room])
            if most is not None and seen.size_bytes >= most:
                break
        body = seen.body = b"".join(kept)
        return body

    def _is_blob(self, seen: Seen) -> bool:
        return seen.method == "PUT" and "/subscriptions/" not in seen.path

    def _pieces(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read1(min(left, _PIECE))
            if not piece:
                raise ConnectionResetError("the client went away in the middle of a body")
            left -= len(piece)
            yield piece

    def _say(self, said: Answer, *, half: bool) -> None:
        content = said.content
        self.send_response(said.status)
        headers = {"x-ms-request-id": "r-1", **said.headers}
        headers.setdefault("Content-Type", "application/json" if isinstance(said.body, dict | list) else "text/plain")
        for name, value in headers.items():
            self.send_header(name, value)
        bodiless = said.status in (204, 304) or 100 <= said.status < 200
        if not bodiless and "content-length" not in {name.lower() for name in headers}:
            self.send_header("Content-Length", str(len(content)))
        if half:
            self._say_half(b"" if bodiless or self.command == "HEAD" else content)
            return
        self.end_headers()
        if not bodiless and self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _say_half(self, content: bytes) -> None:
        head = b"".join(self._headers_buffer)
        self._headers_buffer = []
        self.wfile.write(head + b"\r\n" + content[: len(content) // 2] if content else head[: len(head) // 2])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for each in (self.wfile, self.rfile):
            with contextlib.suppress(OSError, ValueError):
                each.close()
        self.connection.close()


for _method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.serve)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="Azure's stand-in, on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--http", action="store_true", help="plain http")
    parser.add_argument("--registry", action="append", default=[], help="a registry that there is; may be repeated")
    parser.add_argument("--forget", action="store_true", help="keep no contents of blobs")
    said = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    with (
        AzureStub(port=said.port, tls=not said.http, keep=not said.forget) as stub,
        contextlib.suppress(KeyboardInterrupt),
    ):
        for name in said.registry:
            stub.registry(name)
        print(stub.url, stub.ca or "", flush=True)  # noqa: T201
        threading.Event().wait()


def _end(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
