"""Calling an endpoint: what is sent, what comes back, and what never happens."""

import contextlib
import email
import email.policy
import http.server
import io
import json
import math
import queue
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.stub.azure import Cut, Half, Reset, Say

from modelport.client import MLClient
from modelport.entities import ManagedOnlineEndpoint
from modelport.errors import (
    ResourceNotFoundError,
    ScoringError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ValidationException,
)
from modelport.operations import scoring
from modelport.operations.doors import Door, Doors


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


def test_an_unknown_deployment_is_told_with_those_that_there_are(call):
    with pytest.raises(ValidationException, match=r"^Deployment name teal not found for this endpoint.*blue, green"):
        call(input_data=1, deployment_name="teal")


def test_an_endpoint_without_deployments_says_so(tides):
    with pytest.raises(ValidationException, match="No deployment exists for this endpoint"):
        tides.online_endpoints.invoke("tides", input_data=1, deployment_name="blue")
    with pytest.raises(ScoringError, match=r"(?s)status 404.*No deployment of 'tides' has traffic: set"):
        tides.online_endpoints.invoke("tides", input_data=1)


def test_a_deployment_is_known_when_it_comes_and_when_it_goes(tides, sources, wire_client_of):
    other = wire_client_of(tides)
    for name in ("blue", "green"):
        tides.online_deployments.begin_create_or_update(sources.deployment(name)).result(60)
        assert other.online_endpoints.invoke("tides", input_data=1, deployment_name=name).deployment == name
    tides.online_deployments.begin_delete("green", "tides").result(60)
    with pytest.raises(ValidationException, match="Deployment name green not found for this endpoint"):
        other.online_endpoints.invoke("tides", input_data=1, deployment_name="green")


def test_a_scripts_exception_passes_through(call):
    with pytest.raises(
        ScoringError, match=r"(?s)Deployment 'blue' of 'tides' answered with status 500.*get_logs"
    ) as caught:
        call(input_data={"raise": "spring tide"}, headers={"x-request-id": "mine-2"})
    error = caught.value
    assert (error.status_code, error.deployment, error.request_id) == (500, "blue", "mine-2")
    assert json.loads(error.body)["message"] in str(error)
    assert error.headers["x-ms-run-function-failed"] == "True"


def test_a_request_that_is_no_json_is_told_so_where_the_script_fails(call, tmp_path):
    (tmp_path / "request.json").write_text('{"data": [[1, 2,}')
    with pytest.raises(ScoringError, match="sent as JSON and is none: Expecting value: line 1 column 17") as caught:
        call(request_file=tmp_path / "request.json")
    assert "get_logs" in str(caught.value)
    with pytest.raises(ScoringError) as caught:
        call(input_data={"raise": "spring tide"})
    assert "is none" not in str(caught.value)


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


@pytest.mark.parametrize("timeout", [0, -1, "3"])
def test_a_patience_that_is_none_is_told(call, timeout):
    with pytest.raises(ValidationException, match=rf"timeout is {timeout!r}: give it seconds"):
        call(input_data=1, timeout=timeout)


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
    live.online_endpoints._doors._doors["tides"] = Door("http://127.0.0.1:1/score", "old"), math.inf
    with pytest.raises(ServiceRequestError, match="could not be reached"):
        call(input_data=1)
    assert call(input_data=1).deployment == "blue"


# Bodies of every kind


@pytest.mark.parametrize(
    ("data", "again"),
    [
        (lambda _: (piece for piece in (b'{"a"', b"", b": ", b"1}")), {"a": 1}),
        (lambda _: iter(["[1,", "2]"]), [1, 2]),
        (lambda _: io.BytesIO(b"[3]"), [3]),
        (lambda path: path.open("rb"), {"file": 1}),
    ],
)
def test_pieces_are_sent_as_they_come(call, tmp_path, data, again):
    (tmp_path / "request.json").write_text('{"file": 1}')
    body = data(tmp_path / "request.json")
    assert call(input_data=body).json()["said"] == again
    if hasattr(body, "close"):
        body.close()


@pytest.fixture
def seen(azure_client, azure_stub):
    """Calls `tides` of the stub; returns what its `/score` saw."""
    azure_stub.add("onlineEndpoints/tides", {"location": "x", "properties": {"authMode": "Key"}})
    operations = azure_client().online_endpoints

    def call(**said):
        operations.invoke("tides", **said)
        return azure_stub.seen[-1]

    return call


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", b"[1]", "application/json"),
        ("a.png", b"\x89PNG", "image/png"),
        ("a.csv", b"a,b\n", "text/csv"),
        ("a.txt", b"high tide", "text/plain"),
        ("a.txt", b'{"data": 1}', "application/json"),
        ("request", b'{"data": 1}', "application/json"),
        ("a.weights", b"\x00\x01", "application/octet-stream"),
    ],
)
def test_a_files_content_type_is_what_its_name_says(seen, tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    one = seen(request_file=tmp_path / name)
    assert (one.headers["content-type"], one.body) == (kind, content)
    assert seen(request_file=tmp_path / name, content_type="a/b").headers["content-type"] == "a/b"


def test_the_content_type_of_what_is_given(seen):
    kinds = {b"x": "application/octet-stream", "x": "application/json", 1: "application/json"}
    assert {data: seen(input_data=data).headers["content-type"] for data in kinds} == kinds
    assert seen(input_data=b"x", headers={"content-type": "image/png"}).headers["content-type"] == "image/png"
    assert seen(input_data=memoryview(b"x")).body == b"x"


def test_a_large_file_is_sent_from_the_disk(seen, tmp_path):
    (tmp_path / "large.bin").write_bytes(b"t" * (9 << 20))
    one = seen(request_file=tmp_path / "large.bin")
    assert (one.headers["content-length"], one.headers["content-type"]) == (str(9 << 20), "application/octet-stream")
    assert one.body == b"t" * (9 << 20)


def test_an_iterator_is_sent_in_chunks(seen):
    one = seen(input_data=iter([b"high", b"", b" tide"]))
    assert (one.headers["transfer-encoding"], one.body) == ("chunked", b"high tide")


def _form(one):
    """The parts of a multipart body: name, file name, content type, content."""
    said = b"Content-Type: " + one.headers["content-type"].encode() + b"\r\n\r\n" + one.body
    parts = email.message_from_bytes(said, policy=email.policy.HTTP).iter_parts()
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type() if part["content-type"] else None,
            part.get_payload(decode=True),
        )
        for part in parts
    ]


def test_files_are_sent_as_a_form(seen, tmp_path):
    (tmp_path / "tide.png").write_bytes(b"\x89PNG" * 50_000)
    (tmp_path / "chart.csv").write_bytes(b"a,b\r\n")
    with (tmp_path / "chart.csv").open("rb") as chart:
        chart.read(2)
        files = [
            ("image", tmp_path / "tide.png"),
            ("chart", chart),
            ("note", ("high.txt", "spring", "text/plain", {"X-Tide": "1"})),
            ("raw", b"\x00"),
        ]
        one = seen(files=files, input_data={"port": "Dover", "hours": [1, 2]})
    assert one.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert one.headers["content-length"] == str(len(one.body))
    assert _form(one) == [
        ("port", None, None, b"Dover"),
        ("hours", None, None, b"1"),
        ("hours", None, None, b"2"),
        ("image", "tide.png", "image/png", b"\x89PNG" * 50_000),
        ("chart", "chart.csv", "text/csv", b"b\r\n"),
        ("note", "high.txt", "text/plain", b"spring"),
        ("raw", "raw", "application/octet-stream", b"\x00"),
    ]


def test_a_forms_names_cannot_write_headers(seen):
    one = seen(files={'a"\r\nX: y': ('b"\n.txt', b"1")})
    assert b'name="a%22%0D%0AX: y"; filename="b%22%0A.txt"' in one.body
    with pytest.raises(ValidationException, match="line break"):
        seen(files={"a": ("b", b"1", "text/plain\r\nX: y")})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"files": {"a": b"1"}, "request_file": "x"}, "no request_file"),
        ({"files": {"a": b"1"}, "input_data": [1]}, "input_data only as a mapping"),
        ({"files": {"a": Path("missing.png")}}, "'missing.png' cannot be read: No such file"),
        ({"files": {"a": io.StringIO("x")}}, "open in binary mode"),
        ({"files": {"a": 1}}, "must be bytes, text, a path"),
        ({"input_data": io.StringIO("x")}, "open it with 'rb'"),
    ],
)
def test_what_cannot_be_sent_says_why(seen, said, message):
    with pytest.raises(ValidationException, match=message):
        seen(**said)


# Answers as they come


class Slow(http.server.BaseHTTPRequestHandler):
    """A scoring server that says a piece whenever it is told to; `None` ends the answer, an exception cuts it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        for name, value in self.server.said.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            while (piece := self.server.pieces.get(timeout=30)) is not None:
                if isinstance(piece, Exception):
                    self.close_connection = True
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def slow(azure_client, azure_stub):
    """A client whose endpoint `tides` is served by a `Slow`, and that server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        server.pieces, server.said = queue.Queue(), {}
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        document = azure_stub.add("onlineEndpoints/tides", {"location": "x", "properties": {"authMode": "Key"}})
        document["properties"]["scoringUri"] = f"http://127.0.0.1:{server.server_port}/score"
        yield azure_client().online_endpoints, server
        server.pieces.put(None)
        server.shutdown()
        thread.join()


def test_an_answer_comes_piece_by_piece(slow):
    operations, server = slow
    server.said = {"azureml-model-deployment": "blue", "x-request-id": "r-7"}
    server.pieces.put(b"high")
    with operations.invoke("tides", input_data=1, stream=True) as answer:
        assert (answer.status_code, answer.deployment, answer.request_id) == (200, "blue", "r-7")
        assert next(answer) == b"high"
        server.pieces.put(b" tide")
        assert next(answer) == b" tide"
        server.pieces.put(None)
        assert list(answer) == []


def test_an_answers_lines_come_whole(slow):
    operations, server = slow
    for piece in (b"data: 1\r\nda", "ta: \u00fc\n".encode()[:5], "ta: \u00fc\n".encode()[5:], b"\n", b"rest", None):
        server.pieces.put(piece)
    with operations.invoke("tides", input_data=1, stream=True) as answer:
        assert list(answer.lines()) == ["data: 1", "data: \u00fc", "", "rest"]


def test_a_stream_that_is_left_is_closed(slow):
    operations, server = slow
    server.pieces.put(b"high")
    with operations.invoke("tides", input_data=1, stream=True) as answer:
        next(answer)
    assert list(answer) == []
    server.pieces.put(None)
    server.pieces.put(b"low")
    server.pieces.put(None)
    assert operations.invoke("tides", input_data=1) in ("low", "")


def test_an_answer_that_is_cut_off_says_so(slow):
    operations, server = slow
    server.pieces.put(b"high")
    answer = operations.invoke("tides", input_data=1, stream=True)
    assert next(answer) == b"high"
    server.pieces.put(RuntimeError())
    with pytest.raises(ServiceRequestError, match="was cut off"):
        next(answer)
    server.pieces.put(RuntimeError())
    with pytest.raises(ServiceRequestError, match="was cut off"):
        operations.invoke("tides", input_data=1)


@pytest.mark.parametrize("stream", [True, False])
def test_patience_ends_in_the_middle_of_an_answer_too(slow, stream):
    operations, server = slow
    server.pieces.put(b"high")
    with pytest.raises(ServiceRequestTimeoutError, match=r"stopped within 2 s before its end"):
        for _ in operations.invoke("tides", input_data=1, stream=stream, timeout=2):
            pass
    server.pieces.put(None)


def test_an_error_is_raised_before_the_first_piece(call):
    with pytest.raises(ScoringError, match="status 500"):
        call(input_data={"raise": "neap tide"}, stream=True)
    with call(input_data={"a": 1}, stream=True) as answer:
        assert json.loads(answer.read())["said"] == {"a": 1}


# What an error says


@pytest.mark.parametrize(
    ("status", "headers", "advice"),
    [
        (401, {}, "auth_mode"),
        (404, {}, "No deployment of 'tides' has traffic"),
        (408, {}, "request_timeout_ms"),
        (413, {}, "Send less at once"),
        (
            424,
            {"ms-azureml-model-error-statuscode": "500", "ms-azureml-model-error-reason": "model_error"},
            "500 (model_error)",
        ),
        (429, {"Retry-After": "7"}, "Try again after 7 s"),
        (503, {"Retry-After": "9"}, "Try again after 9 s"),
        (503, {}, "Try again a little later"),
        (500, {"x-ms-run-function-failed": "True"}, "The scoring script failed. online_deployments.get_logs("),
        (302, {"Location": "https://elsewhere.example"}, "https://elsewhere.example"),
    ],
)
def test_an_error_says_what_to_do(seen, azure_stub, status, headers, advice):
    azure_stub.faults.append(
        lambda one: Say(status, {"x-request-id": "r-9", **headers}, b"flood") if one.path == "/score" else None
    )
    with pytest.raises(ScoringError) as caught:
        seen(input_data=1)
    error = caught.value
    assert advice in str(error)
    assert "request r-9): flood" in str(error)
    assert (error.status_code, error.body, error.request_id) == (status, "flood", "r-9")
    sent = [each for each in azure_stub.seen if each.path == "/score"]
    assert len(sent) == 1


@pytest.mark.parametrize("fault", [Reset(), Cut(1), Half()])
def test_an_answer_that_is_lost_is_not_asked_for_again(seen, azure_stub, fault):
    azure_stub.faults.append(lambda one: fault if one.path == "/score" else None)
    with pytest.raises(ServiceRequestError):
        seen(input_data={"a": 1})
    assert len([each for each in azure_stub.seen if each.path == "/score"]) == 1


def test_a_binary_answer_is_there_as_bytes(seen, azure_stub, azure_client):
    said = Say(200, {"Content-Type": "application/octet-stream"}, b"\xff\x00")
    azure_stub.faults.append(lambda one: said if one.path == "/score" else None)
    answer = azure_client().online_endpoints.invoke("tides", input_data=1)
    assert answer.content == b"\xff\x00"
    said = Say(200, {"Content-Type": "text/html; charset=latin-1"}, b"\xfc")
    assert azure_client().online_endpoints.invoke("tides", input_data=1) == "\u00fc"
    said = Say(200, {"Content-Type": "text/html"}, "\u00fc".encode())
    assert azure_client().online_endpoints.invoke("tides", input_data=1) == "\u00fc"


# Calls are few, and safe in threads


def _counted(stub):
    return [(each.method, each.path.rpartition("/")[2]) for each in stub.seen if each.path != "/score"]


def test_a_hundred_calls_ask_once_for_the_endpoint_its_keys_and_its_deployments(seen, azure_stub):
    azure_stub.add("onlineEndpoints/tides/deployments/teal", {"properties": {"endpointComputeType": "Managed"}})
    for number in range(100):
        seen(input_data=number, **({"deployment_name": "teal"} if number % 2 else {}))
    assert sorted(_counted(azure_stub)) == [("GET", "deployments"), ("GET", "tides"), ("POST", "listKeys")]


def test_threads_ask_once_and_no_call_has_anothers_headers(azure_client, azure_stub):
    azure_stub.check_keys = True
    for name in ("tides", "ferry"):
        azure_stub.add(f"onlineEndpoints/{name}", {"location": "x", "properties": {"authMode": "Key"}})
        for deployment in ("blue", "green"):
            place = f"onlineEndpoints/{name}/deployments/{deployment}"
            azure_stub.add(place, {"properties": {"endpointComputeType": "Managed"}})
    azure_stub.keys = {name: {"primaryKey": f"{name}-1", "secondaryKey": "s"} for name in ("tides", "ferry")}
    operations = azure_client().online_endpoints
    start = threading.Barrier(32)

    def run(number):
        start.wait(30)
        for turn in range(5):
            endpoint, deployment = ("tides", "ferry")[number % 2], ("blue", "green", None)[(number + turn) % 3]
            mark = f"{number}-{turn}-{endpoint}-{deployment}"
            answer = operations.invoke(
                endpoint, input_data=mark.encode(), deployment_name=deployment, headers={"x-request-id": mark}
            )
            assert (answer.json(), answer.request_id) == ({"echo": mark, "deployment": deployment}, mark)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(run, range(32)))
    assert sorted(_counted(azure_stub)) == sorted(
        [("GET", "deployments"), ("POST", "listKeys")] * 2 + [("GET", "tides"), ("GET", "ferry")]
    )
    for each in azure_stub.seen:
        if each.path == "/score":
            _, _, endpoint, deployment = each.headers["x-request-id"].split("-")
            assert each.headers["authorization"] == f"Bearer {endpoint}-1"
            assert each.headers.get("azureml-model-deployment", "None") == deployment


def test_a_key_that_was_replaced_is_asked_for_once_by_all_threads(azure_client, azure_stub):
    azure_stub.check_keys = True
    azure_stub.add("onlineEndpoints/tides", {"location": "x", "properties": {"authMode": "Key"}})
    azure_stub.keys = {"tides": {"primaryKey": "old", "secondaryKey": "s"}}
    operations = azure_client().online_endpoints
    operations.invoke("tides", input_data=1)
    azure_stub.keys = {"tides": {"primaryKey": "new", "secondaryKey": "s"}}
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: operations.invoke("tides", input_data=number), range(64)))
    assert [each.json()["echo"] for each in answers] == list(range(64))
    assert sorted(_counted(azure_stub)) == [("GET", "tides")] * 2 + [("POST", "listKeys")] * 2


def test_an_iterator_is_not_sent_again_to_a_new_key(azure_client, azure_stub):
    azure_stub.check_keys = True
    azure_stub.add("onlineEndpoints/tides", {"location": "x", "properties": {"authMode": "Key"}})
    azure_stub.keys = {"tides": {"primaryKey": "old", "secondaryKey": "s"}}
    operations = azure_client().online_endpoints
    operations.invoke("tides", input_data=1)
    azure_stub.keys = {"tides": {"primaryKey": "new", "secondaryKey": "s"}}
    with pytest.raises(ScoringError, match="cannot be sent twice") as caught:
        operations.invoke("tides", input_data=iter([b"1"]))
    assert caught.value.status_code == 401
    assert operations.invoke("tides", input_data=iter([b"1"])).json()["echo"] == 1


def test_a_key_that_stays_refused_is_not_tried_again(azure_client, azure_stub):
    azure_stub.add("onlineEndpoints/tides", {"location": "x", "properties": {"authMode": "Key"}})
    operations = azure_client().online_endpoints
    operations.invoke("tides", input_data=1)
    azure_stub.faults.append(lambda one: Say(401) if one.path == "/score" else None)
    with pytest.raises(ScoringError, match="status 401"):
        operations.invoke("tides", input_data=1)
    assert len([each for each in azure_stub.seen if each.path == "/score"]) == 2


def test_a_models_own_401_is_an_answer(azure_client, azure_stub):
    azure_stub.add("onlineEndpoints/tides", {"location": "x", "properties": {"authMode": "Key"}})
    operations = azure_client().online_endpoints
    operations.invoke("tides", input_data=1)
    before = len(azure_stub.seen)
    azure_stub.faults.append(
        lambda one: Say(401, {"x-ms-run-function-failed": "False"}) if one.path == "/score" else None
    )
    with pytest.raises(ScoringError, match="status 401"):
        operations.invoke("tides", input_data=1)
    assert [each.path for each in azure_stub.seen[before:]] == ["/score"]


class Tokens:
    """A credential whose tokens end after so many seconds, and which counts them."""

    def __init__(self, seconds):
        self.seconds, self.scopes = seconds, []

    def get_token(self, *scopes, **_):
        self.scopes += scopes
        return types.SimpleNamespace(token=f"t{len(self.scopes)}", expires_on=int(time.time() + self.seconds))


def test_an_entra_token_is_asked_for_once_while_it_lasts(azure_client, azure_stub):
    azure_stub.add("onlineEndpoints/tides", {"location": "x", "properties": {"authMode": "AADToken"}})
    credential = Tokens(3600)
    operations = azure_client(credential).online_endpoints
    for _ in range(3):
        operations.invoke("tides", input_data=1)
    assert len({each.headers["authorization"] for each in azure_stub.seen if each.path == "/score"}) == 1
    assert operations.get_keys("tides").access_token == f"t{len(credential.scopes)}"
    assert not [each for each in azure_stub.seen if each.path.endswith(("listKeys", "token"))]


def test_a_token_is_renewed_when_it_is_due_and_no_sooner():
    now = 1000.0
    found = []

    def find(name):
        found.append(name)
        return Door("https://x", f"k{len(found)}", lasts=[10, -3600, 10][len(found) - 1])

    doors = Doors(find, lambda _: (), clock=lambda: now)
    assert [doors.door("tides").key for _ in range(3)] == ["k1"] * 3
    now += 10
    assert [doors.door("tides").key for _ in range(3)] == ["k2"] * 3, "a clock that is an hour off asks no more often"
    assert doors.door("tides", instead_of=doors.door("tides")).key == "k3"


# What cannot be asked


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "either request_file or input_data"),
        ({"input_data": 1, "request_file": "x"}, "either request_file or input_data"),
        ({"request_file": "missing.json"}, "'missing.json' cannot be read: No such file"),
        ({"input_data": object()}, "cannot be written as JSON"),
        ({"input_data": iter([1])}, "must be bytes or text, not int"),
        ({"input_data": {1: {2}}}, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_sent_is_refused_before(call, said, message):
    with pytest.raises(ValidationException, match=message):
        call(**said)


def test_nobody_is_not_found(live):
    with pytest.raises(ResourceNotFoundError, match="Endpoint 'nobody' does not exist"):
        live.online_endpoints.invoke("nobody", input_data=1)
