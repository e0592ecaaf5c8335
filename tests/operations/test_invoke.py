"""Calling an endpoint: what is sent, what comes back, and what never happens."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport.client import MLClient
from modelport.entities import ManagedOnlineEndpoint
from modelport.errors import (
    ResourceNotFoundError,
    ScoringError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    UnsupportedByBackend,
    ValidationException,
)
from modelport.operations import scoring
from modelport.operations.online_endpoints import _Door


class Array:
    """What numpy's arrays and scalars have in common, and others' too."""

    def __init__(self, value):
        self._value = value

    def tolist(self):
        return self._value


class Frame:
    """What pandas' data frames have."""

    def to_json(self, orient):
        assert orient == "split"
        return '{"columns": ["a"], "index": [0], "data": [[1]]}'


@pytest.fixture
def call(live):
    return lambda **said: live.online_endpoints.invoke("tides", **said)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        ({"a": [1, 2.5, None, "ü"]}, {"a": [1, 2.5, None, "ü"]}),
        ([1], [1]),
        ('{"text": 1}', {"text": 1}),
        (b'{"bytes": 1}', {"bytes": 1}),
        (bytearray(b"[2]"), [2]),
        (0, 0),
        (False, False),
        ({"array": Array([[1, 2]]), "scalar": Array(3)}, {"array": [[1, 2]], "scalar": 3}),
        (Frame(), {"input_data": {"columns": ["a"], "index": [0], "data": [[1]]}}),
    ],
)
def test_data_is_sent_as_json_text_or_bytes(call, data, seen):
    assert call(input_data=data).json()["said"] == seen


def test_a_file_is_sent_as_it_is(call, tmp_path):
    (tmp_path / "request.json").write_text('{"file": 1}')
    assert call(request_file=tmp_path / "request.json").json()["said"] == {"file": 1}
    assert call(request_file=str(tmp_path / "request.json")).json()["said"] == {"file": 1}


def test_an_answer_is_text_with_what_came_with_it(call):
    answer = call(input_data=1)
    assert isinstance(answer, str)
    assert json.loads(answer) == answer.json()
    assert (answer.status_code, answer.deployment) == (200, "blue")
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == answer.encode()
    assert answer.request_id
    assert 0 < answer.latency_ms < 10_000


def test_a_deployment_can_be_named_and_the_next_call_does_not_know(call):
    assert call(input_data=1, deployment_name="green").json()["who"] == "green"
    assert call(input_data=1).json()["who"] == "blue"


def test_headers_are_of_one_call_only(call, live):
    mine = {"x-request-id": "mine-1", scoring.DEPLOYMENT: "green"}
    assert call(input_data=1, headers=mine).request_id == "mine-1"
    assert mine == {"x-request-id": "mine-1", scoring.DEPLOYMENT: "green"}
    after = call(input_data=1)
    assert (after.deployment, after.request_id == "mine-1") == ("blue", False)


def test_an_unknown_deployment_is_a_404_that_names_it(call):
    with pytest.raises(ScoringError, match="Deployment 'teal' of 'tides' answered with status 404") as caught:
        call(input_data=1, deployment_name="teal")
    assert caught.value.status_code == 404


def test_a_scripts_exception_passes_through(call):
    with pytest.raises(ScoringError, match="Deployment 'blue' of 'tides' answered with status 500") as caught:
        call(input_data={"raise": "spring tide"}, headers={"x-request-id": "mine-2"})
    error = caught.value
    assert (error.status_code, error.deployment, error.request_id) == (500, "blue", "mine-2")
    assert json.loads(error.body)["message"] in str(error)
    assert error.headers["x-ms-run-function-failed"] == "True"


def test_a_failing_call_is_sent_once(tides, sources):
    script = "count = 0\ndef init(): pass\ndef run(raw):\n    global count\n    count += 1\n    if raw == 'fail':\n"
    script += "        raise ValueError\n    return count\n"
    tides.online_deployments.begin_create_or_update(sources.deployment(script=script)).result(60)
    call = tides.online_endpoints.invoke
    with pytest.raises(ScoringError):
        call("tides", input_data="fail", deployment_name="blue")
    assert call("tides", input_data="1", deployment_name="blue") == "2"


def test_threads_share_a_client(call):
    names = ("blue", "green") * 20

    def ask(number):
        answer = call(input_data=number, deployment_name=names[number]).json()
        return answer["who"], answer["said"]

    with ThreadPoolExecutor(40) as threads:
        assert list(threads.map(ask, range(40))) == [(name, number) for number, name in enumerate(names)]


def test_the_callers_patience_ends(call):
    with pytest.raises(ServiceRequestTimeoutError, match=r"did not answer within 0\.2 s"):
        call(input_data={"sleep": 1}, timeout=0.2)


def test_a_token_opens_an_endpoint_that_uses_them(ml_client, sources):
    ml_client.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="tides", auth_mode="aml_token")
    ).result(60)
    ml_client.online_deployments.begin_create_or_update(sources.deployment()).result(60)
    assert ml_client.online_endpoints.get_keys("tides").token_type == "Bearer"
    answer = ml_client.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
    assert answer.json()["who"] == "blue"


def test_an_endpoint_that_was_deleted_is_not_found_even_by_who_knew_it(tides, sources):
    tides.online_deployments.begin_create_or_update(sources.deployment()).result(60)
    tides.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
    other = MLClient._over(tides._service.transport)
    other.online_endpoints.begin_delete("tides").result(60)
    with pytest.raises(ResourceNotFoundError, match="Endpoint 'tides' does not exist"):
        tides.online_endpoints.invoke("tides", input_data=1)


def test_an_endpoint_that_moved_is_found_at_the_next_call(call, live):
    call(input_data=1)
    live.online_endpoints._doors["tides"] = _Door("http://127.0.0.1:1/score", "old")
    with pytest.raises(ServiceRequestError, match="could not be reached"):
        call(input_data=1)
    assert call(input_data=1).deployment == "blue"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "either request_file or input_data"),
        ({"input_data": 1, "request_file": "x"}, "either request_file or input_data"),
        ({"request_file": "missing.json"}, "'missing.json' cannot be read: No such file"),
        ({"input_data": object()}, "cannot be written as JSON"),
        ({"input_data": {1: {2}}}, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_sent_is_refused_before(call, said, message):
    with pytest.raises(ValidationException, match=message):
        call(**said)


def test_local_means_docker_and_says_so(call):
    with pytest.raises(UnsupportedByBackend, match="Docker"):
        call(input_data=1, local=True)


def test_nobody_is_not_found(live):
    with pytest.raises(ResourceNotFoundError, match="Endpoint 'nobody' does not exist"):
        live.online_endpoints.invoke("nobody", input_data=1)
