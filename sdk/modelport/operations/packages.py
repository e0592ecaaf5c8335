"""A model, its code and a server, built into an environment by the service."""

from __future__ import annotations

import re
from typing import Any

from modelport.arm import lro
from modelport.entities import Environment, ModelPackage
from modelport.entities.base import changed
from modelport.errors import HttpResponseError
from modelport.operations.base import Service
from modelport.operations.poller import LROPoller, follow_operation
from modelport.operations.references import environment_id, latest, registered_code
from modelport.schema import faces
from modelport.schema.faces import Face

_MADE = re.compile(r".*/environments/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE)


def packaged(service: Service, model: str, wanted: ModelPackage, *, for_deployment: bool = False) -> Environment:
    """
    The environment that the service makes of a model.

    Args:
        service: The service.
        model: Place of the model, `models/{name}/versions/{version}`.
        wanted: What to build; local code in it is sent first.
        for_deployment: Whether a deployment is made of it, for which the service takes the target's name alone.

    Raises:
        errors.HttpResponseError: It could not be built.

    Source: azure-ai-ml 1.35.2: ids of code and environment stand behind `azureml:/`, the target's in the form of
    `azureml://locations/…`.
    """
    server: Any = wanted.inferencing_server
    configuration = getattr(server, "code_configuration", None)
    if configuration:
        code = registered_code(service, configuration)
        server = changed(server, code_configuration=changed(code, code=_uri(code.code)))
    base = wanted.base_environment_source
    if base and base.resource_id:
        base = changed(base, resource_id=_uri(environment_id(service, base.resource_id)))
    request = changed(wanted, inferencing_server=server, base_environment_source=base)
    if for_deployment:
        body = faces.dump(request, Face.REQUEST)
        target = body["targetEnvironmentName"] = body.pop("targetEnvironmentId")
    else:
        about = service.ask("GET", "").body
        where = f"azureml://locations/{about.get('location')}/workspaces/{about['properties'].get('workspaceId')}"
        target = f"{where}/{wanted.target()}"
        body = faces.dump(changed(request, target_environment=target), Face.REQUEST)
    answer = service.ask("POST", f"{model}/package", body=body)
    made = answer.body
    if answer.status != 200:
        # What was made stands where Location leads to in the end, whichever way the operation is followed.
        follow = lro.start(answer, answer.headers.get("location"))
        made = LROPoller(follow_operation(service.transport, follow, _as_answered, model), model).result()
    said = made.get("targetEnvironmentId") if isinstance(made, dict) else None
    found = _MADE.fullmatch(str(said or target))
    if found:
        return service.get(Environment, f"environments/{found['name']}/versions/{found['version']}")
    newest = latest(service, Environment, wanted.target())
    if newest is None:
        raise HttpResponseError(f"Packaging {model}: the service says that it is done, but made no environment.")
    return newest


def _as_answered(document: Any) -> Any:
    return document


def _uri(said: str | None) -> str | None:
    return f"azureml:/{said}" if said and said.startswith("/") else said
