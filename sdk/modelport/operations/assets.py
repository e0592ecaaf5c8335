"""`ml_client.models`, `environments` and `data`, things with versions that never change; datastores and workspaces."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from modelport.arm import faults, versions
from modelport.arm.messages import Request
from modelport.entities import Data, Datastore, Environment, Model, ModelPackage, Workspace
from modelport.entities.base import changed, refusal
from modelport.errors import HttpResponseError, ResourceNotFoundError, UnsupportedByBackend, ValidationException
from modelport.operations import preflight
from modelport.operations.base import Service, must_be
from modelport.operations.packages import packaged
from modelport.operations.references import (
    STORED,
    latest,
    no_label,
    registered_data,
    registered_environment,
    registered_model,
)
from modelport.operations.registries import shared
from modelport.schema import faces
from modelport.schema.faces import Face
from modelport.transports import downloads, storage

_A = TypeVar("_A", Model, Environment, Data)
_S = TypeVar("_S", Model, Environment)

_STEP = re.compile(r"[^/\\?#%\s]+")
_OF_CONTAINERS_ALONE = ("latestVersion", "nextVersion", "provisioningState")


class _Assets(Generic[_A]):
    """What models, environments and data have in common."""

    _kind: type[_A]
    _collection: str
    _neither = "Must provide either version or label."

    def __init__(self, service: Service) -> None:
        self._service = service

    def get(self, name: str, version: str | None = None, label: str | None = None) -> _A:
        """
        One version.

        Args:
            name: Its name.
            version: Its version.
            label: Instead of a version: `latest`.

        Raises:
            errors.ValidationException: Neither or both of version and label, or the label names nothing.
            errors.ResourceNotFoundError: There is no such version.
        """
        if version and label:
            raise ValidationException("Cannot specify both version and label.", target="version")
        if label:
            return self._labelled(name, label)
        if not version:
            raise ValidationException(self._neither, target="version")
        return self._service.get(self._kind, self._place(name, version))

    def archive(self, name: str, version: str | None = None, label: str | None = None) -> None:
        """
        Leave it out of lists.

        Args:
            name: Its name.
            version: Its version.
            label: Instead of a version: `latest`. With neither, all of the name is left out.

        Raises:
            errors.ValidationException: Both of version and label, or the label names nothing.
            errors.ResourceNotFoundError: There is none.
        """
        self._mark(name, version, label, archived=True)

    def restore(self, name: str, version: str | None = None, label: str | None = None) -> None:
        """
        Have it in lists again.

        Args:
            name: Its name.
            version: Its version.
            label: Instead of a version: `latest`. With neither, all of the name is in them again.

        Raises:
            errors.ValidationException: Both of version and label, or the label names nothing.
            errors.ResourceNotFoundError: There is none.
        """
        self._mark(name, version, label, archived=False)

    def _listed(self, name: str | None, list_view_type: Any, **query: str) -> Iterator[_A]:
        view = str(getattr(list_view_type, "value", list_view_type)).replace("_", "")
        collection = f"{self._place(name)}/versions" if name else self._collection
        return self._service.list(self._kind, collection, {"listViewType": view, **query})

    def _labelled(self, name: str, label: str) -> _A:
        found = latest(self._service, self._kind, self._place(name)) if label == "latest" else None
        if found is None:
            raise no_label(self._service, name, label)
        return found

    def _mark(self, name: str, version: str | None, label: str | None, *, archived: bool) -> None:
        if version and label:
            raise ValidationException("Cannot specify both version and label.", target="version")
        if label:
            version = self._labelled(name, label).version
        if version:
            there = self._service.get(self._kind, self._place(name, version))
            self._service.put(changed(there, is_archived=archived))
            return
        # Source: azure-ai-ml 1.35.2 sends the container back, without what only the service says.
        place = self._place(name)
        said = self._service.ask("GET", place).body.get("properties") or {}
        kept = {key: value for key, value in said.items() if value is not None and key not in _OF_CONTAINERS_ALONE}
        self._service.ask("PUT", place, body={"properties": {**kept, "isArchived": archived}})

    def _place(self, name: str, version: str | None = None) -> str:
        container = f"{self._collection}/{_step(name)}"
        return f"{container}/versions/{_step(version)}" if version else container


class _Shared(_Assets[_S]):
    """Assets that registries have, too."""

    def share(
        self, name: str, version: str, *, share_with_name: str, share_with_version: str, registry_name: str
    ) -> _S:
        """
        Copy a version to a registry, where other workspaces have it too; waits for the end.

        Args:
            name: Its name.
            version: Its version.
            share_with_name: What it is called there; empty is the same name.
            share_with_version: Its version there; empty is the same.
            registry_name: Name of the registry.

        Raises:
            errors.UnsupportedByBackend: There are no registries here: they are Azure's.
            errors.ValidationException: The registry has such a version.
            errors.ResourceNotFoundError: There is no such registry, or no such version.
        """
        place = self._place(name, version)
        to = {"name": share_with_name or name, "version": share_with_version or version, "registry": registry_name}
        return shared(self._service, self._kind, place, **to)


class ModelOperations(_Shared[Model]):
    """Models of the workspace. Threads may share it."""

    _kind = Model
    _collection = "models"
    _neither = "Must provide either version or label"

    def create_or_update(self, model: Model) -> Model:
        """
        Register a model; its files are sent when the workspace does not have them.

        Raises:
            errors.ValidationException: It is not valid, its path has no files, or the version has other files.
            errors.ServiceRequestError: The upload was cut off. Call again to send the rest.
        """
        return registered_model(self._service, must_be(Model, model, "create_or_update"))

    def list(
        self, name: str | None = None, stage: str | None = None, *, list_view_type: Any = "ActiveOnly"
    ) -> Iterator[Model]:
        """
        The versions of a name; without a name, one container for each name, with `latest_version`.

        Args:
            name: Whose versions.
            stage: Only versions in this stage.
            list_view_type: `ActiveOnly`, `ArchivedOnly` or `All`.
        """
        return self._listed(name, list_view_type, **({"stage": stage} if stage and name else {}))

    def download(self, name: str, version: str, download_path: str | os.PathLike[str] = ".") -> None:
        """
        Write a model's files to `<download_path>/<name>/<last step of its path>/`; a file stands in `<name>/` itself.

        Args:
            name: Its name.
            version: Its version.
            download_path: A folder. Files that are there are overwritten, and no others are touched.

        Raises:
            errors.ResourceNotFoundError: There is no such version, or it has no files.
            errors.ValidationException: Its files are not in a datastore, or are named so that they would be written
                elsewhere.
            errors.ServiceRequestError: It was cut off. Call again to go on.
        """
        there = self.get(name, version)
        found = STORED.fullmatch(there.path or "")
        if not found:
            raise ValidationException(
                f"Model '{name}' version '{version}' is at '{there.path}', which is not in a datastore of this "
                "workspace: fetch it from there.",
                target="path",
            )
        container = storage.of_datastore(self._service.transport, found["store"])
        path = found["path"].rstrip("/")
        into = f"{name}/{path.rpartition('/')[2]}" if container.has_folder(f"{path}/") else name
        downloads.download(container, path, download_path, into, show_progress=self._service.show_progress)

    def package(self, name: str, version: str, package_request: ModelPackage) -> Environment:
        """
        Have the service build an environment with the model, its code and a server in it.

        Args:
            name: Name of the model.
            version: Its version.
            package_request: What to build.

        Raises:
            errors.ValidationException: It is not valid.
            errors.HttpResponseError: It could not be built; or the service builds none, as Modelport's own.
        """
        must_be(ModelPackage, package_request, "package").validate()
        return packaged(self._service, self._place(name, version), package_request)


class EnvironmentOperations(_Shared[Environment]):
    """Environments of the workspace. Threads may share it."""

    _kind = Environment
    _collection = "environments"

    def create_or_update(self, environment: Environment) -> Environment:
        """
        Register an environment; unchanged content keeps its version.

        Raises:
            errors.ValidationException: It is not valid, or a file of it cannot be read.
            errors.ResourceExistsError: The version exists with other content.
            errors.ServiceRequestError: The upload of its build context was cut off. Call again to send the rest.
        """
        must_be(Environment, environment, "create_or_update")
        problems = list(environment.problems()) + list(preflight.environment_problems(environment))
        if problems:
            raise refusal(problems, f"Environment '{environment.name or '(anonymous)'}'")
        return registered_environment(self._service, environment)

    def get(self, name: str, version: str | None = None, label: str | None = None) -> Environment:
        """As for models; the name may stand behind `azureml:`."""
        return super().get(name.removeprefix("azureml:"), version, label)

    def list(self, name: str | None = None, *, list_view_type: Any = "ActiveOnly") -> Iterator[Environment]:
        """
        The versions of a name; without a name, one container for each name, with `latest_version`.

        Args:
            name: Whose versions.
            list_view_type: `ActiveOnly`, `ArchivedOnly` or `All`.
        """
        return self._listed(name, list_view_type)


class DataOperations(_Assets[Data]):
    """Data assets of the workspace. Threads may share it."""

    _kind = Data
    _collection = "data"

    def create_or_update(self, data: Data) -> Data:
        """
        Register a data asset; local files are sent when the workspace does not have them.

        Raises:
            errors.ValidationException: It is not valid, or its path is not what its type says.
            errors.ServiceRequestError: The upload was cut off. Call again to send the rest.
        """
        return registered_data(self._service, must_be(Data, data, "create_or_update"))

    def list(self, name: str | None = None, *, list_view_type: Any = "ActiveOnly") -> Iterator[Data]:
        """
        The versions of a name; without a name, one container for each name, with `latest_version`.

        Args:
            name: Whose versions.
            list_view_type: `ActiveOnly`, `ArchivedOnly` or `All`.
        """
        return self._listed(name, list_view_type)


class DatastoreOperations:
    """Datastores of the workspace, which are read only. Threads may share it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def get(self, name: str, *, include_secrets: bool = False) -> Datastore:
        """
        One datastore.

        Raises:
            errors.ResourceNotFoundError: There is none.
            errors.UnsupportedByBackend: Its secrets are asked for, which no entity ever has.
        """
        _refuse_secrets(include_secrets)
        return self._service.get(Datastore, f"datastores/{_step(name)}")

    def get_default(self, *, include_secrets: bool = False) -> Datastore:
        """
        The one that files are put in when nobody says where.

        Raises:
            errors.ResourceNotFoundError: There is none.
            errors.UnsupportedByBackend: Its secrets are asked for, which no entity ever has.
        """
        _refuse_secrets(include_secrets)
        found = next(self._service.list(Datastore, "datastores", {"isDefault": "true"}), None)
        if found is None:
            raise ResourceNotFoundError(f"Workspace '{self._service.workspace.name}' has no default datastore.")
        return found

    def list(self, *, include_secrets: bool = False) -> Iterator[Datastore]:
        """
        All datastores.

        Raises:
            errors.UnsupportedByBackend: Their secrets are asked for, which no entity ever has.
        """
        _refuse_secrets(include_secrets)
        return self._service.list(Datastore, "datastores")


class WorkspaceOperations:
    """Workspaces of the resource group, which are read only. Threads may share it."""

    def __init__(self, service: Service, called: str = "") -> None:
        """`called` is what the client calls its workspace: on another backend than Azure that can be any name."""
        self._service, self._called = service, called

    def get(self, name: str | None = None) -> Workspace:
        """
        A workspace of the client's resource group; without a name, the client's own.

        Raises:
            errors.ResourceNotFoundError: There is none.
        """
        own = self._service.workspace
        url = f"{str(own).rpartition('/')[0]}/{_step(own.name if name in (None, '', self._called) else name)}"
        answer = faults.raise_for(self._service.transport.send(Request("GET", url)), f"GET workspace '{name}'")
        return _workspace(answer.body)

    def list(self) -> Iterator[Workspace]:
        """
        The workspaces of the client's resource group; of a service that has one only, that one.

        Raises:
            errors.HttpResponseError: What the service says.
        """
        url: str | None = str(self._service.workspace).rpartition("/")[0]
        while url:
            answer = self._service.transport.send(Request("GET", url, {"api-version": versions.of("")}))
            if answer.status == ResourceNotFoundError.status:
                yield self.get()
                return
            body = faults.raise_for(answer, "GET workspaces").body
            if not isinstance(body, dict):
                raise HttpResponseError("GET workspaces: the answer is no list.", status_code=answer.status)
            for document in body.get("value") or []:
                yield _workspace(document)
            url = body.get("nextLink")


def _workspace(document: Any) -> Workspace:
    found = faces.load(Workspace, document, Face.RECORD)
    return changed(found, name=found.name or str(document.get("name") or ""))


def _step(name: str) -> str:
    """
    A name, when it can be a step of a URL.

    Raises:
        errors.ValidationException: It cannot, so there is no such thing; `..` would ask for another.
    """
    if not _STEP.fullmatch(name) or name.strip(".") == "":
        message = f"'{name}' is no name: it has what no URL step can have. Use [-_.a-zA-Z0-9]."
        raise ValidationException(message, target="name")
    return name


def _refuse_secrets(include_secrets: bool) -> None:
    if include_secrets:
        raise UnsupportedByBackend(
            "Modelport keeps no secrets of datastores in its entities. Leave include_secrets out; uploads and "
            "downloads ask for what they need.",
            target="include_secrets",
        )
