"""
Entities as notebooks show them: a few lines of HTML with what one looks for first.

Pure text from an entity to a string; `Entity._repr_html_` comes here. Everything is escaped, for names and tags are
anyone's, and what `repr` hides is hidden here: a notebook is saved with its outputs, and sent around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from modelport.entities.base import Entity
from modelport.entities.deployment import OnlineDeployment
from modelport.entities.endpoint import OnlineEndpoint

_COLOURS = ("#4878b0", "#5f9e5f", "#d08a3e", "#8a6bb0", "#b05c5c", "#5ca0a0")
_STATES = {"Succeeded": "#3c7d3c", "Failed": "#b03a3a", "Canceled": "#b03a3a"}
_OTHER_STATE = "#8a6d1f"

Row = tuple[str, str]
"""A label and HTML."""


def page(entity: Entity) -> str:
    """The entity as HTML."""
    rows = next((draw(entity) for kind, draw in _DRAWN.items() if isinstance(entity, kind)), _plain(entity))
    body = "".join(
        f'<tr><th style="text-align:left;vertical-align:top">{escape(label)}</th>'
        f'<td style="text-align:left">{html}</td></tr>'
        for label, html in rows
        if html
    )
    return f"<div>{_title(entity)}<table>{body}</table></div>"


def _title(entity: Entity) -> str:
    name, state = getattr(entity, "name", None), getattr(entity, "provisioning_state", None)
    version = getattr(entity, "version", None)
    said = f" {escape(str(name))}" if name else ""
    said += f":{escape(str(version))}" if name and version else ""
    colour = _STATES.get(str(state), _OTHER_STATE)
    badge = f' <span style="color:{colour}">● {escape(str(state))}</span>' if state else ""
    return f"<strong>{type(entity).__name__}</strong>{said}{badge}"


def _endpoint(endpoint: OnlineEndpoint) -> Iterable[Row]:
    yield "traffic", _bar(endpoint.traffic)
    yield "mirrored", escape(_shares(endpoint.mirror_traffic))
    yield "scoring URI", _link(endpoint.scoring_uri)
    yield "auth mode", escape(str(endpoint.auth_mode))
    yield "description", _text(endpoint.description)
    yield "tags", _table(endpoint.tags)


def _deployment(deployment: OnlineDeployment) -> Iterable[Row]:
    code = deployment.code_configuration
    yield "endpoint", _text(deployment.endpoint_name)
    yield "instances", _text(deployment.instance_count)
    yield "instance type", _text(deployment.instance_type)
    yield "model", _part(deployment.model)
    yield "environment", _part(deployment.environment)
    yield "code", _text(f"{code.code or '.'} · {code.scoring_script}" if code else None)
    yield "variables", escape(", ".join(map(str, deployment.environment_variables or {})))
    yield "description", _text(deployment.description)
    yield "tags", _table(deployment.tags)


def _plain(entity: Entity) -> Iterable[Row]:
    for name, text in entity.shown().items():
        if name not in ("name", "version", "provisioning_state"):
            yield name.replace("_", " "), f'<code style="white-space:pre-wrap">{escape(text)}</code>'


_DRAWN: Mapping[type[Entity], Callable[[Any], Iterable[Row]]] = {
    OnlineEndpoint: _endpoint,
    OnlineDeployment: _deployment,
}


def _text(value: Any) -> str:
    return "" if value is None else escape(str(value))


def _link(address: str | None) -> str:
    """Only web addresses lead anywhere: a service could say `javascript:`."""
    shown = _text(address)
    return f'<a href="{shown}">{shown}</a>' if shown.lower().startswith(("http://", "https://")) else shown


def _part(value: Any) -> str:
    """A reference, or an asset in one line."""
    if isinstance(value, Entity):
        return _title(value) + "".join(f", {escape(key)} {escape(text)}" for key, text in _where(value))
    return _text(value)


def _where(asset: Entity) -> Iterable[Row]:
    return ((name, text) for name, text in asset.shown().items() if name in ("path", "image"))


def _table(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{escape(str(name))}={escape(str(value))}" for name, value in (values or {}).items())


def _shares(traffic: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {share}%" for name, share in (traffic or {}).items())


def _bar(traffic: Mapping[str, Any] | None) -> str:
    """Each deployment's share as a part of one line; the words beneath say the same."""
    live = {name: share for name, share in (traffic or {}).items() if isinstance(share, (int, float)) and share > 0}
    parts = "".join(
        f'<span style="display:inline-block;height:1em;width:{min(share, 100) * 2.4:g}px;'
        f'background:{_COLOURS[number % len(_COLOURS)]}" title="{escape(f"{name} {share}%")}"></span>'
        for number, (name, share) in enumerate(live.items())
    )
    said = escape(_shares(traffic))
    return f"<div>{parts}</div>{said}" if parts else said
