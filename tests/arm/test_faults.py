"""An error that the control plane raises arrives in the client as itself."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from modelport import errors
from modelport.arm import faults
from modelport.arm.messages import Response

OWN = sorted(
    {
        each
        for each in vars(errors).values()
        if isinstance(each, type)
        and issubclass(each, errors.ModelportError)
        and each not in (errors.ModelportError, errors.HttpResponseError, errors.ScoringError)
    },
    key=lambda each: each.__name__,
)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


def over_the_wire(error):
    answer = faults.response_of(error)
    return evolve(answer, body=json.loads(json.dumps(answer.body)))


@pytest.mark.parametrize("kind", OWN)
def test_every_error_arrives_as_itself(kind):
    @given(TEXT, st.none() | TEXT, st.lists(st.fixed_dictionaries({"code": TEXT, "target": TEXT, "message": TEXT})))
    def travel(message, target, details):
        raised = kind(message, target=target, details=details)
        answer = over_the_wire(raised)
        assert answer.status == kind.status
        with pytest.raises(errors.ModelportError) as caught:
            faults.raise_for(answer, "PUT x")
        arrived = caught.value
        assert type(arrived) is kind
        assert (arrived.message, arrived.target, arrived.details) == (message, target, details)

    travel()


def test_an_error_without_a_class_of_its_own_arrives_as_the_services_answer():
    with pytest.raises(errors.HttpResponseError, match="broken") as caught:
        faults.raise_for(over_the_wire(errors.ModelportError("broken")), "PUT x")
    assert (caught.value.status_code, caught.value.error_code) == (500, "InternalServerError")


@pytest.mark.parametrize("kind", OWN)
def test_a_failed_operation_tells_its_cause_as_itself(kind):
    fault = json.loads(json.dumps(faults.fault_of(kind("why", target="what"))))
    assert type(faults.error_of(fault, 500, "PUT x")) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.ClientAuthenticationError),
        (404, errors.ResourceNotFoundError),
        (408, errors.ServiceRequestTimeoutError),
        (409, errors.ResourceExistsError),
        (412, errors.ResourceModifiedError),
        (400, errors.HttpResponseError),
        (429, errors.HttpResponseError),
        (500, errors.HttpResponseError),
    ],
)
def test_another_services_error_is_known_by_its_status(status, kind):
    answer = Response(status, {"error": {"code": "UserError", "message": "Azure says no."}})
    with pytest.raises(kind, match="Azure says no") as caught:
        faults.raise_for(answer, "PUT x")
    assert type(caught.value) is kind
    if kind is errors.HttpResponseError:
        assert (caught.value.status_code, caught.value.error_code) == (status, "UserError")


@pytest.mark.parametrize("body", [None, {}, [], "<html>Bad gateway</html>", {"error": None}, {"error": "no"}, 5])
def test_an_error_of_any_shape_is_told(body):
    with pytest.raises(errors.HttpResponseError, match=r"PUT x was answered with HTTP status 502") as caught:
        faults.raise_for(Response(502, body), "PUT x")
    assert caught.value.status_code == 502
    if isinstance(body, str):
        assert "Bad gateway" in caught.value.message


@given(st.recursive(st.none() | st.booleans() | TEXT, lambda each: st.dictionaries(TEXT, each) | st.lists(each)))
def test_no_body_makes_the_reader_stumble(body):
    with pytest.raises(errors.ModelportError):
        faults.raise_for(Response(500, {"error": body}), "PUT x")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            key: st.none() | st.integers() | TEXT | st.lists(TEXT) for key in ("code", "message", "target", "details")
        },
    )
)
def test_a_fault_with_odd_values_is_still_an_error(fault):
    assert isinstance(faults.error_of(fault, 500, "PUT x"), errors.ModelportError)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_success_is_handed_back(status):
    answer = Response(status, {"a": 1})
    assert faults.raise_for(answer, "GET x") is answer


def test_an_error_of_a_service_keeps_its_status_and_code():
    raised = errors.HttpResponseError("Too much.", status_code=413, error_code="RequestBodyTooLarge")
    answer = over_the_wire(raised)
    with pytest.raises(errors.HttpResponseError, match="Too much") as caught:
        faults.raise_for(answer, "PUT x")
    assert (answer.status, caught.value.status_code, caught.value.error_code) == (413, 413, "RequestBodyTooLarge")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-ms-request-id": "1", "x-ms-correlation-request-id": "2", "x-ms-client-request-id": "3"}, "1"),
        ({"x-ms-correlation-request-id": "2", "x-ms-client-request-id": "3"}, "2"),
        ({"x-ms-client-request-id": "3"}, "3"),
        ({}, None),
    ],
)
def test_an_error_says_by_which_id_it_is_found(headers, said):
    with pytest.raises(errors.HttpResponseError) as caught:
        faults.raise_for(Response(500, None, headers), "PUT x")
    assert caught.value.request_id == said


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"code": "X", "message": "No."}, "(X) No."),
        ({"Code": "X", "Message": "No."}, "(X) No."),
        ({"code": "X", "message": "No.", "details": [{"message": "No."}]}, "(X) No."),
        ({"code": "X", "message": "No.", "details": [{"message": "Why."}, {"message": "How."}]}, "(X) No. Why. How."),
        ({"code": "X", "message": "No.", "innererror": {"innererror": {"message": "Deep."}}}, "(X) No. Deep."),
        ({"code": "X", "message": "No.", "details": "odd", "innererror": 5}, "(X) No."),
    ],
)
def test_what_the_parts_of_an_error_say_is_told_once(fault, told):
    assert str(faults.error_of(fault, 400, "PUT x")) == told


def test_an_error_that_contains_itself_so_to_speak_ends():
    fault = {"code": "X", "message": "m"}
    for number in range(200):
        fault = {"code": "X", "message": f"m{number}", "details": [fault, fault]}
    assert len(str(faults.error_of(fault, 400, "PUT x"))) < 1000
