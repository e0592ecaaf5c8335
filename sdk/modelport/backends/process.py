"""
Replicas as processes of this machine.

Everything that must survive this server is in two folders: one with short paths
for sockets and records, one for logs. Replicas do not notice when the server that
started them dies; the next one reads the folder and takes them over.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from attrs import define

from modelport import errors
from modelport.backends.base import Replica, Revision
from modelport.backends.replica import (
    Record,
    ReplicaProcess,
    is_being_born,
    kill_all,
    last_lines,
    marked,
    recorded,
    serving,
)
from modelport.backends.supervisor import Fleet, Member, Supervisor

LONGEST_FOLDER = 80
"""Characters: macOS takes socket paths of 103, Envoy about 107, and a replica's adds up to 16."""

logger = logging.getLogger(__name__)


@define
class Leftover:
    """A replica that an earlier server left, found when the folder was opened."""

    record: Record
    process: psutil.Process | None


class ProcessBackend:
    """
    The backend `process`; `base.Backend` says what the methods promise.

    `changed` may be called for revisions that the owner has not applied, and must not call `remove`.

    Args:
        folder: Where sockets and records live: short, since a socket's path has at most about 100 characters.
        logs: Where log files live, a folder for each revision; nothing else may be in there.

    Raises:
        errors.LocalServerError: another live server uses the folder, or its path is too long.
    """

    kind = "process"
    changed: Callable[[str], None]

    def __init__(self, folder: Path, logs: Path) -> None:
        self.changed = lambda _: None
        self._folder = folder.absolute()
        self._logs = logs.absolute()
        if len(os.fsencode(self._folder)) > LONGEST_FOLDER:
            raise errors.LocalServerError(
                f"The path of the folder '{self._folder}' is too long for the sockets that live in it. "
                f"Use one of at most {LONGEST_FOLDER} characters."
            )
        for each in (self._folder, self._logs):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            each.chmod(0o700)
        self._lock: int | None = lock(self._folder / "lock")
        self._leftovers = self._read()
        self._supervisor = Supervisor(self._tell)

    def apply(self, revision: Revision) -> None:
        """Make `revision` run with its number of instances; return at once."""
        with self._supervisor.lock:
            self._check_open()
            fleet = self._fleet(revision)
            staying = [member for member in fleet.members if member.state != "stopping"]
            for _ in range(revision.instances - len(staying)):
                self._add(fleet)
            dispensable = sorted(staying, key=lambda member: (member.state != "ready", member.process.record.created))
            for member in dispensable[::-1][: max(0, len(staying) - revision.instances)]:
                member.stop(time.monotonic())
        self._supervisor.wake()

    def replicas(self, revision_id: str) -> list[Replica]:
        """The revision's replicas, oldest first; empty for one that is not known."""
        with self._supervisor.lock:
            fleet = self._supervisor.fleets.get(revision_id)
            return [member.replica() for member in fleet.members] if fleet else []

    def remove(self, revision_id: str) -> None:
        """Drain, stop and forget the revision's replicas; returns when they are gone. Unknown ids are fine."""
        with self._supervisor.lock:
            self._check_open()
            fleet = self._supervisor.fleets.get(revision_id)
            if fleet is None and revision_id in self._leftovers:
                fleet = self._fleet(self._leftovers[revision_id][0].record.revision)
            if fleet is not None:
                for member in fleet.members:
                    member.stop(time.monotonic())
                self._supervisor.wake()
                self._supervisor.lock.wait_for(lambda: not fleet.members or self._supervisor.closed)
                self._check_open()
                self._supervisor.fleets.pop(revision_id, None)
        self._end_strays()
        shutil.rmtree(self._logs / revision_id, ignore_errors=True)

    def revisions(self) -> set[str]:
        """Ids of the revisions that have anything left on this machine, known or not."""
        with self._supervisor.lock:
            known = {*self._supervisor.fleets, *self._leftovers}
        return known | {each.name for each in self._logs.glob("*") if each.is_dir()}

    def logs(self, revision_id: str, tail: int) -> str:
        """The last `tail` lines of each replica of the revision, a header line before each where there are several."""
        files = sorted((self._logs / revision_id).glob("*.log"), key=lambda file: int(file.stem))
        parts = [(file.stem, last_lines(file, tail)) for file in files]
        if len(parts) == 1:
            return parts[0][1]
        return "\n".join(f"==> {revision_id}-{index} <==\n{lines}" for index, lines in parts)

    def close(self) -> None:
        """Stop watching; replicas run on, and the folder is free for another server."""
        self._supervisor.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _tell(self, revision_id: str) -> None:
        self.changed(revision_id)  # looked up late: the owner sets it after this was made

    def _end_strays(self) -> None:
        """End what a gone replica's script left in a session of its own."""
        for name, processes in marked(self._folder).items():
            if not (self._folder / name).exists():
                kill_all(processes)

    def _check_open(self) -> None:
        if self._supervisor.closed:
            raise errors.LocalServerError(
                "This backend is closed: its replicas run on, but nothing starts or ends them."
            )

    def _fleet(self, revision: Revision) -> Fleet:
        """The revision's fleet, with the replicas that an earlier server left."""
        fleet = self._supervisor.fleet(revision)
        for left in self._leftovers.pop(revision.id, []):
            member = self._member(fleet, left.record)
            if left.process is not None:
                member.adopt(left.process, time.monotonic())
        return fleet

    def _add(self, fleet: Fleet) -> None:
        taken = {member.process.record.index for member in fleet.members}
        index = next(index for index in range(len(taken) + 1) if index not in taken)
        self._member(fleet, Record(revision=fleet.revision, index=index))

    def _member(self, fleet: Fleet, record: Record) -> Member:
        revision_id = fleet.revision.id
        folder = self._folder / folder_name(revision_id, record.index)
        log = self._logs / revision_id / f"{record.index}.log"
        record.revision = fleet.revision
        member = Member(ReplicaProcess(folder, log, record), fleet, self._supervisor.selector)
        fleet.members.append(member)
        return member

    def _born(self, folder: Path, processes: list[psutil.Process]) -> list[psutil.Process]:
        """A folder's processes, waited for while one is on its way: forked by a server that was killed then."""
        deadline = time.monotonic() + LOCK_SECONDS
        while not processes and is_being_born(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
            processes = marked(self._folder).get(folder.name, [])
        return processes

    def _read(self) -> dict[str, list[Leftover]]:
        """What the folder tells of earlier servers; a folder without a readable record is cleared away."""
        found: list[Leftover] = []
        folders = [each for each in self._folder.iterdir() if each.is_dir()]
        running = marked(self._folder)
        for folder in folders:
            try:
                record = Record.load(folder / "replica.json")
            except (OSError, ValueError, TypeError, KeyError) as error:
                logger.warning("The record of a replica in '%s' cannot be read, so it is ended: %s", folder, error)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            process = recorded(record)
            if process is None:
                processes = self._born(folder, running.get(folder.name, []))
                process = serving(folder, processes)
                if process is None:
                    kill_all(processes)  # children that outlived it
            found.append(Leftover(record, process))
        self._end_strays()
        revisions: dict[str, list[Leftover]] = {}
        for left in sorted(found, key=lambda each: each.record.created):
            revisions.setdefault(left.record.revision.id, []).append(left)
        return revisions


LOCK_SECONDS = 5.0
"""How long a process that was forked may take to become what it was forked for."""


def folder_name(revision_id: str, index: int) -> str:
    """A replica's folder: short, and the same for the same replica."""
    return f"{hashlib.blake2s(revision_id.encode(), digest_size=5).hexdigest()}-{index}"


def lock(path: Path) -> int:
    """
    Lock a folder for this process; it is free again when the descriptor is closed or the process ends.

    Raises:
        errors.LocalServerError: a live process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode()
            # A child that was just being forked has the lock of a parent that was killed, until it becomes a replica.
            if time.monotonic() > deadline or (holder.isdigit() and psutil.pid_exists(int(holder))):
                os.close(descriptor)
                raise errors.LocalServerError(
                    f"The folder '{path.parent}' is in use by another Modelport server (process {holder or 'unknown'})."
                    " Stop it with `modelport down`, or set MODELPORT_HOME to another folder."
                ) from error
        time.sleep(0.01)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
