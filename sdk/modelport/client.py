"""
`MLClient`: where a user says where.

Entities, operations and transports are loaded when they are first used, so that
`from modelport import MLClient` costs a fraction of a second; the constructor sends
nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from modelport.errors import UnsupportedByBackend, ValidationException

if TYPE_CHECKING:
    from modelport.entities import Entity
    from modelport.operations.assets import EnvironmentOperations, ModelOperations
    from modelport.operations.base import Service
    from modelport.operations.online_deployments import OnlineDeploymentOperations
    from modelport.operations.online_endpoints import OnlineEndpointOperations
    from modelport.operations.poller import LROPoller
    from modelport.transports.base import Transport

    _E = TypeVar("_E", bound=Entity)

_CONFIG_FOLDERS = (".azureml", "aml_config", "")
_CONFIG_FILES = ("config.json", "project.json")
_MOST_PARENTS = 20


class MLClient:
    """
    A workspace's endpoints, deployments and assets.

    `MLClient(credential, subscription, group, workspace)` works in Azure, `MLClient.local()` on this machine,
    `MLClient.connect(url)` on a Modelport server. Threads may share a client.
    """

    def __init__(
        self,
        credential: Any,
        subscription_id: str | None = None,
        resource_group_name: str | None = None,
        workspace_name: str | None = None,
        registry_name: str | None = None,
    ) -> None:
        """
        A client for Azure; nothing is sent.

        Args:
            credential: Anything with `get_token(*scopes)`, such as azure-identity's `DefaultAzureCredential()`.
            subscription_id: Id of the subscription.
            resource_group_name: Name of the resource group.
            workspace_name: Name of the workspace.
            registry_name: Registries cannot be used yet.

        Raises:
            ValueError: There is no credential.
            errors.ValidationException: The workspace is not wholly named.
        """
        if credential is None:
            raise ValueError("credential can not be None: give a TokenCredential, or use MLClient.local().")
        if registry_name:
            raise ValidationException("Registries are not supported: name a workspace.", target="registry_name")
        named = {
            "subscription_id": subscription_id,
            "resource_group_name": resource_group_name,
            "workspace_name": workspace_name,
        }
        missing = [name for name, value in named.items() if not value]
        if missing:
            raise ValidationException(f"MLClient needs {', '.join(missing)} to know its workspace.", target=missing[0])
        self._credential = credential
        self._names = (str(subscription_id), str(resource_group_name), str(workspace_name))
        self._open: Callable[[], Transport] = lambda: _connect().azure(credential, *self._names)

    @classmethod
    def local(cls, *, backend: str = "process", home: str | os.PathLike[str] | None = None) -> MLClient:
        """
        A client for this machine. It talks to a background server, which is started when none runs.

        Args:
            backend: What runs replicas: `process`.
            home: The workspace's folder; `MODELPORT_HOME`, else `~/.modelport`.

        Raises:
            errors.UnsupportedByBackend: This version has no such backend.
            errors.LocalServerError: The server could not be started.
        """
        if backend != "process":
            raise UnsupportedByBackend(
                f"MLClient.local(backend={backend!r}): this version of Modelport runs processes only. "
                "Use MLClient.local().",
                target="backend",
            )
        return cls._over(_connect().local(Path(home) if home else None, backend))

    @classmethod
    def connect(cls, url: str, *, credential: str) -> MLClient:
        """
        A client for a Modelport server.

        Args:
            url: Where it listens.
            credential: Its token.
        """
        return cls._over(_connect().server(url, credential))

    @classmethod
    def from_config(
        cls, credential: Any, *, path: str | os.PathLike[str] | None = None, file_name: str | None = None
    ) -> MLClient:
        """
        A client for the Azure workspace that a `config.json` names.

        Args:
            credential: As for the constructor.
            path: A file, or the folder to start to look in; parents are looked in too, 20 at most.
            file_name: Another name than `config.json`.

        Raises:
            errors.ValidationException: No file was found, or it does not name a workspace.
        """
        return cls(credential, *_names_in(_config_file(Path(path) if path else Path.cwd(), file_name)))

    @classmethod
    def _over(cls, transport: Transport) -> MLClient:
        """A client over a transport that is open; `testing` makes its clients so."""
        client = cls.__new__(cls)
        where = transport.workspace
        client._credential = None  # noqa: SLF001 (the class's own alternative constructor)
        client._names = (where.subscription, where.group, where.name)  # noqa: SLF001 (as above)
        client._open = lambda: transport  # noqa: SLF001 (as above)
        return client

    @property
    def subscription_id(self) -> str:
        """The subscription."""
        return self._names[0]

    @property
    def resource_group_name(self) -> str:
        """The resource group."""
        return self._names[1]

    @property
    def workspace_name(self) -> str:
        """The workspace."""
        return self._names[2]

    @cached_property
    def online_endpoints(self) -> OnlineEndpointOperations:
        """Create, read, change, call and delete endpoints."""
        kind = import_module("modelport.operations.online_endpoints").OnlineEndpointOperations
        return cast("OnlineEndpointOperations", kind(self._service, self._credential))

    @cached_property
    def online_deployments(self) -> OnlineDeploymentOperations:
        """Create, read, change and delete deployments."""
        kind = import_module("modelport.operations.online_deployments").OnlineDeploymentOperations
        return cast("OnlineDeploymentOperations", kind(self._service))

    @cached_property
    def models(self) -> ModelOperations:
        """Register, read and list models."""
        return cast("ModelOperations", import_module("modelport.operations.assets").ModelOperations(self._service))

    @cached_property
    def environments(self) -> EnvironmentOperations:
        """Register, read and list environments."""
        kind = import_module("modelport.operations.assets").EnvironmentOperations
        return cast("EnvironmentOperations", kind(self._service))

    def create_or_update(self, entity: Entity) -> Any:
        """
        Register a model or an environment.

        Raises:
            TypeError: It is something else.
        """
        kinds = import_module("modelport.entities")
        if isinstance(entity, kinds.Model):
            return self.models.create_or_update(entity)
        if isinstance(entity, kinds.Environment):
            return self.environments.create_or_update(entity)
        raise TypeError(_not_valid(entity, "a Model or an Environment"))

    def begin_create_or_update(self, entity: _E, **keywords: Any) -> LROPoller[_E]:
        """
        Create or change an endpoint or a deployment; keywords go to the operation.

        Raises:
            TypeError: It is something else.
        """
        kinds = import_module("modelport.entities")
        if isinstance(entity, kinds.OnlineEndpoint):
            return cast("LROPoller[_E]", self.online_endpoints.begin_create_or_update(entity, **keywords))
        if isinstance(entity, kinds.OnlineDeployment):
            return cast("LROPoller[_E]", self.online_deployments.begin_create_or_update(entity, **keywords))
        raise TypeError(_not_valid(entity, "an online endpoint or an online deployment"))

    def __repr__(self) -> str:
        names = ("subscription_id", "resource_group_name", "workspace_name")
        said = ", ".join(f"{name}={value!r}" for name, value in zip(names, self._names, strict=True))
        return f"MLClient({said})"

    @cached_property
    def _service(self) -> Service:
        return cast("Service", import_module("modelport.operations.base").Service(self._open()))


def _connect() -> Any:
    return import_module("modelport.transports.connect")


def _not_valid(entity: Any, wanted: str) -> str:
    said = type(entity).__name__
    return f"Please refer to create_or_update docstring for valid input types: this takes {wanted}, not {said}."


def _names_in(config: Path) -> list[str]:
    """Subscription, group and workspace that a `config.json` names."""
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
        if "Scope" in said:
            subscription, group, *_, workspace = str(said["Scope"]).strip("/").split("/")[1::2]
            return [subscription, group, workspace]
        return [said["subscription_id"], said["resource_group"], said["workspace_name"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = (
            f"'{config}' does not name a workspace: {type(error).__name__}: {error}. It needs subscription_id, "
            "resource_group and workspace_name, or a Scope."
        )
        raise ValidationException(message, target="path") from error


def _config_file(start: Path, file_name: str | None) -> Path:
    if start.is_file():
        return start
    names = (file_name,) if file_name else _CONFIG_FILES
    for folder in [start.resolve(), *start.resolve().parents][: _MOST_PARENTS + 1]:
        for below in _CONFIG_FOLDERS:
            for name in names:
                if (folder / below / name).is_file():
                    return folder / below / name
    wanted = " or ".join(names)
    raise ValidationException(f"No {wanted} in '{start}', its parents, or their .azureml folders.", target="path")
