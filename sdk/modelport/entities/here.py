"""
What is said of a deployment for one machine, and means nothing to Azure.

Azure's client takes `local_enable_gpu` and `vscode_debug` as arguments of an
operation, and no field of a deployment has them. Here they are properties of the
deployment, so that whoever runs it next knows them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import fields, frozen

from modelport.entities.base import changed
from modelport.entities.deployment import OnlineDeployment

_PREFIX = "modelport."
AZURE_SERVER = "azureml-inference-server-http"


@frozen(kw_only=True)
class Here:
    """The options; each is the deployment's property `modelport.<name>`."""

    local_enable_gpu: bool = False
    """Replicas get this machine's GPUs."""
    debug: bool = False
    """A debugger can be attached to replicas, and no time limit ends them while it is."""
    code_folder: str = ""
    """The code, where an editor has it: what a debugger tells of a replica's files is shown there."""
    enforce_instance_type: bool = False
    """Replicas get no more cores and memory than a machine of `instance_type` has."""
    scoring_server: str = ""
    """`azureml-inference-server-http`: where the image has that, it serves; empty: ours does."""


def name(option: str) -> str:
    """The property that says an option."""
    return _PREFIX + option


def of(deployment: OnlineDeployment) -> Here:
    """What a deployment's properties say."""
    said: dict[str, Any] = {}
    for each in fields(Here):
        value = (deployment.properties or {}).get(name(each.name))
        if value is not None:
            said[each.name] = str(value) if each.type in (str, "str") else str(value).lower() in ("true", "1", "yes")
    return Here(**said)


def said_of(deployment: OnlineDeployment, options: Mapping[str, bool | str]) -> OnlineDeployment:
    """The deployment with the options that are said among its properties, and without those that are false or empty."""
    kept = {
        key: value for key, value in (deployment.properties or {}).items() if key.removeprefix(_PREFIX) not in options
    }
    added = {name(option): "true" if value is True else str(value) for option, value in options.items() if value}
    if kept == (deployment.properties or {}) and not added:
        return deployment
    return changed(deployment, properties={**kept, **added})
