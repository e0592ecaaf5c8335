"""
Azure's names for what can go wrong: `azure.ai.ml.exceptions` and the part of `azure.core.exceptions` that users meet.

Each is one of the classes in `errors`, so that a handler written for Azure's SDK catches what happens here. Where
Azure has a class for each stage of its client, several names stand for one class.
"""

from modelport.errors import (
    ClientAuthenticationError,
    DeploymentFailed,
    DockerEngineNotAvailableError,
    HttpResponseError,
    ImageBuildFailure,
    InvalidVSCodeRequestError,
    LocalDeploymentGPUNotAvailable,
    LocalEndpointNotFoundError,
    MlException,
    MultipleLocalDeploymentsFoundError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    UnsupportedByBackend,
    ValidationException,
    VSCodeCommandNotFound,
)

DeploymentException = DeploymentFailed

# What a user wrote, or points at, is not as it must be.
AssetException = AssetPathException = EmptyDirectoryError = ModelException = UserErrorException = ValidationException
CloudArtifactsNotSupportedError = RequiredLocalArtifactsNotFoundError = InvalidLocalEndpointError = ValidationException

# This machine, or this version of Modelport, has no such thing.
UnsupportedOperationError = UnsupportedByBackend

# What runs on this machine.
LocalEndpointImageBuildError = ImageBuildFailure
LocalEndpointInFailedStateError = DeploymentFailed


class ErrorCategory:
    """Whose error it is, in Azure's words."""

    USER_ERROR = "UserError"
    SYSTEM_ERROR = "SystemError"
    UNKNOWN = "Unknown"


__all__ = [
    "AssetException",
    "AssetPathException",
    "ClientAuthenticationError",
    "CloudArtifactsNotSupportedError",
    "DeploymentException",
    "DockerEngineNotAvailableError",
    "EmptyDirectoryError",
    "ErrorCategory",
    "HttpResponseError",
    "InvalidLocalEndpointError",
    "InvalidVSCodeRequestError",
    "LocalDeploymentGPUNotAvailable",
    "LocalEndpointImageBuildError",
    "LocalEndpointInFailedStateError",
    "LocalEndpointNotFoundError",
    "MlException",
    "ModelException",
    "MultipleLocalDeploymentsFoundError",
    "RequiredLocalArtifactsNotFoundError",
    "ResourceExistsError",
    "ResourceModifiedError",
    "ResourceNotFoundError",
    "ServiceRequestError",
    "ServiceRequestTimeoutError",
    "UnsupportedByBackend",
    "UnsupportedOperationError",
    "UserErrorException",
    "VSCodeCommandNotFound",
    "ValidationException",
]
