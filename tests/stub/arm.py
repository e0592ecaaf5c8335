"""
The management API: one workspace with endpoints, deployments, assets, a datastore, operations.

Source: statuses and shapes are those of the recordings in `tests/wire`.
"""

import hashlib
import json
import re
import time
import uuid
from datetime import datetime, timezone
from typing import Any

from attrs import define

from modelport.arm.ids import PROVIDER

from .messages import Answer, Seen, fault
from .state import CONTAINER, SIGNATURE, State

_COLLECTIONS = {
    name.lower(): name
    for name in ("onlineEndpoints", "deployments", "models", "environments", "codes", "data", "datastores", "versions")
}
_ASSETS = ("models", "environments", "codes", "data")
_LISTS = re.compile(
    rf"/subscriptions/[^/]+(?:/resourceGroups/[^/]+)?/providers/{re.escape(PROVIDER)}/workspaces/?", re.IGNORECASE
)


@define
class _Operation:
    left: float
    place: str
    error: dict[str, Any] | None
    result: Any = None


def answer(state: State, seen: Seen) -> Answer:
    """What the management API says."""
    found = refused(state, seen)
    if found:
        return found
    if _LISTS.fullmatch(seen.path):
        return Answer(200, {"value": [_workspace(state)]})
    here = str(state.workspace)
    if not seen.path.lower().startswith(here.lower()):
        return fault(404, "ResourceNotFound", f"{seen.path} not found")
    return _below(state, seen, place_in(seen.path[len(here) :]))


def refused(state: State, seen: Seen) -> Answer | None:
    """What is said to a request without an api-version, a good token, or the right content type; None to others."""
    if "api-version" not in seen.query:
        return fault(400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required.")
    bearer = seen.headers.get("authorization", "")
    if not bearer.startswith("Bearer ") or (state.tokens is not None and bearer[7:] not in state.tokens):
        headers = {"WWW-Authenticate": f'Bearer authorization_uri="{state.url}/tenant", error="invalid_token"'}
        return fault(401, "InvalidAuthenticationToken", "The access token is invalid or has expired.", headers)
    if seen.body and not seen.headers.get("content-type", "").startswith("application/json"):
        return fault(415, "UnsupportedMediaType", "The content media type is not supported: send application/json.")
    return None


def place_in(path: str) -> str:
    """A place, with collections spelled as Azure's own client does."""
    steps = path.strip("/").split("/")
    return "/".join(_COLLECTIONS.get(each.lower(), each) if n % 2 == 0 else each for n, each in enumerate(steps))


def _below(state: State, seen: Seen, place: str) -> Answer:
    steps = place.split("/")
    if not place:
        return Answer(200, _workspace(state))
    if steps[0] in ("operationsStatus", "operationResults"):
        return look(state, seen, steps)
    if seen.method == "POST":
        return _act(state, seen, "/".join(steps[:-1]), steps[-1])
    if steps[0] == "datastores":
        return _datastores(state, steps)
    if len(steps) % 2:
        return listed(state, seen, place)
    return resource(state, seen, place)


def resource(state: State, seen: Seen, place: str) -> Answer:
    steps, known = place.split("/"), state.resources.get(place)
    container = steps[0] in _ASSETS and len(steps) == 2
    if seen.method == "GET":
        found = _container(state, place) if container else known
        if not found:
            return _absent(place)
        return Answer(200, _present(state, place, found), {"ETag": _tag(found)})
    if known and seen.headers.get("if-match", _tag(known)) not in ("*", _tag(known)):
        return fault(412, "PreconditionFailed", f"/{place} was changed by somebody else")
    if seen.method == "DELETE":
        return _delete(state, seen, place)
    said = json.loads(seen.body or b"{}")
    if seen.method == "PATCH":
        if not known:
            return _absent(place)
        said = {**known, **said, "properties": {**known["properties"], **said.get("properties", {})}}
    parent = "/".join(steps[:-2])
    if steps[0] == "onlineEndpoints" and parent and parent not in state.resources:
        return fault(404, "ParentResourceNotFound", f"/{parent} not found")
    document = state.resources[place] = document_of(state, place, said)
    status = 200 if known else 201
    if steps[0] != "onlineEndpoints" or state.way == "done":
        return Answer(status, document)
    headers = followed(state, place, seen.query["api-version"])
    return Answer(status, _present(state, place, document, counted=False), headers)


def _delete(state: State, seen: Seen, place: str) -> Answer:
    if place not in state.resources:
        return Answer(204)
    if not place.startswith("onlineEndpoints/"):
        state.resources.pop(place)
        return Answer(200)
    for each in [each for each in state.resources if f"{each}/".startswith(f"{place}/")]:
        state.resources.pop(each)
    return accepted(state, place)


def listed(state: State, seen: Seen, place: str) -> Answer:
    collection = place.split("/")
    depth = len(collection) + 1
    if collection[0] in _ASSETS and len(collection) == 1:
        names = {key.split("/")[1]: None for key in state.resources if key.startswith(f"{place}/")}
        found = [_container(state, f"{place}/{name}") for name in names]
    else:
        if collection[0] == "onlineEndpoints" and depth > 2 and "/".join(collection[:-1]) not in state.resources:
            return _absent("/".join(collection[:-1]))
        keys = [key for key in state.resources if key.startswith(f"{place}/") and len(key.split("/")) == depth]
        found = [state.resources[key] for key in keys]
    query = seen.query
    if "hash" in query:
        found = [each for each in found if _hash(each) == query["hash"]]
    view = query.get("listViewType", "All")
    if view in ("ActiveOnly", "ArchivedOnly"):
        found = [each for each in found if each["properties"].get("isArchived", False) == (view == "ArchivedOnly")]
    if query.get("$orderBy", "").lower().startswith("createdtime desc"):
        found.sort(key=lambda each: each["systemData"]["createdAt"], reverse=True)
    skipped = int(query.get("$skip", 0))
    most = min(float(query.get("$top", "inf")), state.page_size)
    page = found[skipped:] if most > len(found) else found[skipped : skipped + int(most)]
    answered: dict[str, Any] = {"value": page}
    if "$top" not in query and skipped + len(page) < len(found):
        rest = "&".join(f"{key}={value}" for key, value in query.items() if key not in ("api-version", "$skip"))
        url = _url(state, place, query["api-version"])
        answered["nextLink"] = (
            f"{url}&{rest}&$skip={skipped + len(page)}" if rest else f"{url}&$skip={skipped + len(page)}"
        )
    return Answer(200, answered)


def _act(state: State, seen: Seen, place: str, action: str) -> Answer:
    said = json.loads(seen.body or b"{}")
    if action == "startPendingUpload":
        container = f"code-{place.split('/')[1]}"
        sas = {"credentialType": "SAS", "sasUri": f"{state.url}/{container}?{SIGNATURE}"}
        reference = {"blobUri": f"{state.url}/{container}", "storageAccountArmId": "/x", "credential": sas}
        upload = {"pendingUploadId": "1", "pendingUploadType": "TemporaryBlobReference"}
        return Answer(200, {"blobReferenceForConsumption": reference, **upload})
    if action == "listSecrets":
        if state.storage_credentials == "None":
            return fault(400, "UserError", "The datastore has no credentials.")
        return Answer(200, {"secretsType": "Sas", "sasToken": SIGNATURE})
    if place not in state.resources:
        return _absent(place)
    name = place.split("/")[1]
    if action == "listKeys":
        return Answer(200, keys_of(state, name))
    if action == "token":
        now = int(time.time())
        times = {"expiryTimeUtc": now + 3600, "refreshAfterTimeUtc": now + 1800}
        return Answer(200, {"accessToken": "tok", **times, "tokenType": "Bearer"})
    if action == "regenerateKeys":
        fresh = said.get("keyValue")
        kind = f"{said['keyType'].lower()}Key"
        held = keys_of(state, name)
        held[kind] = fresh if fresh and fresh != held[kind] else str(uuid.uuid4())
        return accepted(state, place)
    if action == "getLogs":
        return Answer(200, {"content": f"line1\nline2 {json.dumps(said, sort_keys=True)}"})
    if action == "package":
        return accepted(state, place, _package(state, place, said))
    return fault(404, "UserError", f"/{place} has no {action}")


def _package(state: State, place: str, said: dict[str, Any]) -> dict[str, Any]:
    """The environment that a package is, made at once; what its operation answers in the end."""
    target = said.get("targetEnvironmentId") or said.get("targetEnvironmentName") or said.get("targetEnvironment", {})
    steps = (
        (target if isinstance(target, str) else target.get("name", "packaged")).split("environments/")[-1].split("/")
    )
    name, version = steps[0], steps[2] if len(steps) > 2 else str(said.get("targetEnvironmentVersion") or "1")
    made = f"environments/{name}/versions/{version}"
    state.resources[made] = document_of(
        state, made, {"properties": {"image": f"registry.example.test/{name}:{version}"}}
    )
    return {
        "buildId": str(uuid.uuid4()),
        "buildState": "Succeeded",
        "logUrl": f"{state.url}/logs",
        "inferencingServer": said.get("inferencingServer"),
        "targetEnvironmentId": f"{state.workspace}/{made}",
        "modelConfiguration": said.get("modelConfiguration"),
        "tags": said.get("tags", {}),
    }


def keys_of(state: State, endpoint: str) -> dict[str, str]:
    """An endpoint's keys, which are there from the first time that somebody asks."""
    return state.keys.setdefault(endpoint, {"primaryKey": "p0", "secondaryKey": "s0"})


def _begin(state: State, place: str, result: Any = None) -> str:
    name = str(uuid.uuid4())
    state.operations[name] = _Operation(state.polls, place, state.failing.get(place), result)
    return name


def followed(state: State, place: str, api_version: str) -> dict[str, str]:
    """Begin an operation of a PUT; returns the headers that say how to follow it."""
    operation = _begin(state, place)
    headers = {"x-ms-retry-after-ms": str(state.retry_after_ms)}
    if state.way == "operation":
        headers["Azure-AsyncOperation"] = _url(state, f"operationsStatus/{operation}", api_version)
    return headers


def accepted(state: State, place: str, result: Any = None) -> Answer:
    """The answer to what takes a while; `result` is what `Location` has in the end."""
    operation = _begin(state, place, result)
    headers = {"Location": _url(state, f"operationResults/{operation}", "x")}
    if state.also_operation:
        headers["Azure-AsyncOperation"] = _url(state, f"operationsStatus/{operation}", "x")
    return Answer(202, headers={**headers, "x-ms-retry-after-ms": str(state.retry_after_ms)})


def look(state: State, seen: Seen, steps: list[str]) -> Answer:
    kind, name = steps[0], steps[-1]
    operation = state.operations.get(name)
    if not operation:
        return _absent("/".join(steps))
    soon = {"x-ms-retry-after-ms": str(state.retry_after_ms)}
    going = operation.left > 0
    operation.left -= 1
    if kind == "operationResults":
        if going:
            return Answer(202, headers={"Location": _url(state, "/".join(steps), "x"), **soon})
        if operation.error:
            return Answer(400, {"error": operation.error})
        return Answer(200, operation.result) if operation.result is not None else Answer(200)
    said = {"id": f"{state.workspace}/{'/'.join(steps)}", "name": name}
    if going:
        return Answer(200, {**said, "status": "InProgress", "percentComplete": 10}, soon)
    if operation.error:
        return Answer(200, {**said, "status": "Failed", "error": operation.error})
    return Answer(200, {**said, "status": "Succeeded", "percentComplete": 100})


def _present(state: State, place: str, document: dict[str, Any], *, counted: bool = True) -> dict[str, Any]:
    """A resource as it is read; while its state is what tells of its operation, the state changes with the looks."""
    if state.way != "resource" or not place.startswith("onlineEndpoints/"):
        return document
    going = [each for each in state.operations.values() if each.place == place]
    if not going:
        return document
    last = going[-1]
    current = "Creating" if last.left > 0 else "Failed" if last.error else "Succeeded"
    last.left -= 1 if counted else 0
    return {**document, "properties": {**document["properties"], "provisioningState": current}}


def document_of(state: State, place: str, said: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a PUT: what was said, and what the service adds."""
    steps = place.split("/")
    document = {key: value for key, value in said.items() if key not in ("id", "name", "type", "systemData")}
    properties = document["properties"] = dict(said.get("properties") or {})
    if steps[0] == "models":
        properties.setdefault("flavors", {})
    elif steps[0] == "onlineEndpoints":
        properties["provisioningState"] = "Succeeded"
        if len(steps) == 2:
            _finish_endpoint(state, document, place)
        else:
            properties.setdefault("scaleSettings", {"scaleType": "Default"})
            if properties.get("endpointComputeType") == "Kubernetes":
                properties.setdefault("containerResourceRequirements", {})
    return {**document, **_identified(state, place)}


def _finish_endpoint(state: State, document: dict[str, Any], place: str) -> None:
    """Absent traffic stays as it was; Azure's own client always says it."""
    properties, known = document["properties"], state.resources.get(place, {}).get("properties", {})
    properties.setdefault("properties", {})
    for name in ("traffic", "mirrorTraffic"):
        properties.setdefault(name, known.get(name, {}))
    properties |= {"scoringUri": f"{state.url}/score", "swaggerUri": f"{state.url}/swagger.json"}
    document["kind"] = "K8S" if properties.get("compute") else "Managed"


def _identified(state: State, place: str) -> dict[str, Any]:
    steps, known = place.split("/"), state.resources.get(place)
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    created = known["systemData"]["createdAt"] if known and "systemData" in known else now
    mine = {"createdBy": "me", "createdByType": "User", "lastModifiedBy": "me", "lastModifiedByType": "User"}
    return {
        "id": f"{state.workspace}/{place}" if place else str(state.workspace),
        "name": steps[-1] if place else state.workspace.name,
        "type": "/".join([f"{PROVIDER}/workspaces", *(steps[::2] if place else ())]),
        "systemData": {"createdAt": created, "lastModifiedAt": now, **mine},
    }


def _workspace(state: State) -> dict[str, Any]:
    properties = {
        "friendlyName": state.workspace.name,
        "workspaceId": "11111111-1111-1111-1111-111111111111",
        "discoveryUrl": f"{state.url}/discovery",
        "mlFlowTrackingUri": "azureml://x",
        "provisioningState": "Succeeded",
    }
    rest = {"kind": "Default", "sku": {"name": "Basic", "tier": "Basic"}, "identity": {"type": "SystemAssigned"}}
    return {**_identified(state, ""), "location": state.location, "tags": {}, "properties": properties, **rest}


def _datastores(state: State, steps: list[str]) -> Answer:
    document = {
        **_identified(state, "datastores/workspaceblobstore"),
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": f"{state.host}#",  # the fragment swallows what clients add behind the account's name
            "containerName": CONTAINER,
            "endpoint": "core.windows.net",
            "protocol": state.url.partition(":")[0],
            "isDefault": True,
            "credentials": {"credentialsType": state.storage_credentials},
            "tags": {},
            "properties": {},
        },
    }
    if len(steps) == 1:
        return Answer(200, {"value": [document]})
    return Answer(200, document) if steps[1] == "workspaceblobstore" else _absent("/".join(steps))


def _container(state: State, place: str) -> dict[str, Any] | None:
    """All versions of an asset, as one: the latest is the one that was made last."""
    versions = [key.split("/")[3] for key in state.resources if key.startswith(f"{place}/versions/")]
    known = state.resources.get(place, {})
    if not versions and not known:
        return None
    numbers = [int(each) for each in versions if each.isdigit()]
    properties = {"latestVersion": versions[-1] if versions else None, "nextVersion": str(max(numbers, default=0) + 1)}
    archived = known.get("properties", {}).get("isArchived", False)
    return {**_identified(state, place), "properties": {**properties, "isArchived": archived}}


def _hash(document: dict[str, Any]) -> str | None:
    return (document["properties"].get("properties") or {}).get("hash_sha256")


def _tag(document: dict[str, Any]) -> str:
    return f'"{hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]}"'


def _url(state: State, place: str, api_version: str) -> str:
    return f"{state.url}{state.workspace}/{place}?api-version={api_version}"


def _absent(place: str) -> Answer:
    return fault(404, "UserError", f"/{place} not found")
