"""
What backends share whose replicas we watch ourselves: processes, and containers of one machine.

A replica has a folder, with a record of it, under one folder that one server at a time
may use. Who opens that folder finds what earlier servers left, running or not, and takes
it over when its revision is applied.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from attrs import frozen

from modelport import errors
from modelport.backends.base import Replica, Revision
from modelport.backends.records import FILE, Record
from modelport.backends.supervisor import Fleet, Member, Running, Supervisor

LOCK_SECONDS = 5.0
"""How long a process that was forked may take to become what it was forked for."""

logger = logging.getLogger(__name__)


@frozen
class Leftover:
    """A replica that an earlier server left."""

    replica: Running
    runs: bool


class WatchedBackend(ABC):
    """
    `base.Backend` says what the methods promise.

    `changed` may be called for revisions that the owner has not applied, and must not call `remove`.
    """

    changed: Callable[[str], None]

    def __init__(self, folder: Path) -> None:
        """
        Take `folder` for this process.

        Raises:
            errors.LocalServerError: another live server uses the folder.
        """
        self.changed = lambda _: None
        self._folder = folder.absolute()
        private_folder(self._folder)
        self._lock: int | None = lock(self._folder / "lock")
        self._leftovers: dict[str, list[Leftover]] = {}
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
                fleet = self._fleet(self._leftovers[revision_id][0].replica.record.revision)
            if fleet is not None:
                for member in fleet.members:
                    member.stop(time.monotonic())
                self._supervisor.wake()
                self._supervisor.lock.wait_for(lambda: not fleet.members or self._supervisor.closed)
                self._check_open()
                self._supervisor.fleets.pop(revision_id, None)
        self._clear(revision_id)

    def revisions(self) -> set[str]:
        """Ids of the revisions that have anything left on this machine, known or not."""
        with self._supervisor.lock:
            return {*self._supervisor.fleets, *self._leftovers}

    def close(self) -> None:
        """Stop watching; replicas run on, and the folder is free for another server."""
        self._supervisor.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @abstractmethod
    def _replica(self, record: Record) -> Running:
        """A replica that is not there yet."""

    @abstractmethod
    def _clear(self, revision_id: str) -> None:
        """Remove what a revision leaves beside its replicas."""

    def _records(self) -> Iterator[tuple[Path, Record]]:
        """The folders of replicas, with their records; one without a readable record is cleared away."""
        for folder in [each for each in self._folder.iterdir() if each.is_dir()]:
            record = _record(folder)
            if record is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                yield folder, record

    def _take(self, found: list[Leftover]) -> None:
        """Remember what earlier servers left, by revision, the oldest first."""
        for left in sorted(found, key=lambda each: each.replica.record.created):
            self._leftovers.setdefault(left.replica.record.revision.id, []).append(left)

    def _tell(self, revision_id: str) -> None:
        self.changed(revision_id)  # looked up late: the owner sets it after this was made

    def _check_open(self) -> None:
        if self._supervisor.closed:
            raise errors.LocalServerError(
                "This backend is closed: its replicas run on, but nothing starts or ends them."
            )

    def _fleet(self, revision: Revision) -> Fleet:
        """The revision's fleet, with the replicas that an earlier server left."""
        fleet = self._supervisor.fleet(revision)
        for member in fleet.members:
            member.process.record.revision = revision
        for left in self._leftovers.pop(revision.id, []):
            member = self._join(fleet, left.replica)
            if left.runs:
                member.adopt(time.monotonic())
        return fleet

    def _add(self, fleet: Fleet) -> None:
        taken = {member.process.record.index for member in fleet.members}
        index = next(index for index in range(len(taken) + 1) if index not in taken)
        self._join(fleet, self._replica(Record(revision=fleet.revision, index=index)))

    def _join(self, fleet: Fleet, replica: Running) -> Member:
        replica.record.revision = fleet.revision
        member = Member(replica, fleet, self._supervisor.selector)
        fleet.members.append(member)
        return member

    def _member(self, found: Callable[[Running], bool]) -> Member | None:
        """The member whose replica is the one; call under the lock."""
        members = (member for fleet in self._supervisor.fleets.values() for member in fleet.members)
        return next((member for member in members if found(member.process)), None)


def _record(folder: Path) -> Record | None:
    try:
        return Record.load(folder / FILE)
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("The record of a replica in '%s' cannot be read, so it is ended: %s", folder, error)
        return None


def private_folder(folder: Path) -> None:
    """Make a folder that is its owner's alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


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
