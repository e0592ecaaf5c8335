"""Whether a long-running operation has ended, and how: Azure's three ways."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.arm import lro
from modelport.arm.lro import Follow, Look
from modelport.arm.messages import Request, Response
from modelport.errors import ValidationException

URL = "https://host.test/operations/1"


def resource(state):
    return {"properties": {"provisioningState": state}}


@pytest.mark.parametrize(
    ("answer", "way", "url"),
    [
        (Response(201, resource("Creating"), {"Azure-AsyncOperation": URL, "Location": "no"}), "operation", URL),
        (Response(202, None, {"LOCATION": URL}), "location", URL),
        (Response(200, resource("Updating")), "resource", "/r"),
        (Response(200, resource("Succeeded")), "done", ""),
        (Response(200, resource("failed")), "resource", "/r"),
        (Response(200, {"properties": None}, {"location": URL}), "done", ""),
        (Response(204), "done", ""),
        (Response(200, []), "done", ""),
    ],
)
def test_an_answer_says_how_to_follow_its_operation(answer, way, url):
    assert lro.start(answer, "/r") == Follow(way, url, "/r")


def test_a_resource_that_will_be_gone_is_not_polled():
    assert lro.start(Response(200, resource("Deleting")), None).way == "done"


@pytest.mark.parametrize("status", ["Succeeded", "Failed", "Canceled", "Cancelled", "succeeded"])
def test_an_operation_ends_with_these_words(status):
    assert lro.look("operation", Response(200, {"status": status})) == Look(status, ended=True)


@pytest.mark.parametrize("status", ["InProgress", "Running", "Creating"])
def test_an_operation_goes_on_with_any_other(status):
    assert not lro.look("operation", Response(200, {"status": status})).ended


def test_a_failed_operation_brings_its_error():
    error = {"code": "ImageBuildFailure", "message": "why"}
    look = lro.look("operation", Response(200, {"status": "Failed", "error": error}))
    assert (look.status, look.ended, look.error) == ("Failed", True, error)


def test_a_location_goes_on_with_202_and_ends_with_anything_else():
    assert not lro.look("location", Response(202)).ended
    assert lro.look("location", Response(204)) == Look("Succeeded", ended=True)
    assert lro.look("location", Response(200, {})) == Look("Succeeded", ended=True)
    failed = lro.look("location", Response(409, {"error": {"code": "Conflict"}}))
    assert (failed.status, failed.ended, failed.error) == ("Failed", True, {"code": "Conflict"})


def test_a_resource_ends_with_its_provisioning_state():
    assert not lro.look("resource", Response(200, resource("Updating"))).ended
    assert lro.look("resource", Response(200, resource("Succeeded"))) == Look("Succeeded", ended=True)
    assert lro.look("resource", Response(200, {})) == Look("Succeeded", ended=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2"}, 2),
        ({"Retry-After": "0.2"}, 0.2),
        ({"X-MS-Retry-After-MS": "200"}, 0.2),
        ({"x-ms-retry-after-ms": "200", "Retry-After": "30"}, 0.2),
        ({"x-ms-retry-after-ms": "soon", "Retry-After": "3"}, 3),
        ({"Retry-After": "0"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("way", ["operation", "location", "resource"])
def test_the_server_says_how_long_to_wait(way, headers, seconds):
    body = {"status": "InProgress", **resource("Updating")}
    assert lro.look(way, Response(202 if way == "location" else 200, body, headers)).delay == seconds


def test_a_deletion_that_is_forgotten_is_followed_by_what_is_left():
    follow = lro.start(Response(202, None, {"Location": URL}), None, "/r").without_operation()
    assert (follow.way, follow.url) == ("gone", "/r")
    assert lro.look("gone", Response(404)) == Look("Succeeded", ended=True)
    assert not lro.look("gone", Response(200, resource("Deleting"))).ended
    assert lro.look("gone", Response(200, resource("Succeeded"))) == Look("Failed", ended=True)


def test_what_is_followed_by_nothing_else_has_no_other_way():
    assert lro.start(Response(202, None, {"Location": URL}), None).without_operation() is None
    assert lro.start(Response(200, resource("Updating")), "/r").without_operation() is None


@given(
    st.sampled_from(["operation", "location", "resource", "gone", "done"]),
    st.tuples(*[st.text()] * 2),
    st.tuples(*[st.none() | st.text()] * 3),
)
def test_a_token_says_all_that_is_needed_to_go_on(way, texts, more):
    url, name = texts
    follow = Follow(way, url, *more)
    token = lro.token_of(follow, name)
    assert lro.follow_of(token) == (follow, name)
    assert token.isascii()
    assert token.isprintable()


@given(st.text() | st.binary().map(lambda said: base64.urlsafe_b64encode(said).decode()))
def test_what_is_no_token_is_told(text):
    with pytest.raises(ValidationException, match="no continuation token"):
        lro.follow_of(text)


@pytest.mark.parametrize(
    "said",
    [
        {"name": "x", "way": "somehow", "url": "u", "resource": None},
        {"name": "x", "way": "operation", "url": 5, "resource": None},
        {"name": "x", "way": "operation", "url": "u", "resource": None, "more": "m"},
        {"way": "operation", "url": "u", "resource": None},
        [],
    ],
)
def test_a_token_with_other_values_is_none(said):
    with pytest.raises(ValidationException, match="no continuation token"):
        lro.follow_of(base64.urlsafe_b64encode(json.dumps(said).encode()).decode())


def test_nobody_waits_for_what_has_ended():
    assert lro.look("operation", Response(200, {"status": "Succeeded"}, {"Retry-After": "5"})).delay is None


def test_messages_come_along():
    body = {"status": "InProgress", "properties": {"messages": ["built", "started"]}}
    assert lro.look("operation", Response(200, body)).messages == ("built", "started")
    for odd in ({"properties": None}, {"properties": {"messages": "text"}}, {}):
        assert lro.look("operation", Response(200, {"status": "InProgress", **odd})).messages == ()


def test_header_names_are_looked_up_in_lower_case():
    assert Request("GET", "/x", headers={"If-Match": "1"}).headers == {"if-match": "1"}
    assert Response(200, headers={"ETag": "1"}).headers == {"etag": "1"}


@pytest.mark.parametrize("said", ["99999999999", "1e300", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_answer_makes_a_poller_wait_for_ever(said):
    assert lro.delay({"retry-after": said, "date": "Sun, 22 Nov 2026 15:00:00 GMT"}) == 3600


def test_what_it_is_at_comes_along():
    body = {"status": "InProgress", "properties": {"progress": "Step 2/5 : RUN make"}}
    assert lro.look("operation", Response(200, body)).progress == "Step 2/5 : RUN make"
    for odd in ({"properties": None}, {"properties": {"progress": None}}, {}):
        assert lro.look("operation", Response(200, {"status": "InProgress", **odd})).progress == ""
