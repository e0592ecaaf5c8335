"""What all operations share: a client's transport and workspace, and the four verbs for any kind of entity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import NoneType
from typing import Any, TypeVar, overload

from modelport.arm import faults, ids, lro
from modelport.arm.messages import Method, Request, Response
from modelport.entities import Entity, Workspace
from modelport.errors import HttpResponseError, ValidationException
from modelport.operations.poller import LROPoller, follow_operation
from modelport.schema import faces
from modelport.schema.faces import Face
from modelport.transports.base import Transport

_E = TypeVar("_E", bound=Entity)
_T = TypeVar("_T")

_BARREN_PAGES = 20
"""Pages in a row that bring nothing new, after which a list is taken to have no end."""


class Service:
    """The verbs of the management API, spoken in entities."""

    def __init__(self, transport: Transport, api_version: str | None = None, *, show_progress: bool = True) -> None:
        """
        Speak over `transport`.

        Args:
            transport: What carries requests.
            api_version: Is said about endpoints and deployments, whoever asks.
            show_progress: Whether a terminal is told of what takes long.
        """
        self.transport, self.show_progress = transport, show_progress
        self._api_version = api_version

    def speaking(self, api_version: str) -> Service:
        """The same service in another api-version where endpoints and deployments are concerned."""
        return Service(self.transport, api_version, show_progress=self.show_progress)

    def docker(self) -> Service:
        """
        The service of this machine's Docker, which `local=True` means; this one, when it is that.

        Raises:
            errors.DockerEngineNotAvailableError: Its engine does not answer.
        """
        transport = self.transport.docker()
        if transport is self.transport:
            return self
        return Service(transport, self._api_version, show_progress=self.show_progress)

    @property
    def workspace(self) -> ids.WorkspaceId:
        """Which workspace."""
        return self.transport.workspace

    @property
    def location(self) -> str | None:
        """The workspace's region, which endpoints and deployments are sent with."""
        return self._about.location

    @property
    def backend(self) -> str:
        """What runs replicas there: the name of a backend; empty for Azure."""
        if self.workspace != ids.LOCAL_WORKSPACE:
            return ""
        return str((self._about.tags or {}).get("backend") or "process")

    @cached_property
    def _about(self) -> Workspace:
        return faces.load(Workspace, self.ask("GET", "").body, Face.RECORD)

    def ask(
        self,
        method: Method,
        place: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """
        The success answer to a request about `place` in the workspace.

        Raises:
            errors.ModelportError: What the service's error answer says.
        """
        answer = self.reply(method, place, query=query, body=body, headers=headers)
        return faults.raise_for(answer, f"{method} {place}")

    def reply(
        self,
        method: Method,
        place: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The answer to a request about `place`, whatever its status."""
        said = self._version_for(place)
        request = Request(
            method, self._url(place), query=query or {}, headers=headers or {}, body=body, api_version=said
        )
        return self.transport.send(request)

    def get(self, kind: type[_E], place: str) -> _E:
        """The entity at a place, with its ETag."""
        answer = self.ask("GET", place)
        found = _record(kind, answer.body)
        found._etag = answer.headers.get("etag")  # noqa: SLF001 (the one writer of it)
        return found

    def list(self, kind: type[_E], collection: str, query: Mapping[str, str] | None = None) -> Iterator[_E]:
        """
        The entities of a collection, page after page as they are needed.

        Raises:
            errors.HttpResponseError: The pages lead in circles, or on and on without anything new.
        """
        answer = self.ask("GET", collection, query=query)
        links: set[str] = set()
        known: set[str] = set()
        barren = 0
        while True:
            page = _page(answer)
            for document in page.get("value") or []:
                yield faces.load(kind, document, Face.RECORD)
            found = {str(each.get("id")) for each in page.get("value") or []}
            barren = 0 if found - known else barren + 1
            known |= found
            following = page.get("nextLink")
            if not following:
                return
            if following in links or barren > _BARREN_PAGES:
                raise HttpResponseError(f"GET {collection}: its pages have no end: '{following}' brings nothing new.")
            links.add(following)
            answer = self.transport.send(Request("GET", following, api_version=self._api_version))
            faults.raise_for(answer, f"GET {following}")

    def put(self, entity: _E) -> _E:
        """Create or replace at once; returns what the service made of it."""
        answer = self.ask("PUT", ids.place(entity), body=faces.dump(entity, Face.REQUEST))
        return _record(type(entity), answer.body)

    def begin(self, method: Method, place: str, name: str, *, body: Any = None) -> LROPoller[None]:
        """
        Begin a long-running operation that gives nothing back, such as a deletion.

        Args:
            method: POST or DELETE.
            place: The resource, or an action on it.
            name: What it is about, for messages.
            body: What to send.
        """
        answer = self.ask(method, place, body=body, headers={"accept": "*/*"})
        gone = self._lasting_url(place) if method == "DELETE" else None
        return self._followed(lro.start(answer, None, gone), name, lambda _: None)

    def begin_put(self, entity: _E, name: str, *, if_match: str | None = None) -> LROPoller[_E]:
        """
        Begin to create or replace `entity`.

        Args:
            entity: What is wanted, whole.
            name: What it is about, for messages.
            if_match: The ETag that it must still have; None replaces whatever is there.

        Raises:
            errors.ResourceModifiedError: It has another one by now.
        """
        place = ids.place(entity)
        headers = {"if-match": if_match} if if_match else None
        answer = self.ask("PUT", place, body=faces.dump(entity, Face.REQUEST), headers=headers)
        follow = lro.start(answer, self._lasting_url(place))
        return self._followed(follow, name, lambda document: _record(type(entity), document), answer.body)

    @overload
    def resume(self, token: str, kind: type[_E]) -> LROPoller[_E]: ...

    @overload
    def resume(self, token: str, kind: None = None) -> LROPoller[None]: ...

    def resume(self, token: str, kind: type[_E] | None = None) -> LROPoller[Any]:
        """
        Follow an operation that this or another process began.

        Args:
            token: What its poller's `continuation_token` returned.
            kind: What it makes; None when it gives nothing back.

        Raises:
            errors.ValidationException: It is no such text, or one for another kind of operation.
        """
        follow, name = lro.follow_of(token)
        if (kind.place if kind else None) != _place_like(follow.resource, kind):
            message = f"The continuation token is of another operation: {name}."
            raise ValidationException(message, target="continuation_token")
        return self._followed(follow, name, lambda document: _record(kind, document) if kind else None)

    def _followed(
        self, follow: lro.Follow, name: str, made: Callable[[Any], _T], document: Any = None
    ) -> LROPoller[_T]:
        run = follow_operation(self.transport, follow, made, name, document=document)
        token = None if follow.way == "done" else lro.token_of(follow, name)
        return LROPoller(run, name, token=token, show_progress=self.show_progress)

    def _url(self, place: str) -> str:
        return f"{self.workspace}/{ids.checked(place)}" if place else str(self.workspace)

    def _lasting_url(self, place: str) -> str:
        """With the api-version in it, for whoever asks later."""
        said = self._version_for(place)
        return f"{self._url(place)}?api-version={said}" if said else self._url(place)

    def _version_for(self, place: str) -> str | None:
        return self._api_version if place.startswith("onlineEndpoints") else None


def _record(kind: type[_E], document: Any) -> _E:
    if isinstance(document, Mapping):
        return faces.load(kind, document, Face.RECORD)
    raise _strange(document, f"{kind.__name__} document")


def _page(answer: Response) -> Mapping[str, Any]:
    body = answer.body
    if isinstance(body, Mapping) and isinstance(body.get("nextLink"), (str, NoneType)):
        value = body.get("value")
        if value is None or (isinstance(value, list) and all(isinstance(each, Mapping) for each in value)):
            return body
    raise _strange(answer.body, "list")


def _strange(body: Any, wanted: str) -> HttpResponseError:
    said = f"{str(body)[:80]!r}" if body else "nothing"
    return HttpResponseError(f"The service answered with {said}, not with a {wanted}: is a proxy in between?")


def _place_like(url: str | None, kind: type[Entity] | None) -> str | None:
    """The place of `kind`, when the URL is one of its; otherwise what the URL has."""
    found = ids.parted(url.partition("?")[0]) if url else None
    if not found:
        return None
    if kind and kind.place:
        wanted, steps = kind.place.split("/"), found[1].split("/")
        if len(wanted) == len(steps) and wanted[::2] == steps[::2]:
            return kind.place
    return found[1]


def must_be(kind: type[_E], said: Any, method: str) -> _E:
    """
    `said`, when it is of this kind.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(said, kind):
        return said
    raise TypeError(f"{method} takes an {kind.__name__}, not {_shown(said)}.")


def _shown(said: Any) -> str:
    """An entity by its class and name, anything else as it is."""
    if isinstance(said, Entity):
        return f"{type(said).__name__} {getattr(said, 'name', None)!r}"
    return f"{type(said).__name__} ({said!r:.80})"
