"""
Names of things, in all the ways that people and Azure write them.

An entity class says once where it lives (`place`); URLs, ARM ids, routes and
storage keys are all made from that line here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

from modelport.entities.base import Entity
from modelport.errors import ValidationException

PROVIDER = "Microsoft.MachineLearningServices"
_WORKSPACE = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    rf"/providers/{re.escape(PROVIDER)}/workspaces/(?P<name>[^/]+)(?P<rest>/.*)?",
    re.IGNORECASE,
)
_STEP = re.compile(r"[^/\\?#%\s]*[^/\\?#%\s.][^/\\?#%\s]*")
"""A step of a URL that stands for itself: `..` and `%2e%2e` are a way up, and `?` and `#` end the path."""

_SHORT = re.compile(r"(?:azureml:)?(?P<name>[^:@/]+)(?::(?P<version>[^:@/]+)|@(?P<label>[^:@/]+))?")
CURATED = "AzureML-"
"""How the names of Azure's own environments begin, which the service finds by themselves. Source: azure-ai-ml."""


@frozen
class WorkspaceId:
    """Which workspace: the first half of every URL."""

    subscription: str
    group: str
    name: str

    def datastore_uri(self, path: str) -> str:
        """The long form of `azureml://datastores/…`; `path` starts with the datastore's name."""
        where = f"subscriptions/{self.subscription}/resourcegroups/{self.group}/workspaces/{self.name}"
        return f"azureml://{where}/datastores/{path}"

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/{PROVIDER}/workspaces/{self.name}"
        )


@frozen
class RegistryId(WorkspaceId):
    """Which registry: where requests to one have what is a workspace elsewhere."""

    def asset(self, place: str) -> str:
        """The id by which anybody refers to `models/net/versions/1` in it."""
        return f"azureml://registries/{self.name}/{place}"

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/{PROVIDER}/registries/{self.name}"
        )


LOCAL_WORKSPACE = WorkspaceId("00000000-0000-0000-0000-000000000000", "modelport", "local")
"""The workspace of a control plane on this machine, which has just one."""


def parted(path: str) -> tuple[WorkspaceId, str] | None:
    """A URL path as its workspace and what is below it, without slashes at the ends; None when it has no workspace."""
    found = _WORKSPACE.fullmatch(path)
    if not found:
        return None
    return WorkspaceId(found["subscription"], found["group"], found["name"]), (found["rest"] or "").strip("/")


def place_of(kind: type[Entity], names: Mapping[str, str]) -> str:
    """
    Where a resource is below its workspace, e.g. `onlineEndpoints/tides/deployments/blue`.

    Raises:
        errors.ValidationException: A name that the place needs was not given.
    """
    assert kind.place
    try:
        return kind.place.format_map(names)
    except KeyError as error:
        raise ValidationException(f"{kind.__name__} has no {error.args[0]}: name it.", target=error.args[0]) from error


def place(entity: Entity) -> str:
    """Where `entity` is below its workspace."""
    names = {attribute.name: getattr(entity, attribute.name) for attribute, spec, _ in entity.fields() if spec.identity}
    return place_of(type(entity), {key: name for key, name in names.items() if name is not None})


def checked(place: str) -> str:
    """
    `place`, when every step of it is a name: to delete the endpoint `..` would delete the workspace.

    Raises:
        errors.ValidationException: A step is not.
    """
    strange = next((each for each in place.split("/") if not _STEP.fullmatch(each)), None)
    if strange is not None:
        message = f"'{strange}' in '{place}' is no name: it has what no URL step can have. Use [-_.a-zA-Z0-9]."
        raise ValidationException(message, target="name")
    return place


def called(place: str) -> str:
    """How messages name a resource: `Deployment 'blue' of 'tides'`."""
    steps = place.split("/")
    kinds = {
        "onlineendpoints": "Endpoint",
        "models": "Model",
        "environments": "Environment",
        "codes": "Code",
        "data": "Data",
    }
    first = f"{kinds.get(steps[0].lower(), steps[0])} '{steps[1]}'" if len(steps) > 1 else steps[0]
    if len(steps) <= 3:
        return first
    if steps[2].lower() == "deployments":
        return f"Deployment '{steps[3]}' of '{steps[1]}'"
    return f"{first} version '{steps[3]}'"


@frozen
class Reference:
    """An asset of this workspace, by version or by label."""

    kind: str
    name: str
    version: str | None = None
    label: str | None = None


def reference(text: str, kind: str, workspace: WorkspaceId) -> Reference | None:
    """
    What a reference to an asset of this workspace means.

    Args:
        text: `azureml:name:version`, `azureml:name@label` or an ARM id; as in Azure's SDK, `azureml:` may be left out
            of the first two, and stand before the third.
        kind: The collection that is expected, e.g. `models`.
        workspace: Where it should be.

    Returns:
        None for what lives elsewhere: a registry, another workspace, a datastore, a plain URI, Azure's environments.

    Raises:
        errors.ValidationException: It is a name, but no version or label can be read from it.
    """
    short = _SHORT.fullmatch(text)
    if short and kind == "environments" and short["name"].startswith(CURATED):
        return None
    if short and short["name"] not in (".", ".."):
        if not short["version"] and not short["label"] and kind != "computes":
            message = f"'{text}' names no version: write azureml:{short['name']}:1 or azureml:{short['name']}@latest."
            raise ValidationException(message, target=kind)
        return Reference(kind, short["name"], short["version"], short["label"])
    found = parted(text.removeprefix("azureml:"))
    if found and str(found[0]).lower() == str(workspace).lower():
        steps = found[1].split("/")
        if len(steps) == 4 and steps[0].lower() == kind.lower() and steps[2].lower() == "versions":
            return Reference(kind, steps[1], steps[3])
    return None
