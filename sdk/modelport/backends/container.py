"""
One replica as a container.

The engine is asked over a socket, which takes its time and may hang, so everything that
is asked of it happens in threads, one thing after another for each replica. That a
container has ended is heard from the engine's events, or seen when the engine comes
back; while it is away nothing is known, and nothing is concluded.

The container's labels say whose it is and what it is: with them alone the next server
finds it. The record beside it adds what changes, such as whether it was ever ready.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from attrs import evolve, frozen

from modelport import engine, errors
from modelport.backends.base import Debugger, Failure, Revision, Route, Routes
from modelport.backends.contents import DEBUG_PORT, code_folder, labels, options, ports, routes
from modelport.backends.probes import Target
from modelport.backends.records import FILE, Record, crashed_at, ending, told_in

FAILURE_LINES = 40
_AGAIN = 1.0
"""Seconds until the engine is asked again for what it did not do."""
_GIVE_UP = 30.0
"""Seconds without an engine after which a container that should go is left to the next server."""
_SIGNAL = 128
"""What exit codes are above when a signal was the end."""
logger = logging.getLogger(__name__)


class Network(Protocol):
    """How a container is connected, and reached from here."""

    def options(self, revision: Revision, ports: set[int]) -> dict[str, Any]:
        """What the engine is told when a container is made; the network is made when it is not there."""

    def addresses(self, seen: Mapping[str, Any], ports: set[int]) -> dict[int, str]:
        """For each port, where it is reached: `host:port`; from what the engine says of a container."""


@frozen
class Yard:
    """What all containers of a workspace share."""

    client: Any
    """docker-py's."""
    network: Network
    pool: ThreadPoolExecutor
    labels: Mapping[str, str]
    """The workspace's."""
    cores: float
    """What the engine's machine has."""


class ContainerReplica:
    """A container and all that belongs to it; `supervisor.Running` says what the methods promise."""

    def __init__(self, folder: Path, record: Record, yard: Yard) -> None:
        self.record = record
        self._folder, self._yard = folder, yard
        self._api = yard.client.api
        self._lock = threading.Lock()
        self._doing: Callable[[], None] | None = None
        self._next: Callable[[], None] | None = None
        self._addresses: dict[int, str] = {}
        self._launched, self._ended, self._gone = False, True, False
        self._began = time.time()
        self._failure: Failure | None = None
        self._lines = self._complaint = ""
        self._asked: dict[str, float] = {}
        self._away_since: float | None = None
        self._starts = 0

    @property
    def id(self) -> str:
        """What people see."""
        return f"{self.record.revision.id}-{self.record.index}"

    @property
    def routes(self) -> Routes:
        """Where it is asked."""
        return routes(self.record.revision)

    @property
    def address(self) -> str:
        """Where requests go; empty while it is not known."""
        return self._addresses.get(self.routes.scoring.port, "")

    @property
    def debugger(self) -> Debugger | None:
        """Where its debugger listens, once it is ready; None when it has none."""
        address = self._addresses.get(DEBUG_PORT)
        if address is None or not self.record.ready:
            return None
        return Debugger(address=address, app_root=code_folder(self.record.revision))

    @property
    def age(self) -> float:
        """Seconds since the container was started."""
        return time.time() - self._began

    @property
    def launched(self) -> bool:
        """Whether the container runs."""
        return self._launched

    def target(self, probe: str) -> Target | None:
        """Where a probe asks; a container of an earlier version has one port for all questions."""
        route: Route = getattr(self.routes, probe)
        address = self._addresses.get(route.port) or self.address
        return Target(address, route.path) if address else None

    # start

    def start(self) -> None:
        """
        Begin to start the container, which is made when it is not there.

        Raises:
            OSError: Its folder cannot be made.
        """
        self._notes.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._notes.chmod(0o777)  # the container has a user of its own; the folder above is closed to others
        self._failure_file.unlink(missing_ok=True)
        self.record.ready = False
        self._save()
        self._starts += 1
        self._launched, self._ended, self._failure, self._addresses = False, False, None, {}
        self._complaint = ""
        self._do(self._start)

    def adopt(self, seen: Mapping[str, Any]) -> None:
        """Take over a container that runs; `seen` is what the engine says of it."""
        self._ended = False
        self._see(seen)
        self.note(container=seen["Id"])

    def note(self, **changes: Any) -> None:
        """Change the record; where it cannot be written, the container's labels have to do."""
        self.record.note(self._folder / FILE, **changes)

    def _start(self) -> None:
        try:
            with engine.told(f"Replica '{self.id}'"):
                self._begin()
        except errors.ModelportError as error:
            self._fell(Failure(code=error.code, message=f"A replica could not be started: {error.message}"))
        except Exception as error:  # noqa: BLE001 (whatever it is, somebody waits to hear of it)
            self._fell(Failure(code="DeploymentFailed", message=f"A replica could not be started: {error}."))
        else:
            self.note(container=self.record.container)
            self._conclude()

    def _begin(self) -> None:
        """Have the container started, which is made when it is not there."""
        if self._began_again():
            return
        # Also of a server that was killed before it could write the id down.
        for container in filter(None, {self.record.container, self.name}):
            self._remove(container)
        revision = self.record.revision
        image = self._image()
        for each in (revision.app_root, revision.model_dir):
            if each:
                engine.readable(Path(each))
        made = self._yard.client.containers.create(
            name=self.name,
            detach=True,
            use_config_proxy=True,
            labels={**self._yard.labels, **labels(revision, self.id)},
            **self._yard.network.options(revision, self._ports),
            **options(revision, image, str(self._notes), self._yard.cores),
        )
        self.record.container = made.id
        self._api.start(made.id)

    def _began_again(self) -> bool:
        """Whether the container that was there is started again; one that was taken off its network is no use."""
        container = self.record.container
        if container is None:
            return False
        try:
            if not self._api.inspect_container(container)["NetworkSettings"]["Networks"]:
                return False
            self._api.start(container)
        except Exception as error:
            if not engine.is_gone(error):
                raise
            return False
        return True

    def _image(self) -> Mapping[str, Any]:
        """
        The configuration of its image.

        Raises:
            errors.ImageBuildFailure: Somebody removed it.
        """
        image = self.record.revision.image
        try:
            return self._api.inspect_image(image)["Config"] or {}
        except Exception as error:
            if not engine.is_gone(error):
                raise
            message = f"Image '{image}' is not in Docker any more. Update the deployment: that brings it back."
            raise errors.ImageBuildFailure(message) from error

    @property
    def name(self) -> str:
        """The container's name."""
        return f"modelport-{self._yard.labels[engine.WORKSPACE]}-{self.id}"

    @property
    def _ports(self) -> set[int]:
        """Where it is reached."""
        return ports(self.record.revision)

    # end

    def ended(self) -> bool:
        """Whether the container has ended, as far as the engine has said."""
        return self._ended

    def look(self, wake: Callable[[], None]) -> None:
        """Ask the engine whether the container runs: something was heard of it, or the engine was away."""

        def ask() -> None:
            self._look()
            wake()

        if not self._ended:
            self._yard.pool.submit(ask)

    def _look(self) -> None:
        if self._launched:  # otherwise `_start` is at it, and looks in the end
            self._conclude()

    def _conclude(self) -> None:
        """See what the engine says of the container now, and what follows; nothing does while the engine is away."""
        container, start = self.record.container, self._starts
        if container is None:
            self._fell(Failure(code="DeploymentFailed", message="A replica was stopped before it was made."))
            return
        seen: Any = None
        try:
            seen = self._api.inspect_container(container)
        except Exception as error:  # noqa: BLE001 (docker-py lets those of its transport pass)
            if not engine.is_gone(error):
                return
        if start != self._starts:
            return  # that was of the one before
        if seen is None:
            self._fell(Failure(code="DeploymentFailed", message="A replica's container was removed by somebody."))
        elif seen["State"]["Running"] or seen["State"].get("Restarting"):
            self._see(seen)
        else:
            self._over(seen)

    def failure(self) -> Failure:
        """Why it ended."""
        return self._failure or Failure(code="DeploymentFailed", message="A replica ended.", log=self._lines)

    def complaint(self) -> str:
        """What the HEALTHCHECK of its image says, when that has failed as often as it may."""
        return self._complaint

    def dump_stacks(self) -> None:
        """Ask it to write into its log where each thread is (faulthandler, on SIGUSR1)."""
        if self.record.revision.python:
            self._do(lambda: self._signal("SIGUSR1"))

    def terminate(self) -> None:
        """
        Ask it to finish what is inside and to end.

        What was never ready has nothing inside, and may not listen to signals yet: a container's first process gets
        only those that it asked for.
        """
        self._do(lambda: self._signal("SIGTERM" if self.record.ready else "SIGKILL"))

    def kill(self) -> None:
        """End it without asking."""
        if self._due("kill"):
            self._do(lambda: self._signal("SIGKILL"))

    def discarded(self) -> bool:
        """Remove the container and its folder; whether that is done."""
        if not self._gone and self._due("discard"):
            self._do(self._discard)
        return self._gone

    def _discard(self) -> None:
        try:
            self._remove(self.record.container or self.name)
        except Exception as error:  # noqa: BLE001 (docker-py lets those of its transport pass)
            if not self._is_given_up():
                return
            logger.warning("The container of replica '%s' is left behind: %s", self.id, engine.words(error))
        shutil.rmtree(self._folder, ignore_errors=True)
        self._gone = True

    def _is_given_up(self) -> bool:
        """Whether the engine has been away for so long that nobody waits for it; the next server will see to it."""
        self._away_since = self._away_since or time.monotonic()
        return time.monotonic() > self._away_since + _GIVE_UP

    def _remove(self, container: str) -> None:
        try:
            self._api.remove_container(container, force=True, v=True)
        except Exception as error:
            if not engine.is_gone(error) and "already in progress" not in engine.words(error):
                raise

    def _signal(self, name: str) -> None:
        container = self.record.container
        if self._ended:
            return
        try:
            if container is not None:
                self._api.kill(container, name)
                self._away_since = None
                return
        except Exception as error:  # noqa: BLE001 (docker-py lets those of its transport pass)
            logger.info("Replica '%s' could not be sent %s: %s", self.id, name, engine.words(error))
            if engine.is_away(error):
                if self._is_given_up():
                    self._fell(Failure(code="DeploymentFailed", message="Docker's engine was away for too long."))
                return
        self._conclude()

    # log

    def last_lines(self) -> str:
        """What it wrote last, as it was read when it ended."""
        return self._lines

    def log(self, tail: int) -> str:
        """
        The last `tail` lines; of a replica that could not be made, why.

        Raises:
            errors.DockerEngineNotAvailableError: The engine does not answer.
        """
        failure = self.record.failure
        return self._written(tail) or (f"{failure.message}\n" if failure and self._ended else "")

    def _written(self, tail: int) -> str:
        container = self.record.container
        if container is None:
            return ""
        with engine.told(f"The log of replica '{self.id}'"):
            try:
                said: bytes = self._api.logs(container, tail=tail)
            except Exception as error:
                if engine.is_gone(error):
                    return ""
                raise
        return said.decode(errors="replace")

    def rotate_log(self) -> None:
        """The engine does."""

    def _read_lines(self) -> None:
        try:
            self._lines = self._written(FAILURE_LINES)
        except errors.ModelportError as error:
            logger.info("%s", error)

    # what the engine says

    def _see(self, seen: Mapping[str, Any]) -> None:
        self._addresses = self._yard.network.addresses(seen, self._ports)
        self._began = _moment(seen["State"]["StartedAt"])
        self._away_since = None
        # While it starts, its readiness decides: what checks itself may well be told off by then.
        self._complaint = _complaint(seen["State"].get("Health") or {}) if self.record.ready else ""
        self._launched = True

    def _over(self, seen: Mapping[str, Any]) -> None:
        """Conclude why it ended."""
        self._read_lines()
        state = seen["State"]
        told = told_in(self._failure_file, self._lines)
        if told is None:
            code = int(state.get("ExitCode", 0))
            how = ending(_SIGNAL - code if code > _SIGNAL else code)
            when = "" if self.record.ready else " before it was ready"
            when += crashed_at(self._lines, self.record.revision.entry_script)
            message = f"A replica {how}{when}."
            if state.get("OOMKilled"):
                message = (
                    f"A replica ran out of memory and was ended{when}. Give it more, or load less: "
                    f"{_gibibytes(self.record.revision.memory_bytes)}."
                )
            elif state.get("Error"):
                message = f"A replica {how}{when}: {state['Error']}."
            told = Failure(code="DeploymentFailed", message=message, log=self._lines)
        self._fell(told)

    def _fell(self, failure: Failure) -> None:
        self._failure = failure if failure.log else evolve(failure, log=self._lines)
        self._launched, self._addresses = False, {}
        self._ended = True

    # one thing after another

    def _do(self, work: Callable[[], None]) -> None:
        """Do this in a thread, after what is being done; what waits gives way to it."""
        with self._lock:
            if self._doing is not None:
                self._next = work
                return
            self._doing = work
        self._yard.pool.submit(self._work)

    def _work(self) -> None:
        while True:
            with self._lock:
                work = self._doing
            assert work
            try:
                work()
            except Exception:
                logger.exception("What was asked for replica '%s' failed", self.id)
            with self._lock:
                self._doing, self._next = self._next, None
                if self._doing is None:
                    return

    def _due(self, what: str) -> bool:
        """Whether something that is asked again and again is to be begun again."""
        now = time.monotonic()
        if now < self._asked.get(what, -_AGAIN) + _AGAIN:
            return False
        self._asked[what] = now
        return True

    def _save(self) -> None:
        self.record.save(self._folder / FILE)

    @property
    def _notes(self) -> Path:
        return self._folder / "w"

    @property
    def _failure_file(self) -> Path:
        return self._notes / "failure.json"


def _complaint(health: Mapping[str, Any]) -> str:
    """What a HEALTHCHECK that failed says last; empty when it did not fail."""
    if health.get("Status") != "unhealthy":
        return ""
    lines = str(health["Log"][-1].get("Output", "")).split("\n") if health.get("Log") else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "the HEALTHCHECK of its image says that it is unhealthy" + (f": {said}" if said else "")


def _gibibytes(size_bytes: int | None) -> str:
    return f"its limit is {size_bytes / 2**30:g} GiB" if size_bytes else "it may use all of this machine"


def _moment(said: str) -> float:
    """Seconds since 1970 of the engine's `2026-11-28T11:10:43.123456789Z`."""
    return datetime.fromisoformat(said[:19] + "+00:00").timestamp()
