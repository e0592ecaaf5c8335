"""
Which request a line of the log belongs to.

Every record that is made while run() handles a request has its id, whoever's logger and
handler it goes through: as `modelport_request_id`, since logging refuses an `extra` of a
name that a record has already, and scripts do say `extra={"request_id": …}`.

Our own handler shows it behind the message's first line, in brackets. What stands before
the message is Azure's and stays so, letter by letter: who cuts lines of that format up
goes on as before. A handler of a `logging.json`, or of the script, shows what its format
asks for and no more: `%(modelport_request_id)s`, `%(otelTraceID)s`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

SHOWN = 4
"""How many ids of a batch a line shows."""

NO_TRACE = "0"
"""Source: opentelemetry-instrumentation-logging, as are the names of the fields for traces."""

current: ContextVar[str] = ContextVar("modelport_request_id", default="")
"""The request that run() handles. Set when run() begins, and left: the next run() in that thread sets it anew."""


def of_batch(ids: Sequence[str]) -> str:
    """Return what stands for several requests, e.g. `a, b, c, d and 28 more`."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def mark_records() -> None:
    """Give every record of the process the id of its request; `telemetry` knows its trace."""
    make = logging.getLogRecordFactory()

    def marked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.modelport_request_id = current.get()
        record.otelTraceID = record.otelSpanID = NO_TRACE
        return record

    logging.setLogRecordFactory(marked)


class RequestFormatter(logging.Formatter):
    """Shows which request a record belongs to, behind the first line of its message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name in logging
        """Return the line, e.g. `… azmlinfsrv.print - hello [d1f0…]`, with `trace 4bf9…` where there is one."""
        line = super().formatMessage(record)
        fields = record.__dict__  # of a factory that a script put in the place of ours, perhaps
        shown = fields.get("modelport_request_id", "")
        if not shown:
            return line
        trace = fields.get("otelTraceID", NO_TRACE)
        if trace != NO_TRACE:
            shown += f", trace {trace}"
        first, newline, rest = line.partition("\n")
        return f"{first} [{shown}]{newline}{rest}"
