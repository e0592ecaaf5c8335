"""
What marks a folder as a whole environment, written last.

A build that is cut off must not be mistaken for an environment. The mark says as well
what the environment is of and how big it is, and its time is that of the last use.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from modelport.builds.venv import python_of

_MARK = "modelport.json"


@frozen(kw_only=True)
class Environment:
    """An environment in the cache."""

    key: str
    size_bytes: int
    last_used: float
    """Seconds since 1970; 0 for what a build that was cut off has left."""
    name: str = ""
    """As its conda file has it."""
    asked: tuple[str, ...] = ()
    """What it is of: the lines of its conda file, without secrets."""
    solution: str = ""
    """Name of the lock that its conda packages came from; empty when there are none."""

    @property
    def whole(self) -> bool:
        """Whether it was built to its end."""
        return self.last_used > 0


def is_whole(prefix: Path) -> bool:
    """Whether there is an environment."""
    # bin/python may link to the machine's interpreter, which may have been removed since.
    return (prefix / _MARK).exists() and python_of(prefix).exists()


def mark(prefix: Path, about: Mapping[str, Any]) -> None:
    """Write down that `prefix` is whole, what of, and its size, in one step."""
    size = sum(path.lstat().st_size for path in prefix.rglob("*"))
    unfinished = prefix / f"{_MARK}.new"
    unfinished.write_text(json.dumps({"size_bytes": size, **about}), encoding="utf-8")
    unfinished.replace(prefix / _MARK)


def unmark(prefix: Path) -> None:
    """From now on it is no environment."""
    (prefix / _MARK).unlink(missing_ok=True)


def used(prefix: Path) -> None:
    """Write down that it is used now."""
    os.utime(prefix / _MARK)


def environment(prefix: Path) -> Environment:
    """What the mark says; what a build that was cut off has left is not whole."""
    path = prefix / _MARK
    try:
        said, last_used = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
    except FileNotFoundError:
        said, last_used = {"size_bytes": 0}, 0.0
    return Environment(
        key=prefix.name,
        size_bytes=said["size_bytes"],
        last_used=last_used,
        name=said.get("name", ""),
        asked=tuple(said.get("asked", ())),
        solution=said.get("solution", ""),
    )


def is_key(name: str) -> bool:
    """Whether a folder of this name is a builder's."""
    return re.fullmatch(r"[0-9a-f]{20}", name) is not None
