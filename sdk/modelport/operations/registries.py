"""
A registry: assets that several workspaces share, at an address of their own.

It is asked as a workspace is, but in one api-version, and every change of it is a
long-running operation. Files are put into a container that the registry gives for each
version, at its root.

Source: azure-ai-ml 1.35.2; `tests/wire/registry-sequences.json` has what it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import evolve

from modelport.arm import faults, ids, lro, versions
from modelport.arm.messages import Method, Request, Response
from modelport.entities import Environment, Model
from modelport.entities.assets import ANONYMOUS_ENVIRONMENT
from modelport.entities.base import changed
from modelport.errors import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    UnsupportedByBackend,
    ValidationException,
)
from modelport.operations.base import Service
from modelport.operations.poller import LROPoller, follow_operation
from modelport.operations.references import anonymous_version, digest_of, existing, latest
from modelport.schema import faces, files
from modelport.schema.faces import Face
from modelport.schema.fields import is_uri
from modelport.transports import storage, uploads
from modelport.transports.sources import Source, source
from modelport.transports.storage import Container

_A = TypeVar("_A", Model, Environment)


class Registry(Service):
    """The verbs, spoken to a registry. Changes are waited for."""

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
        The success answer to a request about `place`; to a change, with what it came to in the end.

        Raises:
            errors.ModelportError: What the registry's error answer says, or why the change failed.
        """
        answer = super().ask(method, place, query=query, body=body, headers=headers)
        if method == "GET":
            return answer
        follow = lro.start(answer, self._lasting_url(place) if method == "PUT" else None)
        if follow.way == "done" and answer.body:
            return answer
        name = f"{place} of registry '{self.workspace.name}'"
        run = follow_operation(self.transport, follow, _as_answered, name, document=answer.body)
        return evolve(answer, body=LROPoller(run, name, show_progress=self.show_progress).result())

    def _version_for(self, place: str) -> str:  # noqa: ARG002 (of all places the same)
        return versions.REGISTRY


def shared(service: Service, kind: type[_A], source_place: str, *, name: str, version: str, registry: str) -> _A:
    """
    Copy a version of a workspace to a registry; the service copies, nothing passes this machine.

    Args:
        service: Of the workspace.
        kind: What it is.
        source_place: The version in the workspace, `models/net/versions/1`.
        name: Its name in the registry.
        version: Its version there.
        registry: Name of the registry.

    Raises:
        errors.UnsupportedByBackend: There are no registries here, or it is in one.
        errors.ValidationException: The registry has such a version.
        errors.ResourceNotFoundError: There is no such registry, or nothing to share.
    """
    collection = source_place.partition("/")[0]
    if isinstance(service, Registry):
        raise UnsupportedByBackend(
            f"{source_place} is in a registry already: what is shared comes from a workspace, by a client that was "
            "made with workspace_name.",
            target="registry_name",
        )
    request = Request("GET", str(service.workspace), api_version=versions.of(collection))
    about = faults.raise_for(service.transport.send(request), "GET workspace").body
    there = Registry(service.transport.registry(registry), show_progress=service.show_progress)
    identity = (about.get("properties") or {}).get("workspaceId")
    if not identity:
        raise HttpResponseError(f"Workspace '{service.workspace.name}' does not say its id, by which it shares.")
    place = f"{collection}/{name}/versions/{version}"
    if kind is Model:
        latest(there, kind, f"{collection}/{name}")  # Azure's client looks there for an evaluator; here it is none
    known = there.reply("GET", place)
    if known.status != ResourceNotFoundError.status:
        faults.raise_for(known, f"GET {place}")
        raise ValidationException(
            f"A {kind.__name__.lower()} with this name and version already exists in registry '{registry}': {name}, "
            f"{version}. Choose another share_with_version.",
            target="share_with_version",
        )
    where = f"azureml://locations/{about.get('location')}/workspaces/{identity}/{source_place}"
    said = {"destinationName": name, "destinationVersion": version, "sourceAssetId": where}
    there.ask("POST", "import", body={"properties": {"referenceType": "Id", **said}})
    return there.get(kind, place)


def registered_model(registry: Registry, model: Model) -> Model:
    """
    The model as a version in the registry, which gets its files.

    Raises:
        errors.ValidationException: It is not valid, or its path has no files.
        errors.ResourceExistsError: There is such a version.
    """
    model.validate()
    said = str(model.path)
    local = None if is_uri(said) else source(existing(said, "model"))
    digest = local.object_hash() if local else ""
    if model.name is None:
        model = changed(model, name=digest_of(digest or said), version="1", is_anonymous=True)
    latest(registry, Model, f"models/{model.name}")  # as above
    model = _numbered(registry, model, "models")
    place = ids.place(model)
    container = _room(registry, place)
    if container is None:
        raise _exists(registry, model)
    if local:
        model = changed(model, path=_sent(registry, container, local, model))
    body = faces.dump(model, Face.REQUEST)
    body["properties"]["system_metadata"] = None  # as Azure's client says it of each model
    registry.ask("PUT", place, body=body)
    return registry.get(Model, place)


def registered_environment(registry: Registry, environment: Environment) -> Environment:
    """
    The environment as a version in the registry, which gets the files of its build context.

    Raises:
        errors.ValidationException: It is not valid, or a file of it cannot be read.
        errors.ResourceExistsError: There is such a version, with other content.
    """
    environment.validate()
    if isinstance(environment.conda_file, str):
        environment = changed(environment, conda_file=files.read_mapping(environment.conda_file))
    build = environment.build
    said = build.path if build and build.path and not is_uri(build.path) else None
    local = source(existing(said, "build context")) if said else None
    digest = local.object_hash() if local else ""
    if environment.name is None:
        version = anonymous_version(environment, digest)
        environment = changed(environment, name=ANONYMOUS_ENVIRONMENT, version=version, is_anonymous=True)
    environment = _numbered(registry, environment, "environments")
    container = _room(registry, ids.place(environment))
    if build and local:
        if container is None:
            raise _exists(registry, environment)
        path = _sent(registry, container, local, environment)
        environment = changed(environment, build=changed(build, path=f"{path}/"))
    return registry.put(environment)


def files_of(registry: Registry, place: str, uri: str) -> tuple[Container, str]:
    """
    Where the files of a version are: a container that may be read, and the path in it.

    Args:
        registry: Which.
        place: The version, `models/net/versions/1`.
        uri: What it says of where its files are.

    Raises:
        errors.ValidationException: They are in no storage account.
    """
    container_path = urlsplit(uri).path.strip("/").partition("/")[2]
    if urlsplit(uri).scheme not in ("https", "http") or not container_path:
        message = f"{place} of registry '{registry.workspace.name}' is at '{uri}', from where it cannot be fetched."
        raise ValidationException(message, target="path")
    body = {"assetId": _asset(registry, place), "blobUri": uri}
    said = registry.ask("POST", f"datarefs/{_version(place)}", body=body).body
    return storage.of_reference(registry.transport, said["blobReferenceForConsumption"]), unquote(container_path)


def _room(registry: Registry, place: str) -> Container | None:
    """The container for the files of a version; None when the version exists."""
    body = {"assetId": _asset(registry, place), "temporaryDataReferenceType": "TemporaryBlobReference"}
    try:
        said = registry.ask("PUT", f"tempdatarefs/{_version(place)}", body=body).body
    except ResourceExistsError:
        return None
    return storage.of_reference(registry.transport, said["blobReferenceForConsumption"])


def _sent(registry: Registry, container: Container, local: Source, asset: _A) -> str:
    """
    Send files to the root of their version's container; returns their URI.

    What an earlier try left there may be other files of the same names, so all are sent again.
    """
    where = uploads.upload(
        container,
        local,
        asset=str(asset.name),
        version=str(asset.version),
        show_progress=registry.show_progress,
        anew=True,
    )
    return f"{container.url}/{where}"


def _numbered(registry: Registry, asset: _A, collection: str) -> _A:
    """The asset with its version, or the next one."""
    if asset.version is not None:
        return asset
    place = f"{collection}/{asset.name}"
    answer = registry.reply("GET", place)
    if answer.status == ResourceNotFoundError.status:
        return changed(asset, version="1")
    said = faults.raise_for(answer, f"GET {place}").body["properties"]
    return changed(asset, version=str(said.get("nextVersion") or "1"))


def _exists(registry: Registry, asset: Model | Environment) -> ResourceExistsError:
    return ResourceExistsError(
        f"{type(asset).__name__} '{asset.name}' has a version '{asset.version}' in registry "
        f"'{registry.workspace.name}', and versions never change. Choose another version, or leave it out to get the "
        "next one.",
        target="version",
    )


def _asset(registry: Registry, place: str) -> str:
    assert isinstance(registry.workspace, ids.RegistryId)
    return registry.workspace.asset(place)


def _version(place: str) -> str:
    """`net/versions/1` of `models/net/versions/1`."""
    return place.partition("/")[2]


def _as_answered(document: Any) -> Any:
    return document
