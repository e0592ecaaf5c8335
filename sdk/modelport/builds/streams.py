"""
Long answers of the engine, message by message, that can be given up.

docker-py makes them generators, which have nothing by which to hang up; and only who
hangs up ends a build or a pull, since the engine goes on as long as somebody listens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from docker import DockerClient
from docker.errors import DockerException
from docker.types import CancellableStream

from modelport import engine, errors

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
    client, answers, given_up = engine.connect(), [], threading.Event()
    client.api.hooks["response"].append(lambda answer, *_, **__: answers.append(answer))

    def hang_up() -> None:
        given_up.set()
        # It may have come to its end meanwhile.
        with suppress(OSError, AttributeError):
            CancellableStream(None, answers[-1]).close()

    try:
        stream = ask(client)
        closers.add(hang_up)
        try:
            yield _heard(stream, given_up)
        finally:
            closers.discard(hang_up)
            hang_up()
    finally:
        for each in answers:
            each.close()
        client.close()


def _heard(stream: Iterator[Any], given_up: threading.Event) -> Iterator[Any]:
    """A stream that ends where it is given up."""
    try:
        yield from stream
    except (DockerException, requests.RequestException):
        raise
    except Exception as error:
        # What is cut off in the midst of a message has as many names as docker-py has layers.
        if not given_up.is_set():
            raise errors.DockerEngineNotAvailableError(
                f"Docker's engine at '{engine.address()}' went away in the midst of an answer. Start it, and try again."
            ) from error
