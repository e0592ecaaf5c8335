"""
An open-loop load on one endpoint, as a program of its own.

Requests start when the schedule says, however long others take, and latency counts
from that moment: a service that stalls cannot hide by making its callers wait. No
request is sent twice. It runs apart from the test because the test's own work would
make it late. It ends when its standard input does (so also when the test dies), or
after `--seconds`.

Each request writes one line of JSON, in the order in which they ended:
    {"n": 17, "scheduled": s, "sent": s, "done": s, "kept": true, "status": 200, "deployment": "blue",
     "model": "blue-1", "pid": 4711, "error": null}
Times are those of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

DEPLOYMENT = "azureml-model-deployment"
KEPT = 16
LONGEST = 60.0
"""Seconds after which a request is given up, which is an error."""


@dataclass
class Seen:
    """What became of one request; `error` is None when all of its answer was right."""

    n: int
    scheduled: float
    kept: bool
    sent: float = 0.0
    done: float = 0.0
    status: int | None = None
    deployment: str | None = None
    model: str | None = None
    pid: int | None = None
    error: str | None = None


@dataclass
class Connection:
    """A connection to the gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def usable(self) -> bool:
        """
        Whether nobody has closed it, as far as this machine knows.

        Good clients look before they send; what the event loop has not read yet counts, too.
        """
        if self.reader.at_eof() or self.writer.is_closing():
            return False
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it without waiting."""
        self.writer.close()


@dataclass
class Caller:
    """Sends requests, every other one over a connection that is kept."""

    host: str
    port: int
    path: str
    key: str
    idle: list[Connection] = field(default_factory=list)

    async def call(self, n: int, scheduled: float) -> Seen:
        """Send request `n` once and judge the answer."""
        seen = Seen(n, scheduled, kept=n % 2 == 0)
        try:
            await asyncio.wait_for(self._exchange(seen), LONGEST)
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.TimeoutError) as error:
            seen.error = f"{type(error).__name__}: {error}"
        seen.done = time.monotonic()
        return seen

    async def _exchange(self, seen: Seen) -> None:
        seen.sent = time.monotonic()
        connection = await self._connection(seen.kept)
        again = False
        try:
            connection.writer.write(self._request(seen))
            headers, body = await self._answer(connection.reader, seen)
            again = seen.kept and headers.get("connection") != "close" and len(self.idle) < KEPT
        finally:
            if again:
                self.idle.append(connection)
            else:
                connection.close()
        seen.deployment = headers.get(DEPLOYMENT)
        _judge(seen, body)

    async def _connection(self, kept: bool) -> Connection:
        while kept and self.idle:
            connection = self.idle.pop(0)  # the one that was idle longest: all 16 are used
            if connection.usable():
                return connection
            connection.close()
        return Connection(*await asyncio.open_connection(self.host, self.port))

    def _request(self, seen: Seen) -> bytes:
        body = json.dumps({"n": seen.n}).encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *([] if seen.kept else ["Connection: close"]),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def _answer(self, reader: asyncio.StreamReader, seen: Seen) -> tuple[dict[str, str], bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.rstrip().split("\r\n")
        seen.status = int(first.split()[1])
        pairs = [line.partition(":") for line in rest]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return headers, await reader.readexactly(int(headers["content-length"]))


def _judge(seen: Seen, body: bytes) -> None:
    """Right is: status 200, this request's own number, and the deployment that the header names."""
    if seen.status != 200:
        seen.error = f"status {seen.status}: {body[:300].decode(errors='replace')}"
        return
    said = json.loads(body)
    seen.model, seen.pid = said["model"], said["pid"]
    if said["n"] != seen.n:
        seen.error = f"the answer is that of request {said['n']}"
    elif seen.deployment != seen.model.partition("-")[0]:
        seen.error = f"{seen.model} answered, the header says {seen.deployment}"


async def _run(caller: Caller, rate: float, seconds: float, out: TextIO) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: os.read(0, 1) or told.set())
    running: set[asyncio.Task[Seen]] = set()

    def ended(task: asyncio.Task[Seen]) -> None:
        running.discard(task)
        out.write(json.dumps(asdict(task.result())) + "\n")

    begin = time.monotonic()
    for n in range(int(rate * seconds)):
        scheduled = begin + n / rate
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(told.wait(), max(0.0, scheduled - time.monotonic()))
        if told.is_set():
            break
        task = asyncio.create_task(caller.call(n, scheduled))
        running.add(task)
        task.add_done_callback(ended)
    if running:
        await asyncio.wait(running)
    await asyncio.sleep(0)  # the last `ended`
    for connection in caller.idle:
        connection.close()


def main() -> None:
    """Load an endpoint until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("out")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=280.0)
    said = parser.parse_args()
    url = urlsplit(said.url)
    assert url.hostname == "127.0.0.1"
    assert url.port
    with Path(said.out).open("w", buffering=1) as out:
        asyncio.run(_run(Caller(url.hostname, url.port, url.path, said.key), said.rate, said.seconds, out))


if __name__ == "__main__":
    main()
