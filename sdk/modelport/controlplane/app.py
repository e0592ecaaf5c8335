"""
The control plane: one function from a request to a response.

It is the resource manager of Azure without the socket. `http` puts a socket before
it; tests and `modelport.testing` call it in their own process, so that every test
exercises the wire format. The verbs are the same for every kind of resource: what
differs between kinds is in `rules`, and what takes time is in `jobs`.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import deepcopy
from datetime import datetime, timezone
from types import NoneType
from typing import Any

import attrs

from modelport.arm import faults, ids
from modelport.arm.messages import Request, Response
from modelport.backends.base import Backend
from modelport.builds.base import Builder
from modelport.controlplane import actions, auth, datastores, lists
from modelport.controlplane.blobs import CONTAINER, DATASTORE, Blobs
from modelport.controlplane.home import Home
from modelport.controlplane.jobs import Jobs
from modelport.controlplane.rules import Rules, loaded
from modelport.controlplane.storage import Storage, is_storage
from modelport.controlplane.store import Operation, Resource, Store, Transaction, kept_secret
from modelport.entities import Code, Data, Entity, Environment, Model, OnlineDeployment, OnlineEndpoint
from modelport.entities.base import changed
from modelport.errors import (
    LocalServerError,
    ModelportError,
    OperationCanceled,
    OperationInProgress,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ValidationException,
)
from modelport.gateway.runner import Gateway
from modelport.schema import faces
from modelport.schema.faces import Face

logger = logging.getLogger(__name__)

KINDS: tuple[type[Entity], ...] = (OnlineEndpoint, OnlineDeployment, Model, Environment, Code, Data)
LOCATION = "local"
_POLL_MILLISECONDS = "50"
_WORKSPACES = re.compile(
    rf"/subscriptions/(?P<subscription>[^/]+)(?:/resourceGroups/(?P<group>[^/]+))?/providers/{re.escape(ids.PROVIDER)}"
    "/workspaces/?",
    re.IGNORECASE,
)
_OPERATION = re.compile(r"(?P<way>operationsStatus|operationResults)/(?P<id>[0-9a-f]+)", re.IGNORECASE)


def _pattern(place: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", place), re.IGNORECASE)


class _Route:
    """What the URLs of one kind of resource look like."""

    def __init__(self, kind: type[Entity]) -> None:
        assert kind.place
        self.kind, self.place = kind, kind.place
        self.item = _pattern(kind.place)
        self.action = _pattern(f"{kind.place}/(?P<action>[A-Za-z]+)")
        self.collection = _pattern(kind.place.rpartition("/")[0])
        self.versioned = "{version}" in kind.place
        container = kind.place.partition("/versions")[0]
        self.container = _pattern(container) if self.versioned else None
        self.containers = _pattern(container.rpartition("/")[0]) if self.versioned else None


class App:
    """A workspace's resource manager."""

    def __init__(
        self,
        home: Home,
        backend: Backend,
        gateway: Gateway,
        builder: Builder,
        *,
        workspace: ids.WorkspaceId = ids.LOCAL_WORKSPACE,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        most_bytes: int | None = None,
    ) -> None:
        """
        Make the control plane of the workspace in `home`; `start` brings it to life.

        At `start`, environments that nobody serves from are removed until the cache has at most `most_bytes`;
        None leaves it alone.

        Raises:
            errors.LocalServerError: A newer Modelport wrote the state.
        """
        self._workspace, self._clock, self._new_id = workspace, clock, new_id
        self._store = Store(home.state, new_id)
        self._blobs = Blobs(home.blobs, clock)
        self._storage = Storage(self._blobs, kept_secret(self._store, "storage", auth.new_key), clock)
        self._gateway = gateway
        self._rules = Rules(workspace, self._blobs, builder, backend.kind)
        self._jobs = Jobs(self._store, self._rules, backend, gateway, builder, clock, new_id, most_bytes)
        self._parts = actions.Parts(self._store, self._jobs, backend, self._blobs, self._storage, clock, home.folder)
        self._routes = [_Route(kind) for kind in KINDS]
        self._closed = False

    def start(self) -> None:
        """Take up where the last one stopped: adopt what runs, go on with what had not ended."""
        with self._store.reading() as transaction:
            self._blobs.keep(transaction.text())
        self._jobs.start()

    def close(self, *, stop: bool = False) -> None:
        """End its threads; with `stop` also every replica and the gateway. Endpoints are remembered."""
        self._closed = True
        with ExitStack() as parts:  # each is closed, whatever becomes of the others; the last one here first
            parts.callback(self._store.close)
            parts.callback(self._gateway.stop if stop else self._gateway.close)
            parts.callback(self._parts.backend.close)
            parts.callback(self._jobs.close, stop=stop)

    def handle(self, request: Request) -> Response:
        """The answer to a request; every error is an answer."""
        if self._closed:
            gone = LocalServerError("The workspace was closed; open it again to go on.")
            return Response(410, faults.body_of(gone))  # not a 5xx, after which one would ask again
        try:
            return self._handle(request)
        except ModelportError as error:
            return faults.response_of(error)
        except Exception as error:
            logger.exception("%s %s raised", request.method, request.path)
            return faults.response_of(ModelportError(f"{type(error).__name__}: {error}"))

    # Which request it is

    def _handle(self, request: Request) -> Response:
        if is_storage(request.path):
            return self._storage.handle(request)
        if request.method == "GET" and (asked := _WORKSPACES.fullmatch(request.path)):
            return self._workspaces(asked, request)
        found = ids.parted(request.path)
        if found is None or str(found[0]).lower() != str(self._workspace).lower():
            raise ResourceNotFoundError(
                f"'{request.path}' is not in this workspace, whose URLs start with '{self._workspace}'."
            )
        rest = found[1]
        if not rest and request.method == "GET":
            return Response(200, self._about_workspace(request))
        if rest.partition("/")[0].lower() == "datastores":
            return self._datastore(rest, request)
        operation = _OPERATION.fullmatch(rest)
        if operation and request.method == "GET":
            return self._operation(operation["id"], request, result=operation["way"].lower() == "operationresults")
        for route in self._routes:
            answer = self._try(route, rest, request)
            if answer is not None:
                return answer
        raise ResourceNotFoundError(f"There is nothing to {request.method} at '{rest}'.")

    def _try(self, route: _Route, rest: str, request: Request) -> Response | None:
        """The answer, when the URL is one of this kind's."""
        if item := route.item.fullmatch(rest):
            names = {name: value if route.versioned else value.lower() for name, value in item.groupdict().items()}
            return self._item(route, ids.place_of(route.kind, names), request)
        if route.container and route.container.fullmatch(rest):
            return self._a_container(rest, request)
        if request.method == "GET":
            if route.collection.fullmatch(rest):
                return self._list(route, rest, request)
            if route.containers and route.containers.fullmatch(rest):
                return self._list_containers(rest, request)
        action = route.action.fullmatch(rest) if request.method == "POST" else None
        if action:
            place = rest.rpartition("/")[0]
            return actions.act(self._parts, route.place, place, action["action"], request)
        return None

    def _item(self, route: _Route, place: str, request: Request) -> Response | None:
        if request.method == "GET":
            resource = self._must_get(place)
            return Response(200, self._shown(resource, request), {"etag": f'"{resource.etag}"'})
        if request.method in ("PUT", "PATCH"):
            return self._put(route, place, request)
        if request.method == "DELETE":
            return self._delete(route, place, request)
        return None

    # Reading

    def _must_get(self, place: str) -> Resource:
        resource = self._store.get(place)
        if resource is None:
            raise ResourceNotFoundError(f"{ids.called(place)} does not exist.", target=place)
        return resource

    def _shown(self, resource: Resource, request: Request) -> dict[str, Any]:
        """A record as it is answered: addresses of the gateway, and of this server, may have changed since."""
        body = deepcopy(resource.body)
        properties = body["properties"]
        if resource.collection == "onlineEndpoints":
            name = resource.place.rpartition("/")[2]
            properties["scoringUri"] = self._gateway.scoring_uri(name)
            properties["swaggerUri"] = self._gateway.openapi_uri(name)
        if resource.place.lower().startswith("models/") and properties.get("flavors") is None:
            properties["flavors"] = {}  # without it, Azure's client fails
        for holder, key in (
            (properties, "codeUri"),
            (properties, "modelUri"),
            (properties, "dataUri"),
            (properties.get("build") or {}, "contextUri"),
        ):
            if str(holder.get(key) or "").startswith("/"):  # as `Blobs.lasting` keeps it
                holder[key] = f"{request.base_url}{holder[key]}"
        return body

    def _list(self, route: _Route, collection: str, request: Request) -> Response:
        with self._store.reading() as transaction:
            if not route.versioned and "/" in collection and transaction.get(collection.rpartition("/")[0]) is None:
                raise ResourceNotFoundError(f"{ids.called(collection.rpartition('/')[0])} does not exist.")
            found = transaction.resources(collection)
            if route.kind is Code and "hash" in request.query and not found:
                # Azure's client asks under a name that it made up just now: what matters to it is the content.
                found = [each for each in transaction.resources("codes", below=True) if "/versions/" in each.place]
        return Response(200, lists.page([self._shown(each, request) for each in found], request))

    def _list_containers(self, collection: str, request: Request) -> Response:
        with self._store.reading() as transaction:
            names = {each.place.split("/")[1]: None for each in transaction.resources(collection, below=True)}
            bodies = [self._container(transaction, f"{collection}/{name}") for name in names]
        return Response(200, lists.page(bodies, request))

    def _a_container(self, place: str, request: Request) -> Response | None:
        """What can be done with a name, apart from its versions: read it, archive it, remove it with all of them."""
        if request.method == "GET":
            with self._store.reading() as transaction:
                return Response(200, self._container(transaction, place))
        if request.method == "PUT":
            return self._keep_container(place, request)
        if request.method == "DELETE":
            with self._store.writing() as transaction:
                versions = transaction.resources(f"{place}/versions")
                for each in versions:
                    _refuse_if_used(transaction, each)
                there = versions or transaction.get(place)
                transaction.delete(place)
                return Response(200 if there else 204)
        return None

    def _keep_container(self, place: str, request: Request) -> Response:
        properties = _properties(place, request)
        kept = {
            key: properties[key] for key in ("description", "tags", "properties", "isArchived") if key in properties
        }
        if not isinstance(kept.get("isArchived", False), bool):
            raise ValidationException("isArchived must be true or false.", target="isArchived")
        if any(not isinstance(kept.get(key) or {}, Mapping) for key in ("tags", "properties")):
            raise ValidationException("tags and properties must be JSON objects.", target="tags")
        with self._store.writing() as transaction:
            transaction.put(Resource(place, {"properties": kept}))
            return Response(200, self._container(transaction, place))

    def _container(self, transaction: Transaction, place: str) -> dict[str, Any]:
        versions = transaction.resources(f"{place}/versions")
        said = transaction.get(place)
        if not versions and said is None:
            raise ResourceNotFoundError(f"{ids.called(place)} does not exist.", target=place)
        collection, name = place.split("/")
        numbers = [each.place.rpartition("/")[2] for each in versions]
        highest = max((int(number) for number in numbers if number.isdigit()), default=0)
        properties = said.body["properties"] if said else {}
        archived = bool(versions) and all(each.body["properties"].get("isArchived") for each in versions)
        first, last = ({}, {}) if not versions else (versions[i].body.get("systemData") or {} for i in (0, -1))
        body: dict[str, Any] = {
            "id": f"{self._workspace}/{place}",
            "name": name,
            "type": f"{ids.PROVIDER}/workspaces/{collection}",
            "properties": {
                "latestVersion": numbers[-1] if numbers else None,
                "nextVersion": str(highest + 1),
                "description": properties.get("description"),
                "isArchived": properties.get("isArchived", archived),
                "tags": properties.get("tags") or {},
                "properties": properties.get("properties") or {},
            },
        }
        made = {key: value for key, value in first.items() if key.startswith("created")}
        changed_last = {key: value for key, value in last.items() if key.startswith("lastModified")}
        return {**body, **({"systemData": {**made, **changed_last}} if made else {})}

    def _operation(self, identifier: str, request: Request, *, result: bool) -> Response:
        with self._store.reading() as transaction:
            operation = transaction.operation(identifier)
        if operation is None:
            raise ResourceNotFoundError(f"Operation '{identifier}' does not exist.")
        body: dict[str, Any] = {
            "id": f"{self._workspace}/operationsStatus/{operation.id}",
            "name": operation.id,
            "status": operation.status,
            "properties": {"messages": list(operation.messages), "progress": self._jobs.progress(operation.id)},
        }
        if operation.fault:
            body["error"] = operation.fault
        running = operation.status == "InProgress"
        headers = {"x-ms-retry-after-ms": _POLL_MILLISECONDS} if running else {}
        if not result:
            return Response(200, body, headers)
        if running:
            return Response(202, body, {**headers, "location": f"{request.base_url}{request.path}"})
        return Response(204) if operation.status == "Succeeded" else Response(409, body)

    def _about_workspace(self, request: Request) -> dict[str, Any]:
        return datastores.workspace_document(self._workspace, request.base_url, LOCATION, self._rules.backend)

    def _workspaces(self, asked: re.Match[str], request: Request) -> Response:
        """The workspaces of a subscription, or of a resource group: this one, when it is in it."""
        mine, group = self._workspace, asked["group"]
        here = asked["subscription"].lower() == mine.subscription.lower()
        here &= group is None or group.lower() == mine.group.lower()
        return Response(200, {"value": [self._about_workspace(request)] if here else []})

    def _datastore(self, rest: str, request: Request) -> Response:
        """The one datastore, and what opens it for a time."""
        place, document = rest.lower(), datastores.datastore(self._workspace, request.base_url)
        if request.method == "GET" and place == "datastores":
            return Response(200, {"value": [document]})
        if request.method == "GET" and place == datastores.PLACE:
            return Response(200, document)
        if request.method == "POST" and place == f"{datastores.PLACE}/listsecrets":
            signature = self._storage.signature(CONTAINER, datastores.seconds_asked(request.body))
            return Response(200, {"secretsType": "Sas", "sasToken": signature})
        raise ResourceNotFoundError(
            f"There is nothing to {request.method} at '{rest}': this workspace has the datastore '{DATASTORE}' alone."
        )

    # Writing

    def _put(self, route: _Route, place: str, request: Request) -> Response:
        _properties(place, request)
        lasting = not route.versioned
        with self._store.writing() as transaction:
            have = transaction.get(place)
            if have and (again := _sent_before(transaction, place, request)):
                return self._accepted(have, again, request, 200)
            self._guard(transaction, place, have, request)
            if have is None and request.method == "PATCH":
                raise ResourceNotFoundError(f"{ids.called(place)} does not exist.", target=place)
            want = self._wanted(route, place, request, have)
            accepted = self._rules.accepted(transaction, want, have)
            state = ("Updating" if have else "Creating") if lasting else "Succeeded"
            body = self._record(accepted, place, state, have)
            private = have.private if have else self._fresh(route)
            stored = transaction.put(Resource(place, body, private))
            status = 200 if have else 201
            if not lasting:
                return Response(status, self._shown(stored, request), {"etag": f'"{stored.etag}"'})
            operation = Operation(self._new_id(), stored.place, "put", _request_id(request))
            transaction.begin(operation)
        self._jobs.begin(operation)
        return self._accepted(stored, operation, request, status)

    def _accepted(self, resource: Resource, operation: Operation, request: Request, status: int) -> Response:
        """The answer to a PUT whose work goes on."""
        headers = {
            "etag": f'"{resource.etag}"',
            "azure-asyncoperation": f"{request.base_url}{self._workspace}/operationsStatus/{operation.id}",
            "x-ms-retry-after-ms": _POLL_MILLISECONDS,
        }
        return Response(status, self._shown(resource, request), headers)

    def _guard(self, transaction: Transaction, place: str, have: Resource | None, request: Request) -> None:
        """What must hold before anything is changed: the caller's conditions, and that nobody else is at it."""
        expected = request.headers.get("if-match")
        if expected and (have is None or expected not in ("*", f'"{have.etag}"', have.etag)):
            raise ResourceModifiedError(
                f"{ids.called(place)} was changed since you read it. Get it, make your change again, and send that."
            )
        if request.headers.get("if-none-match") == "*" and have:
            raise ResourceModifiedError(f"{ids.called(place)} exists already, and If-None-Match says that it must not.")
        if transaction.running(place):
            raise OperationInProgress(
                f"Another operation on {ids.called(place)} has not ended. Wait for its poller, or until its "
                "provisioning_state is Succeeded or Failed, and try again; a deletion need not wait for a creation.",
                target=place,
            )
        if have and have.leaving:
            raise ResourceExistsError(f"{ids.called(place)} is being deleted.")

    def _wanted(self, route: _Route, place: str, request: Request, have: Resource | None) -> Entity:
        document = deepcopy(dict(request.body))
        if request.method == "PATCH" and have:
            whole = faces.dump(loaded(route.kind, have), Face.REQUEST)
            document = _merged(whole, document)
            for name in ("traffic", "mirrorTraffic") if route.kind is OnlineEndpoint else ():
                document["properties"].setdefault(name, {})  # a PUT keeps what is absent; here it was removed
        return faces.load(route.kind, {**document, "id": f"{self._workspace}/{place}"}, Face.REQUEST)

    def _record(self, accepted: Entity, place: str, state: str, have: Resource | None) -> dict[str, Any]:
        """The document that is stored and answered."""
        now = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat()
        made = (have.body.get("systemData") or {}) if have else {}
        data = {"createdAt": now, "createdBy": "modelport", "createdByType": "User"} | made
        data |= {"lastModifiedAt": now, "lastModifiedBy": "modelport", "lastModifiedByType": "User"}
        owned: dict[str, Any] = {"id": f"{self._workspace}/{place}", "system_data": data}
        if isinstance(accepted, (OnlineEndpoint, OnlineDeployment)):
            owned |= {"provisioning_state": state, "location": accepted.location or LOCATION}
        if isinstance(accepted, OnlineEndpoint):
            owned["kind"] = accepted.variant[1] if accepted.variant else None
        body = faces.dump(changed(accepted, **owned), Face.RECORD)
        collections = "/".join(place.split("/")[::2])
        return {**body, "name": place.rpartition("/")[2], "type": f"{ids.PROVIDER}/workspaces/{collections}"}

    def _fresh(self, route: _Route) -> dict[str, Any]:
        return {"credentials": auth.new_credentials()} if route.kind is OnlineEndpoint else {}

    def _delete(self, route: _Route, place: str, request: Request) -> Response:
        with self._store.writing() as transaction:
            have = transaction.get(place)
            if have is None:
                return Response(204)
            if again := _sent_before(transaction, place, request):
                return self._leaving(again, request)
            given_up = [] if route.versioned else _given_up(transaction, place)
            self._guard(transaction, place, have, request)
            if route.versioned:
                _refuse_if_used(transaction, have)
                transaction.delete(place)
                return Response(200)
            if route.kind is OnlineDeployment:
                _refuse_if_live(transaction, have)
            leaving = {**have.body["properties"], "provisioningState": "Deleting"}
            transaction.put(attrs.evolve(have, body={**have.body, "properties": leaving}))
            operation = Operation(self._new_id(), have.place, "delete", _request_id(request))
            transaction.begin(operation)
        self._jobs.give_up(given_up)
        self._jobs.begin(operation)
        return self._leaving(operation, request)

    def _leaving(self, operation: Operation, request: Request) -> Response:
        """The answer to a DELETE whose work goes on."""
        location = f"{request.base_url}{self._workspace}/operationResults/{operation.id}"
        return Response(202, None, {"location": location, "x-ms-retry-after-ms": _POLL_MILLISECONDS})


def _properties(place: str, request: Request) -> Mapping[str, Any]:
    """
    The properties that a body tells.

    Raises:
        errors.ValidationException: It is not a JSON object, or they are not.
    """
    if not isinstance(request.body, Mapping):
        raise ValidationException(f"The body of {request.method} {place} must be a JSON object.")
    properties = request.body.get("properties", {})
    if not isinstance(properties, (Mapping, NoneType)):
        message = f"The properties in the body of {request.method} {place} must be a JSON object."
        raise ValidationException(message, target="properties")
    return properties or {}


def _request_id(request: Request) -> str:
    return request.headers.get("x-ms-client-request-id", "")


def _sent_before(transaction: Transaction, place: str, request: Request) -> Operation | None:
    """The running operation that this very request began: its answer was lost, and the client sent it again."""
    running = transaction.running(place)
    known = bool(running and running[-1].request_id) and running[-1].request_id == _request_id(request)
    return running[-1] if known else None


def _given_up(transaction: Transaction, place: str) -> list[Operation]:
    """End what was being made at a place, and below it, because it is to be deleted: a creation may hang for long."""
    running = [each for each in transaction.running(place, below=True) if each.verb == "put"]
    for each in running:
        error = OperationCanceled(f"{ids.called(each.place)} was deleted before the operation had ended.")
        transaction.end(each.id, "Canceled", faults.fault_of(error))
    return running


def _merged(whole: Any, patch: Any) -> Any:
    """`whole` with `patch` applied as RFC 7396, JSON merge patch, says."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(whole) if isinstance(whole, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _refuse_if_live(transaction: Transaction, deployment: Resource) -> None:
    """Azure's rule: a deployment with live traffic stays."""
    _, endpoint, _, name = deployment.place.split("/")
    there = transaction.get(f"onlineEndpoints/{endpoint}")
    properties = there.body["properties"] if there else {}
    for key, what in (("traffic", "live"), ("mirrorTraffic", "mirrored")):
        share = (properties.get(key) or {}).get(name.lower())
        if share:
            raise ResourceExistsError(
                f"{ids.called(deployment.place)} has {share}% {what} traffic. Give it to another deployment, or set it "
                "to 0, and delete it then.",
                target=key,
            )


def _refuse_if_used(transaction: Transaction, asset: Resource) -> None:
    """An asset that a deployment refers to stays: the deployment would not come up again without it."""
    wanted = str(asset.body["id"]).lower()
    for each in transaction.resources("onlineEndpoints", below=True):
        if "/deployments/" not in each.place:
            continue
        properties = each.body["properties"]
        used = [properties.get("model"), properties.get("environmentId")]
        used.append((properties.get("codeConfiguration") or {}).get("codeId"))
        if wanted in [str(value).lower() for value in used]:
            raise ResourceExistsError(f"{ids.called(asset.place)} is used by {ids.called(each.place)}.")
