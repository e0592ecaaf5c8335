"""A workspace: what endpoints and assets live in."""

from typing import Any

import attrs

from modelport.entities.base import Entity, field
from modelport.entities.endpoint import IdentityConfiguration


@attrs.define(kw_only=True)
class Workspace(Entity):
    """The place that a client works in. It is read, never made."""

    home = "properties"

    name: str | None = field(identity=True)
    """Its name."""

    location: str | None = field(wire="/location", owned=True)
    """Its region; endpoints and deployments get the same."""

    display_name: str | None = field(wire="friendlyName")
    """What people call it."""

    description: str | None = field()
    """Free text."""

    tags: dict[str, Any] = field(factory=dict, wire="/tags")
    """Labels."""

    identity: IdentityConfiguration | None = field(wire="/identity")
    """As whom it reaches other services."""

    hbi_workspace: bool | None = field()
    """Whether its data has a high business impact, so that less of it is logged."""

    storage_account: str | None = field()
    """ARM id of its storage."""

    container_registry: str | None = field()
    """ARM id of where its images are."""

    key_vault: str | None = field()
    """ARM id of where its secrets are."""

    application_insights: str | None = field()
    """ARM id of where its telemetry goes."""

    image_build_compute: str | None = field()
    """The compute that builds images."""

    public_network_access: str | None = field()
    """`Enabled` or `Disabled`."""

    primary_user_assigned_identity: str | None = field()
    """ARM id of the identity that it uses first."""

    discovery_url: str | None = field(owned=True, file=False, eq=False)
    """Where its services say where they are."""

    mlflow_tracking_uri: str | None = field(wire="mlFlowTrackingUri", owned=True, file=False, eq=False)
    """Where MLflow finds it."""

    id: str | None = field(wire="/id", owned=True, file=False, eq=False)
    """ARM id."""

    provisioning_state: str | None = field(owned=True, file=False, eq=False)
    """`Succeeded`, once it is there."""

    system_data: dict[str, Any] | None = field(wire="/systemData", owned=True, file=False, eq=False, show=False)
    """Who made it and changed it last, and when, as the service says."""

    @property
    def resource_group(self) -> str | None:
        """The resource group, as its id says."""
        steps = (self.id or "").strip("/").split("/")
        return steps[3] if len(steps) > 3 else None
