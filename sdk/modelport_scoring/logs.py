"""
The log: Azure's format, on standard output, `print()` included.

The logger that Azure's server writes to, `azmlinfsrv`, stands above our own: what a
`logging.json` says of it holds for both. The root logger is left alone, so that a
script's `logging.basicConfig`, or the lack of it, means what it means in Azure.

Source: azureml-inference-server-http for the names, the format, what becomes of
`print()`, and where a `logging.json` is looked for.
"""

from __future__ import annotations

import builtins
import functools
import json
import logging
import logging.config
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from modelport_scoring.records import PATH, Record
from modelport_scoring.request_ids import RequestFormatter, mark_records

FORMAT = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s"
AZURE = "azmlinfsrv"
"""The name of the server's logger in Azure; `azmlinfsrv.print` has what the script prints."""
ACCESS = f"{__package__}.access"
GRANIAN = "_granian"
"""The name of Granian's logger; that of its Rust half too."""

FILE = "logging.json"
"""A document for `logging.config.dictConfig`, which replaces what is set up here."""

_print = builtins.print


class LoggingError(Exception):
    """The user's `logging.json` cannot be followed; one sentence says why."""


class Formatter(logging.Formatter):
    """Azure's format, in UTC. Under its name there, a `logging.json` may ask for it."""

    converter = time.gmtime  # type: ignore[assignment]  # its default argument is the same

    def __init__(self, fmt: str | None = FORMAT, datefmt: str | None = None, style: Any = "%") -> None:
        super().__init__(fmt, datefmt, style)


class ShownFormatter(RequestFormatter, Formatter):
    """The same, and which request a line belongs to."""


class Probes(logging.Filter):
    """Drops lines of an access log that tell of a probe, for a `logging.json` that asks for it by Azure's name."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line stays."""
        return "GET / HTTP/1.1" not in record.getMessage()


class Output(logging.StreamHandler):  # type: ignore[type-arg]  # takes no argument before Python 3.11
    """Our own handler: the access log takes a shorter way where it is the only one."""


def configure_logging(level: str) -> None:
    """Send our log, the script's prints and Granian's errors to standard output, line by line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # TextIO, unless a script replaced it
    mark_records()
    handler = Output(sys.stdout)
    handler.setFormatter(ShownFormatter())
    for name, least in ((AZURE, level), (GRANIAN, "ERROR")):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(least)
        logger.propagate = False
    logging.getLogger(__package__).parent = logging.getLogger(AZURE)
    _route_prints(sys.stdout)


def replace_by_file(folders: Iterable[Path]) -> None:
    """
    Follow the `logging.json` of the first folder that has one.

    Raises:
        LoggingError: It is no JSON, or no configuration of logging.
    """
    path = next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    if path is None:
        return
    try:
        logging.config.dictConfig(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError, ImportError, OSError) as error:
        reason = f"{error}" if error.__cause__ is None else f"{error}: {error.__cause__}"
        raise LoggingError(f"{path} is no configuration of logging: {reason}.") from error
    finally:
        # A file that does not name them would silence what they say of a failing run().
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in (AZURE, __package__, GRANIAN):
                logging.getLogger(name).disabled = False
    logging.getLogger(AZURE).info("Loaded logging config from %s", path)


def _route_prints(output: Any) -> None:
    """
    Make a `print()` to standard output a line of the log.

    As in Azure `end` is not heard. A script that redirects standard output for a while still gets what
    it prints meanwhile, which Azure's server takes away.
    """
    logger = logging.getLogger(f"{AZURE}.print")

    @functools.wraps(_print)
    def print_(*objects: Any, sep: Any = " ", end: Any = "\n", file: Any = None, flush: bool = False) -> None:
        if (file or sys.stdout) is output:
            logger.info((" " if sep is None else sep).join(map(str, objects)))
        else:
            _print(*objects, sep=sep, end=end, file=file, flush=flush)

    builtins.print = print_


class AccessLog:
    """
    One line per request, `POST /score 200 0.412ms 13`, as Azure's server writes them.

    A call of `logging` costs as much as all the rest of a small request. So lines are made of records, many at
    a time, and go through `logging` only where somebody else's handlers wait for them. Probes have none.
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger(ACCESS)
        self._prefix = f" I [{os.getpid()}] {ACCESS} - "
        self._output = _only_output(self._logger)
        self._is_wanted = self._logger.isEnabledFor(logging.INFO)

    def write(self, records: Sequence[Record]) -> None:
        """Write the lines of these requests."""
        if not self._is_wanted:
            return
        told = [each for each in records if each[PATH] != "/"]
        if not told:
            return
        epoch = time.time() - time.perf_counter()
        if self._output is None:
            self._hand_over(told, epoch)
        else:
            self._output.write("".join(self._formatted(told, epoch)))
            self._output.flush()

    def _formatted(self, records: Iterable[Record], epoch: float) -> Iterator[str]:
        """Yield lines in our own handler's format, of which most differ in their numbers alone."""
        prefix, second, clock = self._prefix, 0, ""
        forms: dict[tuple[str, str, str, int], str] = {}
        for started, ended, method, path, query, status, sent, _, _ in records:
            since = epoch + ended - second
            if not 0 <= since < 1:
                second = int(epoch + ended)
                since = epoch + ended - second
                clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
                forms.clear()
            form = forms.get((method, path, query, status))
            if form is None:
                request = f"{method} {_target(path, query)} {status}".replace("%", "%%")
                form = forms[method, path, query, status] = f"{clock},%03d{prefix}{request} %.3fms %d\n"
            yield form % (since * 1000, (ended - started) * 1000, sent)  # in half the time of an f-string

    def _hand_over(self, records: Iterable[Record], epoch: float) -> None:
        for started, ended, method, path, query, status, sent, _, _ in records:
            when = epoch + ended
            line = f"{method} {_target(path, query)} {status} {(ended - started) * 1000:.3f}ms {sent}"
            record = self._logger.makeRecord(ACCESS, logging.INFO, __file__, 0, line, (), None)
            record.created, record.msecs = when, when % 1 * 1000
            self._logger.handle(record)


def _target(path: str, query: str) -> str:
    target = f"{path}?{query}" if query else path
    return target if target.isascii() and target.isprintable() else ascii(target)[1:-1]


def _only_output(logger: logging.Logger) -> Any | None:
    """Return the stream that the logger's lines would go to unchanged; None where handlers of others see them."""
    handlers: list[logging.Handler] = []
    above: logging.Logger | None = logger
    while above is not None:
        handlers += above.handlers
        above = above.parent if above.propagate else None
    only = handlers[0] if len(handlers) == 1 and not logger.filters else None
    return only.stream if isinstance(only, Output) else None
