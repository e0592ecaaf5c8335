"""
Azure's words for kinds and states, under Azure's names.

Source: `azure.ai.ml.constants`, as far as it is about online endpoints and what they are made of: classes of
plain text where Azure has those, enumerations of text where Azure has those.
"""

from enum import Enum


class AssetTypes:
    """What the files of an asset are."""

    URI_FILE = "uri_file"
    URI_FOLDER = "uri_folder"
    MLTABLE = "mltable"
    MLFLOW_MODEL = "mlflow_model"
    TRITON_MODEL = "triton_model"
    CUSTOM_MODEL = "custom_model"


class ModelType:
    """A model's type as the service's older versions spell it."""

    CUSTOM = "CustomModel"
    MLFLOW = "MLFlowModel"
    TRITON = "TritonModel"


class Scope:
    """How much of an account is looked at."""

    SUBSCRIPTION = "subscription"
    RESOURCE_GROUP = "resource_group"


class WorkspaceKind:
    """What a workspace is for."""

    DEFAULT = "default"
    HUB = "hub"
    PROJECT = "project"
    FEATURE_STORE = "featurestore"


class InputOutputModes:
    """How a job gets at its data."""

    MOUNT = "mount"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    RO_MOUNT = "ro_mount"
    RW_MOUNT = "rw_mount"
    EVAL_MOUNT = "eval_mount"
    EVAL_DOWNLOAD = "eval_download"
    DIRECT = "direct"


class InputTypes:
    """Types of plain inputs."""

    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"
    BOOLEAN = "boolean"


class ListViewType(str, Enum):
    """Which assets a list has: those in use, the archived ones, or all."""

    ACTIVE_ONLY = "ActiveOnly"
    ARCHIVED_ONLY = "ArchivedOnly"
    ALL = "All"


class ManagedServiceIdentityType(str, Enum):
    """As whom a resource reaches other services."""

    NONE = "None"
    SYSTEM_ASSIGNED = "SystemAssigned"
    USER_ASSIGNED = "UserAssigned"
    SYSTEM_ASSIGNED_USER_ASSIGNED = "SystemAssigned,UserAssigned"


class IPProtectionLevel(str, Enum):
    """How much of an asset its users may see."""

    ALL = "all"
    NONE = "none"


__all__ = [
    "AssetTypes",
    "IPProtectionLevel",
    "InputOutputModes",
    "InputTypes",
    "ListViewType",
    "ManagedServiceIdentityType",
    "ModelType",
    "Scope",
    "WorkspaceKind",
]
