"""
Replicas as processes of this machine.

Everything that must survive this server is in two folders: one with short paths
for sockets and records, one for logs. Replicas do not notice when the server that
started them dies; the next one reads the folder and takes them over.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import psutil

from modelport import errors
from modelport.backends.base import Revision
from modelport.backends.records import Record
from modelport.backends.replica import (
    ReplicaProcess,
    is_being_born,
    kill_all,
    last_lines,
    marked,
    recorded,
    serving,
)
from modelport.backends.watched import LOCK_SECONDS, Leftover, WatchedBackend, folder_name, private_folder

LONGEST_FOLDER = 80
"""Characters: macOS takes socket paths of 103, Envoy about 107, and a replica's adds up to 16."""

logger = logging.getLogger(__name__)


class ProcessBackend(WatchedBackend):
    """
    The backend `process`.

    Args:
        folder: Where sockets and records live: short, since a socket's path has at most about 100 characters.
        logs: Where log files live, a folder for each revision; nothing else may be in there.

    Raises:
        errors.LocalServerError: another live server uses the folder, or its path is too long.
    """

    kind = "process"

    def __init__(self, folder: Path, logs: Path) -> None:
        folder = folder.absolute()
        if len(os.fsencode(folder)) > LONGEST_FOLDER:
            raise errors.LocalServerError(
                f"The path of the folder '{folder}' is too long for the sockets that live in it. "
                f"Use one of at most {LONGEST_FOLDER} characters."
            )
        self._logs = logs.absolute()
        private_folder(self._logs)
        super().__init__(folder)
        self._take(self._read())

    def revisions(self) -> set[str]:
        """Ids of the revisions that have anything left on this machine, known or not."""
        return super().revisions() | {each.name for each in self._logs.glob("*") if each.is_dir()}

    def logs(self, revision_id: str, tail: int) -> str:
        """The last `tail` lines of each replica of the revision, a header line before each where there are several."""
        files = sorted((self._logs / revision_id).glob("*.log"), key=lambda file: int(file.stem))
        parts = [(file.stem, last_lines(file, tail)) for file in files]
        if len(parts) == 1:
            return parts[0][1]
        return "\n".join(f"==> {revision_id}-{index} <==\n{lines}" for index, lines in parts)

    def container(self, revision: Revision) -> None:
        """None: processes."""

    def _replica(self, record: Record) -> ReplicaProcess:
        revision_id = record.revision.id
        folder = self._folder / folder_name(revision_id, record.index)
        return ReplicaProcess(folder, self._logs / revision_id / f"{record.index}.log", record)

    def _clear(self, revision_id: str) -> None:
        self._end_strays()
        shutil.rmtree(self._logs / revision_id, ignore_errors=True)

    def _end_strays(self) -> None:
        """End what a gone replica's script left in a session of its own."""
        for name, processes in marked(self._folder).items():
            if not (self._folder / name).exists():
                kill_all(processes)

    def _born(self, folder: Path, processes: list[psutil.Process]) -> list[psutil.Process]:
        """A folder's processes, waited for while one is on its way: forked by a server that was killed then."""
        deadline = time.monotonic() + LOCK_SECONDS
        while not processes and is_being_born(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
            processes = marked(self._folder).get(folder.name, [])
        return processes

    def _read(self) -> list[Leftover]:
        """What the folder tells of earlier servers; a folder without a readable record is cleared away."""
        found: list[Leftover] = []
        running = marked(self._folder)
        for folder, record in self._records():
            process = recorded(record)
            if process is None:
                processes = self._born(folder, running.get(folder.name, []))
                process = serving(folder, processes)
                if process is None:
                    kill_all(processes)  # children that outlived it
            replica = self._replica(record)
            if process is not None:
                replica.adopt(process)
            found.append(Leftover(replica, process is not None))
        self._end_strays()
        return found
