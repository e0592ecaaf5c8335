"""
Registries: where one is, what it has, and what is put into it or imported from a workspace.

Source: azure-ai-ml 1.35.2 run against it. How an import is followed is not documented;
the way here is the only one of `Azure-AsyncOperation` and `Location` with which that client ends well.
"""

import json
import re
import uuid
from typing import Any

from attrs import frozen

from modelport.arm.ids import PROVIDER

from . import arm
from .messages import Answer, Seen, fault
from .state import SIGNATURE, State

FRONT = "/mferp/managementfrontend"
"""What stands between a region's address and a registry's own path."""

API_VERSION = "2021-10-01-dataplanepreview"

_DISCOVERY = re.compile(r"/registrymanagement/v1\.0/registries/(?P<name>[^/]+)/discovery", re.IGNORECASE)
_REGISTRY = re.compile(
    rf"{FRONT}(?P<id>/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/{re.escape(PROVIDER)}"
    r"/registries/(?P<name>[^/]+))(?:/(?P<place>.*))?",
    re.IGNORECASE,
)
_SOURCE = re.compile(r"azureml://locations/[^/]+/workspaces/[^/]+/(?P<place>[a-z]+/[^/]+/versions/[^/]+)")


@frozen
class RegistryId:
    """A registry, as `arm` has workspaces."""

    subscription: str
    group: str
    name: str

    def __str__(self) -> str:
        group = f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
        return f"{group}/providers/{PROVIDER}/registries/{self.name}"


def of(state: State, name: str) -> State:
    """A registry's own resources; the storage account is the workspace's."""
    found = state.registries.get(name)
    if found is None:
        where = RegistryId("22222222-2222-2222-2222-222222222222", "registries-rg", name)
        found = state.registries[name] = State(url=f"{state.url}{FRONT}", workspace=where)  # type: ignore[arg-type]
        found.blobs, found.operations = state.blobs, {}
    found.polls, found.retry_after_ms, found.page_size = state.polls, state.retry_after_ms, state.page_size
    found.tokens, found.also_operation = state.tokens, state.also_operation
    return found


def serves(path: str) -> bool:
    """Whether a request is one of these."""
    return path.startswith(("/registrymanagement/", f"{FRONT}/"))


def answer(state: State, seen: Seen) -> Answer:
    """What the discovery service, or a registry, says."""
    refused = arm.refused(state, seen)
    if refused:
        return refused
    found = _DISCOVERY.fullmatch(seen.path)
    if found:
        return _discovered(state, found["name"])
    named = _REGISTRY.fullmatch(seen.path)
    known = state.registries.get(named["name"]) if named else None
    if named is None or known is None or str(known.workspace).lower() != named["id"].lower():
        return fault(404, "ResourceNotFound", f"{seen.path} not found")
    return _below(state, of(state, named["name"]), seen, arm.place_in(named["place"] or ""))


def _discovered(state: State, name: str) -> Answer:
    if name not in state.registries:
        return fault(404, "RegistryNotFound", f"Registry {name} was not found")
    where = state.registries[name].workspace
    return Answer(
        200,
        {
            "registryName": name,
            "tenantId": str(uuid.UUID(int=3)),
            "primaryRegion": state.location,
            "regions": [state.location],
            "subscriptionId": where.subscription,
            "resourceGroup": where.group,
            "primaryRegionResourceProviderUri": f"{state.url}/",
        },
    )


def _below(state: State, registry: State, seen: Seen, place: str) -> Answer:
    steps = place.split("/")
    if steps[0] in ("operationsStatus", "operationResults"):
        return arm.look(registry, seen, steps)
    if seen.query.get("api-version") != API_VERSION:
        return fault(400, "InvalidApiVersionParameter", f"A registry takes {API_VERSION}.")
    if steps[0] in ("tempdatarefs", "datarefs") and len(steps) == 4:
        return _storage(state, registry, seen, steps)
    if place == "import" and seen.method == "POST":
        return _import(state, registry, json.loads(seen.body))
    if len(steps) % 2:
        return arm.listed(registry, seen, place)
    if seen.method == "PUT":
        return _put(registry, seen, place)
    return arm.resource(registry, seen, place)


def _storage(state: State, registry: State, seen: Seen, steps: list[str]) -> Answer:
    """A place to put an asset's files, or leave to read them."""
    said = json.loads(seen.body)
    asset = str(said["assetId"]).removeprefix(f"azureml://registries/{registry.workspace.name}/")
    kind = (seen.method, steps[0])
    if asset.split("/")[1::2] != steps[1::2]:
        return fault(400, "UserError", f"{said['assetId']} is not what the path names")
    if kind == ("PUT", "tempdatarefs"):
        if asset in registry.resources:
            return fault(409, "UserError", f"{asset} already exists")
        container = f"{registry.workspace.name}-{uuid.uuid5(uuid.NAMESPACE_URL, asset)}"
        blob_uri = f"{state.url}/{container}"
        kinds = {"temporaryDataReferenceId": "1", "temporaryDataReferenceType": "TemporaryBlobReference"}
    elif kind == ("POST", "datarefs"):
        if asset not in registry.resources:
            return fault(404, "UserError", f"{asset} not found")
        blob_uri, kinds = "/".join(str(said["blobUri"]).split("/")[:4]), {}
    else:
        return fault(405, "UserError", f"{seen.method} is not possible here")
    sas = {"credentialType": "SAS", "sasUri": f"{blob_uri}?{SIGNATURE}"}
    return Answer(200, {"blobReferenceForConsumption": {"blobUri": blob_uri, "credential": sas}, **kinds})


def _put(registry: State, seen: Seen, place: str) -> Answer:
    """As endpoints are put: with an operation of its own."""
    said = json.loads(seen.body or b"{}")
    said.get("properties", {}).pop("system_metadata", None)  # Azure's client sends it, and it is no property
    status = 200 if place in registry.resources else 201
    document = _kept(registry, place, said)
    return Answer(status, document, arm.followed(registry, place, API_VERSION))


def _import(state: State, registry: State, said: dict[str, Any]) -> Answer:
    wanted = said["properties"]
    source = _SOURCE.fullmatch(wanted["sourceAssetId"])
    held = state.resources.get(source["place"]) if source else None
    if wanted.get("referenceType") != "Id" or source is None or held is None:
        return fault(404, "UserError", f"{wanted.get('sourceAssetId')} not found")
    place = f"{source['place'].split('/')[0]}/{wanted['destinationName']}/versions/{wanted['destinationVersion']}"
    _kept(registry, place, held)
    return arm.accepted(registry, place)


def _kept(registry: State, place: str, said: dict[str, Any]) -> dict[str, Any]:
    """A version in a registry has the id by which deployments name it."""
    identifier = f"azureml://registries/{registry.workspace.name}/{place}"
    document = registry.resources[place] = {**arm.document_of(registry, place, said), "id": identifier}
    return document
