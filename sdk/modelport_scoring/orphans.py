"""
Processes that must not outlive the one that started them.

Linux kills them with it. Elsewhere they see the other end of a pipe close; a process
whose interpreter is busy sees that late, so it is only the second best.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from importlib import import_module

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def end_with_parent(parent: int, name: bytes = b"") -> None:
    """Have this process killed when `parent`, which forked it, ends; and, if given, called `name` in lists."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):  # a Python or a C library without this
            prctl = import_module("ctypes").CDLL(None).prctl
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if name:
                prctl(_PR_SET_NAME, name, 0, 0, 0)
    if os.getppid() != parent:  # it had ended before we asked
        os._exit(1)
