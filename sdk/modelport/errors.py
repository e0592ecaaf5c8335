"""
Every error that Modelport raises, as one tree.

    ModelportError                      (also under Azure's name, MlException)
    ├── ValidationException             what was asked for cannot be: fix the input
    │   ├── UnsupportedByBackend        another backend can do it; the message names it
    │   ├── MultipleLocalDeploymentsFoundError    local=True, and several deployments could answer
    │   ├── InvalidVSCodeRequestError   vscode_debug without local=True
    │   └── VSCodeCommandNotFound       the command `code` is not on this machine
    ├── HttpResponseError               a service answered with an error, or its operation failed
    │   ├── ClientAuthenticationError   no credential, or a wrong one
    │   ├── ResourceNotFoundError       the thing named does not exist
    │   │   └── LocalEndpointNotFoundError    local=True, and it is not in this machine's Docker
    │   ├── ResourceExistsError         it exists already, or is in a state that forbids this
    │   │   ├── OperationInProgress     another operation holds the resource
    │   │   └── ResourceModifiedError   If-Match named an older version of it
    │   ├── DeploymentFailed            an operation ended as Failed
    │   │   ├── ImageBuildFailure       the environment could not be built
    │   │   ├── UserScriptError         the scoring script is at fault
    │   │   │   ├── UserScriptImportError
    │   │   │   ├── UserScriptFunctionNotFound
    │   │   │   └── UserScriptInitFailed
    │   │   ├── ResourceNotReady        replicas did not become ready in time
    │   │   ├── LocalDeploymentGPUNotAvailable    a GPU was asked for, and Docker has none to give
    │   │   ├── GatewayRejected         Envoy refused its configuration
    │   │   └── OperationCanceled       the operation was given up; the message says why
    │   └── ScoringError                a scoring call was answered with an error status
    ├── ServiceRequestError             no answer: connection refused, cut off, or timed out
    │   └── ServiceRequestTimeoutError
    ├── PollingTimeoutError             the operation goes on, but the caller's time is up
    └── LocalServerError                the background server on this machine
        └── DockerEngineNotAvailableError    Docker's engine does not answer

Scripts written for Azure catch `HttpResponseError` around everything that a service
may refuse: so it is the parent here too, as in azure-core.

Each class has `code`, the word that ARM uses in an error body, and `status`, the
HTTP status that goes with it: `arm.faults` turns one into the other and back, so
that an error raised in the control plane arrives in the client as itself.
"""

from __future__ import annotations

from http import HTTPStatus
from types import SimpleNamespace
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


class MultipleLocalDeploymentsFoundError(ValidationException):
    """With `local=True`, no deployment was named and several could answer."""

    code = "MultipleLocalDeploymentsFound"


class InvalidVSCodeRequestError(ValidationException):
    """`vscode_debug` was asked for without `local=True`."""

    code = "InvalidVSCodeRequest"


class VSCodeCommandNotFound(ValidationException):
    """The command `code` is not on this machine."""

    code = "VSCodeCommandNotFound"


class HttpResponseError(ModelportError):
    """
    A service's error answer, or its operation's failure; itself where there is no class for it.

    Attributes:
        status_code: The HTTP status of the answer.
        error_code: The `code` of the answer's error body; None when there was none.
        request_id: By which the service's people find the request; None when it is not known.
        additional_info: What the body had as `additionalInfo`: `[{"type", "info": {}}]`.
        innererror: What it had as such.
        response: None: nothing of the connection is kept. Azure's name, as are `reason` and `error`.
    """

    code = "HttpResponseError"

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        error_code: str | None = None,
        target: str | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message, target=target, details=details)
        own = None if type(self) is HttpResponseError else self.code
        self.status_code = status_code or self.status
        self.error_code = error_code or own
        self.request_id: str | None = None
        self.additional_info: list[Any] = []
        self.innererror: Any = None
        self.response = None

    @property
    def reason(self) -> str:
        """The status in words: `Not Found`."""
        known = self.status_code in HTTPStatus._value2member_map_
        return HTTPStatus(self.status_code).phrase if known else ""

    @property
    def error(self) -> SimpleNamespace:
        """The error body: `code`, `message`, `target`, `details` (each one such again), `innererror`."""
        details = [
            SimpleNamespace(**{"code": None, "message": None, "target": None, **each})
            for each in self.details
            if isinstance(each, dict)
        ]
        return SimpleNamespace(
            code=self.error_code,
            message=self.message,
            target=self.target,
            details=details,
            innererror=self.innererror,
            additional_info=self.additional_info,
        )


class ClientAuthenticationError(HttpResponseError):
    """No credential, or one that the service does not accept."""

    code = "AuthenticationFailed"
    status = 401


class ResourceNotFoundError(HttpResponseError):
    """The thing named does not exist."""

    code = "ResourceNotFound"
    status = 404


class LocalEndpointNotFoundError(ResourceNotFoundError):
    """With `local=True`: it is not in this machine's Docker."""

    code = "LocalEndpointNotFound"


class ResourceExistsError(HttpResponseError):
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
        status_code: int | None = None,
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


class DeploymentFailed(HttpResponseError):
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


class LocalDeploymentGPUNotAvailable(DeploymentFailed):
    """`local_enable_gpu` was asked for, and Docker has no GPU to give."""

    code = "LocalDeploymentGPUNotAvailable"


class GatewayRejected(DeploymentFailed):
    """Envoy refused its configuration; the one before it is in force."""

    code = "GatewayRejected"


class OperationCanceled(DeploymentFailed):
    """The operation was given up before its end."""

    code = "OperationCanceled"


class LocalServerError(ModelportError):
    """The background server on this machine could not be started, found or understood."""

    code = "LocalServerError"


class DockerEngineNotAvailableError(LocalServerError):
    """Docker's engine does not answer, or is not on this machine."""

    code = "DockerEngineNotAvailable"
