"""
What can be asked of a resource by POST.

An action is a function in the table at the end: it gets the control plane's parts,
the resource and the request's body, and returns the answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from modelport.arm import ids
from modelport.arm.messages import Request, Response
from modelport.backends.base import Backend
from modelport.controlplane import auth
from modelport.controlplane.blobs import Blobs
from modelport.controlplane.jobs import Jobs, revision_id, serving_in
from modelport.controlplane.storage import Storage
from modelport.controlplane.store import Resource, Store
from modelport.errors import ResourceNotFoundError, UnsupportedByBackend, ValidationException

_CONTAINERS = {"inferenceserver": False, "storageinitializer": True}
_MOST_LINES = 5000
_UPLOAD = 24 * 3600.0
"""Seconds that an upload may take."""

_SINGULAR = {"codes": "code", "models": "model", "environments": "environment", "data": "data"}


@frozen
class Parts:
    """What actions work with."""

    store: Store
    jobs: Jobs
    backend: Backend
    blobs: Blobs
    storage: Storage
    clock: Callable[[], float]
    folder: Path
    """The workspace's, on this machine."""


def list_keys(_parts: Parts, resource: Resource, _request: Request) -> Response:
    """`{"primaryKey", "secondaryKey"}`."""
    _must_use(resource, "Key", "keys")
    keys = resource.private["credentials"]
    return Response(200, {"primaryKey": keys["primary"], "secondaryKey": keys["secondary"]})


def regenerate_keys(parts: Parts, resource: Resource, request: Request) -> Response:
    """
    Make a new key; the gateway knows it, and no longer the old one, when this returns.

    Azure's SDK sends the *present* key as `keyValue`, so what it says is not used.
    """
    _must_use(resource, "Key", "keys")
    said = str(_body(request).get("keyType", "")).lower()
    if said not in ("primary", "secondary"):
        raise ValidationException("Key type must be 'primary' or 'secondary'.", target="keyType")
    with parts.store.writing() as transaction:
        there = transaction.get(resource.place)
        if there is None or there.leaving:
            raise ResourceNotFoundError(f"Endpoint '{resource.place.rpartition('/')[2]}' is being deleted.")
        credentials = {**there.private["credentials"], said: auth.new_key()}
        transaction.amend(attrs.evolve(there, private={**there.private, "credentials": credentials}))
    parts.jobs.route()
    return Response(200)


def token(parts: Parts, resource: Resource, _request: Request) -> Response:
    """`{"accessToken", "expiryTimeUtc", "refreshAfterTimeUtc", "tokenType"}`, times in seconds since 1970."""
    _must_use(resource, "AMLToken", "tokens")
    return Response(200, auth.token(resource.private["credentials"], parts.clock()))


def get_logs(parts: Parts, resource: Resource, request: Request) -> Response:
    """
    `{"content"}`: the last lines of the replicas, or, for StorageInitializer, what the last operation said.

    Replicas that are being started come first: they are what one wants to see. A deployment that never served has none
    left; why it failed ends with their last lines.
    """
    body = _body(request)
    said = str(body.get("containerType") or "InferenceServer")
    storage = _CONTAINERS.get(said.lower().replace("-", ""))
    tail = body.get("tail", _MOST_LINES)
    if storage is None or isinstance(tail, bool) or not isinstance(tail, int) or tail < 1:
        raise ValidationException(
            f"getLogs takes containerType InferenceServer or StorageInitializer and tail of at least 1, not {said!r} "
            f"and {tail!r}."
        )
    with parts.store.reading() as transaction:
        operation = transaction.latest(resource.place)
    serving = resource.private.get("serving")
    starting = revision_id(operation) if operation and operation.status == "InProgress" else None
    for revision in () if storage else (starting, serving and serving["id"]):
        if revision and (content := parts.backend.logs(revision, tail)):
            return Response(200, {"content": content})
    lines = list(operation.messages) if operation and storage else []
    if operation and operation.fault:
        lines += str(operation.fault["message"]).splitlines()
    return Response(200, {"content": "\n".join(lines[-tail:])})


def container(parts: Parts, resource: Resource, _request: Request) -> Response:
    """
    What a replica's container is made of, and a folder for whoever makes another.

    `{"folder", "image", "python", "command", "code", "environment", "mounts", "labels", "gpus"}`, and mounts are
    `{"source", "target"}`.
    """
    _, endpoint, _, name = resource.place.split("/")
    revision = serving_in(resource)
    if revision is None:
        raise ResourceNotFoundError(f"Deployment '{name}' of '{endpoint}' does not serve: there is no container.")
    made = parts.backend.container(revision)
    if made is None:
        raise UnsupportedByBackend(
            f"Deployment '{name}' of '{endpoint}' has no container that debugpy can run in: its image brings a server "
            "of its own, or its replicas are processes. Debug a deployment with a scoring script, by local=True."
        )
    return Response(
        200,
        {
            "folder": str(parts.folder / "vscode" / endpoint / name),
            "image": made.image,
            "python": revision.python,
            "command": list(made.command),
            "code": made.code,
            "environment": dict(made.environment),
            "mounts": [{"source": source, "target": target} for source, target in made.mounts.items()],
            "labels": dict(made.labels),
            "gpus": revision.gpus,
        },
    )


def start_pending_upload(parts: Parts, place: str, request: Request) -> Response:
    """A container of its own for the files of an asset, and what opens it for a day."""
    container = parts.blobs.begin(_container(parts, place))
    url = f"{request.base_url}/{container}"
    return Response(
        200,
        {
            "pendingUploadId": place.rpartition("/")[2],
            "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": {
                "blobUri": url,
                "storageAccountArmId": str(place),
                "credential": {
                    "credentialType": "SAS",
                    "sasUri": f"{url}?{parts.storage.signature(container, _UPLOAD)}",
                },
            },
        },
    )


def _container(parts: Parts, place: str) -> str:
    """
    The name of the container for an asset's files.

    Code that is named by a GUID gets the same one until it is there, so that an upload can be gone on with: such a name
    stands for one content.
    """
    collection, name, _, version = place.split("/")
    if collection.lower() == "codes" and version == "1" and parts.store.get(place) is None:
        with suppress(ValueError):
            return f"code-{uuid.UUID(name)}"
    return f"{_SINGULAR.get(collection.lower(), 'upload')}-{uuid.uuid4()}"


def _must_use(resource: Resource, mode: str, what: str) -> None:
    if resource.body["properties"]["authMode"] != mode:
        name = resource.place.rpartition("/")[2]
        raise ValidationException(f"Endpoint '{name}' does not use {what} for authentication.", target="authMode")


def _body(request: Request) -> Mapping[str, Any]:
    return request.body if isinstance(request.body, Mapping) else {}


Action = Callable[[Parts, Resource, Request], Response]

ACTIONS: Mapping[tuple[str, str], Action] = {
    ("onlineEndpoints/{name}", "listkeys"): list_keys,
    ("onlineEndpoints/{name}", "regeneratekeys"): regenerate_keys,
    ("onlineEndpoints/{name}", "token"): token,
    ("onlineEndpoints/{endpoint_name}/deployments/{name}", "getlogs"): get_logs,
    ("onlineEndpoints/{endpoint_name}/deployments/{name}", "container"): container,
}


def act(parts: Parts, kind: str, place: str, action: str, request: Request) -> Response:
    """
    Answer a POST.

    Raises:
        errors.ResourceNotFoundError: There is no such resource, or no such action.
        errors.UnsupportedByBackend: Only Azure does it.
    """
    versioned = kind.endswith("/versions/{version}")
    if versioned and action.lower() == "startpendingupload":
        return start_pending_upload(parts, place, request)
    if versioned and action.lower() == "package":
        raise UnsupportedByBackend(
            f"'{place}' cannot be packaged here: packages are images that Azure builds. Give the deployment the model "
            "and an environment instead; that does the same here."
        )
    run = ACTIONS.get((kind, action.lower()))
    if run is None:
        raise ResourceNotFoundError(f"There is no action '{action}' for {ids.called(place)}.")
    resource = parts.store.get(place)
    if resource is None:
        raise ResourceNotFoundError(f"{ids.called(place)} does not exist.")
    return run(parts, resource, request)
