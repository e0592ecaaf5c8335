"""A workspace: what endpoints and assets live in."""

import attrs

from modelport.entities.base import Entity, field


@attrs.define(kw_only=True)
class Workspace(Entity):
    """The place that a client works in."""

    home = "properties"

    name: str | None = field(identity=True)
    """Its name."""

    location: str | None = field(wire="/location", owned=True)
    """Its region; endpoints and deployments get the same."""

    id: str | None = field(wire="/id", owned=True, file=False, eq=False)
    """ARM id."""

    description: str | None = field()
    """Free text."""
