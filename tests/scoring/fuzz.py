"""
Inputs that no client should send, and what a server must make of them.

`python -m tests.scoring.fuzz --inputs 100000` sends that many to each of several
servers; `test_fuzz.py` sends a slice in CI. Everything goes over a raw socket, one
connection for each input, since a client library would refuse to send most of it.

What must hold, whatever was sent: an answer or a closed connection in time, no
traceback in the answer, no 5xx (the scripts here never fail), nothing in the log
but access lines, and the same process alive and healthy. A sound request, one that
HTTP allows, must be answered; and what run() saw must be what was sent.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import socket
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.scoring.conftest import Served, interpreter_with_schemas

SCRIPTS = {
    "undecorated": """
        def init(): pass
        def run(raw): return {"saw": raw}
    """,
    "headers": """
        def init(): pass
        def run(raw, request_headers): return {"saw": raw, "headers": request_headers}
    """,
    "rawhttp": """
        from azureml.contrib.services.aml_request import rawhttp
        from azureml.contrib.services.aml_response import AMLResponse
        def init(): pass
        @rawhttp
        def run(request):
            saw = [request.method, request.full_path, dict(request.headers), request.args.to_dict(flat=False)]
            saw += [request.cookies, request.mimetype, request.get_data(cache=True).hex()]
            saw += [request.form.to_dict(flat=False), [each.filename for each in request.files.values()]]
            return AMLResponse(saw, 200, json_str=True)
    """,
    "parsed": """
        def init(): pass
        def run(data: dict): return {"kind": type(data).__name__}
    """,
    "typed": """
        from dataclasses import dataclass
        from typing import Optional
        @dataclass
        class Tide:
            height: float
            port: str = ""
        def init(): pass
        def run(tides: list[Tide], threshold: Optional[float] = None): return [len(tides), threshold]
    """,
    "batched": """
        from modelport_scoring import batched
        def init(): pass
        @batched(max_size=4, max_wait_ms=1)
        def run(items: list[dict]): return [len(item) for item in items]
    """,
    "awaited": """
        import asyncio
        def init(): pass
        async def run(raw):
            await asyncio.sleep(0)
            return {"saw": raw}
    """,
    "streamed": """
        async def init(): pass
        async def run(raw, request_headers):
            yield {"saw": raw}
            yield {"headers": request_headers}
    """,
    "schema": """
        import numpy as np
        from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
        from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
        from inference_schema.schema_decorators import input_schema
        def init(): pass
        @input_schema("name", StandardPythonParameterType("x"))
        @input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]]), enforce_shape=False))
        def run(data, name): return [data.shape, name]
    """,
}
"""Scripts that take all there is of a request and never fail: a 5xx is the server's."""

MOST_SECONDS = 20
"""Longest until a connection is answered or closed."""
BETWEEN_HEALTH_CHECKS = 50
REFUSALS = {400, 404, 405, 408, 411, 413, 414, 415, 417, 422, 431, 505}
BODY_LIMIT = 2_000_000
FAULTY = re.compile(r"Traceback|panicked|Error\b", re.IGNORECASE)
ACCESS = re.compile(r"[\d-]+ [\d:,]+ [ID] \[\d+\] modelport_scoring")

# -- what is sent

TOKEN = "!#$%&'*+-.^_`|~" + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
numbers = st.sampled_from(["1e999", "-1e-999", "1" * 5000, "0." + "3" * 5000, "-0", "NaN", "Infinity", "1E+400"])
nested = st.builds(
    lambda pair, depth, closed: pair[0] * depth + (pair[1] * depth if closed else ""),
    st.sampled_from([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")]),
    st.sampled_from([10, 500, 990, 1010, 5000, 100_000]),
    st.booleans(),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
arguments = st.fixed_dictionaries({}, optional={"data": values | st.lists(st.lists(st.floats())), "name": values})
documents = st.one_of(
    (values | arguments).map(json.dumps),
    numbers,
    numbers.map('{{"data": {}, "name": 1}}'.format),
    nested,
    nested.map('{{"data": {}, "name": 1}}'.format),
    st.sampled_from(
        ['"\\ud800"', '{"data": "\\udfff\\ud800", "name": []}', '{"data":1,"data":2}', "\ufeff{}", '{"a"', ""]
    ),
)
bodies = st.one_of(
    st.binary(max_size=200),
    documents.map(str.encode),
    documents.map(lambda text: text.encode("utf-16")),
    st.binary(min_size=1, max_size=9).map(lambda part: part * 20_000),
    st.sampled_from([b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b'"\xf5"', b"\0" * 1000, b"x" * (BODY_LIMIT + 1)]),
    st.builds(
        lambda lines, end: b"\r\n".join([b"--b", *lines, b"", b"text", b"--b" + end]),
        st.lists(st.sampled_from([b'content-disposition: form-data; name="a"; filename="\xff"', b"a", b":", b"x: y"])),
        st.sampled_from([b"", b"--", b"--\r\n"]),
    ),
)
field_values = st.one_of(
    st.binary(max_size=30).map(lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value).strip(b" \t")),
    st.sampled_from([b"", b"a" * 100, b"a" * 101, b"b" * 5000, "é".encode(), b"\xe9", b"gzip", b"%00", b"a, b"]),
)
content_types = st.sampled_from(
    [
        *(
            b"application/json",
            b"application/json; charset=utf-16",
            b"application/x+json",
            b"APPLICATION/JSON;;",
            b"json",
        ),
        *(b"multipart/form-data; boundary=b", b"multipart/form-data", b"multipart/form-data; boundary=" + b"b" * 300),
        *(b"application/x-www-form-urlencoded; charset=no-such", b"text/plain; charset=\xff", b"; ;", b""),
    ]
)
known = st.sampled_from(
    [
        *(b"x-request-id", b"x-ms-request-id", b"x-ms-client-request-id", b"TraceId", b"traceparent", b"Origin"),
        *(
            b"Cookie",
            b"Accept",
            b"Content-Encoding",
            b"Authorization",
            b"Range",
            b"If-None-Match",
            b"Date",
            b"Forwarded",
        ),
        *(
            b"X-Forwarded-For",
            b"Proxy",
            b"Access-Control-Request-Method",
            b"Accept-Encoding",
            b"User-Agent",
            b"X_Under",
        ),
    ]
)
harmless = known | st.text(TOKEN, min_size=1, max_size=12).map(lambda name: f"x-{name}".encode())
fields = st.lists(st.tuples(harmless, field_values) | st.tuples(st.just(b"Content-Type"), content_types), max_size=6)
queries = st.one_of(
    st.just(""),
    st.binary(max_size=20).map(lambda value: "?" + quote(value)),
    st.text("abc=&+;%[]{}\"'0123456789<>^`|\\/?.", max_size=30).map("?{}".format),
    st.sampled_from(["?a=1&a=2", "?=", "?&&&", "?" + "a=1&" * 3000, "?a=" + "[" * 5000, "?a=" + "9" * 5000, "?a=%ff"]),
    st.sampled_from(["?version=3", "?version=%00", "?version=" + "9" * 3000, "?version=2&version="]),
)
paths = st.sampled_from(
    ["/score"] * 20 + ["/", "/swagger.json", "/score/", "//score", "/%73core", "/a%00b", "/%ff%0a", "/x" * 3000]
)


@dataclass(frozen=True)
class Sent:
    """
    What is written on a connection.

    Attributes:
        sound: HTTP allows it, so it must be answered.
        body: What run() must see, when the script gets to see it.
    """

    data: bytes
    sound: bool = False
    body: bytes | None = None


def _written(method: str, target: str, named: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = [
        f"{method} {target} HTTP/1.1".encode(),
        b"Host: localhost",
        *(b": ".join(field) for field in named),
        b"",
        b"",
    ]
    return b"\r\n".join(lines) + body


def _sound(method: str, path: str, query: str, named: list[tuple[bytes, bytes]], body: bytes, size: int) -> Sent:
    """A request with a correct length, or in chunks of `size`."""
    if size:
        parts = [body[at : at + size] for at in range(0, len(body), size)] if len(body) < 5000 * size else [body]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
        data = _written(method, path + query, [*named, (b"Transfer-Encoding", b"chunked")], framed)
    else:
        data = _written(method, path + query, [*named, (b"Content-Length", str(len(body)).encode())], body)
    return Sent(data, sound=True, body=body if method == "POST" and path == "/score" else None)


sound = st.builds(
    _sound,
    st.sampled_from(["POST"] * 20 + ["GET", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"]),
    paths,
    queries.filter(lambda query: not set(query) & set('"<>^`{|}\\')),
    fields | fields.map(lambda named: [(b"Content-Type", b"application/json"), *named]),
    bodies,
    st.sampled_from([0, 0, 0, 1, 7, 4096]),
)
odd_fields = st.one_of(
    st.tuples(
        st.sampled_from(
            [b"Content-Length", b"Transfer-Encoding", b"Expect", b"Connection", b"Upgrade", b"TE", b"Host"]
        ),
        st.sampled_from(
            [
                *(b"0", b"5", b"-1", b"+5", b"5, 5", b"5, 6", b"99999999999999999999", b"0x5", b" ", b"", b"\xb2"),
                *(b"chunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"100-continue", b"200-no", b"h2c"),
                *(b"close", b"keep-alive, upgrade", b"websocket", b"trailers", b"a b", b"104857601"),
            ]
        ),
    ),
    st.tuples(st.binary(max_size=10), st.binary(max_size=30)),
    st.just((b"x", b"y" * 500_000)),
)
odd = st.builds(
    lambda method, path, query, named, body: Sent(_written(method, path + query, named, body)),
    st.sampled_from(["POST", "GET", "HEAD", "CONNECT", "PRI", "post", "A" * 300, "G ET", "", "\x00"]),
    paths | st.sampled_from(["*", "", "http://x/score", "http://[", "score", "/é", "localhost:80", "/a b"]),
    queries,
    st.lists(odd_fields, max_size=4) | st.just([(b"x-a", b"b")] * 300),
    bodies,
)
raw = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [
            *(b"\r\n" * 500, b"GET /\r\n", b"GET / HTTP/0.9\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /score", b""),
            *(
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
                b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"a" * 300,
            ),
            b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000,
        ]
    ),
).map(Sent)
truncated = st.builds(
    lambda sent, share: Sent(sent.data[: int(len(sent.data) * share)]), sound, st.floats(0, 1, exclude_max=True)
)
mutated = st.builds(
    lambda sent, where, what: Sent(b"%b%b%b" % (sent.data[:where], what, sent.data[where + 1 :])),
    sound,
    st.integers(0, 200),
    st.binary(max_size=3),
)
inputs = st.one_of(sound, sound, sound, odd, odd, raw, truncated, mutated)

# -- what must be made of it


class FaultError(AssertionError):
    """The server did what it must not."""


class Target:
    """One server, and the checks after each input."""

    def __init__(self, name: str, served: Served) -> None:
        self._name = name
        self._served = served
        self._read = 0
        self._process = psutil.Process(served.process.pid)
        self.sent = 0

    def send(self, sent: Sent) -> None:
        """
        Send one input, and judge the server.

        Raises:
            FaultError: Something does not hold.
        """
        self.sent += 1
        status, body = _exchanged(self._served.uds, sent)
        if self._served.process.poll() is not None:
            raise FaultError(
                f"The process ended with status {self._served.process.returncode}: {self._served.log[-2000:]}"
            )
        if b"Traceback" in body:
            raise FaultError(f"A traceback was answered: {body[:1000]!r}")
        if status >= 500 and status != 505:
            raise FaultError(f"{status} was answered: {body[:1000]!r}; the log ends {self._served.log[-2000:]}")
        if sent.sound and status not in REFUSALS | {200}:
            raise FaultError(f"A sound request was answered with {status or 'nothing'}.")
        if self._name == "undecorated" and sent.body is not None:
            _check_seen(sent.body, status, body)
        if self.sent % BETWEEN_HEALTH_CHECKS == 0:
            self.check_health()

    def check_health(self) -> None:
        """Ask whether it is well, and read what it has logged since."""
        if self._served.request("GET", "/").body != b"Healthy":
            raise FaultError("It is not healthy.")
        log = self._served.log
        new, self._read = log[self._read :], len(log)
        for line in new.splitlines():
            if FAULTY.search(line) and not ACCESS.match(line):
                raise FaultError(f"It logged {line!r}: {self._served.log[-3000:]}")

    def held(self) -> tuple[int, int, int]:
        """Open files, threads and resident megabytes."""
        return self._process.num_fds(), self._process.num_threads(), self._process.memory_info().rss // 1_000_000


def _exchanged(uds: Path, sent: Sent) -> tuple[int, bytes]:
    """Return status and body of the first answer; 0 where the connection was closed without one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(MOST_SECONDS)
        connection.connect(str(uds))
        received = _sent(connection, sent.data)
        connection.settimeout(MOST_SECONDS if sent.sound else 0.005)
        with suppress(ConnectionResetError):
            try:
                received = received or connection.recv(1 << 20)
            except TimeoutError:
                if sent.sound:
                    raise FaultError(f"No answer within {MOST_SECONDS} s.") from None
            # Now it is plain that no more will come, also to a server that waits for the rest.
            connection.settimeout(MOST_SECONDS)
            if not _whole(received):
                if not sent.sound:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                received += _rest(connection, received)
    head, _, body = received.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    matched = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
    return (int(matched[1]) if matched else 0), body


def _sent(connection: socket.socket, data: bytes) -> bytes:
    """
    Send all; return what has been answered meanwhile.

    As any client must, it reads while it sends: a server takes no more from one that leaves its answer. A refusal may
    be there, and the connection closed, before all is sent.
    """
    received, unsent = b"", memoryview(data)
    connection.setblocking(False)
    with suppress(BrokenPipeError, ConnectionResetError):
        while unsent:
            readable, writable, _ = select.select([connection], [connection], [], MOST_SECONDS)
            if readable:
                more = connection.recv(1 << 20)
                if not more:
                    break
                received += more
            elif writable:
                unsent = unsent[connection.send(unsent) :]
            else:
                raise FaultError(f"It neither reads nor answers for {MOST_SECONDS} s.")
    return received


def _rest(connection: socket.socket, received: bytes) -> bytes:
    rest, deadline = b"", time.monotonic() + MOST_SECONDS
    while not _whole(received + rest):
        try:
            more = connection.recv(1 << 20)
        except TimeoutError:
            more = None
        if more is None or time.monotonic() > deadline:
            raise FaultError(f"Neither an answer nor an end within {MOST_SECONDS} s.")
        if not more:
            break
        rest += more
    return rest


def _whole(received: bytes) -> bool:
    """Whether a final answer with a length, or in chunks, is complete."""
    head, end, body = received.partition(b"\r\n\r\n")
    if re.search(rb"\r\ntransfer-encoding: chunked", head, re.IGNORECASE):
        return body.endswith(b"\r\n0\r\n\r\n") or body == b"0\r\n\r\n"
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return bool(end) and length is not None and len(body) >= int(length[1])


def _check_seen(sent: bytes, status: int, answered: bytes) -> None:
    if len(sent) > BODY_LIMIT:
        expected = 413
    else:
        try:
            text = sent.decode()
            expected = 200
        except UnicodeDecodeError:
            expected = 400
    if status == 431:  # an id that is too long
        return
    if status != expected:
        raise FaultError(f"{expected} was due, {status} was answered: {answered[:1000]!r}")
    if status == 200 and json.loads(answered) != {"saw": text}:
        raise FaultError(f"run() did not see what was sent: {answered[:1000]!r}")


def fuzz(target: Target, count: int, *, derandomize: bool) -> None:
    """Send `count` inputs to the server; the first that shows a fault is made small and shown."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def send(sent: Sent) -> None:
        target.send(sent)

    send()
    target.check_health()


@contextmanager
def started(name: str, python: str | None = None) -> Iterator[Target]:
    """The server of one of the scripts."""
    folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    (folder / "app").mkdir()
    (folder / "app" / "score.py").write_text(textwrap.dedent(SCRIPTS[name]))
    environment = {"MODELPORT_MAX_BODY_BYTES": str(BODY_LIMIT), "AML_CORS_ORIGINS": "https://a.example"}
    served = Served(folder, ("--uds", str(folder / "s")), environment, python)
    try:
        yield Target(name, served.wait_until_ready())
    finally:
        served.end()
        shutil.rmtree(folder)


def main(say: Callable[[str], object] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, to all servers")
    parser.add_argument("--scripts", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    flags = parser.parse_args()
    share, at_once = flags.inputs // len(flags.scripts), 2000
    for name in flags.scripts:
        with started(name, interpreter_with_schemas() if name == "schema" else None) as target:
            while target.sent < share:
                fuzz(target, min(at_once, share - target.sent), derandomize=False)
                files, threads, megabytes = target.held()
                say(f"{name}: {target.sent} inputs; the server has {files} files, {threads} threads, {megabytes} MB")
    return 0


if __name__ == "__main__":
    os.nice(10)
    sys.exit(main())
