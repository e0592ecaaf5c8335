"""
Whether the server is ready and lives, and what it has counted, told by a process that does nothing else.

A run() that keeps the interpreter to itself, in C code say, lets no other thread answer,
and a probe with little patience would end a server that only works. So, when it is asked
for, a companion is forked before there is a second thread; it reads what the server's
processes write down (`shared`), holds nothing of the script, and ends with the server.
The keeper could answer as well, but for `WORKER_PRELOAD`, where it runs init() itself
and then must have one thread only.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from modelport_scoring.exposition import PATH as METRICS_PATH
from modelport_scoring.exposition import Exposition
from modelport_scoring.listener import PLAIN, Answer, Listener
from modelport_scoring.orphans import end_with_parent
from modelport_scoring.settings import Settings
from modelport_scoring.shared import Board
from modelport_scoring.sockets import bound

BACKLOG = 1024
"""Clients that may wait until the companion, which may have to wait for a processor, takes them."""

NAME = b"modelport-probe"
"""What the companion is called in lists of processes; the kernel keeps 15 characters."""


def is_wanted(settings: Settings) -> bool:
    """Whether health or metrics are asked for elsewhere than where requests go."""
    return bool(_addresses(settings))


def accompany(board: Board, settings: Settings) -> None:
    """
    Fork the companion. Call while there is one thread.

    Raises:
        OSError: One of its addresses cannot be had.
    """
    listening = [bound(uds, settings.host, port) for uds, port in _addresses(settings)]
    for each in listening:
        each.listen(BACKLOG)
    ours, theirs = os.pipe()  # that nobody writes to: it ends with the last process that has `theirs`
    parent = os.getpid()
    companion = os.fork()
    if not companion:
        os.close(theirs)
        _answer_until(ours, listening, board, settings, parent)
    os.close(ours)
    for each in listening:
        each.close()


def verdict(board: Board, timeout: float) -> Answer:
    """What `GET /` is answered: Azure's word when a worker is ready and lives, otherwise what is amiss."""
    ready = [slot for slot in board.slots if slot.ready]
    if board.ending:
        return 503, PLAIN, b"The server was told to stop; it finishes what is inside."
    if not ready:
        return 503, PLAIN, b"init() has not passed yet."
    now = time.monotonic()
    if not any(slot.is_alive(now, timeout) for slot in ready):
        return 503, PLAIN, b"The server shows no sign of life, though run() is not what keeps it."
    return 200, "text/html; charset=utf-8", b"Healthy"


def _addresses(settings: Settings) -> list[tuple[Path | None, int]]:
    """Where the companion listens: a Unix socket, or else a port, for each."""
    found: dict[tuple[Path | None, int], None] = {}
    own_port = settings.health_port is not None and (settings.uds is not None or settings.health_port != settings.port)
    if own_port or settings.health_uds is not None:
        found[settings.health_uds, settings.health_port or 0] = None
    if settings.metrics_port is not None or settings.metrics_uds is not None:
        found[settings.metrics_uds, settings.metrics_port or 0] = None
    return list(found)


def _answer_until(
    end: int, listening: Sequence[socket.socket], board: Board, settings: Settings, parent: int
) -> NoReturn:
    """Be the companion."""
    gc.disable()  # nothing is made here, and looking for it would copy what is shared with the parent
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # they mean the server, which tells us in its own way
    end_with_parent(parent, NAME)
    exposition = Exposition(board, settings.deployment)
    answers = {"/": lambda: verdict(board, settings.worker_timeout), METRICS_PATH: exposition.answer}
    for each in listening[1:]:
        threading.Thread(target=Listener(each, answers).serve, args=(end,), daemon=True).start()
    Listener(listening[0], answers).serve(end)
    os._exit(0)
