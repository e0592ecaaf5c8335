"""
The programs that a build runs, and their end.

Each leads a session of its own, so that it can be ended with all that it started, and
holds the build's lock, so that nobody else builds into the folder that it writes to.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import Factory, define

# What would make uv, or the Python that it starts, look into the user's own environment.
_LEAKS = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "__PYVENV_LAUNCHER__")


@define
class Children:
    """Programs that run; all can be ended at once, from another thread."""

    pids: set[int] = Factory(set)
    _closed: bool = False

    def run(
        self,
        command: Sequence[str],
        tell: Callable[[str], str],
        lock: int,
        *,
        folder: Path,
        environment: Mapping[str, str],
        given: str = "",
    ) -> tuple[int, list[str]]:
        """
        The exit status and the lines of a program, told as they come; what `tell` makes of them is what is kept.

        `given` is what it reads. When `tell` raises, it is killed.
        """
        lines = []
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            pass_fds=(lock,),
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            try:
                self.pids.add(process.pid)
                if self._closed:
                    os.killpg(process.pid, signal.SIGKILL)
                with suppress(BrokenPipeError):
                    process.stdin.write(given)
                    process.stdin.close()
                lines += [tell(line.rstrip()) for line in process.stdout]
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                self.pids.discard(process.pid)
        return process.returncode, lines

    def close(self) -> None:
        """End those that run, and those that would."""
        self._closed = True
        for pid in list(self.pids):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def own_environment() -> dict[str, str]:
    """The user's environment, with uv's own settings (`UV_…`), but for what would leak into the one being built."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_LEAKS)}
