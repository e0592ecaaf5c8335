"""What all operations share: a client's transport and workspace, and the four verbs for any kind of entity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from modelport.arm import faults, ids, lro
from modelport.arm.messages import Method, Request, Response
from modelport.entities import Entity, Workspace
from modelport.errors import UnsupportedByBackend
from modelport.operations.poller import LROPoller, follow_operation
from modelport.schema import faces
from modelport.schema.faces import Face
from modelport.transports.base import Transport

_E = TypeVar("_E", bound=Entity)


class Service:
    """The verbs of the management API, spoken in entities."""

    def __init__(self, transport: Transport, api_version: str | None = None) -> None:
        """Speak over `transport`; `api_version` is said about endpoints and deployments, whoever asks."""
        self.transport = transport
        self._api_version = api_version

    def speaking(self, api_version: str) -> Service:
        """The same service in another api-version where endpoints and deployments are concerned."""
        return Service(self.transport, api_version)

    @property
    def workspace(self) -> ids.WorkspaceId:
        """Which workspace."""
        return self.transport.workspace

    @cached_property
    def location(self) -> str | None:
        """The workspace's region, which endpoints and deployments are sent with."""
        answer = self.ask("GET", "")
        return faces.load(Workspace, answer.body, Face.RECORD).location

    def ask(self, method: Method, place: str, *, query: Mapping[str, str] | None = None, body: Any = None) -> Response:
        """
        The success answer to a request about `place` in the workspace.

        Raises:
            errors.ModelportError: What the service's error answer says.
        """
        return faults.raise_for(self.reply(method, place, query=query, body=body), f"{method} {place}")

    def reply(
        self, method: Method, place: str, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Response:
        """The answer to a request about `place`, whatever its status."""
        url = f"{self.workspace}/{place}" if place else str(self.workspace)
        said = self._api_version if place.startswith("onlineEndpoints") else None
        return self.transport.send(Request(method, url, query=query or {}, body=body, api_version=said))

    def get(self, kind: type[_E], place: str) -> _E:
        """The entity at a place."""
        return faces.load(kind, self.ask("GET", place).body, Face.RECORD)

    def list(self, kind: type[_E], collection: str, query: Mapping[str, str] | None = None) -> Iterator[_E]:
        """The entities of a collection, page after page as they are needed."""
        answer = self.ask("GET", collection, query=query)
        while True:
            for document in answer.body.get("value", []):
                yield faces.load(kind, document, Face.RECORD)
            following = answer.body.get("nextLink")
            if not following:
                return
            answer = self.transport.send(Request("GET", following, api_version=self._api_version))
            faults.raise_for(answer, f"GET {following}")

    def put(self, entity: _E) -> _E:
        """Create or replace at once; returns what the service made of it."""
        answer = self.ask("PUT", ids.place(entity), body=faces.dump(entity, Face.REQUEST))
        return faces.load(type(entity), answer.body, Face.RECORD)

    def begin(self, method: Method, place: str, name: str, *, body: Any = None) -> LROPoller[None]:
        """
        Begin a long-running operation that gives nothing back, such as a deletion.

        Args:
            method: POST or DELETE.
            place: The resource, or an action on it.
            name: What it is about, for messages.
            body: What to send.
        """
        follow = lro.start(self.ask(method, place, body=body), None)
        return LROPoller(follow_operation(self.transport, follow, lambda _: None, name), name)

    def begin_put(self, entity: _E, name: str) -> LROPoller[_E]:
        """Begin to create or replace `entity`; `name` is what it is about, for messages."""
        place = ids.place(entity)
        answer = self.ask("PUT", place, body=faces.dump(entity, Face.REQUEST))
        follow = lro.start(answer, f"{self.workspace}/{place}")

        def made(document: Any) -> _E:
            return faces.load(type(entity), document, Face.RECORD)

        return LROPoller(follow_operation(self.transport, follow, made, name), name)


def must_be(kind: type[_E], said: Any, method: str) -> _E:
    """
    `said`, when it is of this kind.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(said, kind):
        return said
    raise TypeError(f"{method} takes an {kind.__name__}, not {type(said).__name__} ({said!r:.80}).")


def refuse_local(local: bool) -> None:
    """
    `local=True` means this machine's Docker, as in Azure.

    Raises:
        errors.UnsupportedByBackend: It was asked for, and this version has no Docker backend.
    """
    if local:
        raise UnsupportedByBackend(
            "local=True deploys to this machine's Docker, which this version of Modelport cannot do yet. "
            "MLClient.local() deploys to processes on this machine: leave local=True out there.",
            target="local",
        )
