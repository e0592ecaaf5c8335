"""
`MLClient`: where a user says where.

Entities, operations and transports are loaded when they are first used, so that
`from modelport import MLClient` costs a fraction of a second; the constructor sends
nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from modelport.errors import UnsupportedByBackend, ValidationException

if TYPE_CHECKING:
    from modelport.entities import Entity
    from modelport.operations.apply import Applied, Sources
    from modelport.operations.assets import (
        DataOperations,
        DatastoreOperations,
        EnvironmentOperations,
        ModelOperations,
        WorkspaceOperations,
    )
    from modelport.operations.base import Service
    from modelport.operations.online_deployments import OnlineDeploymentOperations
    from modelport.operations.online_endpoints import OnlineEndpointOperations
    from modelport.operations.plan import Plan
    from modelport.operations.poller import LROPoller
    from modelport.operations.preflight import Report
    from modelport.transports.base import Transport

    _E = TypeVar("_E", bound=Entity)

_CONFIG_FOLDERS = (".azureml", "aml_config", "")
_CONFIG_FILES = ("config.json", "project.json")
_MOST_PARENTS = 20
_NAMES = ("subscription_id", "resource_group_name", "workspace_name")
_KEYWORDS = (*_NAMES, "credential", "registry_name", "show_progress", "enable_telemetry", "cloud", "cloud_metadata")
_HERE = ("00000000-0000-0000-0000-000000000000", "modelport", "local")
"""What a redirected client calls its workspace where the script says nothing."""

_BACKENDS = ("process", "docker")
"""What runs replicas on this machine."""

_BACKEND, _TOKEN = "MODELPORT_BACKEND", "MODELPORT_TOKEN"


class MLClient:
    """
    A workspace's endpoints, deployments and assets.

    `MLClient(credential, subscription, group, workspace)` works in Azure, `MLClient.local()` on this machine,
    `MLClient.connect(url)` on a Modelport server. Threads may share a client.
    """

    _registry = ""
    _place = ""
    """Where it works, when that is not Azure."""
    """Name of the registry that it is for; empty when it is for a workspace."""

    def __init__(
        self,
        credential: Any = None,
        subscription_id: str | None = None,
        resource_group_name: str | None = None,
        workspace_name: str | None = None,
        registry_name: str | None = None,
        *,
        show_progress: bool = True,
        enable_telemetry: bool = True,  # noqa: ARG002 (Azure's signature)
        cloud: str | None = None,
        cloud_metadata: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        """
        A client for Azure, or for what `MODELPORT_BACKEND` names; nothing is sent.

        Args:
            credential: Anything with `get_token(*scopes)`, such as azure-identity's credentials; None is its
                `DefaultAzureCredential`, made when a token is first needed.
            subscription_id: Id of the subscription.
            resource_group_name: Name of the resource group.
            workspace_name: Name of the workspace.
            registry_name: Instead of a workspace: a registry of Azure's, whose models and environments the client is
                for. Its subscription and group are the registry's own, whatever is said.
            show_progress: Whether a terminal is told of uploads, and of operations that are waited for.
            enable_telemetry: Taken for Azure's sake: there is no telemetry.
            cloud: `AzureCloud`, `AzureChinaCloud`, `AzureUSGovernment`, or a name for what `cloud_metadata` says;
                None is what `AZUREML_CURRENT_CLOUD` says, else the first of them. It holds for this client alone.
            cloud_metadata: Addresses of a cloud, by Azure's names; see `transports.clouds.Cloud`.
            **keywords: How to connect, by azure-core's names; see `transports.options.Options`.

        Raises:
            TypeError: There is no such keyword.
            errors.ValidationException: The workspace is not wholly named, or the cloud is not known.
            errors.UnsupportedByBackend: `MODELPORT_BACKEND` is one that this version does not have, or one without
                registries.
        """
        if registry_name and workspace_name:
            raise ValidationException("Give workspace_name or registry_name, not both.", target="registry_name")
        options = import_module("modelport.transports.options").of(keywords, _KEYWORDS)
        where = import_module("modelport.transports.clouds").named(cloud, cloud_metadata)
        self._show_progress = show_progress
        said = (subscription_id, resource_group_name, workspace_name)
        elsewhere = _redirected(options)
        if registry_name:
            if elsewhere:
                raise import_module("modelport.transports.base").no_registry(registry_name)
            self._registry = registry_name
            self._names: tuple[str, ...] = ("", "", "")
            self._open: Callable[[], Transport]
            self._open = lambda: _connect().azure_registry(credential, registry_name, where, options)
            return
        if elsewhere:
            self._open, self._place = elsewhere, _elsewhere()
            self._names = tuple(str(name or here) for name, here in zip(said, _HERE, strict=True))
            return
        missing = [name for name, value in zip(_NAMES, said, strict=True) if not value]
        if missing:
            raise ValidationException(f"MLClient needs {', '.join(missing)} to know its workspace.", target=missing[0])
        self._names = tuple(str(name) for name in said)
        self._open = lambda: _connect().azure(credential, self._names, where, options)

    @classmethod
    def local(
        cls,
        *,
        backend: str | None = None,
        home: str | os.PathLike[str] | None = None,
        show_progress: bool = True,
    ) -> MLClient:
        """
        A client for this machine. It talks to a background server, which is started when none runs.

        Args:
            backend: What runs replicas: `process`, or `docker`. A workspace has one for good: None is what the one in
                `home` has, at first processes.
            home: The workspace's folder; `MODELPORT_HOME`, else `~/.modelport`, and for Docker the folder `docker` in
                there.
            show_progress: Whether a terminal is told of uploads, and of operations that are waited for.

        Raises:
            errors.ValidationException: There is no such backend.
            errors.DockerEngineNotAvailableError: Docker's engine does not answer.
            errors.LocalServerError: The server could not be started, or the folder is one of another backend.
        """
        if backend not in (*_BACKENDS, None):
            raise ValidationException(f"There is no backend '{backend}' here: use process or docker.", target="backend")
        transport = _connect().local(Path(home) if home else None, backend)
        return cls._over(transport, show_progress=show_progress, place=transport.backend)

    @classmethod
    def connect(cls, url: str, *, credential: str, show_progress: bool = True, **keywords: Any) -> MLClient:
        """
        A client for a Modelport server.

        Args:
            url: Where it listens.
            credential: Its token.
            show_progress: As for the constructor.
            **keywords: How to connect, as for the constructor.

        Raises:
            errors.ValidationException: `url` is not an http or https URL.
        """
        options = import_module("modelport.transports.options").of(keywords, ("credential", "show_progress"))
        return cls._over(_connect().server(url, credential, options), show_progress=show_progress, place=url)

    @classmethod
    def from_config(
        cls,
        credential: Any = None,
        *,
        path: str | os.PathLike[str] | None = None,
        file_name: str | None = None,
        **keywords: Any,
    ) -> MLClient:
        """
        A client for the Azure workspace that a `config.json` names.

        Where `MODELPORT_BACKEND` names another place, there need be none.

        Args:
            credential: As for the constructor.
            path: A file, or the folder to start to look in; parents are looked in too, 20 at most.
            file_name: Another name than `config.json`.
            **keywords: As for the constructor.

        Raises:
            errors.ValidationException: No file was found, or it does not name a workspace.
        """
        start = Path(path) if path else Path.cwd()
        config = _config_file(start, file_name)
        if config is None and not _elsewhere():
            wanted = " or ".join((file_name,) if file_name else _CONFIG_FILES)
            message = f"No {wanted} in '{start}', its parents, or their .azureml folders."
            raise ValidationException(message, target="path")
        return cls(credential, *(_names_in(config) if config else ()), **keywords)

    @classmethod
    def _over(cls, transport: Transport, *, show_progress: bool = True, place: str = "") -> MLClient:
        """A client over a transport that is open; `testing` makes its clients so."""
        client = cls.__new__(cls)
        where = transport.workspace
        client._show_progress = show_progress  # noqa: SLF001 (the class's own alternative constructor)
        client._names = (where.subscription, where.group, where.name)  # noqa: SLF001 (as above)
        client._open = lambda: transport  # noqa: SLF001 (as above)
        client._place = place  # noqa: SLF001 (as above)
        return client

    @property
    def subscription_id(self) -> str:
        """The subscription; a registry's own, which is asked for."""
        return self._service.workspace.subscription if self._registry else self._names[0]

    @property
    def resource_group_name(self) -> str:
        """The resource group; a registry's own, which is asked for."""
        return self._service.workspace.group if self._registry else self._names[1]

    @property
    def workspace_name(self) -> str:
        """The workspace; empty for a registry."""
        return self._names[2]

    @cached_property
    def online_endpoints(self) -> OnlineEndpointOperations:
        """Create, read, change, call and delete endpoints."""
        kind = import_module("modelport.operations.online_endpoints").OnlineEndpointOperations
        return cast("OnlineEndpointOperations", kind(self._in_workspace))

    @cached_property
    def online_deployments(self) -> OnlineDeploymentOperations:
        """Create, read, change and delete deployments."""
        kind = import_module("modelport.operations.online_deployments").OnlineDeploymentOperations
        return cast("OnlineDeploymentOperations", kind(self._in_workspace))

    @cached_property
    def models(self) -> ModelOperations:
        """Register, read and list models."""
        if self._registry:
            kind = import_module("modelport.operations.registry_assets").RegistryModelOperations
        else:
            kind = import_module("modelport.operations.assets").ModelOperations
        return cast("ModelOperations", kind(self._service))

    @cached_property
    def environments(self) -> EnvironmentOperations:
        """Register, read and list environments."""
        if self._registry:
            kind = import_module("modelport.operations.registry_assets").RegistryEnvironmentOperations
        else:
            kind = import_module("modelport.operations.assets").EnvironmentOperations
        return cast("EnvironmentOperations", kind(self._service))

    @cached_property
    def data(self) -> DataOperations:
        """Register, read and list data assets."""
        return cast("DataOperations", import_module("modelport.operations.assets").DataOperations(self._in_workspace))

    @cached_property
    def datastores(self) -> DatastoreOperations:
        """Read datastores."""
        kind = import_module("modelport.operations.assets").DatastoreOperations
        return cast("DatastoreOperations", kind(self._in_workspace))

    @cached_property
    def workspaces(self) -> WorkspaceOperations:
        """Read workspaces."""
        kind = import_module("modelport.operations.assets").WorkspaceOperations
        return cast("WorkspaceOperations", kind(self._in_workspace, self.workspace_name))

    def create_or_update(self, entity: Entity) -> Any:
        """
        Register a model, an environment or a data asset.

        Raises:
            TypeError: It is something else.
        """
        kinds = import_module("modelport.entities")
        if isinstance(entity, kinds.Model):
            return self.models.create_or_update(entity)
        if isinstance(entity, kinds.Environment):
            return self.environments.create_or_update(entity)
        if isinstance(entity, kinds.Data):
            return self.data.create_or_update(entity)
        raise TypeError(_not_valid(entity, "a Model, an Environment or a Data asset"))

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

    def plan(self, entity: Entity) -> Plan:
        """
        What creating or changing an endpoint, deployment, model or environment would do; nothing is sent but questions.

        `print` it, or look at its `changes`; it is true when anything would change.

        Raises:
            TypeError: It is something else.
            errors.ValidationException: It is not valid, or names files that are not there.
        """
        return cast("Plan", import_module("modelport.operations.plan").plan(self._in_workspace, entity))

    def preflight(self, entity: Entity, *, request_file: str | os.PathLike[str] | None = None) -> Report:
        """
        All that can be found wrong with a deployment, or an endpoint, before anything is sent; it takes seconds.

        Args:
            entity: What is to be created.
            request_file: A request like those that it will get, whose size is looked at.

        Raises:
            TypeError: It is neither.
        """
        backend = self._in_workspace.backend
        report = import_module("modelport.operations.preflight").report
        return cast("Report", report(entity, request_file=request_file, azure=not backend, here=backend))

    def apply(self, source: Sources, *, dry_run: bool = False) -> Applied:
        """
        Bring about what YAML files say: assets, endpoints, deployments and traffic, in the order that they need.

        Nothing is sent before all of it was checked, and what is as it should be is left alone. It waits for the end.

        Args:
            source: A file, which may have several documents, a folder of files, several of them, or an open file.
            dry_run: Only say what would be done.

        Returns:
            The entities in the files' order; its `repr` says what became of each.

        Raises:
            errors.ValidationException: Everything that is wrong with the files; nothing was sent.
            errors.ModelportError: What failed. What was done before stays, and applying again goes on from there.
        """
        application = import_module("modelport.operations.apply").Application(self, self._in_workspace)
        return cast("Applied", application.rehearse(source) if dry_run else application.run(source))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in zip(_NAMES, self._names, strict=True))
        if self._registry:
            said = f"registry_name={self._registry!r}"
        return f"MLClient({said})" + (f" on {self._place}" if self._place else "")

    if not TYPE_CHECKING:  # a type checker is to say so itself

        def __getattr__(self, name: str) -> Any:
            """What Azure's client has beside: a sentence says that it is not here."""
            if name.startswith("_") or hasattr(type(self), name):
                return object.__getattribute__(self, name)  # raises what made the first look fail
            names = [each for each in dir(self) if not each.startswith("_")]
            raise AttributeError(not_here("MLClient", name, names), name=name)

    @property
    def _in_workspace(self) -> Service:
        """
        What is asked about all that registries do not have.

        Raises:
            errors.UnsupportedByBackend: It is for a registry.
        """
        if self._registry:
            raise UnsupportedByBackend(
                f"This client is for registry '{self._registry}', which has models and environments only. Make another "
                "one with workspace_name for all else.",
                target="registry_name",
            )
        return self._service

    @cached_property
    def _service(self) -> Service:
        module, name = ("registries", "Registry") if self._registry else ("base", "Service")
        kind = getattr(import_module(f"modelport.operations.{module}"), name)
        return cast("Service", kind(self._open(), show_progress=self._show_progress))


def not_here(where: str, name: str, names: Iterable[str]) -> str:
    """The sentence for a name of Azure's that Modelport does not have; `names` are those that it has there."""
    close = get_close_matches(name, names, n=1, cutoff=0.85)
    if close:
        return f"{where} has no '{name}'. Did you mean '{close[0]}'?"
    return (
        f"{where} has no '{name}' in Modelport: it covers online endpoints, deployments, models and environments. "
        "Use azure-ai-ml for it."
    )


def _connect() -> Any:
    return import_module("modelport.transports.connect")


def _elsewhere() -> str:
    """What `MODELPORT_BACKEND` says, when it is not Azure."""
    said = os.environ.get(_BACKEND, "").strip()
    return "" if said == "azure" else said


def _redirected(options: Any) -> Callable[[], Transport] | None:
    """
    What opens the place that `MODELPORT_BACKEND` names; None when it names none.

    Raises:
        errors.ValidationException: It names none that there is, or a server without a token.
        errors.UnsupportedByBackend: This version does not have it.
    """
    said = _elsewhere()
    if not said:
        return None
    if said.startswith(("http://", "https://")):
        token = os.environ.get(_TOKEN)
        if not token:
            raise ValidationException(f"{_BACKEND} is '{said}': {_TOKEN} must have its token.", target=_TOKEN)
        return lambda: cast("Transport", _connect().server(said, token, options))
    if said not in _BACKENDS:
        message = f"{_BACKEND} is '{said}': it can be process, docker, azure or the URL of a Modelport server."
        raise ValidationException(message, target=_BACKEND)
    return lambda: cast("Transport", _connect().local(None, said))


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


def _config_file(start: Path, file_name: str | None) -> Path | None:
    if start.is_file():
        return start
    names = (file_name,) if file_name else _CONFIG_FILES
    for folder in [start.resolve(), *start.resolve().parents][: _MOST_PARENTS + 1]:
        for below in _CONFIG_FOLDERS:
            for name in names:
                if (folder / below / name).is_file():
                    return folder / below / name
    return None
