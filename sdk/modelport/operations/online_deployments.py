"""`ml_client.online_deployments`."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelport.arm import ids, versions
from modelport.entities import (
    AzureMLOnlineInferencingServer,
    BaseEnvironment,
    CodeConfiguration,
    ModelPackage,
    OnlineDeployment,
    OnlineEndpoint,
    here,
)
from modelport.entities.base import changed
from modelport.errors import (
    InvalidVSCodeRequestError,
    ResourceNotFoundError,
    UnsupportedByBackend,
    ValidationException,
)
from modelport.operations import local as in_docker
from modelport.operations import preflight, vscode
from modelport.operations.base import Service, must_be
from modelport.operations.packages import packaged
from modelport.operations.poller import LROPoller
from modelport.operations.references import resolved
from modelport.operations.watching import Watch
from modelport.schema.fields import is_uri

logger = logging.getLogger(__name__)

_PACKAGED = "packaged-env"
"""What Azure's client calls the environments that it packages models into."""

_ABSENT = 404
_SILENT = ("polling", "polling_interval")
_CONTAINERS = {"inference-server": "InferenceServer", "storage-initializer": "StorageInitializer"}


class OnlineDeploymentOperations:
    """Create, read, change and delete online deployments. Threads may share it."""

    def __init__(self, service: Service) -> None:
        self._service = service.speaking(versions.DEPLOYMENTS)
        self._lock = threading.Lock()
        self._in_docker: OnlineDeploymentOperations | None = None
        self._watches: dict[tuple[str, str], Watch] = {}

    def begin_create_or_update(
        self,
        deployment: OnlineDeployment,
        *,
        local: bool = False,
        vscode_debug: bool = False,
        skip_script_validation: bool = False,
        local_enable_gpu: bool = False,
        debug: bool = False,
        watch: bool = False,
        package_model: bool = False,
        with_package: bool = False,
        if_match: str | None = None,
        continuation_token: str | None = None,
        **keywords: Any,
    ) -> LROPoller[OnlineDeployment]:
        """
        Create a deployment, or change one: new replicas are started and ready before the old ones go.

        Args:
            deployment: What is wanted, whole.
            local: In this machine's Docker; it returns when all is done.
            vscode_debug: Write a dev container for it and open that: the code in there is your own folder, and debugpy
                waits for VS Code before `init()` runs. `poller.messages()` say where it is. Needs `local`.
            skip_script_validation: Do not look into the scoring script before it is sent.
            local_enable_gpu: Give the containers this machine's GPUs; needs `local`.
            debug: Let a debugger be attached to each replica while it serves, which then has an hour for a request and
                does not fail its liveness probe; `poller.messages()` say where, and what VS Code's launch.json needs.
                Whoever may use this machine's loopback can run code in the replicas by that. Not with Azure.
            watch: Update it again whenever its code changes, for as long as this process lives: `poller.watch.close()`
                ends that, as do another call for the same deployment, and its deletion. The code of before answers
                until the new one is ready, and goes on when that fails, which is logged. Not with Azure.
            package_model: Bake the model and what it runs in into an environment first.
            with_package: Another name for it.
            if_match: The `etag` of the deployment that this one was made from: nobody else's change is lost.
            continuation_token: Of a poller: nothing is sent, the operation that it followed is followed.
            keywords: `polling` and `polling_interval`, which Azure's client takes and which mean nothing here: the
                service is asked often, and less often as time goes on.

        Raises:
            TypeError: Another keyword.
            errors.ValidationException: Everything that is wrong with it; nothing was sent.
            errors.ResourceNotFoundError: Its endpoint does not exist.
            errors.OperationInProgress: Another operation on it has not ended.
            errors.VSCodeCommandNotFound: `vscode_debug`, and `code` is not on the PATH. All the rest is done, and the
                message names the folder to open.
        """
        _refuse_strange(keywords)
        if continuation_token:
            return self._service.resume(continuation_token, OnlineDeployment)
        must_be(OnlineDeployment, deployment, "online_deployments.begin_create_or_update()")
        azure = not local and not self._service.backend
        here_only = {"vscode_debug": vscode_debug, "local_enable_gpu": local_enable_gpu, "debug": debug, "watch": watch}
        _refuse_elsewhere({each for each, said in here_only.items() if said}, local=local, azure=azure)
        packages = package_model or with_package or bool(getattr(deployment, "package_model", False))
        if packages and not azure:
            raise UnsupportedByBackend(
                "package_model=True has the service bake the model into an environment, which only Azure does. Leave "
                "it out: the deployment serves the model as it is.",
                target="package_model",
            )
        preflight.check(deployment, skip_script_validation=skip_script_validation, azure=azure)
        watched = _code_folder(deployment, "watch=True follows") if watch else None
        edited = _code_folder(deployment, "vscode_debug=True opens") if vscode_debug else None
        if debug or vscode_debug:
            deployment = _debugged(deployment)
        if local:
            docker = self._docker()
            options = {"local_enable_gpu": local_enable_gpu}
            sent = in_docker.prepared(self._service, docker._service, deployment, options)  # noqa: SLF001
            begun = docker._watch(deployment, watched, skip_script_validation)  # noqa: SLF001 (itself)
            poller = in_docker.done(docker._begin(sent, if_match))  # noqa: SLF001
            if edited:
                folder, where = vscode.written(docker._service, deployment, edited)  # noqa: SLF001
                poller._say(f"The dev container is in '{folder}'.")  # noqa: SLF001
                vscode.opened(folder, where)
        else:
            self._service.ask("GET", f"onlineEndpoints/{deployment.endpoint_name}")
            begun = self._watch(deployment, watched, skip_script_validation)
            poller = self._begin(deployment, if_match, packages=packages)
        if begun:
            poller.watch = begun
            begun.start(poller.status)
        return poller

    def get(self, name: str, endpoint_name: str, *, local: bool | None = False) -> OnlineDeployment:
        """
        A deployment.

        Raises:
            errors.ResourceNotFoundError: There is none.
        """
        if local:
            with in_docker.found():
                return self._docker().get(name, endpoint_name)
        return self._service.get(OnlineDeployment, f"onlineEndpoints/{endpoint_name}/deployments/{name}")

    def list(self, endpoint_name: str, *, local: bool = False) -> Iterator[OnlineDeployment]:
        """The deployments of an endpoint, oldest first; with `local`, all of this machine's Docker, as Azure has it."""
        if local:
            return self._docker()._all()  # noqa: SLF001 (itself)
        return self._service.list(OnlineDeployment, f"onlineEndpoints/{endpoint_name}/deployments")

    def begin_delete(
        self, name: str, endpoint_name: str, *, local: bool | None = False, continuation_token: str | None = None
    ) -> LROPoller[None]:
        """
        Delete a deployment. One that is not there is fine.

        Args:
            name: Which.
            endpoint_name: Its endpoint.
            local: In this machine's Docker; it returns when all is done.
            continuation_token: Of a poller: nothing is sent, the operation that it followed is followed.

        Raises:
            errors.ResourceExistsError: It has live or mirrored traffic.
        """
        if continuation_token:
            return self._service.resume(continuation_token)
        if local:
            return in_docker.done(self._docker().begin_delete(name, endpoint_name))
        self._unwatch(endpoint_name, name)
        place = f"onlineEndpoints/{endpoint_name}/deployments/{name}"
        title = f"Deployment '{name}' of '{endpoint_name}'"
        return self._service.begin("DELETE", place, title)

    def get_logs(
        self, name: str, endpoint_name: str, lines: int, *, container_type: str | None = None, local: bool = False
    ) -> str:
        """
        The last lines of a deployment's logs.

        Args:
            name: The deployment.
            endpoint_name: Its endpoint.
            lines: How many.
            container_type: `inference-server`, or `storage-initializer` for what came before it.
            local: In this machine's Docker; it returns when all is done.

        Raises:
            errors.ValidationException: Another container type, or fewer than one line.
        """
        if local:
            with in_docker.found():
                return self._docker().get_logs(name, endpoint_name, lines)
        if isinstance(lines, bool) or not isinstance(lines, int) or lines < 1:
            raise ValidationException(f"lines must be a whole number of at least 1, not {lines!r}.", target="lines")
        if container_type and container_type not in _CONTAINERS:
            raise ValidationException(
                f"Invalid container type '{container_type}'. Supported container types are inference-server and "
                "storage-initializer",
                target="container_type",
            )
        body: dict[str, Any] = {"tail": lines}
        if container_type:
            body["containerType"] = _CONTAINERS[container_type]
        place = f"onlineEndpoints/{endpoint_name}/deployments/{name}/getLogs"
        return str(self._service.ask("POST", place, body=body).body["content"])

    def _begin(
        self, deployment: OnlineDeployment, if_match: str | None, *, packages: bool = False
    ) -> LROPoller[OnlineDeployment]:
        sent = resolved(self._service, deployment)
        if packages:
            sent = self._packaged(sent)
        name = f"Deployment '{deployment.name}' of '{deployment.endpoint_name}'"
        return self._service.begin_put(sent, name, if_match=if_match)

    def _watch(self, deployment: OnlineDeployment, folder: Path | None, unchecked: bool) -> Watch | None:
        """What will follow the deployment's code, if a folder is to be followed; what did so until now ends."""
        endpoint, name = str(deployment.endpoint_name), deployment.name
        self._unwatch(endpoint, name)
        if folder is None:
            return None
        place = f"onlineEndpoints/{endpoint}/deployments/{name}"
        service = Service(self._service.transport, versions.DEPLOYMENTS, show_progress=False)
        said = changed(copy.deepcopy(deployment), code_configuration=_code(deployment, folder))

        def update() -> bool:
            preflight.check(said, skip_script_validation=unchecked)
            try:
                there = service.get(OnlineDeployment, place)
            except ResourceNotFoundError:
                return False
            # Whoever changed something else of it meanwhile meant that.
            sent = resolved(service, changed(there, code_configuration=_code(there, folder)))
            poller = service.begin_put(sent, title, if_match=there.etag)
            poller.result()
            for message in poller.messages():
                logger.info("%s: %s", title, message)
            return True

        title = f"Deployment '{name}' of '{endpoint}'"
        made = Watch(title, folder, update, lambda: service.reply("GET", place).status != _ABSENT)
        self._watches[endpoint.lower(), name.lower()] = made
        return made

    def _unwatch(self, endpoint: str, name: str) -> None:
        watch = self._watches.pop((endpoint.lower(), name.lower()), None)
        if watch:
            watch.close()

    def _docker(self) -> OnlineDeploymentOperations:
        """These operations in this machine's Docker."""
        with self._lock:
            if self._in_docker is None:
                docker = self._service.docker()
                self._in_docker = self if docker is self._service else OnlineDeploymentOperations(docker)
            return self._in_docker

    def _all(self) -> Iterator[OnlineDeployment]:
        for endpoint in self._service.list(OnlineEndpoint, "onlineEndpoints"):
            yield from self.list(endpoint.name)

    def _packaged(self, deployment: OnlineDeployment) -> OnlineDeployment:
        """
        The deployment with an environment in place of its model, code and environment, which has all of them.

        Raises:
            errors.ValidationException: It names no model of the workspace.
        """
        found = ids.reference(str(deployment.model), "models", self._service.workspace)
        if found is None:
            message = f"package_model=True packages a model of the workspace, and '{deployment.model}' is none."
            raise ValidationException(message, target="model")
        wanted = ModelPackage(
            target_environment=_PACKAGED,
            inferencing_server=AzureMLOnlineInferencingServer(code_configuration=deployment.code_configuration),
            base_environment_source=BaseEnvironment(type="EnvironmentAsset", resource_id=str(deployment.environment))
            if deployment.environment
            else None,
        )
        place = f"models/{found.name}/versions/{found.version}"
        made = packaged(self._service, place, wanted, for_deployment=True)
        environment = made.id or f"{self._service.workspace}/{ids.place(made)}"
        return changed(deployment, environment=environment, model=None, code_configuration=None)


def _refuse_elsewhere(said: set[str], *, local: bool, azure: bool) -> None:
    """Tell who says of a deployment somewhere else what can only be said of one here."""
    if "vscode_debug" in said and not local:
        raise InvalidVSCodeRequestError(
            "vscode_debug needs local=True: VS Code opens a container of this machine.", target="vscode_debug"
        )
    if "local_enable_gpu" in said and not local:
        raise ValidationException(
            "local_enable_gpu needs local=True: the machines of Azure have theirs.", target="local_enable_gpu"
        )
    for each in sorted(said & {"debug", "watch"}) if azure else ():
        raise ValidationException(
            f"{each}=True is for deployments on this machine, and this one goes to Azure. Leave it out, or use "
            "MLClient.local().",
            target=each,
        )


def _code_folder(deployment: OnlineDeployment, what: str) -> Path:
    """
    The code of a deployment that preflight found nothing wrong with, on this machine's disk.

    Raises:
        errors.ValidationException: It has none there; `what` says why it should, such as `watch=True follows`.
    """
    said = deployment.code_configuration.code if deployment.code_configuration else None
    if said is None or is_uri(str(said)):
        found = f"'{said}' is registered" if said else "it has none"
        raise ValidationException(
            f"{what} the code of deployment '{deployment.name}' on this machine's disk, and {found}. Name its folder "
            "in code_configuration.code.",
            target="code_configuration.code",
        )
    return Path(said).absolute()


def _debugged(deployment: OnlineDeployment) -> OnlineDeployment:
    """The deployment with what lets a debugger in, and shows the user's own files in it."""
    code = deployment.code_configuration.code if deployment.code_configuration else None
    folder = "" if code is None or is_uri(str(code)) else str(Path(code).absolute())
    return here.said_of(deployment, {"debug": True, "code_folder": folder})


def _code(deployment: OnlineDeployment, folder: Path) -> CodeConfiguration:
    """The deployment's script, in this folder."""
    code = deployment.code_configuration
    return CodeConfiguration(code=str(folder), scoring_script=code.scoring_script if code else None)


def _refuse_strange(keywords: Mapping[str, Any]) -> None:
    for name in keywords:
        if name not in _SILENT:
            raise TypeError(f"online_deployments.begin_create_or_update() got an unexpected keyword argument '{name}'.")
