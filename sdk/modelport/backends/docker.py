"""
Replicas as containers of this machine's Docker.

They are on a network of the workspace's own, or, when they may not call out, on one
that leads nowhere; both let this machine in. Everything is labelled with the workspace:
what an earlier server left is found, and what is not ours is never touched.

On Linux a container is reached at its own address. Elsewhere Docker runs in a virtual
machine, and each port is published on loopback instead.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from attrs import evolve

from modelport import engine, errors
from modelport.backends.base import Container, Revision
from modelport.backends.container import ContainerReplica, Yard
from modelport.backends.contents import REPLICA, described, labelled
from modelport.backends.records import Record
from modelport.backends.watched import Leftover, WatchedBackend, folder_name

THREADS = 16
"""How many things the engine is asked at once."""

FIRST_RETRY, LONGEST_RETRY = 0.1, 2.0
"""Seconds until an engine that is away is looked for again."""

Reach = Literal["address", "port"]

logger = logging.getLogger(__name__)


class DockerBackend(WatchedBackend):
    """
    The backend `docker`.

    Args:
        folder: Where records and what replicas note down live; it names the workspace to Docker.
        logs: Not used: Docker keeps logs.
        reach: How containers are reached: at their own `address`, or at a `port` of this machine; by default as the
            platform has it.

    Raises:
        errors.DockerEngineNotAvailableError: Docker's engine does not answer.
        errors.LocalServerError: another live server uses the folder.
    """

    kind = "docker"

    def __init__(self, folder: Path, logs: Path | None = None, *, reach: Reach | None = None) -> None:
        del logs
        client = engine.connect()
        try:
            super().__init__(folder)
        except BaseException:
            client.close()
            raise
        self._client = client
        self._workspace = workspace_mark(self._folder)
        self._address = engine.address()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="modelport-docker")
        self._closing = threading.Event()
        self._events: Any = None
        self._listener = threading.Thread(target=self._listen, name="modelport-docker-events", daemon=True)
        try:
            with engine.told("The containers of this workspace"):
                about = client.info()
                labels = {engine.WORKSPACE: self._workspace, engine.HOME: str(self._folder)}
                self._network = Networks(client, labels, reach or _reach(about))
                self._yard = Yard(client, self._network, self._pool, labels, float(about.get("NCPU") or 1))
                self._take(self._read())
        except BaseException:
            self.close()
            raise
        self._listener.start()

    def container(self, revision: Revision) -> Container | None:
        """
        What its containers are made of, its image by name: who builds upon it cannot say ids.

        Raises:
            errors.ModelportError: The engine does not answer, or has the image no more.
        """
        made = described(revision)
        if made is None:
            return None
        with engine.told(f"Image '{made.image}'"):
            names = self._client.api.inspect_image(made.image).get("RepoTags") or [made.image]
        return evolve(made, image=names[0])

    def logs(self, revision_id: str, tail: int) -> str:
        """
        The last `tail` lines of each replica of the revision, a header line before each where there are several.

        Raises:
            errors.DockerEngineNotAvailableError: The engine does not answer.
        """
        with self._supervisor.lock:
            fleet = self._supervisor.fleets.get(revision_id)
            found = [member.process for member in fleet.members] if fleet else []
            found += [left.replica for left in self._leftovers.get(revision_id, [])]
        parts = [(each.id, each.log(tail)) for each in found if isinstance(each, ContainerReplica)]
        if len(parts) == 1:
            return parts[0][1]
        return "\n".join(f"==> {name} <==\n{lines}" for name, lines in parts)

    def close(self) -> None:
        """Stop watching; replicas run on, and the folder is free for another server."""
        self._closing.set()
        self._supervisor.close()
        self._hush()
        if self._listener.is_alive():
            self._listener.join()
        self._pool.shutdown(wait=True)
        self._client.close()
        super().close()  # last: what its threads were at might have been adopted by whoever opens the folder next

    def _hush(self) -> None:
        """End the stream of events."""
        with suppress(OSError, AttributeError):  # docker-py does not find the socket of one that has ended
            if self._events is not None:
                self._events.close()

    def _replica(self, record: Record) -> ContainerReplica:
        folder = self._folder / folder_name(record.revision.id, record.index)
        return ContainerReplica(folder, record, self._yard)

    def _clear(self, revision_id: str) -> None:
        del revision_id  # nothing of it is elsewhere than its replicas
        self._network.tidy(self._is_empty)

    def _is_empty(self) -> bool:
        with self._supervisor.lock:
            return not (self._supervisor.fleets or self._leftovers)

    def _containers(self) -> list[Any]:
        """What the engine says of each container of the workspace."""
        wanted = {"label": [f"{engine.WORKSPACE}={self._workspace}", f"{engine.KIND}=replica"]}
        found: list[Any] = self._client.api.containers(all=True, filters=wanted)
        return found

    def _seen(self, container: str) -> Any:
        """What the engine says of a container; None of one that was removed just now."""
        try:
            return self._client.api.inspect_container(container)
        except Exception as error:
            if engine.is_gone(error):
                return None
            raise

    def _read(self) -> list[Leftover]:
        """What earlier servers left: by their containers, and by records of those that have none."""
        records = {f"{record.revision.id}-{record.index}": record for _, record in self._records()}
        found = []
        for each in self._containers():
            name = each["Labels"].get(REPLICA, "")
            try:
                record = records.pop(name) if name in records else labelled(each["Labels"])
            except (KeyError, ValueError, TypeError):
                logger.warning("Container '%s' has labels of ours that say nothing; it is removed", each["Id"][:12])
                self._client.api.remove_container(each["Id"], force=True, v=True)
                continue
            record.container = each["Id"]
            replica, seen = self._replica(record), self._seen(each["Id"])
            if seen and seen["State"]["Running"]:
                replica.adopt(seen)
            found.append(Leftover(replica, bool(seen and seen["State"]["Running"])))
        for record in records.values():
            record.container = None
            found.append(Leftover(self._replica(record), runs=False))
        return found

    # events

    def _listen(self) -> None:
        """Hear of containers that end or fall ill, until this is closed; an engine that is away is looked for again."""
        pause = FIRST_RETRY
        while not self._closing.wait(pause):
            pause = FIRST_RETRY if self._heard() else min(pause * 2, LONGEST_RETRY)

    def _heard(self) -> bool:
        """
        Listen until the engine's events end; whether there were any to listen to.

        All containers are looked at first: nobody has heard what became of them before. An engine from which nothing
        is heard for long is no other than one that went away.
        """
        wanted = {
            "type": "container",
            "event": ["die", "destroy", "health_status"],
            "label": f"{engine.WORKSPACE}={self._workspace}",
        }
        heard = False
        try:
            engine.must_listen(self._address)
            self._events = self._client.api.events(decode=True, filters=wanted)
            if self._closing.is_set():  # which may not have seen them
                return False
            self._look()
            heard = True
            for event in self._events:
                self._look(event["Actor"]["ID"])
        except Exception as error:  # noqa: BLE001 (docker-py lets those of its transport pass)
            if not self._closing.is_set():
                logger.info("Docker's events ended: %s", engine.words(error))
        finally:
            # docker-py's stream ends the connection and leaves the answer open, which was perhaps not read to its end.
            with suppress(AttributeError, OSError):
                self._events._response.close()  # noqa: SLF001 (see above)
        return heard

    def _look(self, container: str | None = None) -> None:
        """Have a replica look whether its container runs; every replica, when none is named."""
        with self._supervisor.lock:
            members = [member for fleet in self._supervisor.fleets.values() for member in fleet.members]
        for member in members:
            replica = member.process
            if isinstance(replica, ContainerReplica) and container in (None, replica.record.container):
                replica.look(self._supervisor.wake)


class Networks:
    """The networks of a workspace, made when they are needed; `container.Network` says what the methods promise."""

    def __init__(self, client: Any, labels: Mapping[str, str], reach: Reach) -> None:
        """Reach containers by their `address`, or by a `port` of this machine; `labels` are the workspace's."""
        self._client, self._labels, self._reach = client, labels, reach
        self._workspace = labels[engine.WORKSPACE]
        self._making = threading.Lock()

    def options(self, revision: Revision, ports: set[int]) -> dict[str, Any]:
        """
        What the engine is told when a container is made; the network is made when it is not there.

        Raises:
            errors.UnsupportedByBackend: It may not call out, and could not be reached either.
        """
        if self._reach == "address":
            return {"network": self._made(internal=not revision.egress)}
        if not revision.egress:
            raise errors.UnsupportedByBackend(
                "egress_public_network_access is disabled, and here Docker cannot let requests into a network that "
                "leads nowhere: it can on Linux. Leave it enabled on this machine."
            )
        published = {f"{port}/tcp": ("127.0.0.1", None) for port in ports}
        return {"network": self._made(internal=False), "ports": published}

    def addresses(self, seen: Mapping[str, Any], ports: set[int]) -> dict[int, str]:
        """For each port, where it is reached: `host:port`."""
        settings = seen["NetworkSettings"]
        if self._reach == "address":
            host = next((each["IPAddress"] for each in settings["Networks"].values() if each["IPAddress"]), "")
            return {port: f"{host}:{port}" for port in ports} if host else {}
        found = {port: (settings["Ports"] or {}).get(f"{port}/tcp") for port in ports}
        return {port: f"127.0.0.1:{bound[0]['HostPort']}" for port, bound in found.items() if bound}

    def tidy(self, unused: Callable[[], bool]) -> None:
        """Remove the networks, when they are not used any more; whoever is about to use one has said so before."""
        with self._making:
            try:
                if not unused():
                    return
                for network in self._client.networks.list(filters={"label": f"{engine.WORKSPACE}={self._workspace}"}):
                    self._leave(network)
            except Exception as error:  # noqa: BLE001 (docker-py lets those of its transport pass)
                logger.info("The networks of the workspace stay: %s", engine.words(error))

    def _leave(self, network: Any) -> None:
        """Remove one, unless there is a container on it; our own does not count."""
        network.reload()
        own = own_container(self._client)
        on_it = set(network.attrs.get("Containers") or {})
        if on_it - {own}:
            return
        if own in on_it:
            network.disconnect(own, force=True)
        network.remove()

    def _made(self, *, internal: bool) -> str:
        """The network's name, once it is there and this server is on it, if that is in a container itself."""
        name = f"modelport-{self._workspace}" + ("-internal" if internal else "")
        with self._making:
            found = [each for each in self._client.networks.list(names=[name]) if each.name == name]
            if not found:
                labels = {**self._labels, engine.KIND: "network"}
                found = [self._client.networks.create(name, driver="bridge", internal=internal, labels=labels)]
            own = own_container(self._client)
            if own:
                found[0].reload()
                if own not in (found[0].attrs.get("Containers") or {}):
                    found[0].connect(own)
        return name


def running(folder: Path) -> list[int]:
    """
    The containers that run for the backend in `folder`, by the pids of their first processes.

    Raises:
        errors.DockerEngineNotAvailableError: Docker's engine does not answer.
    """
    client = engine.connect()
    try:
        with engine.told("The containers of this workspace"):
            wanted = {"label": [f"{engine.WORKSPACE}={workspace_mark(folder)}", f"{engine.KIND}=replica"]}
            found = client.api.containers(filters=wanted)
            return [client.api.inspect_container(each["Id"])["State"]["Pid"] for each in found]
    finally:
        client.close()


def prune() -> list[str]:
    """
    Remove containers and networks of workspaces whose folders are gone; returns the containers' names.

    Raises:
        errors.DockerEngineNotAvailableError: Docker's engine does not answer.
    """
    client = engine.connect()
    removed = []
    try:
        with engine.told("What is left of other workspaces"):
            for each in client.containers.list(all=True, filters={"label": engine.HOME}, ignore_removed=True):
                if engine.is_nowhere(Path(each.labels[engine.HOME])):
                    each.remove(force=True, v=True)
                    removed.append(str(each.name))
            for network in client.networks.list(filters={"label": engine.HOME}):
                if engine.is_nowhere(Path(network.attrs["Labels"][engine.HOME])):
                    network.remove()
    finally:
        client.close()
    return removed


def workspace_mark(folder: Path) -> str:
    """How Docker's labels name a workspace, by its folder: the same for every server of it."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:10]


def own_container(client: Any) -> str | None:
    """Id of the container that this very process is in; None when it is in none of this engine's."""
    if not Path("/.dockerenv").exists():
        return None
    try:
        return str(client.api.inspect_container(socket.gethostname())["Id"])
    except Exception as error:
        if engine.is_gone(error):
            return None
        raise


def _reach(about: Mapping[str, Any]) -> Reach:
    """How this machine's containers are reached, by what the engine says about itself."""
    rootless = any("rootless" in each for each in about.get("SecurityOptions") or ())
    elsewhere = sys.platform != "linux" or rootless or "desktop" in str(about.get("Name", ""))
    return "port" if elsewhere else "address"
