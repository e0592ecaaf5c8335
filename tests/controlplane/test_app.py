"""The control plane as a wire: routes, statuses, headers and bodies, as Azure's own clients need them."""

import pytest

ENDPOINT = "onlineEndpoints/tides"
BLUE = f"{ENDPOINT}/deployments/blue"


def _fault(answer):
    """The error body, whose shape is checked on the way."""
    fault = answer.body["error"]
    assert fault.keys() == {"code", "message", "target", "details", "additionalInfo"}
    return fault


@pytest.fixture(scope="module")
def seen(live):
    """`live` as a wire; a module's fixture cannot ask for `wire_of`."""
    from modelport.arm.messages import Request

    def ask(method, place, body=None, **said):
        transport = live._service.transport
        path = f"{transport.workspace}/{place}".rstrip("/")
        return transport.send(Request(method, path, body=body, **said))

    return ask


# Reading


def test_the_workspace_has_a_location(seen):
    answer = seen("GET", "")
    assert (answer.status, answer.body["location"]) == (200, "local")


def test_an_endpoint_has_what_azures_client_needs(seen):
    answer = seen("GET", ENDPOINT)
    body, properties = answer.body, answer.body["properties"]
    assert answer.status == 200
    assert answer.headers["etag"]
    assert (body["name"], body["location"], body["kind"]) == ("tides", "local", "Managed")
    assert body["id"].endswith("/workspaces/local/onlineEndpoints/tides")
    assert body["type"] == "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
    assert {"createdAt", "lastModifiedAt"} <= body["systemData"].keys()
    assert (properties["authMode"], properties["provisioningState"]) == ("Key", "Succeeded")
    assert properties["properties"] == {}
    assert properties["scoringUri"].endswith("/api/v1/endpoint/tides/score")
    assert properties["swaggerUri"].endswith("/api/v1/endpoint/tides/swagger.json")


def test_a_deployment_has_what_azures_client_needs(seen):
    body = seen("GET", BLUE).body
    properties = body["properties"]
    assert body["name"] == "blue"
    assert body["sku"] == {"name": "Default", "capacity": 1}
    assert properties["endpointComputeType"] == "Managed"
    assert properties["scaleSettings"] == {"scaleType": "Default"}
    assert properties["requestSettings"]["requestTimeout"] == "PT1M"
    assert properties["livenessProbe"]["period"] == "PT1S"
    assert properties["codeConfiguration"]["codeId"].startswith("/subscriptions/")


def test_keys_are_in_no_answer_but_that_of_list_keys(seen):
    keys = seen("POST", f"{ENDPOINT}/listKeys").body
    assert keys.keys() == {"primaryKey", "secondaryKey"}
    for place in ("onlineEndpoints", ENDPOINT, f"{ENDPOINT}/deployments", BLUE):
        text = str(seen("GET", place).body)
        assert keys["primaryKey"] not in text
        assert keys["secondaryKey"] not in text


@pytest.mark.parametrize("place", ["ONLINEENDPOINTS/Tides", "onlineendpoints/TIDES/Deployments/Blue"])
def test_paths_are_read_in_any_case(seen, place):
    assert seen("GET", place).status == 200


def test_the_workspaces_own_path_is_read_in_any_case(live, seen):
    from modelport.arm.messages import Request

    path = f"{live._service.workspace}/{ENDPOINT}".replace("resourceGroups", "resourcegroups")
    assert live._service.transport.send(Request("GET", path)).status == 200


def test_any_api_version_is_taken(seen):
    assert seen("GET", ENDPOINT, query={"api-version": "1999-01-01"}).status == 200


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("GET", "onlineEndpoints/nobody"),
        ("GET", f"{ENDPOINT}/deployments/nobody"),
        ("GET", "onlineEndpoints/nobody/deployments"),
        ("PATCH", "onlineEndpoints/nobody"),
        ("POST", "onlineEndpoints/nobody/listKeys"),
        ("POST", f"{ENDPOINT}/dance"),
        ("GET", "models/nobody"),
        ("GET", "models/nobody/versions/1"),
        ("GET", "operationsStatus/0123456789abcdef"),
        ("GET", "batchEndpoints"),
        ("PATCH", "onlineEndpoints"),
    ],
)
def test_what_is_not_there_is_a_404_that_names_it(seen, method, place):
    answer = seen(method, place, {} if method == "PATCH" else None)
    assert answer.status == 404
    assert _fault(answer)["code"] == "ResourceNotFound"
    wanted = next((word for word in ("nobody", "dance", "0123456789abcdef") if word in place), place)
    assert wanted in _fault(answer)["message"]


def test_another_workspace_is_a_404(live):
    from modelport.arm.messages import Request

    path = f"{live._service.workspace}s/{ENDPOINT}"
    answer = live._service.transport.send(Request("GET", path))
    assert answer.status == 404
    assert "not in this workspace" in _fault(answer)["message"]


def test_a_list_comes_in_pages_with_absolute_links(wire, endpoint_body):
    names = [f"tide-{number}" for number in range(5)]
    for name in names:
        wire.put(f"onlineEndpoints/{name}", endpoint_body)
    page = wire.get("onlineEndpoints", query={"$top": "2", "api-version": "2022-05-01"})
    found = [each["name"] for each in page.body["value"]]
    while "nextLink" in page.body:
        link = page.body["nextLink"]
        assert link.startswith("local://modelport/subscriptions/")
        assert "api-version=2022-05-01" in link
        path, _, query = link.removeprefix("local://modelport").partition("?")
        page = wire.get(path, query=dict(pair.split("=") for pair in query.replace("%24", "$").split("&")))
        found += [each["name"] for each in page.body["value"]]
    assert found == names


def test_a_lists_size_must_be_a_number(seen):
    answer = seen("GET", "onlineEndpoints", query={"$top": "many"})
    assert answer.status == 400
    assert "'many'" in _fault(answer)["message"]


def test_deployments_are_listed_as_they_are_asked_for(seen):
    names = [
        [each["name"] for each in seen("GET", f"{ENDPOINT}/deployments", query=query).body["value"]]
        for query in ({}, {"$orderBy": "createdtime desc"}, {"$top": "1"}, {"$top": "1", "$skip": "1"})
    ]
    assert sorted(names[0]) == ["blue", "green"]
    assert names == [names[0], names[0][::-1], names[0][:1], names[0][1:]]


# Writing


def test_a_put_makes_and_then_replaces(wire, endpoint_body, until):
    made = wire.put(ENDPOINT, endpoint_body)
    assert (made.status, made.body["properties"]["provisioningState"]) == (201, "Creating")
    operation = made.headers["azure-asyncoperation"]
    assert operation.startswith("local://modelport/subscriptions/")
    assert float(made.headers["x-ms-retry-after-ms"]) > 0
    until(lambda: wire.get(operation.removeprefix("local://modelport")).body["status"] == "Succeeded")
    assert wire.get(ENDPOINT).body["properties"]["provisioningState"] == "Succeeded"
    again = wire.put(ENDPOINT, {**endpoint_body, "tags": {"a": "b"}})
    assert (again.status, again.body["properties"]["provisioningState"]) == (200, "Updating")
    after = wire.settled(ENDPOINT, until)
    assert after["tags"] == {"a": "b"}
    assert after["systemData"]["createdAt"] == made.body["systemData"]["createdAt"]


def test_a_patch_merges_and_null_removes(wire, endpoint_body, until):
    body = {**endpoint_body, "tags": {"keep": "1", "drop": "2"}}
    body["properties"] = {"authMode": "Key", "description": "High water"}
    wire.put(ENDPOINT, body)
    wire.settled(ENDPOINT, until)
    patch = {"tags": {"drop": None, "new": "3"}, "properties": {"description": None}}
    assert wire.ask("PATCH", ENDPOINT, patch).status == 200
    after = wire.settled(ENDPOINT, until)
    assert after["tags"] == {"keep": "1", "new": "3"}
    assert after["properties"].get("description") is None
    assert after["properties"]["authMode"] == "Key"


def test_a_delete_is_followed_by_its_location(wire, endpoint_body, until):
    wire.put(ENDPOINT, endpoint_body)
    wire.settled(ENDPOINT, until)
    answer = wire.ask("DELETE", ENDPOINT)
    location = answer.headers["location"]
    assert answer.status == 202
    assert location.startswith("local://modelport/subscriptions/")
    until(lambda: wire.get(location.removeprefix("local://modelport")).status == 204)
    assert wire.get(ENDPOINT).status == 404
    assert wire.ask("DELETE", ENDPOINT).status == 204


def test_the_etag_changes_and_guards(wire, endpoint_body, until):
    wire.put(ENDPOINT, endpoint_body)
    wire.settled(ENDPOINT, until)
    first = wire.get(ENDPOINT).headers["etag"]
    assert wire.put(ENDPOINT, endpoint_body, headers={"If-Match": first}).status == 200
    wire.settled(ENDPOINT, until)
    late = wire.put(ENDPOINT, endpoint_body, headers={"If-Match": first})
    assert (late.status, _fault(late)["code"]) == (412, "PreconditionFailed")
    assert "'tides'" in _fault(late)["message"]
    assert wire.ask("DELETE", ENDPOINT, headers={"If-Match": first}).status == 412
    assert wire.put(ENDPOINT, endpoint_body, headers={"If-Match": "*"}).status == 200


def test_if_match_on_what_is_not_there_fails(wire, endpoint_body):
    assert wire.put(ENDPOINT, endpoint_body, headers={"If-Match": '"1"'}).status == 412
    assert wire.put(ENDPOINT, endpoint_body, headers={"If-Match": "*"}).status == 412
    assert wire.get(ENDPOINT).status == 404


def test_if_none_match_refuses_to_replace(wire, endpoint_body, until):
    only_new = {"If-None-Match": "*"}
    assert wire.put(ENDPOINT, endpoint_body, headers=only_new).status == 201
    wire.settled(ENDPOINT, until)
    again = wire.put(ENDPOINT, endpoint_body, headers=only_new)
    assert again.status == 412
    assert "exists already" in _fault(again)["message"]


@pytest.mark.parametrize("place", [ENDPOINT, BLUE, "codes/c/versions/1"])
def test_a_body_that_is_no_object_is_refused(wire, place):
    bodies = [None, [], "text", 3, {"properties": 3}, {"properties": []}, {"properties": ""}, {"properties": False}]
    for body in bodies:
        answer = wire.put(place, body)
        assert answer.status == 400
        assert "JSON object" in _fault(answer)["message"]


@pytest.mark.parametrize(
    ("place", "properties", "said"),
    [
        ("onlineEndpoints/ab", {}, "at least 3"),
        ("onlineEndpoints/1abc", {}, "start with"),
        (ENDPOINT, {"authMode": "Password"}, "'Password'"),
        (ENDPOINT, {"traffic": {"blue": 50}}, "50"),
        (ENDPOINT, {"traffic": "blue"}, "traffic"),
        (ENDPOINT, {"traffic": {"blue": 100}}, "'blue'"),
        (ENDPOINT, {"mirrorTraffic": {"blue": 51}}, "50"),
        (ENDPOINT, {"authMode": "AADToken"}, "aad_token"),
    ],
)
def test_a_bad_document_is_a_400_and_nothing_is_made(wire, endpoint_body, place, properties, said):
    answer = wire.put(place, {**endpoint_body, "properties": {"authMode": "Key", **properties}})
    assert answer.status == 400
    assert said in _fault(answer)["message"]
    assert wire.get("onlineEndpoints").body["value"] == []


# Actions


def test_regenerated_keys_differ_one_at_a_time(wire, endpoint_body, until):
    wire.put(ENDPOINT, endpoint_body)
    wire.settled(ENDPOINT, until)
    before = wire.ask("POST", f"{ENDPOINT}/listKeys").body
    said = {"keyType": "Secondary", "keyValue": before["secondaryKey"]}
    assert wire.ask("POST", f"{ENDPOINT}/regenerateKeys", said).status == 200
    after = wire.ask("POST", f"{ENDPOINT}/listkeys").body
    assert after["primaryKey"] == before["primaryKey"]
    assert after["secondaryKey"] != before["secondaryKey"]


def test_keys_and_tokens_are_for_endpoints_that_use_them(wire, endpoint_body, until):
    wire.put(ENDPOINT, endpoint_body)
    wire.settled(ENDPOINT, until)
    answer = wire.ask("POST", f"{ENDPOINT}/token")
    assert answer.status == 400
    assert _fault(answer)["message"] == "Endpoint 'tides' does not use tokens for authentication."
    answer = wire.ask("POST", f"{ENDPOINT}/regenerateKeys", {"keyType": "tertiary"})
    assert _fault(answer)["message"] == "Key type must be 'primary' or 'secondary'."


@pytest.mark.parametrize("container", [None, "InferenceServer", "StorageInitializer"])
def test_logs_are_text(seen, container):
    body = {"tail": 2} | ({"containerType": container} if container else {})
    answer = seen("POST", f"{BLUE}/getLogs", body)
    assert answer.status == 200
    assert len(answer.body["content"].splitlines()) <= 2


@pytest.mark.parametrize("body", [{"tail": 0}, {"tail": "x"}, {"tail": True}, {"containerType": "sidecar"}])
def test_logs_that_cannot_be_are_refused(seen, body):
    answer = seen("POST", f"{BLUE}/getLogs", body)
    assert answer.status == 400
    assert "getLogs takes" in _fault(answer)["message"]


# Operations at the same time


def test_a_second_operation_on_one_resource_is_refused(tides, sources, wire_of, until):
    wire = wire_of(tides)
    slow = sources.deployment(script="import time\ndef init(): time.sleep(1)\ndef run(raw): return 1\n")
    poller = tides.online_deployments.begin_create_or_update(slow)
    wire.get(BLUE)
    answer = wire.ask("PATCH", BLUE, {})
    assert (answer.status, _fault(answer)["code"]) == (409, "OperationInProgress")
    assert poller.result(60).provisioning_state == "Succeeded"


def test_operations_on_the_deployments_of_one_endpoint_keep_their_order(tides, sources):
    ended = []
    slow = "import time\ndef init(): time.sleep(0.5)\ndef run(raw): return 1\n"
    pollers = [
        tides.online_deployments.begin_create_or_update(sources.deployment(name, script=script))
        for name, script in (("first", slow), ("second", "def init(): pass\ndef run(raw): return 1\n"))
    ]
    for name, poller in zip(("first", "second"), pollers, strict=True):
        poller.add_done_callback(lambda _, name=name: ended.append(name))
    for poller in pollers:
        poller.result(60)
    first, second = (tides.online_deployments.get(name, "tides") for name in ("first", "second"))
    assert first.system_data["createdAt"] < second.system_data["createdAt"]
    assert ended[0] == "first"
