"""
What would change, before it does.

An entity is compared with what the service has, field by field; nothing is sent but
questions. Each change says what it does to what serves: nothing, another number of
replicas, new replicas, or a refusal. Files count by their content.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from attrs import field, frozen

from modelport.arm import ids, versions
from modelport.backends import refusals
from modelport.builds import conda
from modelport.entities import Code, Environment, Model, OnlineDeployment, OnlineEndpoint, sizes
from modelport.entities.base import Entity, changed, filled
from modelport.errors import ResourceNotFoundError, ValidationException
from modelport.operations import preflight
from modelport.operations.base import Service
from modelport.operations.references import (
    registered_environment,
    registered_model,
    resolved,
    resolved_endpoint,
)
from modelport.operations.rehearsal import Rehearsal
from modelport.schema import faces
from modelport.schema.faces import Face

_E = TypeVar("_E", bound=Entity)
Effect = Literal["create", "in place", "scale", "restart", "refused"]
_STRENGTH: tuple[Effect, ...] = ("in place", "scale", "restart", "create", "refused")
_MEANING: Mapping[Effect, str] = {
    "create": "is made anew",
    "in place": "the replicas go on as they are",
    "scale": "replicas are added or ended; those that stay go on",
    "restart": "new replicas are started and ready before the old ones end",
    "refused": "the service refuses it",
}

# What needs new replicas. Whatever is not named here, or below, is only said about a deployment.
_RESTARTS = (
    "model", "code_configuration", "environment", "environment_variables", "instance_type", "request_settings",
    "liveness_probe", "readiness_probe", "model_mount_path", "data_collector", "egress_public_network_access",
    "app_insights_enabled", "resources", "private_network_connection",
)  # fmt: skip
_SCALES = ("instance_count", "scale_settings")

_RECORDED_HERE = (
    "instance_type", "request_settings.request_timeout_ms", "request_settings.max_queue_wait_ms", "model_mount_path",
    "data_collector", "egress_public_network_access", "app_insights_enabled", "private_network_connection",
    "scale_settings",
)  # fmt: skip
"""What processes on this machine take without new replicas: `controlplane.plan` and `controlplane.rules` say so."""

_RECORDED_BY_CONTAINERS = tuple(
    each for each in _RECORDED_HERE if each not in ("model_mount_path", "egress_public_network_access")
)
"""What containers do."""

_REFUSED = {
    "kind": "An endpoint is managed or Kubernetes for good: make another one.",
    "compute": "An endpoint stays on its cluster: make another one.",
    "identity": "An endpoint's identity cannot change after it was made (Azure's documentation of identities).",
}
_UNSURE = {
    "auth_mode": "Azure documents description, tags and traffic as what can be changed; it may refuse this.",
}
_HASH = re.compile(r"[0-9a-f]{32,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_SAYING = ("location", "code_path", "scoring_script", "traffic", "mirror_traffic")
_BUSY = ("creating", "updating", "scaling", "deleting")


@frozen
class Change:
    """One field that would change."""

    field: str
    before: Any
    after: Any
    effect: Effect
    note: str = ""

    def __str__(self) -> str:
        values = "" if self.before is self.after is None else f": {_shown(self.before)} → {_shown(self.after)}"
        said = f"{self.field}{values}  [{self.effect}]"
        return f"{said} {self.note}".rstrip()


@frozen
class Share:
    """A deployment's part of its endpoint's traffic, in percent; None: there is no such deployment."""

    deployment: str
    before: int | None
    after: int | None
    mirrored_before: int = 0
    mirrored_after: int = 0

    def __str__(self) -> str:
        mirrored = (self.mirrored_before, self.mirrored_after)
        also = f", mirrored {mirrored[0]}% → {mirrored[1]}%" if any(mirrored) else ""
        return f"{self.deployment}: {self.before or 0}% → {self.after or 0}%{also}"


@frozen
class Quota:
    """The cores of a size that Azure wants quota for: before, where it had that size, and after; None is not known."""

    instance_type: str
    before: int | None
    after: int | None

    def __str__(self) -> str:
        if self.after is None:
            return f"unknown: the cores of {self.instance_type} are not known here"
        before = "" if self.before is None else f" (now {self.before})"
        spare = ": a fifth more than the instances, for upgrades" if sizes.spare(self.instance_type) else ""
        return f"{self.after} cores of {self.instance_type}{before}{spare}"


@frozen
class Plan:
    """What would change; `print` it. True when anything would."""

    about: str
    exists: bool
    changes: tuple[Change, ...]
    traffic: tuple[Share, ...] = ()
    quota: Quota | None = None
    sends: tuple[str, ...] = ()
    """What would be registered or uploaded on the way."""
    notes: tuple[str, ...] = field(default=())
    """What to know beside."""

    @property
    def effect(self) -> Effect | None:
        """The strongest of the changes' effects; None when nothing would change."""
        return max((each.effect for each in self.changes), key=_STRENGTH.index, default=None)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _lines(self) -> Iterator[str]:
        effect = self.effect
        if effect is None:
            yield f"{self.about}: nothing to do."
        elif effect == "create":
            yield f"{self.about} would be created."
        elif effect == "refused":
            yield f"{self.about}: the service refuses this."
        else:
            yield f"{self.about} would change; {_MEANING[effect]}."
        yield from (f"  {each}" for each in self.changes)
        yield from (f"  traffic of {each}" for each in self.traffic)
        yield from (f"  sends {each}" for each in self.sends)
        if self.quota:
            yield f"  quota {self.quota}"
        yield from (f"  note: {each}" for each in self.notes)

    def _repr_html_(self) -> str:
        first, *_ = self._lines()
        rows = "".join(
            f"<tr><td><code>{html.escape(each.field)}</code></td><td>{html.escape(_shown(each.before))}</td>"
            f"<td>{html.escape(_shown(each.after))}</td><td>{each.effect}</td><td>{html.escape(each.note)}</td></tr>"
            for each in self.changes
        )
        table = f"<table><tr><th>field</th><th>now</th><th>then</th><th>effect</th><th></th></tr>{rows}</table>"
        others = [f"traffic of {each}" for each in self.traffic]
        others += [f"sends {each}" for each in self.sends]
        others += [f"quota {self.quota}"] if self.quota else []
        others += list(self.notes)
        items = "".join(f"<li>{html.escape(each)}</li>" for each in others)
        return f"<b>{html.escape(first)}</b>{table if rows else ''}{f'<ul>{items}</ul>' if items else ''}"


def plan(service: Service, entity: Entity) -> Plan:
    """
    What creating or changing `entity` would do; nothing is sent but questions.

    Raises:
        TypeError: It is no endpoint, deployment, model or environment.
        errors.ValidationException: It is not valid, or names files that are not there.
        errors.ResourceNotFoundError: It names an asset that does not exist.
    """
    if isinstance(entity, OnlineEndpoint):
        return _endpoint(service.speaking(versions.ENDPOINTS), entity)
    if isinstance(entity, OnlineDeployment):
        return _deployment(service.speaking(versions.DEPLOYMENTS), entity)
    if isinstance(entity, (Model, Environment)):
        return _asset(service, entity)
    said = f"{type(entity).__name__} ({entity!r:.80})"
    raise TypeError(f"plan() takes an endpoint, a deployment, a model or an environment, not {said}.")


# Endpoints


def _endpoint(service: Service, endpoint: OnlineEndpoint) -> Plan:
    endpoint.validate()
    about = f"Endpoint '{endpoint.name}'"
    want = resolved_endpoint(_rehearsed(service)[0], endpoint)
    have = _there(service, OnlineEndpoint, ids.place(endpoint))
    names = _names(service, endpoint.name) if have else ()
    if have is None:
        share, mirror = want.traffic or {}, want.mirror_traffic or {}
        unknown = [name for name, part in {**share, **mirror}.items() if part]
        made = [Change("name", None, endpoint.name, "create")]
        if unknown:
            note = "It has no deployment yet: create that first."
            made.append(Change("traffic", None, dict(share or mirror), "refused", note))
        return Plan(about, exists=False, changes=(*made, *_impossible(service, want)))
    keeps = {name: getattr(have, name) for name in ("traffic", "mirror_traffic") if getattr(want, name) is None}
    want = changed(want, **keeps)
    changes = [] if type(want) is type(have) else [_refusal("kind", _variant(have), _variant(want))]
    if isinstance(want, type(have)):
        azure = not service.backend
        changes += [_endpoint_change(azure, *each) for each in _differences(filled(have), filled(want))]
        changes = [*{each.field: each for each in (*changes, *_impossible(service, want))}.values()]
    shares = _shares(have, want, names)
    changes += _traffic(have, want, names)
    changes += _busy(have)
    left = [each.deployment for each in shares if each.before and not each.after]
    notes = [f"{', '.join(left)} would get no traffic any more."] if left and want.traffic else []
    if names and not any((want.traffic or {}).values()):
        notes.append("No deployment would get traffic: a request without a deployment's name is answered with 404.")
    moved = any((each.before or 0, each.mirrored_before) != (each.after or 0, each.mirrored_after) for each in shares)
    return Plan(about, True, tuple(changes), shares if moved else (), notes=tuple(notes))


def _endpoint_change(azure: bool, name: str, before: Any, after: Any) -> Change:
    top = name.partition(".")[0]
    if top in _REFUSED and azure:
        return _refusal(name, before, after)
    return Change(name, before, after, "in place", _UNSURE.get(top, "") if azure else "")


def _impossible(service: Service, want: OnlineEndpoint) -> Iterator[Change]:
    """What processes on this machine cannot do for an endpoint."""
    refusal = refusals.of_endpoint(want) if service.backend else None
    if refusal:
        name = str(refusal.target)
        yield Change(name, None, getattr(want, name), "refused", refusal.message)


def _refusal(name: str, before: Any, after: Any) -> Change:
    return Change(name, before, after, "refused", _REFUSED[name.partition(".")[0]])


def _shares(have: OnlineEndpoint, want: OnlineEndpoint, names: tuple[str, ...]) -> tuple[Share, ...]:
    was, will = have.traffic or {}, want.traffic or {}
    seen, sees = have.mirror_traffic or {}, want.mirror_traffic or {}
    every = dict.fromkeys((*names, *was, *will, *seen, *sees))
    return tuple(Share(name, *(rules.get(name, 0) for rules in (was, will, seen, sees))) for name in every)


def _traffic(have: OnlineEndpoint, want: OnlineEndpoint, names: tuple[str, ...]) -> Iterator[Change]:
    for rules in ("traffic", "mirror_traffic"):
        before = {name: share for name, share in (getattr(have, rules) or {}).items() if share}
        after = {name: share for name, share in (getattr(want, rules) or {}).items() if share}
        unknown = [name for name in after if name not in names]
        if unknown:
            note = f"'{unknown[0]}' is not a deployment of '{want.name}': create it first."
            yield Change(rules, before, after, "refused", note)
        elif before != after:
            yield Change(rules, before, after, "in place")
    for problem in want.problems():  # what was kept counts too
        yield Change(problem.field, None, None, "refused", problem.message)


# Deployments


def _deployment(service: Service, deployment: OnlineDeployment) -> Plan:
    azure = not service.backend
    preflight.report(deployment, azure=azure).raise_errors()
    about = f"Deployment '{deployment.name}' of '{deployment.endpoint_name}'"
    quiet, rehearsal = _rehearsed(service)
    want = filled(resolved(quiet, deployment))
    have = _there(service, OnlineDeployment, ids.place(deployment))
    endpoint = _there(service, OnlineEndpoint, f"onlineEndpoints/{deployment.endpoint_name}")
    notes = []
    share = ((endpoint.traffic if endpoint else None) or {}).get(deployment.name, 0)
    if have is None:
        changes = [Change("name", None, deployment.name, "create")]
        notes.append(
            f"It gets no traffic until the endpoint's traffic names it; deployment_name='{deployment.name}' asks it."
        )
    else:
        changes = list(_deployment_changes(quiet, filled(have), want, azure))
        if changes and not share:
            notes.append("It has no live traffic now.")
    changes += _unserved(quiet, want, endpoint, azure)
    quota = _quota(have, want) if azure else None
    return Plan(
        about, have is not None, tuple(changes), quota=quota, sends=_sends(service, rehearsal), notes=tuple(notes)
    )


def _unserved(
    service: Service, want: OnlineDeployment, endpoint: OnlineEndpoint | None, azure: bool
) -> Iterator[Change]:
    """What the service refuses of a deployment, whatever is there of it now."""
    if endpoint is None:
        note = f"Endpoint '{want.endpoint_name}' does not exist: create it first."
        yield Change("endpoint_name", None, want.endpoint_name, "refused", note)
    code = want.code_configuration.code if want.code_configuration else None
    model = _asset_of(service, Model, want.model)
    environment = _asset_of(service, Environment, want.environment)
    for name, said, there, kind in (
        ("model", want.model, model, "models"),
        ("environment", want.environment, environment, "environments"),
        ("code_configuration.code", code, _asset_of(service, Code, code), "codes"),
    ):
        elsewhere = isinstance(said, str) and azure and not ids.reference(said, kind, service.workspace)
        if said and there is None and not elsewhere:
            yield Change(name, None, said, "refused", "The workspace does not have it: create it first.")
    if azure:
        return
    refusal = refusals.of_deployment(want, environment, service.backend)
    if refusal:
        yield Change(str(refusal.target), None, None, "refused", refusal.message)
    elif environment and isinstance(environment.conda_file, dict):
        try:
            conda.read(environment.conda_file)
        except ValidationException as error:
            yield Change("environment.conda_file", None, None, "refused", error.message)


def _deployment_changes(
    service: Service, have: OnlineDeployment, want: OnlineDeployment, azure: bool
) -> Iterator[Change]:
    if type(have) is not type(want):
        yield Change("type", _variant(have), _variant(want), "refused", "It stays what it was made: make another one.")
        return
    for name, before, after in _differences(have, want):
        yield Change(name, before, after, _effect(service, azure, name, before, after))
    yield from _busy(have)
    if (have.provisioning_state or "").lower() == "failed":
        note = "What serves, if anything does, is what was there before; it is tried again."
        yield Change("provisioning_state", have.provisioning_state, "Succeeded", "restart", note)


def _effect(service: Service, azure: bool, name: str, before: Any, after: Any) -> Effect:
    top = name.partition(".")[0]
    if top in _SCALES and (azure or name == "instance_count"):
        return "scale"
    if top not in _RESTARTS:
        return "in place"
    if azure:
        return "restart"
    recorded = _RECORDED_HERE if service.backend == "process" else _RECORDED_BY_CONTAINERS
    if name in recorded or top in recorded or str(before) == str(after):
        return "in place"
    if service.backend == "process" and name == "environment" and _conda(service, before) == _conda(service, after):
        return "in place"
    return "restart"


def _conda(service: Service, said: str | None) -> Any:
    """The conda file of an environment, which is all of it that counts for processes; its id, where it is elsewhere."""
    there = _asset_of(service, Environment, said)
    return there.conda_file if there else said


def _asset_of(service: Service, kind: type[_E], said: Any) -> _E | None:
    """The asset of the workspace that a reference means, with a version; None when there is none."""
    assert kind.place
    collection = kind.place.partition("/")[0]
    found = ids.reference(said, collection, service.workspace) if isinstance(said, str) else None
    return _there(service, kind, f"{found.kind}/{found.name}/versions/{found.version}") if found else None


def _quota(have: OnlineDeployment | None, want: OnlineDeployment) -> Quota | None:
    if not want.instance_type:
        return None
    kind = want.instance_type
    same = have is not None and (have.instance_type or "").lower() == kind.lower()  # another size is another quota
    now = sizes.quota(kind, have.instance_count or 0) if have and same else None
    return Quota(kind, now, sizes.quota(kind, want.instance_count or 0))


def _sends(service: Service, rehearsal: Rehearsal) -> tuple[str, ...]:
    """What would be registered on the way, as far as it is not there, and the files that would be uploaded."""
    kinds = {"codes": "code", "models": "model", "environments": "environment", "data": "data asset"}
    found = []
    for place, body in rehearsal.puts.items():
        kind, name, _, version = place.split("/")
        there = service.reply("GET", place)
        if there.status >= 400:
            anonymous = (body.get("properties") or {}).get("isAnonymous")
            found.append(kinds.get(kind, kind) if anonymous else f"{kinds.get(kind, kind)} {name}:{version}")
    if rehearsal.files:
        count, size = len(rehearsal.files), sum(rehearsal.files.values())
        found.append(f"{count} file{'s' if count > 1 else ''}, {_bytes(size)}, as far as they are not there")
    return tuple(found)


# Assets


def _asset(service: Service, asset: Model | Environment) -> Plan:
    quiet, rehearsal = _rehearsed(service)
    kind = type(asset)
    made = registered_model(quiet, asset) if isinstance(asset, Model) else registered_environment(quiet, asset)
    place = ids.place(made)
    about = f"{kind.__name__} '{asset.name or '(anonymous)'}' version '{made.version}'"
    have = _there(service, kind, place)
    sends = _sends(service, rehearsal)
    if have is None:
        return Plan(about, exists=False, changes=(Change("version", None, made.version, "create"),), sends=sends)
    want = faces.load(kind, rehearsal.puts[place], Face.RECORD) if place in rehearsal.puts else have
    changes = [Change(*each, "in place") for each in _differences(have, want)]
    return Plan(about, exists=True, changes=tuple(changes), sends=sends)


# What they share


def _rehearsed(service: Service) -> tuple[Service, Rehearsal]:
    rehearsal = Rehearsal(service.transport)
    return Service(rehearsal, show_progress=False), rehearsal


def _there(service: Service, kind: type[_E], place: str) -> _E | None:
    try:
        return service.get(kind, place)
    except ResourceNotFoundError:
        return None


def _names(service: Service, endpoint: str) -> tuple[str, ...]:
    return tuple(each.name for each in service.list(OnlineDeployment, f"onlineEndpoints/{endpoint}/deployments"))


def _busy(have: Any) -> Iterator[Change]:
    if (have.provisioning_state or "").lower() in _BUSY:
        note = f"It is {have.provisioning_state}: wait until that has ended."
        yield Change("provisioning_state", have.provisioning_state, have.provisioning_state, "refused", note)


def _variant(entity: Entity) -> str:
    return entity.variant[0] if entity.variant else type(entity).__name__


def _differences(have: Entity, want: Entity, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The fields in which two entities of a kind differ, with their values; parts are gone into."""
    for attribute, spec, _ in want.fields():
        name = attribute.name
        if spec.owned or spec.identity or (not prefix and name in _NO_SAYING):
            continue
        before, after = getattr(have, name), getattr(want, name)
        if name == "properties" and isinstance(after, Mapping):  # they can be added, never removed
            before = {key: value for key, value in (before or {}).items() if key in after}
        if isinstance(before, Entity) and type(before) is type(after):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif isinstance(before, dict) and isinstance(after, dict):
            for key in dict.fromkeys((*before, *after)):
                if before.get(key) != after.get(key):
                    yield f"{prefix}{name}.{key}", before.get(key), after.get(key)
        elif before != after and (before or after or isinstance(before, int) or isinstance(after, int)):
            yield f"{prefix}{name}", before, after


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str) and "/providers/" in value:  # an ARM id: what is behind its workspace
        return _HASH.sub(lambda found: f"{found[0][:8]}…", value.partition("/workspaces/")[2].partition("/")[2])
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items()) or "nothing"
    return str(value)


def _bytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MB" if size >= 1 << 20 else f"{size:,} bytes"
