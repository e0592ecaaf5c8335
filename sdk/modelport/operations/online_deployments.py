"""`ml_client.online_deployments`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelport.arm import versions
from modelport.entities import OnlineDeployment
from modelport.errors import UnsupportedByBackend, ValidationException
from modelport.operations import preflight
from modelport.operations.base import Service, must_be, refuse_local
from modelport.operations.poller import LROPoller
from modelport.operations.references import resolved

_CONTAINERS = {"inference-server": "InferenceServer", "storage-initializer": "StorageInitializer"}


class OnlineDeploymentOperations:
    """Create, read, change and delete online deployments. Threads may share it."""

    def __init__(self, service: Service) -> None:
        self._service = service.speaking(versions.DEPLOYMENTS)

    def begin_create_or_update(
        self,
        deployment: OnlineDeployment,
        *,
        local: bool = False,
        vscode_debug: bool = False,
        skip_script_validation: bool = False,
        local_enable_gpu: bool = False,
    ) -> LROPoller[OnlineDeployment]:
        """
        Create a deployment, or change one: new replicas are started and ready before the old ones go.

        Args:
            deployment: What is wanted, whole.
            local: This machine's Docker.
            vscode_debug: Debug it in VS Code; needs Docker.
            skip_script_validation: Do not look into the scoring script before it is sent.
            local_enable_gpu: Give the container GPUs; needs Docker.

        Raises:
            errors.ValidationException: Everything that is wrong with it; nothing was sent.
            errors.ResourceNotFoundError: Its endpoint does not exist.
            errors.OperationInProgress: Another operation on it has not ended.
        """
        refuse_local(local)
        if vscode_debug or local_enable_gpu:
            asked = "vscode_debug" if vscode_debug else "local_enable_gpu"
            raise UnsupportedByBackend(f"{asked} needs local=True, and that the Docker backend.", target=asked)
        must_be(OnlineDeployment, deployment, "online_deployments.begin_create_or_update()")
        preflight.check(deployment, skip_script_validation=skip_script_validation)
        self._service.ask("GET", f"onlineEndpoints/{deployment.endpoint_name}")
        sent = resolved(self._service, deployment)
        return self._service.begin_put(sent, f"Deployment '{deployment.name}' of '{deployment.endpoint_name}'")

    def get(self, name: str, endpoint_name: str, *, local: bool = False) -> OnlineDeployment:
        """
        A deployment.

        Raises:
            errors.ResourceNotFoundError: There is none.
        """
        refuse_local(local)
        return self._service.get(OnlineDeployment, f"onlineEndpoints/{endpoint_name}/deployments/{name}")

    def list(self, endpoint_name: str, *, local: bool = False) -> Iterator[OnlineDeployment]:
        """The deployments of an endpoint, oldest first."""
        refuse_local(local)
        return self._service.list(OnlineDeployment, f"onlineEndpoints/{endpoint_name}/deployments")

    def begin_delete(self, name: str, endpoint_name: str, *, local: bool = False) -> LROPoller[None]:
        """
        Delete a deployment. One that is not there is fine.

        Raises:
            errors.ResourceExistsError: It has live or mirrored traffic.
        """
        refuse_local(local)
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
            local: This machine's Docker.

        Raises:
            errors.ValidationException: Another container type, or fewer than one line.
        """
        refuse_local(local)
        if container_type is not None and container_type not in _CONTAINERS:
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
