"""
What can be learned of a replica from outside: does it answer, is anybody connected.

Questions never block. The one thread that watches all replicas asks them all at
once, so a replica that hangs costs its own probe and delays no other.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
from pathlib import Path

from attrs import frozen

from modelport.backends.base import Probe

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
KERNEL_TABLE = Path("/proc/net/unix")
LISTENING = "01"  # the kernel's word there


@frozen
class Answer:
    """What came of one question; `saw` goes on after "the last probe saw"."""

    passed: bool
    saw: str


class Question:
    """
    One `GET /` over a Unix socket, advanced by `answer`.

    The socket is registered with `selector` while an answer is awaited, so that the watcher wakes when it comes.
    """

    def __init__(self, path: str, timeout: float, now: float, selector: selectors.BaseSelector) -> None:
        self._path = path
        self._timeout = timeout
        self._until = now + timeout
        self._selector = selector
        self._socket = socket.socket(socket.AF_UNIX)
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
                self._socket.connect(self._path)
                self._socket.sendall(REQUEST)
                self._selector.register(self._socket, selectors.EVENT_READ)
                self._asked = True
            chunk = self._socket.recv(4096)
        except BlockingIOError:  # no answer yet, or no room in the listener's queue
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
            return Answer(200 <= code < 400, f"status {code}")
        return None if chunk else Answer(False, "a connection closed without an answer")


class Prober:
    """
    One probe of one replica: asks when it is time, and counts what comes back in a row.

    Attributes:
        passes: How many answers in a row passed.
        failures: How many in a row did not.
        saw: What the last answer was.
    """

    def __init__(self, path: str, probe: Probe, selector: selectors.BaseSelector) -> None:
        self.probe = probe
        self.passes = self.failures = 0
        self.saw = "nothing"
        self._path = path
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
            self._question = Question(self._path, self.probe.timeout, now, self._selector)
            self._next = now + (self.probe.period if period is None else period)
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


def connections(path: str) -> int:
    """
    How many connections the listener at `path` has, those it has not accepted yet among them.

    A connection counts until the *listener's* side has closed it: when there is none, nothing is inside.
    psutil cannot tell a listener from its connections, so the kernel's own table is read: `/proc/net/unix`, where
    an accepted socket bears its listener's path, or what `netstat` prints where there is no `/proc`.
    """
    if KERNEL_TABLE.exists():
        lines = [line.split(maxsplit=7) for line in KERNEL_TABLE.read_text(errors="replace").splitlines()]
        return sum(1 for line in lines if len(line) == 8 and line[7] == path and line[5] != LISTENING)
    table = subprocess.run(["netstat", "-an", "-f", "unix"], capture_output=True, text=True, check=True, timeout=5)
    lines = [line.split(maxsplit=8) for line in table.stdout.splitlines()]
    return sum(1 for line in lines if len(line) == 9 and line[8] == path and line[5].strip("0"))
