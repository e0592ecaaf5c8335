"""
What a script does on Azure, request by request: a service cannot tell Modelport from Azure's own client.

The 38 recorded calls are made in their order, each by a new client, against one
service that keeps what it is sent. What differs is in the table of differences.
"""

import json
import os
import re
from pathlib import Path

import pytest
from tests.wire.differences import changed
from tests.wire.recordings import LABELS, OPERATIONS, comparable, recorded_requests, seen_request

from modelport.entities import (
    BuildContext,
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)

# What Azure's client sends with every request beside the headers that were recorded. Seen by running it (1.35.2, with
# azure-storage-blob 12.31.1) against the stub.
ALWAYS = {"host", "user-agent", "accept-encoding", "connection"}
FIXED = {"accept-encoding": "gzip, deflate", "connection": "keep-alive"}
OF_STORAGE = {"x-ms-version", "x-ms-date", "x-ms-client-request-id"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that were beside the script."""
    folder = tmp_path_factory.mktemp("script")
    for name, content in {
        "src/scorer.py": b"def init():\n    pass\n\n\ndef run(data):\n    return data\n",
        "weights/labels.txt": b"cat\ndog\n",
        "weights/v2/net.bin": b"\0\1\2\3",
        "net.bin": b"\0\1",
        "ctx/Dockerfile": b"FROM python:3.11-slim\n",
        "req.json": b'{"data": [1, 2]}',
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def teal():
    return ManagedOnlineDeployment(
        name="teal",
        endpoint_name="tides",
        model=Model(path="weights"),
        code_configuration=CodeConfiguration("src", "scorer.py"),
        environment=Environment(image="registry.example.test/py:3"),
        instance_type="Standard_DS3_v2",
        instance_count=1,
    )


def with_traffic(make):
    endpoint = make().online_endpoints.get("tides")
    endpoint.traffic = {"teal": 100}
    return lambda client: client.online_endpoints.begin_create_or_update(endpoint).result()


def with_two(make):
    deployment = make().online_deployments.get("teal", "tides")
    deployment.instance_count = 2
    return lambda client: client.online_deployments.begin_create_or_update(deployment).result()


def names(found, attribute="name"):
    return [getattr(each, attribute) for each in found]


# The recorded calls. Those in the second table read something first, which was not recorded.
CALLS = {
    "endpoint create": lambda c: c.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="tides")
    ).result(),
    "endpoint get": lambda c: c.online_endpoints.get("tides"),
    "endpoint get missing": lambda c: c.online_endpoints.get("absent"),
    "endpoint list": lambda c: names(c.online_endpoints.list()),
    "deployment create, inline assets": lambda c: c.online_deployments.begin_create_or_update(teal()).result(),
    "deployment create again, unchanged assets": lambda c: c.online_deployments.begin_create_or_update(teal()).result(),
    "deployment get": lambda c: c.online_deployments.get("teal", "tides"),
    "deployment list": lambda c: names(c.online_deployments.list("tides")),
    "invoke": lambda c: c.online_endpoints.invoke("tides", request_file="req.json"),
    "invoke a deployment": lambda c: c.online_endpoints.invoke(
        "tides", request_file="req.json", deployment_name="teal"
    ),
    "logs": lambda c: c.online_deployments.get_logs("teal", "tides", 50),
    "logs of storage initializer": lambda c: c.online_deployments.get_logs(
        "teal", "tides", 50, container_type="storage-initializer"
    ),
    "get_keys": lambda c: c.online_endpoints.get_keys("tides"),
    "regenerate secondary key": lambda c: c.online_endpoints.begin_regenerate_keys(
        "tides", key_type="secondary"
    ).result(),
    "token endpoint create": lambda c: c.begin_create_or_update(
        ManagedOnlineEndpoint(name="ferry", auth_mode="aml_token")
    ).result(),
    "get token": lambda c: c.online_endpoints.get_keys("ferry"),
    "regenerate on token endpoint": lambda c: c.online_endpoints.begin_regenerate_keys("ferry"),
    "model create, folder, no version": lambda c: c.models.create_or_update(Model(name="net", path="weights")),
    "model create again, same content": lambda c: c.models.create_or_update(Model(name="net", path="weights")),
    "model create, single file, version": lambda c: c.models.create_or_update(
        Model(name="net", version="9", path="net.bin")
    ),
    "model get": lambda c: c.models.get("net", "1"),
    "model get latest": lambda c: c.models.get("net", label="latest"),
    "model list": lambda c: names(c.models.list()),
    "model versions": lambda c: names(c.models.list("net"), "version"),
    "model download": lambda c: c.models.download("net", "1", "dl"),
    "model archive": lambda c: c.models.archive("net", "1"),
    "model restore": lambda c: c.models.restore("net", "1"),
    "environment create": lambda c: c.environments.create_or_update(Environment(name="envy", version="1", image="i:1")),
    "environment create, no version": lambda c: c.environments.create_or_update(Environment(name="envy", image="i:2")),
    "environment create from build context": lambda c: c.environments.create_or_update(
        Environment(name="benv", version="1", build=BuildContext(path="ctx"))
    ),
    "environment get": lambda c: c.environments.get("envy", "1"),
    "environment get latest": lambda c: c.environments.get("envy", label="latest"),
    "environment list": lambda c: names(c.environments.list()),
    "deployment delete": lambda c: c.online_deployments.begin_delete("teal", "tides").result(),
    "endpoint delete": lambda c: c.online_endpoints.begin_delete("tides").result(),
    "endpoint delete, absent": lambda c: c.online_endpoints.begin_delete("absent").result(),
}
READING_FIRST = {"update traffic": with_traffic, "scale deployment": with_two}


@pytest.fixture(scope="module")
def played(folder, module_azure):
    """All calls, each by a new client: label → (requests, result, error), and where the service was."""
    stub, make = module_azure
    found, before = {}, Path.cwd()
    os.chdir(folder)
    try:
        for label in LABELS:
            result, error, start = None, None, len(stub.seen)
            try:
                call = READING_FIRST[label](make) if label in READING_FIRST else CALLS[label]
                start = len(stub.seen)
                result = call(make())
            except Exception as raised:  # noqa: BLE001 - one call's failure is one test's
                error = raised
            found[label] = ([seen_request(each, stub.workspace) for each in stub.seen[start:]], result, error)
    finally:
        os.chdir(before)
    return found, stub.url


@pytest.mark.parametrize("operation", OPERATIONS, ids=LABELS)
def test_a_call_makes_the_recorded_requests(operation, played):
    found, url = played
    label = operation["label"]
    theirs, ours = changed(label, recorded_requests(operation, url)), found[label][0]
    recorded = {name for each in theirs for name in each.headers}
    assert comparable(ours, recorded) == comparable(theirs, recorded)


def test_no_header_gives_modelport_away(played):
    for label, (requests, *_) in played[0].items():
        for each in requests:
            assert {name: each.headers.get(name) for name in FIXED} == FIXED, (label, each.name)
            assert set(each.headers) == sent_by_azure(each), (label, each.name)


def sent_by_azure(asked):
    """The names of all headers that Azure's client sends with such a request."""
    expected = {*ALWAYS, "accept"}
    to_arm, to_storage = asked.url.startswith("{WS}"), asked.headers.get("accept") == "application/xml"
    if to_storage:
        expected |= OF_STORAGE | {name for name in asked.headers if name.startswith("x-ms-meta-")}
    else:
        expected |= {"authorization", *(["x-ms-client-request-id"] if to_arm else [])}
    if asked.body is not None:
        expected.add("content-type")
    if asked.is_content and to_storage:
        alone = re.search(r"/LocalUpload/[0-9a-f]+/[^/]+$", asked.url)
        expected |= {"x-ms-blob-type", "if-none-match", *(() if alone else ["content-md5"])}
    if asked.method in ("PUT", "POST", "DELETE"):
        expected.add("content-length")
    return expected | ({"x-ms-range", "azureml-model-deployment"} & set(asked.headers))


@pytest.mark.parametrize("operation", OPERATIONS, ids=LABELS)
def test_a_call_returns_what_was_recorded(operation, played):
    _, result, error = played[0][operation["label"]]
    expected = operation["returns"]
    if operation["error"]:
        name, _, message = operation["error"].partition(": ")
        assert (type(error).__name__, result) == (name, None)
        assert message.partition(") ")[2] in str(error)
        return
    assert error is None
    if expected is None or isinstance(expected, list):
        assert result == expected
    elif expected[0] == "{":
        assert isinstance(result, str)
        assert json.loads(result) == json.loads(expected)
    else:
        assert result == expected if "\n" in expected else type(result).__name__ == expected


def test_a_download_is_what_was_uploaded(folder, played):
    assert played
    there = {
        path.relative_to(folder / "weights").as_posix(): path.read_bytes()
        for path in (folder / "weights").rglob("*")
        if path.is_file()
    }
    here = folder / "dl" / "net" / "weights"
    assert {name: (here / name).read_bytes() for name in there} == there


def test_a_hundred_calls_look_up_the_endpoint_and_its_key_once(azure_stub, azure_client):
    azure_stub.add("onlineEndpoints/tides", {"location": "westeurope", "properties": {"authMode": "Key"}})
    client = azure_client()
    for _ in range(100):
        client.online_endpoints.invoke("tides", input_data={"data": [1, 2]})
    assert len(azure_stub.of("POST", "/score")) == 100
    assert len(azure_stub.seen) == 102
