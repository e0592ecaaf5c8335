"""
Documents about the workspace itself and its one datastore.

They are made anew for each answer, because they name the address at which this
server was asked: clients find the datastore's container by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from modelport.arm import ids
from modelport.controlplane.blobs import CONTAINER, DATASTORE

PLACE = f"datastores/{DATASTORE}"
_MOST_HOURS = 24


def datastore(workspace: ids.WorkspaceId, base_url: str) -> dict[str, Any]:
    """
    The datastore's document.

    Clients make the account's URL as `{protocol}://{accountName}.blob.{endpoint}`. The `#` makes all that follows it
    a fragment, which is not sent: what remains is this server's own address.
    """
    split = urlsplit(base_url)
    return {
        "id": f"{workspace}/{PLACE}",
        "name": DATASTORE,
        "type": f"{ids.PROVIDER}/workspaces/datastores",
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": f"{split.netloc}#",
            "containerName": CONTAINER,
            "endpoint": split.netloc,
            "protocol": split.scheme,
            "isDefault": True,
            "credentials": {"credentialsType": "Sas"},
            "tags": {},
            "properties": {},
        },
    }


def seconds_asked(body: Any) -> float:
    """How long a signature should last: an hour, unless `expireAfterHours` says another time of at most a day."""
    said = body.get("expireAfterHours") if isinstance(body, Mapping) else None
    hours = said if isinstance(said, (int, float)) and not isinstance(said, bool) else 1
    return min(max(hours, 0), _MOST_HOURS) * 3600.0


def workspace_document(workspace: ids.WorkspaceId, base_url: str, location: str, backend: str) -> dict[str, Any]:
    """The workspace's document; its tags tell clients which `backend` runs what it has."""
    return {
        "id": str(workspace),
        "name": workspace.name,
        "type": f"{ids.PROVIDER}/workspaces",
        "location": location,
        "tags": {"backend": backend},
        "kind": "Default",
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "friendlyName": workspace.name,
            "workspaceId": workspace.name,
            "discoveryUrl": f"{base_url}/discovery",
            "provisioningState": "Succeeded",
        },
    }
