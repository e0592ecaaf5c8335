"""
What processes on this machine cannot do.

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
)
from modelport.errors import UnsupportedByBackend

_DOCKER = 'That takes the Docker backend, MLClient.local(backend="docker"), which this version does not have yet.'


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


def of_deployment(deployment: OnlineDeployment, environment: Environment | None) -> UnsupportedByBackend | None:
    """Why this deployment, which runs in `environment`, cannot be here; None when it can."""
    name = f"Deployment '{deployment.name}' of '{deployment.endpoint_name}'"
    if isinstance(deployment, KubernetesOnlineDeployment):
        return UnsupportedByBackend(
            f"{name} is of type kubernetes, and this backend runs no clusters. Make a ManagedOnlineDeployment.",
            target="type",
        )
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
        what = f"image '{environment.image}'" if environment and environment.image else "model"
        return UnsupportedByBackend(
            f"{name} has no code_configuration: serving its {what} as it is needs a container, and processes run none. "
            f"Add a code_configuration with a scoring script. {_DOCKER}",
            target="code_configuration",
        )
    return None
