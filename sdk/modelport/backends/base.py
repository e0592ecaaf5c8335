"""
What runs replicas, as the control plane sees it.

The control plane says which *revisions* should run (one version of a deployment,
whole, with its number of instances), and asks what became of them. How replicas
are started, probed, restarted and ended is the backend's own affair, since a
cluster does that by itself while processes and containers are watched by us.

A backend keeps its truth where its replicas are (folders, labels, cluster
objects), not in the control plane's store: after a crash, `apply` finds what still
runs and adopts it, so nothing is started twice and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from attrs import field, fields, frozen

State = Literal["starting", "ready", "unready", "restarting", "stopping"]


@frozen(kw_only=True)
class Probe:
    """How often to ask a replica, and how often it may fail. Times in seconds; the defaults are Azure's."""

    initial_delay: float = 10.0
    period: float = 10.0
    timeout: float = 2.0
    success_threshold: int = 1
    failure_threshold: int = 30

    @property
    def deadline(self) -> float:
        """Seconds from the start after which a replica that never passed is given up."""
        return self.initial_delay + self.period * self.failure_threshold


@frozen(kw_only=True)
class Route:
    """Where a replica is asked: a port of its container, and a path with a leading slash."""

    port: int
    path: str


@frozen(kw_only=True)
class Routes:
    """Where a container that brings its own server is asked whether it lives, whether it is ready, and to score."""

    liveness: Route
    readiness: Route
    scoring: Route


@frozen(kw_only=True)
class Revision:
    """
    One version of a deployment: everything that its replicas need.

    `id` is unique in the workspace for ever and fits a file name, e.g. `tides-blue-7f3a91c2`.
    Two revisions of one deployment exist side by side while it is updated.
    """

    id: str
    endpoint: str
    deployment: str
    instances: int
    environment: str = ""
    """Key of what was built for it."""
    python: str = ""
    """Interpreter, here or in the image, that can import `modelport_scoring`; empty: `image` brings its own server."""
    image: str = ""
    """Id of the image; empty for backends without containers."""
    app_root: str = ""
    """Absolute path of the code folder on this machine; empty when there is no code."""
    entry_script: str = ""
    """Path of the scoring script in `app_root`."""
    model_dir: str | None = None
    """Folder on this machine that has the model and nothing else; None when the deployment has no model."""
    model_mount: str = ""
    """Where a container finds `model_dir`."""
    routes: Routes | None = None
    """How a container that brings its own server is asked; None: by our own routes."""
    azure_server: bool = False
    """Whether azureml-inference-server-http serves, which the image has."""
    environment_variables: Mapping[str, str] = field(factory=dict)
    max_concurrent_requests: int = 1
    request_timeout: float = 5.0
    """Seconds that a request may take; also how long a replica that is being stopped may go on."""
    liveness: Probe = field(factory=Probe)
    readiness: Probe = field(factory=Probe)
    egress: bool = True
    """Whether replicas may call out."""
    cpus: float | None = None
    """Cores that a replica may use; None: all."""
    memory_bytes: int | None = None
    """Memory that a replica may use; None: all."""
    gpus: bool = False
    """Whether replicas get this machine's GPUs."""
    debug: bool = False
    """Whether a replica's debugger can be attached to."""


def revision_from(document: Mapping[str, Any]) -> Revision:
    """The revision that `attrs.asdict` wrote down."""
    values = {name: value for name, value in document.items() if name in _FIELDS}
    for name in ("liveness", "readiness"):
        values[name] = Probe(**values[name])
    if not values.get("environment") and values.get("python"):
        # Of a version that did not write it down: environments were folders then, `<cache>/<key>/bin/python`.
        values["environment"] = Path(values["python"]).parent.parent.name
    if values.get("routes"):
        values["routes"] = Routes(**{name: Route(**each) for name, each in values["routes"].items()})
    return Revision(**values)


_FIELDS = frozenset(each.name for each in fields(Revision))


@frozen(kw_only=True)
class Failure:
    """
    Why a replica ended or never became ready.

    `code` is that of an `errors.DeploymentFailed` class, e.g. `UserScriptInitFailed`.
    """

    code: str
    message: str
    """The fault in one sentence, without the deployment's name: `init() raised ValueError: … (score.py, line 7).`"""
    log: str = ""
    """The replica's last lines, and the traceback where there is one."""


@frozen(kw_only=True)
class Debugger:
    """Where a replica's debugger waits, and what it calls the files that an editor has."""

    address: str
    """`host:port`."""
    app_root: str
    """The code folder, as the replica sees it."""


@frozen(kw_only=True)
class Container:
    """What a container of a revision is made of, for whoever makes one of their own."""

    image: str
    command: tuple[str, ...]
    """Interpreter, `-m`, the server's module, its arguments."""
    code: str
    """Where it has the code folder."""
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    """Folders of this machine that it only reads, but for the code, and where it has them."""
    labels: Mapping[str, str]


@frozen(kw_only=True)
class Replica:
    """
    One replica as it is now.

    `starting` has not been ready yet; `unready` was; `restarting` waits for its backoff to pass;
    `stopping` finishes what is inside and gets nothing new.
    """

    id: str
    state: State
    address: str
    """Path of its Unix socket, or `host:port`."""
    restarts: int = 0
    failure: Failure | None = None
    """Why it last ended, or why it is given up; None while there is nothing to tell."""
    debugger: Debugger | None = None
    """None where none can be attached."""


class Backend(Protocol):
    """
    What every backend does. All methods may be called from any thread.

    `changed` is set by the owner before the first `apply`; the backend calls it with a revision's id
    whenever the set of addresses that may get requests has changed, and *waits for it to return*
    before it stops a replica that left the set: after that nothing new is sent there.
    """

    kind: str
    """Its name in the table of backends."""

    changed: Callable[[str], None]

    def apply(self, revision: Revision) -> None:
        """
        Make `revision` run with its number of instances; return at once.

        Idempotent. Adopts replicas of this revision that already run (also those of a process that
        was killed), starts what is missing, drains and ends what is too many.
        """

    def replicas(self, revision_id: str) -> list[Replica]:
        """The revision's replicas, oldest first; empty for one that is not known."""

    def remove(self, revision_id: str) -> None:
        """Drain, stop and forget the revision's replicas; returns when they are gone. Unknown ids are fine."""

    def revisions(self) -> set[str]:
        """Ids of the revisions that have anything left on this machine, known or not."""

    def container(self, revision: Revision) -> Container | None:
        """What its containers are made of; None when they bring a server of their own, or are none."""

    def logs(self, revision_id: str, tail: int) -> str:
        """The last `tail` lines of the revision's replicas, a header line before each where there are several."""

    def close(self) -> None:
        """Stop watching; replicas run on."""
