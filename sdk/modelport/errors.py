"""
Every error that Modelport raises, as one tree.

    ModelportError                      (also under Azure's name, MlException)
    ├── ValidationException             what was asked for cannot be: fix the input
    │   └── UnsupportedByBackend        another backend can do it; the message names it
    ├── ClientAuthenticationError       no credential, or a wrong one
    ├── ResourceNotFoundError           the thing named does not exist
    ├── ResourceExistsError             it exists already, or is in a state that forbids this
    │   ├── OperationInProgress         another operation holds the resource
    │   └── ResourceModifiedError       If-Match named an older version of it
    ├── HttpResponseError               a service answered with an error that has no class of its own
    │   └── ScoringError                a scoring call was answered with an error status
    ├── ServiceRequestError             no answer: connection refused, cut off, or timed out
    │   └── ServiceRequestTimeoutError
    ├── PollingTimeoutError             the operation goes on, but the caller's time is up
    ├── DeploymentFailed                an operation ended as Failed
    │   ├── ImageBuildFailure           the environment could not be built
    │   ├── UserScriptError             the scoring script is at fault
    │   │   ├── UserScriptImportError
    │   │   ├── UserScriptFunctionNotFound
    │   │   └── UserScriptInitFailed
    │   ├── ResourceNotReady            replicas did not become ready in time
    │   ├── GatewayRejected             Envoy refused its configuration
    │   └── OperationCanceled           the operation was given up; the message says why
    └── LocalServerError                the background server on this machine

Each class has `code`, the word that ARM uses in an error body, and `status`, the
HTTP status that goes with it: `arm.faults` turns one into the other and back, so
that an error raised in the control plane arrives in the client as itself.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ModelportError(Exception):
    """
    The root: catch this to catch everything that Modelport raises.

    Attributes:
        message: One sentence or more: the thing, the fault, the remedy.
        target: What the error is about, e.g. a field (`traffic`) or a resource; None when the message says it all.
        details: Errors that together make up this one, each `{"code", "message", "target"}`.
    """

    code: ClassVar[str] = "InternalServerError"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, target: str | None = None, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.target = target
        self.details = details or []


MlException = ModelportError


class ValidationException(ModelportError):
    """What was asked for cannot be done as it was said."""

    code = "ValidationError"
    status = 400


class UnsupportedByBackend(ValidationException):
    """This backend cannot do it, another can."""

    code = "UnsupportedByBackend"


class ClientAuthenticationError(ModelportError):
    """No credential, or one that the service does not accept."""

    code = "AuthenticationFailed"
    status = 401


class ResourceNotFoundError(ModelportError):
    """The thing named does not exist."""

    code = "ResourceNotFound"
    status = 404


class ResourceExistsError(ModelportError):
    """The resource exists already, or its state forbids what was asked."""

    code = "Conflict"
    status = 409


class OperationInProgress(ResourceExistsError):
    """Another operation on the same resource has not ended."""

    code = "OperationInProgress"


class ResourceModifiedError(ResourceExistsError):
    """`If-Match` named a version of the resource that is no longer the current one."""

    code = "PreconditionFailed"
    status = 412


class HttpResponseError(ModelportError):
    """
    A service's error answer that has no class of its own.

    Attributes:
        status_code: The HTTP status of the answer.
        error_code: The `code` of the answer's error body; None when there was none.
    """

    code = "HttpResponseError"

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 500,
        error_code: str | None = None,
        target: str | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message, target=target, details=details)
        self.status_code = status_code
        self.error_code = error_code


class ScoringError(HttpResponseError):
    """
    A scoring request was answered with an error status.

    Attributes:
        body: The answer's text.
        headers: The answer's headers.
        deployment: The deployment that answered; None when the gateway did.
        request_id: The answer's `x-request-id`, by which the deployment's log names the request.
    """

    code = "ScoringError"

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 500,
        body: str = "",
        headers: dict[str, str] | None = None,
        deployment: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, status_code=status_code)
        self.body = body
        self.headers = headers or {}
        self.deployment = deployment
        self.request_id = request_id


class ServiceRequestError(ModelportError):
    """No answer came: refused, cut off, or the name is unknown."""

    code = "ServiceRequestError"
    status = 503


class ServiceRequestTimeoutError(ServiceRequestError):
    """No answer came in time."""

    code = "ServiceRequestTimeout"
    status = 408


class PollingTimeoutError(ModelportError):
    """The caller's time is up; the operation goes on and can be waited for again."""

    code = "PollingTimeout"
    status = 408


class DeploymentFailed(ModelportError):
    """A long-running operation ended as Failed."""

    code = "DeploymentFailed"
    status = 400


class ImageBuildFailure(DeploymentFailed):
    """The environment could not be built; the message ends with the builder's last lines."""

    code = "ImageBuildFailure"


class UserScriptError(DeploymentFailed):
    """The scoring script is at fault; the message names its line."""

    code = "UserScriptError"


class UserScriptImportError(UserScriptError):
    """The scoring script, or something that it imports, could not be imported."""

    code = "UserScriptImportError"


class UserScriptFunctionNotFound(UserScriptError):
    """The scoring script has no `init` or no `run`."""

    code = "UserScriptFunctionNotFound"


class UserScriptInitFailed(UserScriptError):
    """`init()` raised, or ended the process."""

    code = "UserScriptInitFailed"


class ResourceNotReady(DeploymentFailed):
    """Replicas did not become ready in the time that their probes allow."""

    code = "ResourceNotReady"


class GatewayRejected(DeploymentFailed):
    """Envoy refused its configuration; the one before it is in force."""

    code = "GatewayRejected"


class OperationCanceled(DeploymentFailed):
    """The operation was given up before its end."""

    code = "OperationCanceled"


class LocalServerError(ModelportError):
    """The background server on this machine could not be started, found or understood."""

    code = "LocalServerError"
