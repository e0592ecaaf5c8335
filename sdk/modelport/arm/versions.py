"""
The api-versions that are sent, in one table.

Azure's own client mixes them: each of its parts was generated from another version of
the same API. What it sends is what the service is known to take, so the same is sent
here. Modelport's servers take any.
"""

from __future__ import annotations

ENDPOINTS = "2022-02-01-preview"
"""For what `online_endpoints` asks, deployments included."""

DEPLOYMENTS = "2023-04-01-preview"
"""For what `online_deployments` asks, endpoints included."""

REGISTRY = "2021-10-01-dataplanepreview"
"""For all that a registry is asked."""

DISCOVERY = "v1.0"
"""For where a registry is."""

_BY_COLLECTION = {
    "": "2024-10-01-preview",  # the workspace itself
    "codes": "2023-04-01",
    "data": "2023-04-01-preview",
    "datastores": "2024-10-01-preview",
    "environments": "2023-04-01-preview",
    "models": "2023-08-01-preview",
    "onlineendpoints": DEPLOYMENTS,
}
_ELSE = "2023-04-01-preview"


def of(place: str) -> str:
    """
    The api-version for requests about `place` below the workspace, where the caller does not say another.

    Source: recordings of azure-ai-ml 1.35.2.
    """
    return _BY_COLLECTION.get(place.partition("/")[0].lower(), _ELSE)
