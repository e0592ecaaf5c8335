"""
How a setting is spelled: flags, variables and files hold text, and each kind says what it means.

A text that a kind cannot read is refused with the kind's own rule, so every
setting's fault is told in the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"

SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), False),
}
"""What pydantic, which reads Azure's settings, takes for a yes or a no."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Kind:
    """What a value is: `read` makes it of a text, or raises a ValueError for one that is not as the `rule` says."""

    name: str
    rule: str
    read: Callable[[str], Any]


def _number(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _whole(text: str) -> int:
    value = _number(text)
    if not value.is_integer():
        raise ValueError
    return int(value)


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise ValueError
    return value


def _address(text: str) -> str:
    host, _, port = text.strip().rpartition(":")
    return f"{host or LOOPBACK}:{0 if port == '0' else _port(port)}"


def _switch(text: str) -> bool:
    try:
        return SWITCH[text.strip().lower()]
    except KeyError:
        raise ValueError from None


def _level(text: str) -> str:
    name = text.strip().upper()
    if name not in LEVELS:
        raise ValueError
    return name


def _path(text: str) -> Path:
    return Path(text).absolute()


TEXT = Kind("text", "text", str)
PATH = Kind("path", "a path", _path)
NUMBER = Kind("number", "a number above 0", _number)
WHOLE = Kind("whole number", "a whole number above 0", _whole)
PORT = Kind("port", "a port from 1 to 65535", _port)
ADDRESS = Kind("address", "a port, or host:port", _address)
SWITCHED = Kind("true or false", "true or false", _switch)
LEVEL = Kind("log level", f"one of {', '.join(LEVELS)}", _level)
