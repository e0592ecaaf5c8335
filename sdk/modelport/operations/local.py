"""
`local=True`: the same operations in this machine's Docker.

They are the operations of another workspace, one of containers, which is found or
started when it is first asked for. What is said here is where they differ: Azure's
block until they are done, a deployment makes its endpoint when there is none, and what
the client's own workspace has registered is brought along.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from modelport.arm import faults, ids
from modelport.entities import Environment, ManagedOnlineEndpoint, Model, OnlineDeployment, OnlineEndpoint, here
from modelport.entities.base import changed
from modelport.errors import (
    LocalEndpointNotFoundError,
    MultipleLocalDeploymentsFoundError,
    ResourceNotFoundError,
    ValidationException,
)
from modelport.operations.assets import EnvironmentOperations, ModelOperations
from modelport.operations.base import Service
from modelport.operations.poller import LROPoller
from modelport.schema.fields import is_uri

_T = TypeVar("_T")

NO_DEPLOYMENTS = "This local endpoint does not have any deployments, so it cannot be invoked."
"""What an invoke of an endpoint without deployments returns. Source: azure-ai-ml 1.35.2."""


@contextmanager
def found() -> Iterator[None]:
    """What is not there is told under Azure's name for it."""
    try:
        yield
    except LocalEndpointNotFoundError:
        raise
    except ResourceNotFoundError as error:
        raise LocalEndpointNotFoundError(error.message, target=error.target) from error


def done(poller: LROPoller[_T]) -> LROPoller[_T]:
    """
    The poller, once its operation has ended well.

    Raises:
        errors.ModelportError: Why it failed.
    """
    poller.result()
    return poller


def prepared(
    service: Service, docker: Service, deployment: OnlineDeployment, options: dict[str, bool]
) -> OnlineDeployment:
    """
    The deployment as it goes to Docker, where its endpoint and what it refers to are then.

    Args:
        service: The client's own workspace, which may have what the deployment refers to.
        docker: Docker's workspace.
        deployment: What is wanted.
        options: What is said of it for this machine, by the names of `entities.here`.

    Raises:
        errors.ResourceNotFoundError: It refers to what neither workspace has.
        errors.ValidationException: It refers to what cannot be brought along.
    """
    name = str(deployment.endpoint_name)
    if docker.reply("GET", f"onlineEndpoints/{name}").status == _ABSENT:
        docker.begin_put(ManagedOnlineEndpoint(name=name, location=docker.location), f"Endpoint '{name}'").result()
    deployment = here.said_of(deployment, options)
    if service is docker:
        return deployment
    code = deployment.code_configuration
    if code and code.code and str(code.code).startswith(("azureml:", "/subscriptions/")):
        raise ValidationException(
            f"local=True takes code from this machine's disk, and '{code.code}' is registered. Name its folder.",
            target="code_configuration.code",
        )
    return changed(
        deployment,
        model=_brought_model(service, docker, deployment.model),
        environment=_brought_environment(service, docker, deployment.environment),
    )


def only_deployment(docker: Service, endpoint: OnlineEndpoint) -> str | None:
    """
    Who answers when no deployment is named and no traffic is set: the only one; None when there is none.

    Raises:
        errors.MultipleLocalDeploymentsFoundError: There are several.
    """
    place = f"onlineEndpoints/{endpoint.name}/deployments"
    names = [each.name for each in docker.list(OnlineDeployment, place)]
    if len(names) > 1:
        raise MultipleLocalDeploymentsFoundError(
            f"Endpoint '{endpoint.name}' has {', '.join(names)}, and no traffic: give one as deployment_name, or set "
            "the endpoint's traffic.",
            target="deployment_name",
        )
    return names[0] if names else None


_ABSENT = 404


def _brought_model(service: Service, docker: Service, said: Any) -> Any:
    """A reference to a model of the client's own workspace, as it is in Docker's; anything else as it is."""
    where = _reference(service, said, "models")
    if where is None:
        return said
    version, is_there = _version(service, docker, where)
    if not is_there:
        with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
            models = ModelOperations(service)
            model = models.get(where.name, where.version)
            models.download(where.name, where.version, folder)
            files = _alone(Path(folder) / where.name)
            copy = Model(name=model.name, version=version, type=model.type, path=files, properties=_source(service))
            ModelOperations(docker).create_or_update(copy)
    return f"azureml:{where.name}:{version}"


def _brought_environment(service: Service, docker: Service, said: Any) -> Any:
    where = _reference(service, said, "environments")
    if where is None:
        return said
    version, is_there = _version(service, docker, where)
    if not is_there:
        there = EnvironmentOperations(service).get(where.name, where.version)
        if there.build:
            raise ValidationException(
                f"Environment '{where.name}' version '{where.version}' is built from a context that the workspace has, "
                "and local=True builds from this machine's disk. Give the Environment with its BuildContext instead.",
                target="environment",
            )
        copy = Environment(
            name=there.name,
            version=version,
            image=there.image,
            conda_file=there.conda_file,
            inference_config=there.inference_config,
            properties=_source(service),
        )
        EnvironmentOperations(docker).create_or_update(copy)
    return f"azureml:{where.name}:{version}"


def _version(service: Service, docker: Service, where: Any) -> tuple[str, bool]:
    """
    The version that an asset of the client's own workspace has in Docker's, and whether it is there.

    It is the same one, unless something else has that there: Docker's workspace is one for all of a machine's clients.
    """
    mark = hashlib.sha256(str(service.workspace).lower().encode()).hexdigest()[:8]
    for version in (where.version, f"{where.version}-{mark}"):
        answer = docker.reply("GET", f"{where.kind}/{where.name}/versions/{version}")
        if answer.status == _ABSENT:
            return version, False
        properties = faults.raise_for(answer, f"GET {where.kind}/{where.name}").body["properties"]
        if (properties.get("properties") or {}).items() >= _source(service).items():
            return version, True
    raise ValidationException(
        f"Docker's workspace has '{where.name}' in the versions '{where.version}' and '{where.version}-{mark}', and "
        "neither is yours. Name one of them, or delete one.",
        target=where.kind,
    )


def _source(service: Service) -> dict[str, str]:
    """The property that says whose asset a copy is of."""
    return {"modelport.source": str(service.workspace)}


def _reference(service: Service, said: Any, collection: str) -> Any:
    """The asset of the client's workspace that a reference names, with its version; None for what is no reference."""
    if not isinstance(said, str) or (is_uri(said) and not said.startswith("azureml:")):
        return None
    name = said.removeprefix("azureml:")
    if name.endswith("@latest"):
        kind = ModelOperations if collection == "models" else EnvironmentOperations
        newest = kind(service).get(name.removesuffix("@latest"), label="latest")
        said = f"azureml:{newest.name}:{newest.version}"
    return ids.reference(said, collection, service.workspace)


def _alone(folder: Path) -> str:
    """What a download wrote: the one file or folder in its folder."""
    (files,) = folder.iterdir()
    return str(files)
