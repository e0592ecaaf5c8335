"""
A bar for transfers that take long.

It is drawn with rich, an extra, and only on a terminal: without either there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_LONGEST = 50


@contextmanager
def bar(label: str, total_bytes: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """Draw how many of `total_bytes` were moved; gives what is called with each number of bytes more."""
    if not (show and sys.stderr.isatty() and find_spec("rich")):
        yield lambda _: None
        return
    console: Any = import_module("rich.console").Console(stderr=True)
    rich: Any = import_module("rich.progress")
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console, transient=True) as progress:
        short = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 3]}..."
        task = progress.add_task(short.replace("[", "\\["), total=total_bytes)
        yield lambda moved: progress.advance(task, moved)
