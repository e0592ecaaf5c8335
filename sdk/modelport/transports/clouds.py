"""
Azure's clouds, and where each has its services.

A cloud belongs to a client: nothing here is remembered between two of them, and the
environment is read, never written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from attrs import asdict, fields, frozen

from modelport.errors import ValidationException

_CURRENT = "AZUREML_CURRENT_CLOUD"
_DEVELOPER = "AZUREML_DEV_URL_MFE"


@frozen(kw_only=True)
class Cloud:
    """
    Addresses, by the names that Azure's `cloud_metadata` gives them.

    Source: azure-ai-ml 1.35.2, checked against each cloud's public documentation.
    """

    name: str = "AzureCloud"
    azure_portal: str = "https://portal.azure.com/"
    resource_manager: str = "https://management.azure.com/"
    active_directory: str = "https://login.microsoftonline.com/"
    aml_resource_id: str = "https://ml.azure.com/"
    storage_endpoint: str = "core.windows.net"
    registry_discovery_endpoint: str = "https://eastus.api.azureml.ms/"

    @property
    def is_known(self) -> bool:
        """Whether its authority is one of Microsoft's."""
        return self.active_directory in {each.active_directory for each in _KNOWN}

    @property
    def management_scope(self) -> str:
        """What tokens for the management API are asked for by."""
        return f"{self.resource_manager.rstrip('/')}/.default"

    @property
    def scoring_scope(self) -> str:
        """What tokens for endpoints with `aad_token` are asked for by."""
        return f"{self.aml_resource_id.rstrip('/')}/.default"

    @property
    def storage_scope(self) -> str:
        """What tokens for storage accounts are asked for by: one audience, whatever the cloud."""
        return "https://storage.azure.com/.default"

    @property
    def base_url(self) -> str:
        """Where requests go: the resource manager, or what `AZUREML_DEV_URL_MFE` says, as Azure's client has it."""
        return (os.environ.get(_DEVELOPER) or self.resource_manager).rstrip("/")


_KNOWN = (
    Cloud(),
    Cloud(
        name="AzureChinaCloud",
        azure_portal="https://portal.azure.cn/",
        resource_manager="https://management.chinacloudapi.cn/",
        active_directory="https://login.chinacloudapi.cn/",
        aml_resource_id="https://ml.azure.cn/",
        storage_endpoint="core.chinacloudapi.cn",
        registry_discovery_endpoint="https://chinaeast2.api.ml.azure.cn/",
    ),
    Cloud(
        name="AzureUSGovernment",
        azure_portal="https://portal.azure.us/",
        resource_manager="https://management.usgovcloudapi.net/",
        active_directory="https://login.microsoftonline.us/",
        aml_resource_id="https://ml.azure.us/",
        storage_endpoint="core.usgovcloudapi.net",
        registry_discovery_endpoint="https://usgovarizona.api.ml.azure.us/",
    ),
)


def named(name: str | None = None, metadata: Mapping[str, Any] | None = None) -> Cloud:
    """
    The cloud of a client.

    Args:
        name: Its name; None is what `AZUREML_CURRENT_CLOUD` says, else the public cloud.
        metadata: Addresses of a cloud that is not known, or that differ from a known one's; see `Cloud`.

    Raises:
        errors.ValidationException: It is not known, or an address has no such name or is none.
    """
    wanted = name or os.environ.get(_CURRENT) or _KNOWN[0].name
    known = next((each for each in _KNOWN if each.name.casefold() == wanted.casefold()), None)
    if metadata is None:
        if known:
            return known
        names = ", ".join(each.name for each in _KNOWN)
        raise ValidationException(
            f"'{wanted}' is not a cloud that is known; these are: {names}. For another one say where it is: "
            "cloud_metadata={'resource_manager': 'https://…', 'active_directory': 'https://…', …}.",
            target="cloud",
        )
    if not known and not metadata.get("resource_manager"):
        message = f"cloud_metadata of '{wanted}' needs resource_manager: the URL of its management API."
        raise ValidationException(message, target="cloud_metadata")
    addresses = {key: str(value) for key, value in metadata.items() if value is not None}
    _check(addresses)
    return Cloud(**{**asdict(known or _KNOWN[0]), **addresses, "name": wanted})


def _check(addresses: Mapping[str, str]) -> None:
    names = [each.name for each in fields(Cloud)]
    for key, value in addresses.items():
        if key not in names:
            near = get_close_matches(key, names, 1)
            hint = f" Did you mean '{near[0]}'?" if near else f" There are {', '.join(names)}."
            raise ValidationException(f"cloud_metadata has no '{key}'.{hint}", target="cloud_metadata")
        if key in ("resource_manager", "active_directory") and urlsplit(value).scheme not in ("http", "https"):
            raise ValidationException(f"cloud_metadata: {key} is '{value}', not a URL.", target="cloud_metadata")
