"""
Long answers of the engine, message by message, that can be given up.

docker-py makes them generators, which have nothing by which to hang up; and only who
hangs up ends a build or a pull, since the engine goes on as long as somebody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from docker import DockerClient
from docker.types import CancellableStream

from modelport import engine

Closers = set[Callable[[], None]]
"""What ends things that go on."""


@contextmanager
def messages(ask: Callable[[DockerClient], Iterator[Any]], closers: Closers) -> Iterator[Iterator[Any]]:
    """
    What the engine answers to `ask`, which gets a client for this alone. Hung up when it is left early.

    Meanwhile `closers` has what hangs up from another thread: then the messages end.

    Raises:
        errors.DockerEngineNotAvailableError: The engine does not answer.
    """
    client, answers = engine.connect(), []
    client.api.hooks["response"].append(lambda answer, *_, **__: answers.append(answer))
    try:
        stream = CancellableStream(ask(client), answers[-1])

        def hang_up() -> None:
            # It may have come to its end meanwhile.
            with suppress(OSError, AttributeError):
                stream.close()

        closers.add(hang_up)
        try:
            yield stream
        finally:
            closers.discard(hang_up)
            hang_up()
    finally:
        client.close()
