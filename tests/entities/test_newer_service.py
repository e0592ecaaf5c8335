"""A service that is newer than this: its answers are read, and what they say is not lost on the way back."""

from copy import deepcopy
from datetime import datetime, timezone

import pytest

from modelport.entities import (
    DefaultScaleSettings,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineDeployment,
    OnlineEndpoint,
    Workspace,
)
from modelport.entities.base import changed
from modelport.errors import ValidationException
from modelport.schema import faces
from modelport.schema.faces import Face

IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me"

ENDPOINT = {
    "id": "/subscriptions/s/onlineEndpoints/tides",
    "name": "tides",
    "location": "westeurope",
    "tags": {},
    "news": {"at": "the top"},
    "identity": {
        "type": "Borrowed",
        "userAssignedIdentities": {IDENTITY: {"clientId": "c", "principalId": "p"}},
        "x": 1,
    },
    "properties": {
        "authMode": "Passkey",
        "publicNetworkAccess": "SecuredByPerimeter",
        "traffic": {"blue": 60, "green": 60},
        "properties": {},
        "news": [{"in": "properties"}],
    },
}

DEPLOYMENT = {
    "id": "/subscriptions/s/onlineEndpoints/tides/deployments/blue",
    "name": "blue",
    "location": "westeurope",
    "tags": {},
    "sku": {"name": "Elastic", "tier": "Standard", "capacity": -1},
    "properties": {
        "endpointComputeType": "Orbital",
        "instanceType": "Standard_DS3_v2",
        "properties": {},
        "environmentVariables": {},
        "appInsightsEnabled": False,
        "scaleSettings": {"scaleType": "Predictive", "horizon": "PT5M", "curve": {"k": 3}},
        "requestSettings": {"requestTimeout": "PT20M", "streaming": True},
        "livenessProbe": {"period": "PT0S", "failureThreshold": 0, "path": "/alive"},
        "startupProbe": {"period": "PT1S"},
        "egressPublicNetworkAccess": "Approved",
        "dataCollector": {
            "collections": {
                "request": {"dataCollectionMode": "Sampled", "samplingRate": 1.5, "sink": {"kind": "stream"}},
                **{f"c{number}": {"dataCollectionMode": "enabled"} for number in range(6)},
            },
            "rollingRate": "Week",
        },
    },
}


def back(entity):
    """What would be sent."""
    return faces.dump(entity, Face.REQUEST)


def test_an_endpoint_with_new_words_is_read_and_sent_back_as_it_came():
    endpoint = faces.load(OnlineEndpoint, deepcopy(ENDPOINT), Face.RECORD)
    assert type(endpoint) is ManagedOnlineEndpoint
    assert (endpoint.auth_mode, endpoint.identity.type, endpoint.name) == ("Passkey", "Borrowed", "tides")
    (mine,) = endpoint.identity.user_assigned_identities
    assert (mine.resource_id, mine.client_id, mine.principal_id) == (IDENTITY, "c", "p")
    expected = {key: value for key, value in deepcopy(ENDPOINT).items() if key not in ("id", "name")}
    expected["identity"]["userAssignedIdentities"] = {IDENTITY: {}}
    assert back(endpoint) == expected


def test_a_deployment_with_new_words_is_read_and_sent_back_as_it_came():
    deployment = faces.load(OnlineDeployment, deepcopy(DEPLOYMENT), Face.RECORD)
    assert type(deployment) is ManagedOnlineDeployment
    assert (deployment.request_settings.request_timeout_ms, deployment.instance_count) == (1_200_000, -1)
    assert deployment.data_collector.rolling_rate == "Week"
    assert back(deployment) == {key: value for key, value in DEPLOYMENT.items() if key not in ("id", "name")}


@pytest.mark.parametrize("document", [ENDPOINT, DEPLOYMENT], ids=["endpoint", "deployment"])
def test_what_was_read_can_be_changed(document):
    kind = OnlineEndpoint if document is ENDPOINT else OnlineDeployment
    entity = faces.load(kind, deepcopy(document), Face.RECORD)
    entity.description = "other"
    moved = changed(entity, location="eastus")
    expected = {key: value for key, value in deepcopy(document).items() if key not in ("id", "name")}
    expected["properties"]["description"], expected["location"] = "other", "eastus"
    if document is ENDPOINT:
        expected["identity"]["userAssignedIdentities"] = {IDENTITY: {}}
    assert back(moved) == expected
    with pytest.raises(ValidationException):
        entity.name = "x"


def test_a_kind_of_scaling_that_is_replaced_leaves_nothing_behind():
    deployment = faces.load(OnlineDeployment, deepcopy(DEPLOYMENT), Face.RECORD)
    deployment.scale_settings = DefaultScaleSettings()
    assert back(deployment)["properties"]["scaleSettings"] == {"scaleType": "Default"}


def test_a_request_with_new_words_is_still_refused():
    for place, value in (("authMode", "Passkey"), ("publicNetworkAccess", "SecuredByPerimeter")):
        with pytest.raises(ValidationException, match="is not one of"):
            faces.load(OnlineEndpoint, {"properties": {place: value}}, Face.REQUEST)
    with pytest.raises(ValidationException, match="'Orbital' is not one of managed, kubernetes"):
        faces.load(OnlineDeployment, deepcopy(DEPLOYMENT), Face.REQUEST)
    known = deepcopy(DEPLOYMENT)
    known["properties"]["endpointComputeType"] = "Managed"
    with pytest.raises(ValidationException, match="'Predictive' is not one of default, target_utilization"):
        faces.load(OnlineDeployment, known, Face.REQUEST)


def test_the_least_that_a_service_says_is_enough():
    endpoint = faces.load(OnlineEndpoint, {"id": "/onlineEndpoints/tides", "properties": {}}, Face.RECORD)
    blue = faces.load(OnlineDeployment, {"id": "/onlineEndpoints/tides/deployments/blue"}, Face.RECORD)
    assert (endpoint.name, blue.name, blue.endpoint_name) == ("tides", "blue", "tides")
    assert (blue.scale_settings, blue.request_settings, endpoint.creation_context) == (None, None, None)


@pytest.mark.parametrize(
    ("said", "when"),
    [
        ("2026-11-22T13:42:26.1234567Z", datetime(2026, 11, 22, 13, 42, 26, 123456, timezone.utc)),
        ("2026-11-22T13:42:26.5+00:00", datetime(2026, 11, 22, 13, 42, 26, 500000, timezone.utc)),
        ("2026-11-22T13:42:26Z", datetime(2026, 11, 22, 13, 42, 26, tzinfo=timezone.utc)),
        ("yesterday", None),
        (5, None),
        (None, None),
    ],
)
def test_who_made_it_and_when(said, when):
    data = {"createdBy": "me", "createdByType": "User", "createdAt": said, "lastModifiedAt": said, "more": 1}
    model = faces.load(Model, {"id": "/models/net/versions/1", "systemData": data}, Face.RECORD)
    assert model.creation_context.created_by == "me"
    assert (model.creation_context.created_at, model.creation_context.last_modified_at) == (when, when)


def test_a_workspace_is_read():
    workspace = faces.load(
        Workspace,
        {
            "id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w",
            "location": "westeurope",
            "tags": {"a": "b"},
            "identity": {"type": "SystemAssigned,UserAssigned", "principalId": "p"},
            "properties": {
                "friendlyName": "Harbour",
                "mlFlowTrackingUri": "azureml://x",
                "discoveryUrl": "https://x",
                "storageAccount": "/y",
            },
        },
        Face.RECORD,
    )
    assert (workspace.display_name, workspace.resource_group, workspace.location) == ("Harbour", "g", "westeurope")
    assert (workspace.mlflow_tracking_uri, workspace.storage_account) == ("azureml://x", "/y")
    assert (workspace.identity.type, workspace.identity.principal_id) == ("SystemAssigned,UserAssigned", "p")


def places(document, here=()):
    """The way to everything in a document."""
    for key, value in document.items():
        yield (*here, key)
        if isinstance(value, dict):
            yield from places(value, (*here, key))


def put(document, place, value):
    whole = deepcopy(document)
    *above, last = place
    inner = whole
    for key in above:
        inner = inner[key]
    inner[last] = value
    return whole


def cases(value_for):
    found = []
    for kind, document in ((OnlineEndpoint, ENDPOINT), (OnlineDeployment, DEPLOYMENT)):
        for place in places(document):
            value = value_for(document, place)
            if value is not NotImplemented:
                name = f"{kind.__name__} {'.'.join(place)[-60:]}"
                found.append(pytest.param(kind, document, place, value, id=name))
    return found


def news_beside(document, place):
    """The object at `place` with one key more; NotImplemented where it is a mapping of the user's own."""
    inner = document
    for key in place:
        inner = inner[key]
    own = place[-1] in ("tags", "environmentVariables", "traffic", "collections", "userAssignedIdentities", IDENTITY)
    return {**inner, "zzNews": {"k": [1]}} if isinstance(inner, dict) and not own else NotImplemented


@pytest.mark.parametrize(("kind", "document", "place", "value"), cases(news_beside))
def test_news_at_any_depth_comes_back(kind, document, place, value):
    told = put(document, place, value)
    sent = back(faces.load(kind, deepcopy(told), Face.RECORD))
    for key in place:
        sent = sent[key]
    assert sent["zzNews"] == {"k": [1]}


@pytest.mark.parametrize(("kind", "document", "place", "value"), cases(lambda _document, _place: None))
def test_null_anywhere_is_read(kind, document, place, value):
    entity = faces.load(kind, put(document, place, value), Face.RECORD)
    assert isinstance(entity, kind)
    back(entity)
    entity._repr_html_()
    repr(entity)
