"""`ml_client.models` and `ml_client.environments`: things with versions that never change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from modelport.entities import Environment, Model
from modelport.entities.base import refusal
from modelport.errors import ResourceNotFoundError, ValidationException
from modelport.operations import preflight
from modelport.operations.base import Service
from modelport.operations.references import registered_environment, registered_model

_A = TypeVar("_A", Model, Environment)


class _Assets(Generic[_A]):
    """What models and environments have in common."""

    _kind: type[_A]
    _collection: str

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
            errors.ValidationException: Neither or both of version and label.
            errors.ResourceNotFoundError: There is none.
        """
        if version is None and label is None:
            raise ValidationException("Must provide either version or label.", target="version")
        if version is not None and label is not None:
            raise ValidationException("Cannot specify both version and label.", target="version")
        if version is not None:
            return self._service.get(self._kind, f"{self._collection}/{name}/versions/{version}")
        query = {"$orderBy": "createdtime desc", "$top": "1"}
        versions = self._service.list(self._kind, f"{self._collection}/{name}/versions", query)
        newest = next(versions, None) if label == "latest" else None
        if newest is None:
            raise ResourceNotFoundError(f"Asset {name} with version label {label} does not exist in workspace.")
        return newest

    def list(self, name: str | None = None, *, list_view_type: str = "ActiveOnly") -> Iterator[_A]:
        """
        The versions of a name; without a name, one container for each name, with `latest_version`.

        Args:
            name: Whose versions.
            list_view_type: `ActiveOnly`, `ArchivedOnly` or `All`.
        """
        query = {"listViewType": str(getattr(list_view_type, "value", list_view_type)).replace("_", "")}
        collection = f"{self._collection}/{name}/versions" if name else self._collection
        return self._service.list(self._kind, collection, query)


class ModelOperations(_Assets[Model]):
    """Models of the workspace. Threads may share it."""

    _kind = Model
    _collection = "models"

    def create_or_update(self, model: Model) -> Model:
        """
        Register a model; its files are sent when the workspace does not have them.

        Raises:
            errors.ValidationException: It is not valid, its path does not exist, or the version has other files.
        """
        return registered_model(self._service, model)


class EnvironmentOperations(_Assets[Environment]):
    """Environments of the workspace. Threads may share it."""

    _kind = Environment
    _collection = "environments"

    def create_or_update(self, environment: Environment) -> Environment:
        """
        Register an environment; unchanged content keeps its version.

        Raises:
            errors.ValidationException: It is not valid, or its conda file cannot be read.
            errors.ResourceExistsError: The version exists with other content.
        """
        problems = list(environment.problems()) + list(preflight.environment_problems(environment))
        if problems:
            raise refusal(problems, f"Environment '{environment.name or '(anonymous)'}'")
        return registered_environment(self._service, environment)
