"""
What can be learned of a replica from outside: does it answer, is anybody connected.

Questions never block. The one thread that watches all replicas asks them all at
once, so a replica that hangs costs its own probe and delays no other.
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from modelport.backends.base import Probe

REQUEST = "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
UNIX_TABLE, TCP_TABLE = Path("/proc/net/unix"), Path("/proc/net/tcp")
_SENTENCE = 200
"""Longest that is told on."""
LISTENING = "01"  # the kernel's word in the former
OPEN = b"0[1245]"  # in the latter: established, or not closed yet by the other side


@frozen
class Target:
    """Where to ask: the path of a Unix socket, or `host:port`; and which path of the server there."""

    address: str
    path: str


@frozen
class Answer:
    """What came of one question; `saw` goes on after "the last probe saw"."""

    passed: bool
    saw: str


class Question:
    """
    One GET, advanced by `answer`.

    The socket is registered with `selector` while an answer is awaited, so that the watcher wakes when it comes.
    """

    def __init__(self, target: Target, timeout: float, now: float, selector: selectors.BaseSelector) -> None:
        self._request = REQUEST.format(path=target.path).encode()
        self._timeout = timeout
        self._until = now + timeout
        self._selector = selector
        host, _, port = target.address.rpartition(":")
        self._address: str | tuple[str, int] = (host, int(port)) if host else target.address
        self._socket = socket.socket(socket.AF_INET if host else socket.AF_UNIX)
        self._socket.setblocking(False)
        self._asked = False
        self._received = b""

    def answer(self, now: float) -> Answer | None:
        """The answer; None while it may still come."""
        answer = self._look(now)
        if answer is not None:
            self.close()
        return answer

    def close(self) -> None:
        """Give the question up."""
        if self._asked:
            self._asked = False
            self._selector.unregister(self._socket)
        self._socket.close()

    def _look(self, now: float) -> Answer | None:
        try:
            if not self._asked:
                self._connect()
                self._socket.sendall(self._request)
                self._selector.register(self._socket, selectors.EVENT_READ)
                self._asked = True
            chunk = self._socket.recv(4096)
        except BlockingIOError:  # no answer yet, on the way to it, or no room in the listener's queue
            return Answer(False, f"no answer within {self._timeout:g} s") if now >= self._until else None
        except FileNotFoundError:
            return Answer(False, "that it does not listen yet")
        except ConnectionRefusedError:
            return Answer(False, "connection refused")
        except OSError as error:
            return Answer(False, f"{error.strerror or error}")
        self._received += chunk
        line, ended, _ = self._received.partition(b"\r\n")
        if ended:
            status = line.split()[1:2]
            code = int(status[0]) if status and status[0].isdigit() else 0
            return Answer(200 <= code < 400, f"status {code}{_reason(self._received)}")
        return None if chunk else Answer(False, "a connection closed without an answer")

    def _connect(self) -> None:
        """Be connected, or raise why that is not so yet; asked again, the kernel tells what came of it."""
        code = self._socket.connect_ex(self._address)
        if code not in (0, errno.EISCONN):
            raise OSError(code, os.strerror(code))


def _reason(received: bytes) -> str:
    """What our own listener says beside the status, in its one sentence; nothing of what others say."""
    head, _, body = received.partition(b"\r\n\r\n")
    sentence = body.decode(errors="replace")
    is_ours = (
        b"content-type: text/plain; charset=utf-8" in head and sentence.endswith(".") and len(sentence) < _SENTENCE
    )
    return f" ({sentence[:-1]})" if is_ours else ""


class Prober:
    """
    One probe of one replica: asks when it is time, and counts what comes back in a row.

    Attributes:
        passes: How many answers in a row passed.
        failures: How many in a row did not.
        saw: What the last answer was.
    """

    def __init__(self, target: Callable[[], Target | None], probe: Probe, selector: selectors.BaseSelector) -> None:
        """`target` says where to ask now; None while there is nobody to ask."""
        self.probe = probe
        self.passes = self.failures = 0
        self.saw = "nothing"
        self._target = target
        self._selector = selector
        self._question: Question | None = None
        self._next = 0.0

    def begin(self, due: float) -> None:
        """Count afresh; the first question is asked at `due`."""
        self.close()
        self.passes = self.failures = 0
        self._next = due

    def step(self, now: float, period: float | None = None) -> None:
        """Ask if it is time, `period` seconds apart instead of the probe's own; count an answer that came."""
        if self._question is None:
            if now < self._next:
                return
            target = self._target()
            self._next = now + (self.probe.period if period is None else period)
            if target is None:
                return
            self._question = Question(target, self.probe.timeout, now, self._selector)
        answer = self._question.answer(now)
        if answer is None:
            return
        self._question = None
        self.saw = answer.saw
        self.passes = self.passes + 1 if answer.passed else 0
        self.failures = 0 if answer.passed else self.failures + 1

    @property
    def passed(self) -> bool:
        """Whether it passed often enough in a row."""
        return self.passes >= self.probe.success_threshold

    @property
    def failed(self) -> bool:
        """Whether it failed often enough in a row."""
        return self.failures >= self.probe.failure_threshold

    def close(self) -> None:
        """Give up the question under way."""
        if self._question is not None:
            self._question.close()
            self._question = None


def connections(address: str) -> int:
    """
    How many connections the listener at `address` has, those it has not accepted yet among them.

    A connection counts until the *listener's* side has closed it: when there is none, nothing is inside.
    psutil cannot tell a listener from its connections, so the kernel's own tables are read, or what `netstat` prints
    where there is no `/proc`. Of a Unix socket the listener's side is seen, since an accepted socket bears its
    listener's path; of `host:port`, which may be in a container, the side that is on this machine.
    """
    return _to_port(address) if ":" in address and not address.startswith("/") else _to_socket(address)


def _to_socket(path: str) -> int:
    if UNIX_TABLE.exists():
        lines = [line.split(maxsplit=7) for line in UNIX_TABLE.read_text(errors="replace").splitlines()]
        return sum(1 for line in lines if len(line) == 8 and line[7] == path and line[5] != LISTENING)
    lines = [line.split(maxsplit=8) for line in _netstat("unix")]
    return sum(1 for line in lines if len(line) == 9 and line[8] == path and line[5].strip("0"))


def _to_port(address: str) -> int:
    host, _, port = address.rpartition(":")
    if TCP_TABLE.exists():
        # 127.0.0.1:80 is 0100007F:0050 there: the address in the machine's byte order.
        (number,) = struct.unpack("=I", socket.inet_aton(host))
        there = b" %08X:%04X %s " % (number, int(port), OPEN)
        return len(re.findall(there, TCP_TABLE.read_bytes()))
    waiting = ("ESTABLISHED", "SYN_SENT", "FIN_WAIT_1", "FIN_WAIT_2")
    lines = [line.split() for line in _netstat("inet")]
    return sum(1 for line in lines if len(line) > 5 and line[4] == f"{host}.{port}" and line[5] in waiting)


def _netstat(family: str) -> list[str]:
    table = subprocess.run(["netstat", "-an", "-f", family], capture_output=True, text=True, check=True, timeout=5)
    return table.stdout.splitlines()
