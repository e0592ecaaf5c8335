"""
What keeps replicas running: probes, restarts, and stops that lose no request.

One thread watches all replicas. Each is a small state machine whose state is the
method that looks at it next; nothing in a look blocks, so none delays another.
A second thread tells the owner which revisions' ready addresses changed, since
that may take as long as a gateway takes; a stop waits for it by comparing numbers.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from attrs import define, evolve, field

from modelport.backends.base import Debugger, Failure, Replica, Revision, State
from modelport.backends.probes import Prober, Target, connections
from modelport.backends.records import Record, place_in

TICK = 0.04
"""Seconds between two looks at a replica: bounds how late a death is noticed, and paces the first probes."""
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 30.0
STABLE = 10.0
"""Seconds of being ready after which a restart is a first one again."""
DUMP = 0.3
"""Seconds that a hanging process gets to write where it hangs."""
QUIET = 0.2
"""Seconds without any connection after which nothing is inside."""
DEBUGGING = 5.0
"""Seconds that draining may take when somebody may be standing at a breakpoint, with all the time in the world."""
DRAIN_SPARE = 3.0
"""Seconds beyond the request timeout that draining may take."""
EXIT = 5.0
"""Seconds from SIGTERM to SIGKILL."""
PATIENCE = 30.0
"""Seconds that a stop waits for an owner whose `changed` fails or hangs."""
RETRY = 0.25
"""Seconds until a `changed` that raised is called again."""
ROTATION = 1.0
"""Seconds between two looks at a log's size."""

logger = logging.getLogger(__name__)


class Running(Protocol):
    """
    A replica, as its supervisor drives it: a process, or a container.

    Its supervisor is its only user. Nothing here waits: what takes time is begun, and `ended` is asked again.
    """

    record: Record

    @property
    def id(self) -> str:
        """What people see."""

    @property
    def address(self) -> str:
        """Where requests go; empty while it is not known."""

    @property
    def debugger(self) -> Debugger | None:
        """Where its debugger listens, once it is ready; None when it has none."""

    @property
    def age(self) -> float:
        """Seconds since it was started."""

    @property
    def launched(self) -> bool:
        """Whether it runs, once it was started: making a container takes its time."""

    def target(self, probe: str) -> Target | None:
        """Where the probe `liveness` or `readiness` asks; None while there is nobody to ask."""

    def start(self) -> None:
        """
        Start it.

        Raises:
            OSError, ValueError, TypeError: It could not be started; nothing runs.
        """

    def note(self, **changes: Any) -> None:
        """Change its record."""

    def ended(self) -> bool:
        """Whether it has ended."""

    def failure(self) -> Failure:
        """Why it ended."""

    def complaint(self) -> str:
        """What is wrong with it though it runs, as a check that runs inside it says; empty: nothing."""

    def dump_stacks(self) -> None:
        """Ask it to write into its log where each thread is."""

    def terminate(self) -> None:
        """Ask it to finish what is inside and to end."""

    def kill(self) -> None:
        """End it without asking. May be called again and again."""

    def discarded(self) -> bool:
        """Remove what is left of it but its log; whether that is done."""

    def last_lines(self) -> str:
        """What it wrote last, once it has ended."""

    def rotate_log(self) -> None:
        """Keep its log short."""


class Member:
    """One replica under supervision."""

    def __init__(self, process: Running, fleet: Fleet, selector: selectors.BaseSelector) -> None:
        self.process = process
        self.state: State = "starting"
        self._fleet = fleet
        self._readiness = Prober(partial(process.target, "readiness"), fleet.revision.readiness, selector)
        self._liveness = Prober(partial(process.target, "liveness"), fleet.revision.liveness, selector)
        self._look: Callable[[float], None] | None = self._waiting
        self._until = 0.0
        self._left = 0
        self._began = self._ready_since = self._quiet_since = self._rotated = 0.0
        self._failures = 0
        self._failure: Failure | None = None

    @property
    def gone(self) -> bool:
        """Whether it was stopped and nothing is left of it."""
        return self._look is None

    def replica(self) -> Replica:
        """What the owner sees."""
        record = self.process.record
        return Replica(
            id=self.process.id,
            state=self.state,
            address=self.process.address,
            restarts=record.restarts,
            failure=record.failure,
            debugger=self.process.debugger,
        )

    def step(self, now: float) -> None:
        """Look at it once."""
        if self._look is not None:
            self._look(now)
        if now >= self._rotated + ROTATION:
            self._rotated = now
            self.process.rotate_log()

    def adopt(self, now: float) -> None:
        """Take over a replica that runs. One that was ready is taken to be so still, lest it misses requests."""
        self._began = now - self.process.age
        if self.process.record.ready:
            self._serve(now)
        else:
            self._look = self._starting

    def stop(self, now: float) -> None:
        """Begin to stop it: it gets no more requests, finishes those inside, and ends."""
        if self.state == "stopping":
            return
        served, self.state = self.state in {"ready", "unready"}, "stopping"
        self.rest()
        if served:
            self._left = self._fleet.touch()
            self._until = now + PATIENCE
            self._look = self._leaving
        else:
            self._terminate(now)

    # running

    def _waiting(self, now: float) -> None:
        if now < self._until:
            return
        self._began = now
        try:
            self.process.start()
        except (OSError, ValueError, TypeError) as error:  # the latter two: an environment variable that cannot be one
            message = f"A replica could not be started: {error}."
            self._fall(now, Failure(code="DeploymentFailed", message=message, log=self.process.last_lines()))
        else:
            self.state = "starting"
            self._readiness.begin(now)
            self._look = self._starting

    def _starting(self, now: float) -> None:
        if self._fell(now):
            return
        if not self.process.launched:
            self._began = now
            return
        self._readiness.step(now, TICK)
        if self._readiness.passed:
            self._serve(now)
            self.process.note(ready=True)
        elif now >= self._began + self._patience:
            self._failure = Failure(code="ResourceNotReady", message=self._late(""))
            self.rest()
            self.process.dump_stacks()
            self._until = now + DUMP
            self._look = self._dumping

    def _late(self, place: str) -> str:
        where = f"The script is at {place}" if place else "Its log says where init() is"
        if routes := self._fleet.revision.routes:
            asked = routes.readiness
            where = f"It was asked for '{asked.path}' at port {asked.port}, as its readiness_route says"
        return (
            f"A replica did not become ready within {self._patience:g} s: the last probe saw {self._readiness.saw}. "
            f"{where}; if it only needs more time, give the readiness and liveness probes a longer initial_delay."
        )

    @property
    def _patience(self) -> float:
        """Either probe ends a start that takes too long: readiness here, liveness on Kubernetes too."""
        return min(self._readiness.probe.deadline, self._liveness.probe.deadline)

    def _dumping(self, now: float) -> None:
        if now >= self._until or self.process.ended():
            assert self._failure is not None
            self._end(self._failure.code, self._failure.message)

    def _serve(self, now: float) -> None:
        """Count it among the ready ones, and go over to the rules of its probes."""
        self.state = "ready"
        self._ready_since = now
        for prober in (self._readiness, self._liveness):
            prober.begin(max(now + prober.probe.period, self._began + prober.probe.initial_delay))
        self._look = self._serving
        self._fleet.touch()

    def _serving(self, now: float) -> None:
        if self._fell(now):
            return
        self._liveness.step(now)
        self._readiness.step(now)
        if complaint := self.process.complaint():
            self._end("DeploymentFailed", f"A replica failed a check of its own and was ended: {complaint}.")
        elif self._liveness.failed:
            message = (
                f"A replica failed its liveness probe {self._liveness.failures} times in a row and was ended: "
                f"the last probe saw {self._liveness.saw}."
            )
            self._end("DeploymentFailed", message)
        elif self.state == "ready" and self._readiness.failed:
            logger.warning("Replica '%s' is not ready: its probe saw %s", self.process.id, self._readiness.saw)
            self._leave()
        elif self.state == "unready" and self._readiness.passed:
            self.state = "ready"
            self._fleet.touch()

    def _leave(self) -> None:
        """Take it out of the ready set, if it is there."""
        if self.state == "ready":
            self.state = "unready"
            self._fleet.touch()

    def _end(self, code: str, message: str) -> None:
        """Kill it, to be restarted."""
        self.rest()
        self._leave()
        self._failure = Failure(code=code, message=message)
        self.process.kill()
        self._look = self._ending

    def _ending(self, now: float) -> None:
        if self.process.ended():
            assert self._failure is not None
            failure = evolve(self._failure, log=self.process.last_lines())
            if failure.code == "ResourceNotReady":
                failure = evolve(failure, message=self._late(place_in(failure.log, self._fleet.revision.entry_script)))
            self._fall(now, failure)
        else:
            self.process.kill()

    def _fell(self, now: float) -> bool:
        if not self.process.ended():
            return False
        self._fall(now, self.process.failure())
        return True

    def _fall(self, now: float, failure: Failure) -> None:
        """It has ended: restart it, later and later while it does not stay."""
        was_ready = self.process.record.ready
        logger.warning("Replica '%s' of deployment '%s': %s", self.process.id, self._fleet.revision.id, failure.message)
        self.rest()
        self._leave()
        self.state = "restarting"
        if was_ready and now >= self._ready_since + STABLE:
            self._failures = 0
        self._until = now + min(FIRST_BACKOFF * 2**self._failures, LONGEST_BACKOFF)
        self._failures = min(self._failures + 1, 16)
        self.process.note(failure=failure, restarts=self.process.record.restarts + 1)
        self._look = self._waiting

    def rest(self) -> None:
        """Ask nothing more."""
        self._readiness.close()
        self._liveness.close()

    # stopping

    def _leaving(self, now: float) -> None:
        """Until the owner has heard that it left: nothing new is sent to it after that."""
        if self._fleet.heard >= self._left or now >= self._until or self.process.ended():
            if self._fleet.heard < self._left and now >= self._until:
                logger.error("Replica '%s' is stopped though its requests could not be led elsewhere", self.process.id)
            revision = self._fleet.revision
            self._until = now + (DEBUGGING if revision.debug else revision.request_timeout + DRAIN_SPARE)
            self._quiet_since = now
            self._look = self._draining

    def _draining(self, now: float) -> None:
        if not self.process.ended() and now < self._until:
            if connections(self.process.address):
                self._quiet_since = now
            if now < self._quiet_since + QUIET:
                return
        self._terminate(now)

    def _terminate(self, now: float) -> None:
        self.process.terminate()
        self._until = now + EXIT
        self._look = self._terminating

    def _terminating(self, now: float) -> None:
        if self.process.ended():
            if self.process.discarded():
                self._look = None
        elif now >= self._until:
            self.process.kill()


@define(eq=False)
class Fleet:
    """
    The replicas of one revision.

    `said` counts the changes of its ready set, `heard` those that the owner was told of: `changed` returned after it
    was called at that count.
    """

    revision: Revision
    announce: Callable[[], None]
    members: list[Member] = field(factory=list)
    said: int = 0
    heard: int = 0
    retry_at: float = 0.0

    def touch(self) -> int:
        """The ready set has changed; the number that `heard` must reach."""
        self.said += 1
        self.announce()
        return self.said


class Supervisor:
    """
    The two threads, and the lock under which everything of theirs is read and changed.

    Attributes:
        lock: Held to touch `fleets`; notified when a replica is gone. Never held while the owner is called.
        fleets: By revision id.
    """

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.fleets: dict[str, Fleet] = {}
        self.closed = False
        self.selector = selectors.DefaultSelector()
        self._changed = changed
        self._ears, self._mouth = socket.socketpair()
        for end in (self._ears, self._mouth):
            end.setblocking(False)
        self.selector.register(self._ears, selectors.EVENT_READ)
        self._threads = [
            threading.Thread(target=self._watch, name="modelport-replicas", daemon=True),
            threading.Thread(target=self._tell, name="modelport-changes", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def fleet(self, revision: Revision) -> Fleet:
        """The revision's fleet, with `revision` as it is now; a new one has no members. Call under the lock."""
        if revision.id not in self.fleets:
            self.fleets[revision.id] = Fleet(revision, self.lock.notify_all)
        self.fleets[revision.id].revision = revision
        return self.fleets[revision.id]

    def wake(self) -> None:
        """Have the watcher look now."""
        with contextlib.suppress(OSError):  # told often enough already, or closed
            self._mouth.send(b"!")

    def close(self) -> None:
        """Stop both threads; replicas run on."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.lock.notify_all()
        self.wake()
        for thread in self._threads:
            thread.join(EXIT)
        self.selector.close()
        self._ears.close()
        self._mouth.close()

    # the watching thread

    def _watch(self) -> None:
        while not self.closed:
            self.selector.select(TICK if self.fleets else None)
            with contextlib.suppress(BlockingIOError):
                self._ears.recv(4096)
            for fleet, member in self._members():
                self._step(fleet, member)
        for _, member in self._members():
            member.rest()

    def _members(self) -> Iterator[tuple[Fleet, Member]]:
        with self.lock:
            pairs = [(fleet, member) for fleet in self.fleets.values() for member in fleet.members]
        return iter(pairs)

    def _step(self, fleet: Fleet, member: Member) -> None:
        with self.lock:
            try:
                member.step(time.monotonic())
            except Exception:
                logger.exception("A look at replica '%s' failed; the next one follows", member.process.id)
            if member.gone:
                fleet.members.remove(member)
                self.lock.notify_all()

    # the telling thread

    def _tell(self) -> None:
        while True:
            with self.lock:
                if self.closed:
                    return
                fleet = self._untold()
                if fleet is None:
                    self.lock.wait(RETRY if self._has_untold() else None)
                    continue
                said = fleet.said
            try:
                self._changed(fleet.revision.id)
            except Exception:
                logger.exception("The change of '%s' could not be told; it is tried again", fleet.revision.id)
                fleet.retry_at = time.monotonic() + RETRY
            else:
                fleet.heard = said
                self.wake()

    def _untold(self) -> Fleet | None:
        now = time.monotonic()
        return next((each for each in self.fleets.values() if each.heard < each.said and each.retry_at <= now), None)

    def _has_untold(self) -> bool:
        return any(fleet.heard < fleet.said for fleet in self.fleets.values())
