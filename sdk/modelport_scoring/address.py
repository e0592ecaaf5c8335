"""
Whether the server can listen where it is told to.

Asked before the script is loaded: who mistypes a port learns it at once, and not
after the minute that init() takes. That the server listens only later stays true.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from modelport_scoring.settings import Settings, SettingsError

LONGEST_SOCKET = 103
"""Bytes of a Unix socket's path that every system takes; Linux takes 107."""


def check(settings: Settings) -> None:
    """
    Return if the addresses are free.

    Raises:
        SettingsError: They are not, or are none of this machine's.
    """
    if settings.uds is None:
        _check_port(settings.host, settings.port, "--port")
    else:
        _check_path(os.fspath(settings.uds), "--uds")
    if settings.health_uds is not None:
        _check_path(os.fspath(settings.health_uds), "--health_uds")
    if settings.health_port is not None:
        _check_port(settings.host, settings.health_port, "--health_port")


def _check_port(host: str, port: int, flag: str) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server's own, after a restart
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"Cannot listen on {host}:{port}: {reason}. Choose another one with {flag}.") from None


def _check_path(path: str, flag: str) -> None:
    folder = Path(path).parent
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise SettingsError(f"{flag} {path} is longer than the {LONGEST_SOCKET} bytes that a socket's path may have.")
    if not folder.is_dir():
        raise SettingsError(f"{flag} {path} cannot be made: the folder {folder} does not exist.")
