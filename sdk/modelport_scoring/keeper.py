"""
The process that keeps workers: starts them, replaces those that die, and never runs run().

It has the socket, and all workers accept from it: the kernel gives a connection to a
worker that has time for it, and one that waits is lost with none of them. (Sockets of
their own, with SO_REUSEPORT, would tie it to one by its hash.) Workers are fresh
interpreters, which know nothing of the keeper but what they inherit, unless
WORKER_PRELOAD asks for forks of this one after init().

One thread, and one loop: a signal, a worker's word and a change of the script's folder
all wake it, and each look at a worker is short.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from modelport_scoring.reload import changes
from modelport_scoring.settings import Settings
from modelport_scoring.shared import SILENCE, Board, Slot
from modelport_scoring.sockets import bound, clear, files
from modelport_scoring.worker import LEAVE, READY, VARIABLE, Worker, kept

SCRIPT_FAULT = 3
"""Exit status when the script cannot be served. Source: azureml-inference-server-http."""

CUT_OFF = 1
"""Exit status when the end came in the middle of a request; the workers' own."""

FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 30.0
TICK = 0.5
"""Seconds between two looks at what nothing wakes the keeper for."""
STALLED = 1.0
"""Seconds between two looks after which the keeper has not had its time, and so perhaps the workers neither."""
FAREWELL = 1.0
"""Seconds that kept connections have for one more request, and with it the word that they end."""
DUMP = 0.3
"""Seconds that a worker without a sign of life gets to write where it hangs."""
SPARE = 2.0
"""Seconds beyond its grace that a worker may take to end itself."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Kept:
    """One worker, as its keeper sees it. Times are the monotonic clock's."""

    pid: int
    number: int
    slot: int
    line: socket.socket
    ready: bool = False
    leaving: bool = False
    terminate_at: float = float("inf")
    kill_at: float = float("inf")


class Keeper:
    """
    Keeps `settings.worker_count` workers until it is told to stop.

    Args:
        settings: Those of the server.
        board: With several slots for each worker: a new one is there before the old one has gone.
        arguments: The server's own.
        serve: What a forked worker does, ending its process; None: workers are not forked.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        arguments: Sequence[str],
        serve: Callable[[Worker], NoReturn] | None = None,
    ) -> None:
        self._settings = settings
        self._board = board
        self._serve = serve
        # Python's caches know a file by its second and its size: two quick edits can be one to them.
        flags = ["-B"] if settings.reload else []
        self._command = [sys.executable, *flags, "-m", __package__, *arguments]
        self._workers: list[Kept] = []
        self._fresh: list[Kept] = []
        self._retired: list[Kept] = []
        self._due: dict[int, float] = {}
        self._failures = 0
        self._changed = False
        self._stopping = False
        self._status: int | None = None
        self._numbers = range(settings.worker_count)
        self._selector = selectors.DefaultSelector()
        self._wake, self._bell = socket.socketpair()

    def keep(self) -> int:
        """
        Keep the workers; return the exit status: of a worker that could not start, or 0.

        Raises:
            OSError: The server's address cannot be had.
            NoWatcherError: Changes cannot be seen.
        """
        settings = self._settings
        if settings.reload:
            self._selector.register(changes(settings.app_root), selectors.EVENT_READ, self._reload)
        self._shared = bound(settings.uds, settings.host, settings.port)
        made = files(settings.uds, settings.health_uds, settings.metrics_uds)
        self._shared.setblocking(False)  # it is one for all workers, and so is this
        self._hear_signals()
        if self._serve:
            gc.collect()
            gc.freeze()  # a collection in a worker would write to all that it shares with the others
        self._looked = self._trusted_from = now = time.monotonic()
        self._due = dict.fromkeys(self._numbers, now)
        while self._status is None or self._everybody:
            self._start_due(time.monotonic())
            self._load_changed()
            self._wait()
            self._collect()
            self._look(time.monotonic())
        clear(made)
        return self._status

    @property
    def _everybody(self) -> list[Kept]:
        return [*self._workers, *self._fresh, *self._retired]

    @property
    def _somebody_serves(self) -> bool:
        return any(each.ready for each in self._workers)

    # signals

    def _hear_signals(self) -> None:
        """Have signals wake the loop, which reads them there: a handler could run anywhere."""
        for end in (self._wake, self._bell):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, self._hear)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)

    def _wait(self) -> None:
        """Sleep until something happens, or a moment; hear what workers and signals say."""
        soon = min([TICK, *(at - time.monotonic() for at in self._due.values())])
        for key, _ in self._selector.select(max(0.0, soon)):
            key.data(key.fileobj)

    def _hear(self, wake: socket.socket) -> None:
        for number in set(wake.recv(4096)):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(0)
            elif number == signal.SIGUSR1:  # where does it hang: asked of those that are not ready, or else of all
                asked = [each for each in self._everybody if not each.ready] or self._everybody
                for each in asked:
                    _send(each, signal.SIGUSR1)

    def _hear_worker(self, worker: Kept, line: socket.socket) -> None:
        try:
            word = line.recv(16)
        except OSError:
            word = b""
        if not word:  # its end is told by `waitpid`
            self._selector.unregister(line)
        elif READY in word:
            worker.ready = True
            self._failures = 0
            if self._fresh and all(each.ready for each in self._fresh):
                self._change_over()

    # start

    def _start_due(self, now: float) -> None:
        if self._stopping:
            return
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            try:
                self._workers.append(self._start(number))
            except OSError as error:  # no process, memory or descriptor is left: it may pass, and others serve
                if not self._somebody_serves:
                    raise
                self._again(number, f"Worker {number} cannot be started: {error}")

    def _start(self, number: int) -> Kept:
        slot = self._free_slot()
        ours, theirs = socket.socketpair()
        said = {
            "shared": self._shared.fileno(),
            "line": theirs.fileno(),
            "board": self._board.descriptor,
            "slots": len(self._board.slots),
            "slot": slot,
            "number": number,
            "keeper": os.getpid(),
        }
        pid = self._forked(self._serve, said, ours) if self._serve else self._spawned(said)
        theirs.close()
        worker = Kept(pid, number, slot, ours)
        ours.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear_worker, worker))
        return worker

    def _free_slot(self) -> int:
        taken = {each.slot for each in self._everybody}
        return next(slot for slot in range(len(self._board.slots)) if slot not in taken)

    def _spawned(self, said: dict[str, int]) -> int:
        process = subprocess.Popen(
            self._command,
            env={**os.environ, VARIABLE: json.dumps(said)},
            pass_fds=[said[name] for name in ("shared", "line", "board")],
        )
        process.returncode = 0  # `_collect` waits for it: Popen shall neither reap it nor complain
        return process.pid

    def _forked(self, serve: Callable[[Worker], NoReturn], said: dict[str, int], ours: socket.socket) -> int:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        pid = os.fork()
        if not pid:
            self._forget_all(ours)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            serve(kept(self._settings, said))
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return pid

    def _forget_all(self, ours: socket.socket) -> None:
        """In a fork: let go of what is the keeper's."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        for each in [ours, self._wake, self._bell, *(other.line for other in self._everybody)]:
            each.close()
        self._selector.close()

    # reload

    def _reload(self, changed: int) -> None:
        os.read(changed, 4096)
        self._changed = True
        self._give_up_fresh()

    def _load_changed(self) -> None:
        """Start workers with the script as it is now; those that there are serve until all the new ones are ready."""
        room = len(self._board.slots) - len(self._everybody) - len(self._numbers)
        if not self._changed or self._stopping or room < 0:  # without room, older ones are just about to end
            return
        self._changed = False
        log.info("The script's folder has changed: loading it anew.")
        self._due.clear()
        try:
            for number in self._numbers:
                self._fresh.append(self._start(number))
        except OSError as error:
            log.error("No worker can be started: %s.", error)  # noqa: TRY400  # where it happened says nothing
            self._give_up()

    def _change_over(self) -> None:
        old, self._workers, self._fresh = self._workers, self._fresh, []
        self._retire(old)
        if self._settings.failure_file is not None:
            self._settings.failure_file.unlink(missing_ok=True)  # of an edit that was broken

    def _give_up_fresh(self) -> None:
        """Let go of new workers, together. One that is ready serves already, beside those that there were."""
        given_up, self._fresh = self._fresh, []
        self._retire(given_up)

    def _retire(self, workers: Sequence[Kept]) -> None:
        """Have these workers finish what is inside and end; those that are not ready end at once."""
        for worker in workers:
            worker.leaving = True
            if worker.ready:
                with contextlib.suppress(OSError):
                    worker.line.sendall(LEAVE)
                worker.terminate_at = time.monotonic() + FAREWELL
            else:
                self._terminate(worker)
        self._retired += workers

    # end

    def _collect(self) -> None:
        """See who has ended."""
        for worker in self._everybody:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                fresh = worker in self._fresh
                self._forget(worker)
                self._ended(worker, os.waitstatus_to_exitcode(status), fresh=fresh)

    def _forget(self, worker: Kept) -> None:
        self._slot(worker).close()
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.line)
        worker.line.close()
        for group in (self._workers, self._fresh, self._retired):
            if worker in group:
                group.remove(worker)

    def _ended(self, worker: Kept, status: int, *, fresh: bool) -> None:
        if self._stopping and worker.ready and status:
            self._status = self._status or CUT_OFF
        if self._stopping or worker.leaving:
            return
        if fresh or (self._settings.reload and not worker.ready):
            self._give_up()
        elif worker.ready:
            log.error("Worker %d %s; another one takes its place.", worker.pid, ending(status))
            self._due[worker.number] = time.monotonic()
        elif self._somebody_serves:
            self._again(worker.number, f"Worker {worker.pid} {ending(status)} before it was ready")
        else:  # nobody serves, and nobody could
            log.error("Worker %d %s before it was ready: nobody serves.", worker.pid, ending(status))
            self._stop(status)

    def _give_up(self) -> None:
        self._give_up_fresh()
        serving = "what was there before serves on" if self._workers else "nothing serves"
        log.error("The script as it is now cannot be served: %s until it is changed again.", serving)

    def _again(self, number: int, fault: str) -> None:
        """Start a worker that could not start again, later and later."""
        backoff = min(FIRST_BACKOFF * 2**self._failures, LONGEST_BACKOFF)
        self._failures = min(self._failures + 1, 16)
        log.error("%s; again in %g s.", fault, backoff)
        self._due[number] = time.monotonic() + backoff

    def _stop(self, status: int) -> None:
        """End all workers; and this process with `status` when they have ended."""
        if self._stopping:
            return
        self._stopping = True
        self._status = status
        self._due.clear()
        self._board.end()
        self._shared.close()
        for worker in self._everybody:
            self._terminate(worker)

    def _terminate(self, worker: Kept) -> None:
        _send(worker, signal.SIGTERM)
        worker.terminate_at = float("inf")
        worker.kill_at = time.monotonic() + self._settings.grace + SPARE

    def _look(self, now: float) -> None:
        """
        See to those whose time has come.

        After a pause of everything (a container's, a virtual machine's) workers have been silent, too, and get the
        time to say that they live.
        """
        if now - self._looked > STALLED:
            self._trusted_from = now + SILENCE
        self._looked = now
        for worker in self._everybody:
            if worker.terminate_at <= now:
                self._terminate(worker)
            elif worker.kill_at <= now:
                _send(worker, signal.SIGKILL)
            elif worker.ready and worker.kill_at == float("inf") and not self._is_alive(worker, now):
                log.error("Worker %d shows no sign of life: it is ended.", worker.pid)
                _send(worker, signal.SIGUSR1)
                worker.kill_at = now + DUMP

    def _is_alive(self, worker: Kept, now: float) -> bool:
        return now < self._trusted_from or self._slot(worker).is_alive(now, self._settings.worker_timeout)

    def _slot(self, worker: Kept) -> Slot:
        return self._board.slots[worker.slot]


def ending(status: int) -> str:
    """How a process ended, for a sentence; a negative status is a signal's number."""
    if status >= 0:
        return f"ended with exit status {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by signal {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


def _send(worker: Kept, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, number)
