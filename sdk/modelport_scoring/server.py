"""
Granian, its signals, and the end of the process.

Granian starts a worker process for each application and watches it. One replica
needs one process: who stops or kills it has then stopped all of it, there is no
worker that outlives its parent and no parent that answers for a dead worker, and
the exit status is the script's own. So the worker's function is called in this
process instead of in a child; that, and the callback with which a request can be
answered from another thread, are places below Granian's public surface; the third is
the socket, which is ours (`sockets`), and the fourth how it hears signals.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import granian
from granian import _signals
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.log import LogLevels
from granian.server import mp

from modelport_scoring.asgi import ASGIHandler
from modelport_scoring.exchange import WSGIProtocol
from modelport_scoring.settings import Settings
from modelport_scoring.worker import Worker

log = logging.getLogger(__name__)

CONNECTIONS = 1024
"""Open connections, and threads: one is taken only while a body arrives or run() runs, and they end when idle."""

IDLE_SECONDS = 10
"""
After which a thread ends that has nothing to do: requests go around all threads, and each finds a cold cache.

Not sooner: Granian (2.8) takes a thread that is just ending for one that is there. A request that comes in that
millisecond gets a thread when another request comes, or leaves, and may be the last of those that @concurrent let in.
"""

STACK_BYTES = 8 * 1024 * 1024
"""Of each thread that run() is in: what systems give the main one, where Azure's is. Rust's threads have a quarter."""

LONGEST_GRACE = 2**31 - 2
"""Seconds. An alarm takes no more."""

Handler = Callable[[WSGIProtocol, "dict[str, Any]"], None]


class OneProcess(mp.MPServer):
    """Granian with its worker in this process, and a socket that is there already."""

    listening: socket.socket

    def _init_shared_socket(self) -> None:
        self._ssp: Any = None
        self._sso: Any = self.listening
        uds = self.listening.family == socket.AF_UNIX
        self._sfd: Any = self.listening.fileno()
        holder: Any = SocketHolder  # whose types do not say what it takes
        try:
            self._shd: Any = holder(self._sfd, uds, CONNECTIONS)
        except TypeError:  # where a socket listens from the start, the holder does not ask how many may wait
            self._shd = holder(self._sfd, uds)

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        self.blocking_threads_idle_timeout = IDLE_SECONDS  # which its own check would find too short
        worker = self._spawn_worker(idx=0, target=spawn_target, callback_loader=target_loader)
        worker.inner.run()  # until a signal has been served: `run` is what a multiprocessing.Process does in its child
        self._sso.detach()  # the same descriptor as the worker's, which has closed it
        self.interrupt_signal = True
        self.main_loop_interrupt.set()


class Server:
    """Serves one handler until SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self._settings = settings
        self._worker = worker
        self._status = 0
        self._told_early = self._told = False
        self._served = threading.Event()

    @staticmethod
    def _made(interface: Interfaces, threads: int) -> OneProcess:
        # Granian configures logging twice, and `logging.config` would close the handlers of the script.
        untouched: dict[str, Any] = {"incremental": True, "handlers": {}, "loggers": {}}
        return OneProcess(
            "",
            interface=interface,
            runtime_mode=RuntimeModes.mt,
            loop=Loops.asyncio,
            http=HTTPModes.http1,
            websockets=False,
            blocking_threads=threads,
            backpressure=CONNECTIONS,
            log_level=LogLevels.error,
            log_dictconfig=untouched,
        )

    def serve(self, handler: Handler) -> int:
        """Serve until a signal or `end`; return the exit status. Must be called in the main thread."""
        handler = self._worker.handler(handler)
        os.environ.setdefault("RUST_MIN_STACK", str(STACK_BYTES))  # read when Granian makes its first thread
        mp._wsgi_call_wrap = lambda *_: handler  # type: ignore[attr-defined]  # noqa: SLF001  # see above
        return self._serve(self._made(Interfaces.WSGI, CONNECTIONS), handler)

    def serve_on(self, loop: AbstractEventLoop, handler: ASGIHandler) -> int:
        """As `serve`, with the handler's tasks on this loop, which runs in this thread."""
        granian.loops.register(Loops.asyncio.value)(lambda: loop)
        return self._serve(self._made(Interfaces.ASGINL, 1), self._worker.task_handler(handler))

    def _serve(self, server: OneProcess, handler: Any) -> int:
        server.signal_handler_interrupt = self._hear_early  # type: ignore[method-assign]  # not the worker's yet
        named = {each.name: each for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        _signals.signal = SimpleNamespace(signal=self._register, **named)  # type: ignore[assignment,attr-defined]  # all that it uses
        self._end_after_grace()
        server.listening = self._worker.listening()
        server.listening.listen(CONNECTIONS)
        self._worker.open()
        server.serve(target_loader=lambda: handler, wrap_loader=False)
        self._served.set()
        self._worker.close()
        return self._status

    def end(self) -> None:
        """End as after SIGTERM, but with status 1. May be called from any thread."""
        self._status = 1
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_after_grace(self) -> None:
        """
        End the process when a signal's grace has passed, whatever still runs.

        Granian owns the signals' handlers, which Python runs in the main thread, and that one sleeps: a system
        that gives a signal to another thread does not wake it. The wakeup descriptor hears of every signal, so
        the thread here nudges it.
        """
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear_early)
        signal.signal(signal.SIGURG, lambda *_: None)
        main_thread = threading.get_ident()

        def wait() -> None:
            while os.read(reader, 1)[0] not in (signal.SIGTERM, signal.SIGINT):
                pass
            self._worker.end()
            # Granian before 2.8 (Python 3.9) may lock itself and the GIL up when it ends on a loop, and then no
            # thread of Python's runs any more. The system's own clock needs none.
            grace = min(self._settings.grace, LONGEST_GRACE)
            signal.alarm(math.ceil(grace) + 1)
            deadline = time.monotonic() + grace
            while not self._served.wait(0.05) and time.monotonic() < deadline:
                signal.pthread_kill(main_thread, signal.SIGURG)
            time.sleep(max(0.0, deadline - time.monotonic()))
            log.error("Still busy %g seconds after the signal to stop: ended.", self._settings.grace)
            self._worker.close()
            os._exit(1)

        threading.Thread(target=wait, name="grace", daemon=True).start()

    def _hear_early(self, *_: object) -> None:
        """Remember a signal that came before Granian's worker could hear it: clients may be connected already."""
        self._told_early = True

    def _register(self, number: int, handler: Callable[..., object]) -> None:
        """
        What Granian has in the place of `signal.signal`.

        The handler of its worker keeps the interpreter to itself for ever when it is called twice, and a signal may
        come twice in a moment: to the group and to the process, by an impatient Ctrl-C, by two run() that exit.
        """

        def hear(*told: object) -> None:
            if not self._told:
                self._told = True
                handler(*told)

        if number == signal.SIGHUP or handler == self._hear_early:
            signal.signal(number, handler)
            return
        signal.signal(number, hear)
        if self._told_early:
            hear(number, None)
