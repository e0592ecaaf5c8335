"""The stub itself: what its faults do to a connection, and what it refuses."""

import base64
import hashlib
import math

import pytest
import requests
from tests.stub.azure import Cut, Half, Reset, Say

BEARER = {"Authorization": "Bearer t"}
SAS = "sv=2022-11-02&sig=abc"
BLOB = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}


@pytest.fixture
def ask(azure_stub):
    """A request to the stub; its path may be below the workspace."""
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(azure_stub.ca)

        def of(method, path, **keywords):
            url = (
                f"{azure_stub.url}{path}" if path.startswith("/") else f"{azure_stub.url}{azure_stub.workspace}/{path}"
            )
            return session.request(method, url, timeout=10, **keywords)

        yield of


def arm(ask, method, place, **keywords):
    query = {"api-version": "1", **keywords.pop("params", {})}
    return ask(method, place, params=query, headers={**BEARER, **keywords.pop("headers", {})}, **keywords)


def put_endpoint(ask, name="tides"):
    return arm(ask, "PUT", f"onlineEndpoints/{name}", json={"location": "x", "properties": {"authMode": "Key"}})


def test_a_connection_is_kept_and_requests_are_seen_in_order(ask, azure_stub):
    for name in "abc":
        assert put_endpoint(ask, name).status_code == 201
    assert put_endpoint(ask, "a").status_code == 200
    assert [each.path[-1] for each in azure_stub.of("PUT")] == ["a", "b", "c", "a"]
    assert azure_stub.seen[0].json["properties"] == {"authMode": "Key"}


@pytest.mark.parametrize("fault", [Reset(), Cut(after=3), Half()])
def test_a_broken_connection_is_an_error_for_the_client(fault, ask, azure_stub):
    azure_stub.faults.append(lambda _: fault)
    with pytest.raises(requests.RequestException):
        put_endpoint(ask)
    azure_stub.faults.clear()
    assert (put_endpoint(ask).status_code == 200) == isinstance(fault, Half)


def test_a_cut_lets_as_many_bytes_through_as_it_says(ask, azure_stub):
    azure_stub.faults.append(lambda seen: Cut(after=400_000) if seen.method == "PUT" else None)
    with pytest.raises(requests.RequestException):
        ask("PUT", f"/c/big?{SAS}", data=bytes(3_000_000), headers=BLOB)
    assert azure_stub.seen[-1].size_bytes == 400_000
    assert not azure_stub.blobs


def test_what_a_fault_says_is_said_instead_and_the_connection_lives_on(ask, azure_stub):
    azure_stub.faults.append(lambda seen: Say(429, {"Retry-After": "1"}) if len(azure_stub.seen) < 3 else None)
    answers = [put_endpoint(ask) for _ in range(3)]
    assert [each.status_code for each in answers] == [429, 429, 201]
    assert answers[0].headers["Retry-After"] == "1"


def test_what_azure_refuses_is_refused(ask, azure_stub):
    assert ask("GET", "onlineEndpoints", headers=BEARER).status_code == 400
    assert ask("GET", "onlineEndpoints?api-version=1").status_code == 401
    azure_stub.tokens = {"other"}
    assert arm(ask, "GET", "onlineEndpoints").status_code == 401
    azure_stub.tokens = None
    assert arm(ask, "PUT", "onlineEndpoints/tides", data=b"{}").status_code == 415
    assert ask("PUT", f"/c/a?{SAS}", data=b"a", headers=BLOB | BEARER).status_code == 400
    assert ask("PUT", "/c/a?sig=other", data=b"a", headers=BLOB).status_code == 403
    assert ask("PUT", "/c/a", data=b"a", headers=BLOB).status_code == 401


def test_an_operation_takes_as_many_looks_as_polls_says(ask, azure_stub):
    azure_stub.polls = 2
    looks = put_endpoint(ask).headers["Azure-AsyncOperation"].removeprefix(azure_stub.url)
    said = [ask("GET", looks, headers=BEARER).json()["status"] for _ in range(3)]
    assert said == ["InProgress", "InProgress", "Succeeded"]
    azure_stub.polls = math.inf
    looks = arm(ask, "DELETE", "onlineEndpoints/tides").headers["Location"].removeprefix(azure_stub.url)
    assert {ask("GET", looks, headers=BEARER).status_code for _ in range(9)} == {202}


def test_the_resources_own_state_can_be_what_is_followed(ask, azure_stub):
    azure_stub.way = "resource"
    azure_stub.failing["onlineEndpoints/ferry"] = {"code": "OutOfQuota", "message": "none left"}
    for name, end in [("tides", "Succeeded"), ("ferry", "Failed")]:
        assert "Azure-AsyncOperation" not in put_endpoint(ask, name).headers
        states = [arm(ask, "GET", f"onlineEndpoints/{name}").json() for _ in range(2)]
        assert [each["properties"]["provisioningState"] for each in states] == ["Creating", end]


def test_lists_come_in_pages(ask, azure_stub):
    azure_stub.page_size = 2
    for name in "abcde":
        put_endpoint(ask, name)
    found, url = [], "onlineEndpoints?api-version=1"
    while url:
        page = ask("GET", url.removeprefix(azure_stub.url), headers=BEARER).json()
        found += [each["name"] for each in page["value"]]
        url = page.get("nextLink")
    assert found == [*"abcde"]
    assert len(azure_stub.of("GET")) == 3


def test_blocks_become_a_blob_when_their_list_is_put(ask, azure_stub):
    names = [base64.b64encode(f"{n:04}".encode()).decode() for n in range(3)]
    for name in reversed(names):
        assert ask("PUT", f"/c/big?{SAS}", params={"comp": "block", "blockid": name}, data=name).status_code == 201
    waiting = ask("GET", f"/c/big?{SAS}", params={"comp": "blocklist", "blocklisttype": "uncommitted"}).text
    assert all(name in waiting for name in names)
    body = "".join(f"<Latest>{name}</Latest>" for name in names)
    listed = f"<BlockList>{body}</BlockList>"
    assert ask("PUT", f"/c/big?{SAS}", params={"comp": "blocklist"}, data=listed).status_code == 201
    assert azure_stub.blobs == {"/c/big": "".join(names).encode()}
    assert ask("HEAD", f"/c/big?{SAS}").headers["Content-Length"] == str(len("".join(names)))
    ranged = ask("GET", f"/c/big?{SAS}", headers={"x-ms-range": "bytes=4-6"})
    assert (ranged.status_code, ranged.text) == (206, "".join(names)[4:7])


def test_a_stub_that_keeps_nothing_still_knows_sizes(ask, azure_stub):
    azure_stub.keep = False
    checksum = {"Content-MD5": base64.b64encode(hashlib.md5(bytes(2_000_000)).digest()).decode()}
    assert ask("PUT", f"/c/big?{SAS}", data=bytes(2_000_000), headers=BLOB | checksum).status_code == 201
    assert azure_stub.seen[-1].size_bytes == azure_stub.sizes["/c/big"] == 2_000_000
    assert azure_stub.blobs == {"/c/big": b""}
