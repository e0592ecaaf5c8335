"""An endpoint: a name, a URL, who may call it, and how its traffic is split over deployments."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import attrs

from modelport.entities.base import Entity, Problem, Variants, field, hidden
from modelport.entities.names import lower_case, resource_name
from modelport.entities.words import Asset, Choice, Ids, Traffic

MOST_MIRRORED = 50
"""Percent of the traffic that Azure mirrors at most."""

AUTH_MODES = Choice({"key": "Key", "aml_token": "AMLToken", "aad_token": "AADToken"})
ACCESS = Choice({"enabled": "enabled", "disabled": "disabled"})
_IDENTITIES = Choice({"system_assigned": "SystemAssigned", "user_assigned": "UserAssigned", "none": "None"})


def traffic_rules(value: Any) -> dict[str, Any]:
    """
    Deployment names in lower case, as Azure has them; percentages as they are.

    Raises:
        TypeError: It is not a mapping.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"Expected deployment names with percentages, found {value!r}.")
    return {str(name).lower(): share for name, share in value.items()}


@attrs.define(kw_only=True)
class ManagedIdentityConfiguration(Entity):
    """An identity that a user made."""

    client_id: str | None = field(wire=None)
    """Its client id."""

    resource_id: str | None = field(wire=None)
    """Its ARM id."""

    object_id: str | None = field(wire=None)
    """Its object id."""

    principal_id: str | None = field(wire=None)
    """Its principal id."""


@attrs.define(kw_only=True)
class IdentityConfiguration(Entity):
    """As whom an endpoint's deployments reach other services."""

    type: Annotated[str, _IDENTITIES] = field("system_assigned", convert=_IDENTITIES.python)
    """`system_assigned`, `user_assigned` or `none`."""

    user_assigned_identities: Annotated[list[ManagedIdentityConfiguration], Ids()] | None = field()
    """The identities, when they are the user's."""

    principal_id: str | None = field(owned=True, file=False, eq=False)
    """Of a system-assigned identity."""

    tenant_id: str | None = field(owned=True, file=False, eq=False)
    """Of a system-assigned identity."""

    def check(self) -> Iterator[Problem]:
        """Azure takes one identity of the user's."""
        if self.type == "user_assigned" and not self.user_assigned_identities:
            yield Problem("user_assigned_identities", "Name the identity, or use type system_assigned.")
        if len(self.user_assigned_identities or []) > 1:
            yield Problem("user_assigned_identities", "An endpoint takes one identity; name one.")


@attrs.define(kw_only=True)
class OnlineEndpoint(Entity):
    """What all endpoints have. Make a `ManagedOnlineEndpoint` or a `KubernetesOnlineEndpoint`."""

    place = "onlineEndpoints/{name}"
    home = "properties"
    variants = Variants(file=None, wire=None, default="managed", marks={"compute": "kubernetes"})

    name: str = field(identity=True, required=True, convert=lower_case, check=resource_name("an endpoint"))
    """3 to 32 letters, digits and '-', starting with a letter; lower-cased."""

    auth_mode: Annotated[str, AUTH_MODES] = field("key", convert=AUTH_MODES.python)
    """Who may call: holders of a `key`, of an `aml_token`, or of an `aad_token`."""

    description: str | None = field()
    """Free text."""

    tags: dict[str, Any] = field(factory=dict, wire="/tags")
    """Labels, sent as they are."""

    properties: dict[str, Any] = field(factory=dict)
    """Labels that Azure never lets one remove."""

    location: str | None = field(wire="/location")
    """Region; the workspace's is sent in its place, as Azure's SDK does."""

    traffic: Traffic | None = field(convert=traffic_rules, service=dict)
    """Percent of the requests for each deployment, 0 or 100 in all. None keeps what is there, `{}` clears it."""

    mirror_traffic: Traffic | None = field(convert=traffic_rules, service=dict)
    """Percent of the requests that one deployment sees a copy of, at most 50. None keeps, `{}` clears."""

    identity: IdentityConfiguration | None = field(factory=IdentityConfiguration, wire="/identity")
    """As whom its deployments reach other services."""

    kind: str | None = field(wire="/kind", owned=True, file=False, eq=False)
    """`Managed` or `K8S`, as the service says."""

    id: str | None = field(wire="/id", owned=True, file=False, eq=False)
    """ARM id."""

    provisioning_state: str | None = field(owned=True, file=False, eq=False)
    """`Creating`, `Updating`, `Deleting`, `Succeeded`, `Failed` or `Canceled`."""

    scoring_uri: str | None = field(owned=True, file=False, eq=False)
    """Where requests go."""

    openapi_uri: str | None = field(wire="swaggerUri", owned=True, file=False, eq=False)
    """Where the OpenAPI page is."""

    system_data: dict[str, Any] | None = field(wire="/systemData", owned=True, file=False, eq=False, show=False)
    """Who made it and changed it last, and when, as the service says."""

    def __attrs_pre_init__(self) -> None:
        """Azure's rule: an endpoint is of one kind or the other."""
        if type(self).variant is None:
            raise TypeError(
                "OnlineEndpoint cannot be made: make a ManagedOnlineEndpoint or a KubernetesOnlineEndpoint."
            )

    def check(self) -> Iterator[Problem]:
        """The service's traffic rules, which Azure's client leaves to the service."""
        wrong = [*_percentages("traffic", self.traffic), *_percentages("mirror_traffic", self.mirror_traffic)]
        yield from wrong
        if wrong:
            return
        live = {name: share for name, share in (self.traffic or {}).items() if share}
        mirrored = {name: share for name, share in (self.mirror_traffic or {}).items() if share}
        total = sum(live.values())
        if total not in (0, 100):
            shares = ", ".join(f"{name} {share}" for name, share in live.items())
            yield Problem("traffic", f"The percentages must sum to 0 or 100, not {total} ({shares}).")
        if len(mirrored) > 1:
            yield Problem("mirror_traffic", f"One deployment can be mirrored, not {len(mirrored)}: {_list(mirrored)}.")
        for name, share in mirrored.items():
            if share > MOST_MIRRORED:
                yield Problem("mirror_traffic", f"'{name}' has {share}%; at most {MOST_MIRRORED}% can be mirrored.")
            if name in live:
                message = f"'{name}' has live traffic; a deployment is live or mirrored, not both."
                yield Problem("mirror_traffic", message)


@attrs.define(kw_only=True)
class ManagedOnlineEndpoint(OnlineEndpoint):
    """An endpoint whose machines somebody else looks after: Azure, or Modelport on this one."""

    variant = ("managed", "Managed")

    public_network_access: Annotated[str, ACCESS] | None = field(service="enabled", convert=ACCESS.python)
    """`enabled` or `disabled`; the service's default is enabled."""


@attrs.define(kw_only=True)
class KubernetesOnlineEndpoint(OnlineEndpoint):
    """An endpoint on a cluster of the user's own."""

    variant = ("kubernetes", "K8S")

    compute: Annotated[str, Asset("computes")] | None = field()
    """`azureml:NAME` of the attached cluster, or its ARM id."""


@attrs.define(kw_only=True)
class EndpointAuthKeys(Entity):
    """The two keys of an endpoint; either opens it, so that one can be changed while the other is in use."""

    primary_key: str | None = field(show=hidden)
    """The first."""

    secondary_key: str | None = field(show=hidden)
    """The second."""


@attrs.define(kw_only=True)
class EndpointAuthToken(Entity):
    """A token for an endpoint with `auth_mode` `aml_token`. Times in seconds since 1970, UTC."""

    access_token: str | None = field(show=hidden)
    """What goes behind `Bearer`."""

    expiry_time_utc: int | None = field()
    """When it stops to be valid."""

    refresh_after_time_utc: int | None = field()
    """From when on a newer one is given out."""

    token_type: str | None = field()
    """`Bearer`."""


@attrs.define(kw_only=True)
class EndpointAadToken(Entity):
    """A Microsoft Entra token for an endpoint with `auth_mode` `aad_token`."""

    access_token: str | None = field(show=hidden)
    """What goes behind `Bearer`."""

    expiry_time_utc: int | None = field()
    """When it stops to be valid, in seconds since 1970."""


def _percentages(name: str, rules: Mapping[str, Any] | None) -> Iterator[Problem]:
    for deployment, share in (rules or {}).items():
        if isinstance(share, bool) or not isinstance(share, int):
            yield Problem(name, f"'{deployment}' has {share!r}; write a whole percentage.")
        elif share < 0:
            yield Problem(name, f"'{deployment}' has {share}%; a share cannot be negative.")


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names)
