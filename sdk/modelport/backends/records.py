"""What is written down of a replica, beside it: the next server takes it over by that."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import Any

from attrs import Factory, asdict, define, evolve

from modelport.backends.base import Failure, Revision, revision_from

FILE = "replica.json"
_LONGEST = 1_000_000

logger = logging.getLogger(__name__)


@define(kw_only=True)
class Record:
    """What `replica.json` says; `pid` and `container` are None between the intent and the start."""

    revision: Revision
    index: int
    created: float = Factory(time.time)
    pid: int | None = None
    started: float | None = None
    """When the process started, by psutil: with the pid, its identity."""
    container: str | None = None
    """Id of its container, where it is one."""
    ready: bool = False
    """Whether this process has ever been ready."""
    restarts: int = 0
    failure: Failure | None = None

    @classmethod
    def load(cls, path: Path) -> Record:
        """
        Read a record.

        Raises:
            OSError, ValueError, TypeError, KeyError: there is none, or it is not one.
        """
        document = json.loads(path.read_text())
        document["revision"] = revision_from(document["revision"])
        if document["failure"] is not None:
            document["failure"] = Failure(**document["failure"])
        return cls(**document)

    def note(self, path: Path, **changes: Any) -> None:
        """Change it; where it cannot be written, what marks the replica itself has to do."""
        for each, value in changes.items():
            setattr(self, each, value)
        try:
            self.save(path)
        except OSError as error:
            logger.warning(
                "The record of replica '%s-%d' could not be written: %s", self.revision.id, self.index, error
            )

    def save(self, path: Path) -> None:
        """Replace the file at once, so that nobody ever reads half of it."""
        plain = evolve(self.revision, environment_variables=dict(self.revision.environment_variables))
        beside = path.with_suffix(".new")
        with open(beside, "w", opener=private) as file:
            json.dump(asdict(evolve(self, revision=plain)), file)
        beside.replace(path)


def told_in(path: Path, lines: str) -> Failure | None:
    """
    What the scoring server wrote down of why it cannot serve, with `lines` as its log when it gave none; or None.

    A container may have put anything there: only a file is read, and not without an end.
    """
    try:
        with open(path, "rb", opener=_plainly) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            said = json.loads(file.read(_LONGEST))
        return Failure(code=said["code"], message=said["message"], log=said.get("log") or lines)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plainly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def place_in(dump: str, entry_script: str) -> str:
    """
    Where the script is, by faulthandler's last stack: `score.py, line 5, in wait`; empty when it does not tell.

    Of the thread whose stack has the script in it, the innermost line below the script's folder.
    """
    for stack in reversed(re.split(r"(?m)^(?=(?:Current thread|Thread) 0x)", dump)):
        frames = re.findall(r'(?m)^  File "(.+)", line (\d+) in (.+)$', stack)
        roots = [path[: -len(entry_script)] for path, _, _ in frames if path.endswith(f"/{entry_script}")]
        for path, line, function in frames if roots else ():
            if path.startswith(roots[0]):
                return f"{path[len(roots[0]) :]}, line {line}, in {function}"
    return ""


def crashed_at(log: str, entry_script: str) -> str:
    """` (score.py, line 5, in init)`, for a sentence, when the log ends with the stack of a crash; or nothing."""
    _, crash, stack = log.rpartition("Fatal Python error: ")
    place = place_in(stack, entry_script) if crash else ""
    return f" ({place})" if place else ""


def ending(exit_code: int | None) -> str:
    """How something ended, for a sentence; a negative code is a signal's number."""
    if exit_code is None:
        return "ended with an exit code that is not known (an earlier server had started it)"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    with contextlib.suppress(ValueError):
        return f"was ended by signal {signal.Signals(-exit_code).name}"
    return f"was ended by signal {-exit_code}"


def private(path: str, flags: int) -> int:
    """For `open`: what it makes is its owner's alone."""
    return os.open(path, flags, 0o600)
