"""
The sockets that the server listens on.

They are bound here and not by Granian, so that one can be had before there is anybody to
listen, be shared by several workers, and be listened on before the server says it is ready.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

File = tuple[Path, "tuple[int, int]"]
"""The path of a Unix socket, and what tells its file from a later one there."""


def bound(uds: Path | None, host: str, port: int) -> socket.socket:
    """
    Return a socket with this address, on which nobody listens yet. A Unix socket is its owner's alone.

    Raises:
        OSError: The address cannot be had.
    """
    try:
        if uds is not None:
            return _unix(uds)
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted from it has it, too
        made.bind(address)
    except OSError as error:
        where = str(uds) if uds is not None else f"{host}:{port}"
        raise OSError(f"The server cannot listen on {where}: {error.strerror or error}.") from error
    return made


def _unix(path: Path) -> socket.socket:
    if path.is_socket():  # a killed predecessor's; anything else in its place is left to make the bind fail
        path.unlink()
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o600)
    return made


def files(*paths: Path | None) -> list[File]:
    """Return the files of Unix sockets, as they are now."""
    return [(path, _identity(path)) for path in paths if path is not None]


def clear(made: Iterable[File]) -> None:
    """Remove these files, unless another server has put its own in their place."""
    for path, identity in made:
        with contextlib.suppress(FileNotFoundError):
            if _identity(path) == identity:
                path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns  # a number alone is soon given to another file
