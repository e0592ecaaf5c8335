"""`ml_client.models` and `ml_client.environments` of a client that was made with a registry's name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from modelport.entities import Environment, Model, ModelPackage
from modelport.entities.base import refusal
from modelport.errors import UnsupportedByBackend
from modelport.operations import preflight, registries
from modelport.operations.assets import EnvironmentOperations, ModelOperations
from modelport.operations.base import must_be
from modelport.operations.registries import Registry
from modelport.transports import downloads


class RegistryModelOperations(ModelOperations):
    """Models of a registry. Threads may share it."""

    _service: Registry

    def create_or_update(self, model: Model) -> Model:
        """
        Put a model and its files into the registry; without a version, in the next one.

        Raises:
            errors.ValidationException: It is not valid, or its path has no files.
            errors.ResourceExistsError: There is such a version.
            errors.ServiceRequestError: The upload was cut off. Call again.
        """
        return registries.registered_model(self._service, must_be(Model, model, "create_or_update"))

    def list(
        self, name: str | None = None, stage: str | None = None, *, list_view_type: Any = "ActiveOnly"
    ) -> Iterator[Model]:
        """As of a workspace."""
        if name is None:
            return self._listed(None, list_view_type)
        # A registry is not asked for a view or a stage of versions; what it says of each is looked at here.
        found = _viewed(self._service.list(Model, f"{self._place(name)}/versions"), list_view_type)
        return (each for each in found if stage is None or each.stage == stage)

    def download(self, name: str, version: str, download_path: str | os.PathLike[str] = ".") -> None:
        """
        As of a workspace.

        Raises:
            errors.ResourceNotFoundError: There is no such version, or it has no files.
            errors.ValidationException: Its files are in no storage account, or are named so that they would be written
                elsewhere.
            errors.ServiceRequestError: It was cut off. Call again to go on.
        """
        there = self.get(name, version)
        container, path = registries.files_of(self._service, self._place(name, version), str(there.path))
        path = path.rstrip("/")
        into = f"{name}/{path.rpartition('/')[2]}" if container.has_folder(f"{path}/") else name
        downloads.download(container, path, download_path, into, show_progress=self._service.show_progress)

    def package(self, name: str, version: str, package_request: ModelPackage) -> Environment:  # noqa: ARG002 (Azure's)
        """
        Not of a registry's models.

        Raises:
            errors.UnsupportedByBackend: Always; the message says what to do instead.
        """
        raise UnsupportedByBackend(
            f"Model '{name}' of registry '{self._service.workspace.name}' cannot be packaged: packages are made in a "
            "workspace. Register the model in one, and package it there.",
            target="name",
        )

    def _labelled(self, name: str, label: str) -> Model:
        return self.get(name, super()._labelled(name, label).version)


class RegistryEnvironmentOperations(EnvironmentOperations):
    """Environments of a registry. Threads may share it."""

    _service: Registry

    def create_or_update(self, environment: Environment) -> Environment:
        """
        Put an environment into the registry; without a version, in the next one.

        Raises:
            errors.ValidationException: It is not valid, or a file of it cannot be read.
            errors.ResourceExistsError: There is such a version, with other content.
            errors.ServiceRequestError: The upload of its build context was cut off. Call again.
        """
        must_be(Environment, environment, "create_or_update")
        problems = list(environment.problems()) + list(preflight.environment_problems(environment))
        if problems:
            raise refusal(problems, f"Environment '{environment.name or '(anonymous)'}'")
        return registries.registered_environment(self._service, environment)

    def list(self, name: str | None = None, *, list_view_type: Any = "ActiveOnly") -> Iterator[Environment]:
        """As of a workspace."""
        collection = f"{self._place(name)}/versions" if name else self._collection
        return _viewed(self._service.list(Environment, collection), list_view_type)


def _viewed(found: Iterator[Any], list_view_type: Any) -> Iterator[Any]:
    view = str(getattr(list_view_type, "value", list_view_type)).replace("_", "").lower()
    return (each for each in found if view == "all" or bool(each.is_archived) == (view == "archivedonly"))
