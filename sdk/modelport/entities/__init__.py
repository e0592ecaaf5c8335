"""What things are: every entity by its Azure name. attrs only; nothing here reads or writes."""

from modelport.entities.assets import BuildContext, Code, Data, Environment, Model
from modelport.entities.base import Entity
from modelport.entities.deployment import (
    KubernetesOnlineDeployment,
    ManagedOnlineDeployment,
    OnlineDeployment,
)
from modelport.entities.endpoint import (
    EndpointAadToken,
    EndpointAuthKeys,
    EndpointAuthToken,
    IdentityConfiguration,
    KubernetesOnlineEndpoint,
    ManagedIdentityConfiguration,
    ManagedOnlineEndpoint,
    OnlineEndpoint,
)
from modelport.entities.settings import (
    CodeConfiguration,
    DataAsset,
    DataCollector,
    DefaultScaleSettings,
    DeploymentCollection,
    InferenceConfig,
    OnlineRequestSettings,
    OnlineScaleSettings,
    ProbeSettings,
    RequestLogging,
    ResourceRequirementsSettings,
    ResourceSettings,
    Route,
    TargetUtilizationScaleSettings,
)
from modelport.entities.workspace import Workspace

__all__ = [
    "BuildContext",
    "Code",
    "CodeConfiguration",
    "Data",
    "DataAsset",
    "DataCollector",
    "DefaultScaleSettings",
    "DeploymentCollection",
    "EndpointAadToken",
    "EndpointAuthKeys",
    "EndpointAuthToken",
    "Entity",
    "Environment",
    "IdentityConfiguration",
    "InferenceConfig",
    "KubernetesOnlineDeployment",
    "KubernetesOnlineEndpoint",
    "ManagedIdentityConfiguration",
    "ManagedOnlineDeployment",
    "ManagedOnlineEndpoint",
    "Model",
    "OnlineDeployment",
    "OnlineEndpoint",
    "OnlineRequestSettings",
    "OnlineScaleSettings",
    "ProbeSettings",
    "RequestLogging",
    "ResourceRequirementsSettings",
    "ResourceSettings",
    "Route",
    "TargetUtilizationScaleSettings",
    "Workspace",
]
