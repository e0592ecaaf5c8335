"""Azure's words, and Azure's names for errors and credentials."""

import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest

from modelport import constants, errors, exceptions, identity

SDK = Path(__file__).parents[1] / "sdk"

# Facts: azure-ai-ml 1.35's values, and which of these are enumerations of text there.
VALUES = {
    "AssetTypes": {
        "URI_FILE": "uri_file",
        "URI_FOLDER": "uri_folder",
        "MLTABLE": "mltable",
        "MLFLOW_MODEL": "mlflow_model",
        "TRITON_MODEL": "triton_model",
        "CUSTOM_MODEL": "custom_model",
    },
    "ListViewType": {"ACTIVE_ONLY": "ActiveOnly", "ARCHIVED_ONLY": "ArchivedOnly", "ALL": "All"},
    "ModelType": {"CUSTOM": "CustomModel", "MLFLOW": "MLFlowModel", "TRITON": "TritonModel"},
    "ManagedServiceIdentityType": {
        "NONE": "None",
        "SYSTEM_ASSIGNED": "SystemAssigned",
        "USER_ASSIGNED": "UserAssigned",
        "SYSTEM_ASSIGNED_USER_ASSIGNED": "SystemAssigned,UserAssigned",
    },
    "IPProtectionLevel": {"ALL": "all", "NONE": "none"},
    "Scope": {"SUBSCRIPTION": "subscription", "RESOURCE_GROUP": "resource_group"},
    "WorkspaceKind": {"DEFAULT": "default", "HUB": "hub", "PROJECT": "project", "FEATURE_STORE": "featurestore"},
    "InputTypes": {"INTEGER": "integer", "NUMBER": "number", "STRING": "string", "BOOLEAN": "boolean"},
    "InputOutputModes": {
        "MOUNT": "mount",
        "DOWNLOAD": "download",
        "UPLOAD": "upload",
        "RO_MOUNT": "ro_mount",
        "RW_MOUNT": "rw_mount",
        "EVAL_MOUNT": "eval_mount",
        "EVAL_DOWNLOAD": "eval_download",
        "DIRECT": "direct",
    },
}
ENUMERATIONS = {"ListViewType", "ManagedServiceIdentityType", "IPProtectionLevel"}


@pytest.mark.parametrize("name", VALUES)
def test_constants_have_azures_values(name):
    kind = getattr(constants, name)
    assert {each: value for each, value in vars(kind).items() if each.isupper()} == VALUES[name]
    assert issubclass(kind, Enum) is (name in ENUMERATIONS)
    assert issubclass(kind, str) is (name in ENUMERATIONS)


def test_every_constant_is_a_fact():
    assert sorted(VALUES) == sorted(constants.__all__)


@pytest.mark.parametrize("name", sorted({*exceptions.__all__} - {"ErrorCategory"}))
def test_azures_names_for_errors_are_classes_of_ours(name):
    assert issubclass(getattr(exceptions, name), errors.ModelportError)


def test_a_handler_for_azures_name_catches_what_happens_here():
    assert exceptions.MlException is errors.ModelportError
    for theirs, ours in {
        "DeploymentException": errors.UserScriptInitFailed,
        "LocalEndpointNotFoundError": errors.LocalEndpointNotFoundError,
        "LocalEndpointImageBuildError": errors.ImageBuildFailure,
        "AssetPathException": errors.ValidationException,
        "DockerEngineNotAvailableError": errors.DockerEngineNotAvailableError,
    }.items():
        assert issubclass(ours, getattr(exceptions, theirs))


def test_credentials_are_azure_identitys_own_and_loaded_when_used():
    import azure.identity

    assert identity.DefaultAzureCredential is azure.identity.DefaultAzureCredential
    assert set(azure.identity.__all__) == set(dir(identity))
    with pytest.raises(AttributeError, match="no attribute 'DefaultAzureCredentail': azure-identity has none either"):
        identity.DefaultAzureCredentail  # noqa: B018 (the look-up is the test)
    asks = "import modelport.identity, sys; print('azure.identity' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", asks], cwd=SDK, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
