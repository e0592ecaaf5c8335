"""
What the backends on this machine cannot do.

One place for it, because two sides ask: the control plane before it stores a resource,
and a plan or a preflight before it is sent.
"""

from __future__ import annotations

from modelport.entities import (
    Environment,
    KubernetesOnlineDeployment,
    KubernetesOnlineEndpoint,
    OnlineDeployment,
    OnlineEndpoint,
    here,
)
from modelport.errors import UnsupportedByBackend

_DOCKER = 'The Docker backend can: MLClient.local(backend="docker"), or local=True.'
_NO_CODE = (
    "nothing on this machine serves a model without a script, as Azure does MLflow's and Triton's models. Add a "
    "code_configuration with a scoring script that loads the model"
)


def of_endpoint(endpoint: OnlineEndpoint) -> UnsupportedByBackend | None:
    """Why this endpoint cannot be here; None when it can."""
    if isinstance(endpoint, KubernetesOnlineEndpoint):
        return UnsupportedByBackend(
            f"Endpoint '{endpoint.name}' names the cluster '{endpoint.compute}', and this backend runs no clusters. "
            "Make a ManagedOnlineEndpoint.",
            target="compute",
        )
    if endpoint.auth_mode == "aad_token":
        return UnsupportedByBackend(
            f"Endpoint '{endpoint.name}' has auth_mode 'aad_token', which only Azure can check. "
            "Use 'key' or 'aml_token'.",
            target="auth_mode",
        )
    return None


def of_deployment(
    deployment: OnlineDeployment, environment: Environment | None, backend: str
) -> UnsupportedByBackend | None:
    """Why this deployment, which runs in `environment`, cannot be on `backend`; None when it can."""
    name = f"Deployment '{deployment.name}' of '{deployment.endpoint_name}'"
    if isinstance(deployment, KubernetesOnlineDeployment):
        return UnsupportedByBackend(
            f"{name} is of type kubernetes, and this backend runs no clusters. Make a ManagedOnlineDeployment.",
            target="type",
        )
    return (
        _for_containers(name, deployment, environment)
        if backend == "docker"
        else _for_processes(name, deployment, environment)
    )


def _for_containers(
    name: str, deployment: OnlineDeployment, environment: Environment | None
) -> UnsupportedByBackend | None:
    if deployment.code_configuration is None and environment is None:
        return UnsupportedByBackend(
            f"{name} has neither a code_configuration nor an environment: {_NO_CODE}, and an environment with an "
            "image.",
            target="code_configuration",
        )
    if environment is None or not (environment.image or environment.build):
        return UnsupportedByBackend(
            f"{name} has no environment: a container needs an image. Give it an Environment with an image or a "
            "build context.",
            target="environment",
        )
    if environment.os_type == "windows":
        return UnsupportedByBackend(
            f"{name}: the environment is for Windows, and containers here are Linux. Use an image for Linux.",
            target="environment.os_type",
        )
    if deployment.code_configuration is None and environment.inference_config is None:
        return UnsupportedByBackend(
            f"{name} has neither a code_configuration nor an environment with an inference_config: nothing says what "
            "serves. Add a scoring script, or the routes of the server that the image brings.",
            target="code_configuration",
        )
    return None


def _for_processes(
    name: str, deployment: OnlineDeployment, environment: Environment | None
) -> UnsupportedByBackend | None:
    if environment and environment.inference_config:
        return UnsupportedByBackend(
            f"{name}: the environment's inference_config describes a container that brings its own server, and "
            f"processes run no containers. {_DOCKER}",
            target="environment.inference_config",
        )
    if environment and environment.build:
        return UnsupportedByBackend(
            f"{name}: the environment is built from a Dockerfile, and processes run no containers. {_DOCKER}",
            target="environment.build",
        )
    if deployment.code_configuration is None:
        if environment and environment.image:
            return UnsupportedByBackend(
                f"{name} has no code_configuration: serving its image '{environment.image}' as it is needs a "
                "container, and processes run none. Add a code_configuration with a scoring script; or say in the "
                f"environment's inference_config where the image's own server answers. {_DOCKER}",
                target="code_configuration",
            )
        return UnsupportedByBackend(f"{name} has no code_configuration: {_NO_CODE}.", target="code_configuration")
    if here.of(deployment).local_enable_gpu:
        return UnsupportedByBackend(
            f"{name}: local_enable_gpu gives GPUs to containers, and processes see those of this machine anyway. "
            f"Leave it out. {_DOCKER}",
            target="local_enable_gpu",
        )
    return None
