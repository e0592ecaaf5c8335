"""
Locks that outlive whoever took them, for as long as what they started runs.

flock itself and no library around it, because it can be inherited: a builder that is
killed leaves its lock to the programs that still write. It tells threads apart as well
as processes, since each opens the file for itself.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[int]:
    """
    Hold the lock at `path`; the descriptor may be given to children, who then hold it too.

    The file stays: to remove it would make two locks of one.

    Raises:
        BlockingIOError: Somebody else holds it, and there is nobody to tell about `waiting`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield descriptor
        finally:
            # Not left to close(): something that a package's build left running may still hold a copy.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
