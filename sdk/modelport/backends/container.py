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

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from attrs import asdict, evolve

from modelport import engine, errors
from modelport.backends.base import Container, Debugger, Failure, Revision, Route, Routes, revision_from
from modelport.backends.probes import Target
from modelport.backends.records import FILE, Record, ending, told_in

PORT = 5001
"""Where the scoring server listens in its container. Source: Azure's inference images."""

DEBUG_PORT = 5678
"""Where its debugger does. Source: debugpy's documentation."""

APP_ROOT = "/var/azureml-app"
"""Where Azure's images find code and models."""

NOTES = "/run/modelport"
"""Where a replica can write to its folder on this machine."""

REPLICA, REVISION = "modelport.replica", "modelport.revision"
"""Labels: `<revision id>-<index>`, and the revision whole, as JSON."""

STRANGER = 1001
"""Whom containers run as when this server is root. Source: the user of Azure's inference images."""

FAILURE_LINES = 40
_AGAIN = 1.0
"""Seconds until the engine is asked again for what it did not do."""
_GIVE_UP = 30.0
"""Seconds without an engine after which a container that should go is left to the next server."""
_SIGNAL = 128
"""What exit codes are above when a signal was the end."""
_OURS = Routes(
    liveness=Route(port=PORT, path="/"), readiness=Route(port=PORT, path="/"), scoring=Route(port=PORT, path="/")
)

logger = logging.getLogger(__name__)


class Network(Protocol):
    """How a container is connected, and reached from here."""

    def options(self, revision: Revision, ports: set[int]) -> dict[str, Any]:
        """What the engine is told when a container is made; the network is made when it is not there."""

    def addresses(self, seen: Mapping[str, Any], ports: set[int]) -> dict[int, str]:
        """For each port, where it is reached: `host:port`; from what the engine says of a container."""


class ContainerReplica:
    """A container and all that belongs to it; `supervisor.Running` says what the methods promise."""

    def __init__(
        self,
        folder: Path,
        record: Record,
        client: Any,
        network: Network,
        pool: ThreadPoolExecutor,
        labels: Mapping[str, str],
    ) -> None:
        """`labels` are the workspace's."""
        self.record = record
        self._folder, self._client, self._network = folder, client, network
        self._pool, self._labels = pool, labels
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

    @property
    def id(self) -> str:
        """What people see."""
        return f"{self.record.revision.id}-{self.record.index}"

    @property
    def routes(self) -> Routes:
        """Where it is asked."""
        return self.record.revision.routes or _OURS

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
        return Debugger(address=address, app_root=_code(self.record.revision))

    @property
    def age(self) -> float:
        """Seconds since the container was started."""
        return time.time() - self._began

    @property
    def launched(self) -> bool:
        """Whether the container runs."""
        return self._launched

    def target(self, probe: str) -> Target | None:
        """Where a probe asks."""
        route: Route = getattr(self.routes, probe)
        address = self._addresses.get(route.port)
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
        for name, value in changes.items():
            setattr(self.record, name, value)
        try:
            self._save()
        except OSError as error:
            logger.warning("The record of replica '%s' could not be written: %s", self.id, error)

    def _start(self) -> None:
        try:
            with engine.told(f"Replica '{self.id}'"):
                seen = self._started()
        except errors.ModelportError as error:
            self._fell(Failure(code=error.code, message=f"A replica could not be started: {error.message}"))
            return
        self.note(container=seen["Id"])
        if not seen["State"]["Running"]:
            self._over(seen)
            return
        self._see(seen)

    def _started(self) -> Any:
        """What the engine says of the container, once it was started."""
        api = self._client.api
        if self.record.container is not None:
            try:
                api.start(self.record.container)
                return api.inspect_container(self.record.container)
            except Exception as error:
                if not engine.is_gone(error):
                    raise
        self._remove(self.name)  # of a server that was killed before it could write the id down
        made = self._client.containers.create(**self._options()).id
        self.record.container = made
        api.start(made)
        return api.inspect_container(made)

    @property
    def name(self) -> str:
        """The container's name."""
        return f"modelport-{self._labels[engine.WORKSPACE]}-{self.id}"

    def _options(self) -> dict[str, Any]:
        """What the engine is told to make."""
        revision = self.record.revision
        image = self._client.api.inspect_image(revision.image)["Config"] or {}
        options = {
            "image": revision.image,
            "name": self.name,
            "detach": True,
            "environment": variables(revision),
            "labels": {**self._labels, **labels(revision, self.id)},
            "volumes": self._mounts(),
            "security_opt": ["no-new-privileges:true"],
            "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
            "use_config_proxy": True,
            **self._network.options(revision, self._ports),
            **_limits(revision),
        }
        if revision.python:
            return options | {
                "entrypoint": _command(revision),
                "command": [],
                "working_dir": _code(revision),
                "user": user(),
                "read_only": True,
                "tmpfs": {_scratch(revision): "rw,exec,nosuid,nodev,mode=1777"},
                "cap_drop": ["ALL"],
            }
        if image.get("User") not in (None, "", "0", "root", "0:0", "root:root"):
            return options | {"cap_drop": ["ALL"]}
        # Root, as the image wants it: with what a server needs to let go of it, and to listen on low ports.
        return options | {
            "cap_drop": ["ALL"],
            "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"],
        }

    @property
    def _ports(self) -> set[int]:
        """Where it is reached."""
        ports = {route.port for route in all_routes(self.routes)}
        return {*ports, DEBUG_PORT} if has_debugger(self.record.revision) else ports

    def _mounts(self) -> dict[str, dict[str, str]]:
        """Code and model, which are only read, and the folder for notes."""
        revision = self.record.revision
        mounts = {str(self._notes): {"bind": NOTES, "mode": "rw"}}
        for source, target in ((revision.app_root, _code(revision)), (revision.model_dir, revision.model_mount)):
            if source:
                engine.readable(Path(source))
                mounts[source] = {"bind": target, "mode": "ro"}
        return mounts

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
            self._pool.submit(ask)

    def _look(self) -> None:
        container = self.record.container
        if container is None or not self._launched:
            return  # `_start` will see
        try:
            seen = self._client.api.inspect_container(container)
        except Exception as error:  # noqa: BLE001 (docker-py lets those of its transport pass)
            if engine.is_gone(error):
                self._fell(Failure(code="DeploymentFailed", message="A replica's container was removed by somebody."))
            return
        if seen["State"]["Running"] or seen["State"].get("Restarting"):
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
            now = time.monotonic()
            self._away_since = self._away_since or now
            if now < self._away_since + _GIVE_UP:
                return
            logger.warning("The container of replica '%s' is left behind: %s", self.id, engine.words(error))
        shutil.rmtree(self._folder, ignore_errors=True)
        self._gone = True

    def _remove(self, container: str) -> None:
        try:
            self._client.api.remove_container(container, force=True, v=True)
        except Exception as error:
            if not engine.is_gone(error) and "already in progress" not in engine.words(error):
                raise

    def _signal(self, name: str) -> None:
        container = self.record.container
        if container is None or self._ended:
            return
        try:
            self._client.api.kill(container, name)
        except Exception as error:  # noqa: BLE001 (docker-py lets those of its transport pass)
            logger.info("Replica '%s' could not be sent %s: %s", self.id, name, engine.words(error))
            self._look()

    # log

    def last_lines(self) -> str:
        """What it wrote last, as it was read when it ended."""
        return self._lines

    def log(self, tail: int) -> str:
        """
        The last `tail` lines.

        Raises:
            errors.DockerEngineNotAvailableError: The engine does not answer.
        """
        container = self.record.container
        if container is None:
            return ""
        with engine.told(f"The log of replica '{self.id}'"):
            try:
                said: bytes = self._client.api.logs(container, tail=tail)
            except Exception as error:
                if engine.is_gone(error):
                    return ""
                raise
        return said.decode(errors="replace")

    def rotate_log(self) -> None:
        """The engine does."""

    def _read_lines(self) -> None:
        try:
            self._lines = self.log(FAILURE_LINES)
        except errors.ModelportError as error:
            logger.info("%s", error)

    # what the engine says

    def _see(self, seen: Mapping[str, Any]) -> None:
        self._addresses = self._network.addresses(seen, self._ports)
        self._began = _moment(seen["State"]["StartedAt"])
        health = seen["State"].get("Health") or {}
        if health.get("Status") == "unhealthy":
            said = " ".join(str(health["Log"][-1].get("Output", "")).split()) if health.get("Log") else ""
            self._complaint = "the HEALTHCHECK of its image says that it is unhealthy" + (f": {said}" if said else "")
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
        self._pool.submit(self._work)

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


def labels(revision: Revision, replica: str) -> dict[str, str]:
    """What a replica's container is found again by."""
    plain = evolve(revision, environment_variables=dict(revision.environment_variables))
    return {
        engine.KIND: "replica",
        REPLICA: replica,
        REVISION: json.dumps(asdict(plain)),
        # What people look for in `docker ps`, by the names of Azure's local endpoints.
        "endpoint": revision.endpoint,
        "deployment": revision.deployment,
    }


def labelled(said: Mapping[str, str]) -> Record:
    """
    The record that a container's labels make.

    Raises:
        KeyError, ValueError, TypeError: They are not a replica's.
    """
    revision = revision_from(json.loads(said[REVISION]))
    return Record(revision=revision, index=int(said[REPLICA].rpartition("-")[2]))


def user() -> str:
    """
    Whom containers run as: who runs this server, so that what it may read they may.

    Never root: then it is a user of their own, and files are made readable for it.
    """
    uid, gid = os.getuid(), os.getgid()
    return f"{uid}:{gid}" if uid else f"{STRANGER}:{STRANGER}"


def all_routes(routes: Routes) -> tuple[Route, ...]:
    """All of them."""
    return (routes.liveness, routes.readiness, routes.scoring)


def variables(revision: Revision) -> dict[str, str]:
    """Azure's variables, then the deployment's, then ours."""
    found = {"AML_APP_ROOT": _code(revision), "AZUREML_ENTRY_SCRIPT": revision.entry_script}
    found = {name: value for name, value in found.items() if value}
    if revision.model_dir is not None:
        found["AZUREML_MODEL_DIR"] = revision.model_mount
    if revision.python:
        # Its user has no home and no entry in the image's list of users.
        scratch = _scratch(revision)
        found |= {"HOME": scratch, "TMPDIR": scratch, "USER": "modelport", "PYTHONNOUSERSITE": "1"}
        found["AZUREML_INFERENCE_PYTHON_PATH"] = revision.python
    found |= revision.environment_variables
    if revision.python:
        found |= {
            "MODELPORT_FAILURE_FILE": f"{NOTES}/failure.json",
            "MODELPORT_DEPLOYMENT": revision.deployment,
            "MODELPORT_MAX_CONCURRENT_REQUESTS": str(revision.max_concurrent_requests),
            "MODELPORT_GRACE_SECONDS": f"{revision.request_timeout:g}",
        }
    if has_debugger(revision):
        found["MODELPORT_DEBUG"] = f"0.0.0.0:{DEBUG_PORT}"
    return found


def described(revision: Revision) -> Container | None:
    """What a container is made of that is no replica; None when the image brings a server of its own."""
    if not revision.python:
        return None
    ours = {"HOME", "TMPDIR", "USER", "MODELPORT_FAILURE_FILE", "MODELPORT_DEBUG"} - set(revision.environment_variables)
    return Container(
        image=revision.image,
        command=tuple(_command(revision)),
        code=_code(revision),
        environment={name: value for name, value in variables(revision).items() if name not in ours},
        mounts={revision.model_dir: revision.model_mount} if revision.model_dir else {},
        labels={"endpoint": revision.endpoint, "deployment": revision.deployment},
    )


def has_debugger(revision: Revision) -> bool:
    """Whether our own server runs, and is told to let a debugger be attached."""
    return bool(revision.debug and revision.python and not revision.azure_server)


def _code(revision: Revision) -> str:
    """Where the container has the code folder."""
    return f"{APP_ROOT}/{Path(revision.app_root).name}" if revision.app_root else ""


def _scratch(revision: Revision) -> str:
    """Where a replica can write, in memory: elsewhere than its interpreter, whose path may be one of this machine's."""
    return "/var/tmp" if revision.python.startswith("/tmp/") else "/tmp"  # noqa: S108 (the container's own)


def _command(revision: Revision) -> list[str]:
    if revision.azure_server:
        # Its own flag: of the variable alone it takes no notice in all versions.
        script = f"{_code(revision)}/{revision.entry_script}"
        server = "azureml_inference_server_http.amlserver"
        return [revision.python, "-m", server, "--entry_script", script, "--port", str(PORT)]
    return [revision.python, "-m", "modelport_scoring", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104


def _limits(revision: Revision) -> dict[str, Any]:
    """Cores, memory and GPUs."""
    limits: dict[str, Any] = {}
    if revision.cpus is not None:
        limits["nano_cpus"] = int(min(revision.cpus, os.cpu_count() or 1) * 10**9)
    if revision.memory_bytes is not None:
        limits["mem_limit"] = revision.memory_bytes
    if revision.gpus:
        limits["device_requests"] = [{"Count": -1, "Capabilities": [["gpu"]]}]
    return limits


def _gibibytes(size_bytes: int | None) -> str:
    return f"its limit is {size_bytes / 2**30:g} GiB" if size_bytes else "it may use all of this machine"


def _moment(said: str) -> float:
    """Seconds since 1970 of the engine's `2026-11-28T11:10:43.123456789Z`."""
    return datetime.fromisoformat(said[:19] + "+00:00").timestamp()
