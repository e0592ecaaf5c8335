"""Traces and what Application Insights gets, as a receiver on this machine sees them."""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.scoring.conftest import SDK

from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder
from modelport.testing import environments_folder

SCRIPT = """
    import json
    from opentelemetry import trace
    tracer = trace.get_tracer("the script's")
    def init(): pass
    def run(data):
        what = json.loads(data)
        print("asked for", what)
        with tracer.start_as_current_span("predict"):
            if what == "fail":
                raise ValueError("as asked")
        return what
"""

PLAIN = "def init(): pass\ndef run(data): return 'done'\n"

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEY = "12345678-1234-1234-1234-123456789abc"

ALONE = {
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
}
"""What keeps Azure's exporter from telling its maker about itself."""


class Receiver:
    """What was posted to a port of this machine, as `(path, body)`."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, bytes]] = []
        posted = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                posted.append((self.path, body))
                items = len(json.loads(body)) if "track" in self.path else 0
                answer = json.dumps({"itemsReceived": items, "itemsAccepted": items, "errors": []}).encode()
                answer = answer if items else b""
                self.send_response(200)
                self.send_header("content-type", "application/json" if items else "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def spans(self) -> list[Span]:
        return [span for _, scope in self._scopes for span in scope.spans]

    @property
    def resource(self) -> dict[str, object]:
        return attributes(self._scopes[0][0])

    @property
    def _scopes(self):
        found = []
        for path, body in list(self.posted):
            assert path == "/v1/traces"
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                found += [(each.resource, scope) for scope in each.scope_spans]
        return found

    def items(self, kind: str) -> list[dict]:
        """What Application Insights would have got in one of its tables."""
        every = [item for path, body in list(self.posted) if path.endswith("/track") for item in json.loads(body)]
        return [item["data"]["baseData"] for item in every if item["data"]["baseType"] == kind]


def attributes(of) -> dict[str, object]:
    def plain(value):
        kind = value.WhichOneof("value")
        return [plain(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {each.key: plain(each.value) for each in of.attributes}


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="session")
def telemetry_python() -> str:
    """The interpreter of a user's environment with OpenTelemetry and Azure's exporter, built as for a deployment."""
    packages = [
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp-proto-http",
        "azure-monitor-opentelemetry-exporter",
    ]
    conda = {"name": "telemetry", "dependencies": ["python", "pip", {"pip": packages}]}
    return str(PrefixBuilder(environments_folder()).build(Wanted(conda=conda), lambda _: None).python)


@pytest.fixture
def traced(serve, receiver, telemetry_python):
    def one(script=SCRIPT, **environment):
        said = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address, "OTEL_BSP_SCHEDULE_DELAY": "50", **environment}
        return serve(script, python=telemetry_python, **said)

    return one


@pytest.fixture
def insighted(serve, receiver, telemetry_python):
    def one(script=SCRIPT, key=f"{KEY};IngestionEndpoint={{address}}", **environment):
        said = {"AML_APP_INSIGHTS_ENABLED": "true", "AML_APP_INSIGHTS_KEY": key.format(address=receiver.address)}
        flush = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BLRP_SCHEDULE_DELAY": "50"}
        return serve(script, python=telemetry_python, **ALONE, **flush, **{**said, **environment})

    return one


def named(served, receiver, name: str) -> Span:
    served.wait_for(lambda: any(span.name == name for span in receiver.spans))
    return next(span for span in receiver.spans if span.name == name)


def test_a_request_is_a_span_with_run_and_the_script_s_own_within(traced, receiver):
    served = traced(MODELPORT_DEPLOYMENT="blue")
    answer = served.request(
        "POST", "/score?x=1", json.dumps("one"), traceparent=f"00-{TRACE}-{PARENT}-01", x_request_id="r-1"
    )
    assert answer.status == 200
    request, run, own = (named(served, receiver, name) for name in ("POST /score", "run", "predict"))
    assert {span.trace_id.hex() for span in (request, run, own)} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert run.parent_span_id == request.span_id
    assert own.parent_span_id == run.span_id
    assert request.kind == Span.SPAN_KIND_SERVER
    assert request.start_time_unix_nano <= run.start_time_unix_nano <= run.end_time_unix_nano
    assert run.end_time_unix_nano <= request.end_time_unix_nano
    assert request.status.code == Status.STATUS_CODE_UNSET
    told = attributes(request)
    expected = {
        "http.request.method": "POST",
        "http.route": "/score",
        "url.path": "/score",
        "url.query": "x=1",
        "url.scheme": "http",
        "server.address": "localhost",
        "http.response.status_code": 200,
        "http.request.body.size": 5,
        "http.response.body.size": 5,
        "http.response.header.x-request-id": ["r-1"],
        "network.protocol.version": "1.1",
    }
    assert {key: told.get(key) for key in expected} == expected
    assert receiver.resource["service.name"] == "blue"


def test_what_run_raises_is_recorded_and_makes_the_request_an_error(traced, receiver):
    served = traced()
    assert served.score("fail").status == 500
    run, request = named(served, receiver, "run"), named(served, receiver, "POST /score")
    assert run.status.code == request.status.code == Status.STATUS_CODE_ERROR
    (event,) = run.events
    assert event.name == "exception"
    assert attributes(event)["exception.type"] == "ValueError"
    assert attributes(event)["exception.message"] == "as asked"
    assert attributes(request)["error.type"] == "500"


def test_a_request_without_a_parent_begins_a_trace_and_the_next_one_another(traced, receiver):
    served = traced()
    for number in range(3):
        served.score(number)
    served.wait_for(lambda: len(receiver.spans) == 9)
    requests = [span for span in receiver.spans if span.name == "POST /score"]
    assert [span.parent_span_id for span in requests] == [b""] * 3
    assert len({span.trace_id for span in requests}) == 3


def test_probes_are_not_traced_and_refusals_are(traced, receiver):
    served = traced()
    served.request("GET", "/")
    served.request("DELETE", "/score")
    served.request("GET", "/nope")
    served.request("BREW", "/score")
    served.wait_for(lambda: len(receiver.spans) == 3)
    assert sorted(span.name for span in receiver.spans) == ["DELETE /score", "GET", "HTTP /score"]
    told = {span.name: attributes(span) for span in receiver.spans}
    assert told["GET"]["http.response.status_code"] == 404
    assert told["HTTP /score"]["http.request.method"] == "_OTHER"
    assert told["HTTP /score"]["http.request.method_original"] == "BREW"


def test_sampling_and_names_are_opentelemetry_s_own_variables(traced, receiver):
    served = traced(OTEL_TRACES_SAMPLER="parentbased_always_off", OTEL_SERVICE_NAME="tides")
    served.score("unsampled")
    served.score("sampled", traceparent=f"00-{TRACE}-{PARENT}-01")
    request = named(served, receiver, "POST /score")
    assert request.trace_id.hex() == TRACE
    assert len(receiver.spans) == 3
    assert receiver.resource["service.name"] == "tides"


def test_what_was_traced_is_sent_before_the_process_ends(traced, receiver):
    served = traced(OTEL_BSP_SCHEDULE_DELAY="3600000")
    served.score("one")
    assert not receiver.posted
    served.process.terminate()
    assert served.process.wait(timeout=20) == 0
    assert sorted(span.name for span in receiver.spans) == ["POST /score", "predict", "run"]


def test_a_receiver_that_is_not_there_costs_requests_nothing_and_does_not_keep_the_process(traced):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    served = traced(OTEL_EXPORTER_OTLP_ENDPOINT=address)
    assert served.score("one").status == 200
    began = time.monotonic()
    served.process.terminate()
    assert served.process.wait(timeout=30) == 0
    assert time.monotonic() - began < 25


def test_lines_of_the_log_name_the_trace_beside_the_request(traced):
    script = """
        import logging
        def init(): pass
        def run(data): raise ValueError("as asked")
    """
    served = traced(script)
    served.score("fail", x_request_id="r-2", traceparent=f"00-{TRACE}-{PARENT}-01")
    assert re.search(rf"run\(\) raised an exception\. \[r-2, trace {TRACE}\]\n", served.log)


def test_a_script_s_own_provider_is_kept(traced, receiver):
    script = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        def init():
            provider = TracerProvider(resource=Resource.create({"service.name": "the script's"}))
            provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
            trace.set_tracer_provider(provider)
        def run(data): return "done"
    """
    served = traced(script)
    served.score("one")
    assert named(served, receiver, "POST /score").kind == Span.SPAN_KIND_SERVER
    assert receiver.resource["service.name"] == "the script's"
    assert len(receiver.spans) == 2


@pytest.mark.parametrize(
    ("environment", "said", "remedy"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
            "No traces are sent: OTEL_EXPORTER_OTLP_ENDPOINT asks for them, but a package is missing (No module",
            "Add opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http to the environment.",
        ),
        (
            {"AML_APP_INSIGHTS_ENABLED": "true", "AML_APP_INSIGHTS_KEY": KEY},
            "Nothing is sent to Application Insights: a package is missing (No module named '",
            "Add azure-monitor-opentelemetry-exporter to the environment.",
        ),
        (
            {"AML_APP_INSIGHTS_ENABLED": "true"},
            "Nothing is sent to Application Insights: it is enabled, but",
            "AML_APP_INSIGHTS_KEY says no key.",
        ),
    ],
)
def test_what_is_asked_for_and_cannot_be_sent_is_said_and_requests_are_served(serve, environment, said, remedy):
    served = serve(PLAIN, **environment)
    (line,) = [line for line in served.log.splitlines() if said in line]
    assert " W [" in line
    assert line.endswith(remedy)
    assert served.score(1).status == 200


BATCH = """
import asyncio, json
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from modelport_scoring.request_ids import current
from modelport_scoring.tracing import Tracing

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

class Protocol:
    def response_bytes(self, status, headers, body): pass

def environ(number):
    return {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/score", "QUERY_STRING": "", "wsgi.url_scheme": "http",
        "REMOTE_ADDR": "", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "x", "HTTP_X_REQUEST_ID": f"r-{number}",
    }

tracing = Tracing()
noted = []
exchanges = [tracing.exchange(Protocol(), environ(number), noted.append) for number in range(3)]
for each in exchanges:
    each.identify(versioned=True)
exchanges[0].enter_with(exchanges[1:])

async def run(data, headers):
    await asyncio.sleep(0)
    with trace.get_tracer("own").start_as_current_span("predict"):
        return current.get()

ids = asyncio.run(tracing.around(run)([1, 2, 3], None))
for each in exchanges:
    each.answer(200, "application/json", b"1")
spans = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
print(json.dumps({"ids": ids, "noted": len(noted), "spans": spans}))
"""


def test_a_batch_is_a_part_of_its_first_request_and_linked_to_the_others(telemetry_python):
    ran = subprocess.run([telemetry_python, "-c", BATCH], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(ran.stdout)
    assert (told["ids"], told["noted"]) == ("r-0, r-1, r-2", 3)
    spans = {
        name: [span for span in told["spans"] if span["name"] == name] for name in ("POST /score", "run", "predict")
    }
    (run,), (own,) = spans["run"], spans["predict"]
    first, *others = (span["context"]["span_id"] for span in spans["POST /score"])
    assert run["parent_id"] == first
    assert [link["context"]["span_id"] for link in run["links"]] == others
    assert len(others) == 2
    assert own["parent_id"] == run["context"]["span_id"]
    assert own["end_time"] <= run["end_time"]


def test_an_exporter_that_is_not_there_is_named(traced):
    served = traced(PLAIN, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "there is no exporter 'otlp_proto_grpc'" in served.log
    assert "opentelemetry-exporter-otlp-proto-grpc" in served.log
    assert served.score(1).status == 200


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_of_opentelemetry_is_loaded_unless_it_is_asked_for(serve, telemetry_python, environment):
    script = (
        "import sys\ndef init(): pass\ndef run(data): return [name for name in sys.modules if 'telemetry' in name]\n"
    )
    served = serve(script, python=telemetry_python, **environment)
    assert json.loads(served.score(1).body) == ["modelport_scoring.telemetry"]


def test_application_insights_gets_what_azure_s_server_tells_it(insighted, receiver):
    served = insighted(WORKSPACE_NAME="bay", SERVICE_NAME="tides", HOSTNAME="pod-1")
    served.request("GET", "/")
    served.request("POST", "/score?x=1", '"one"', x_request_id="r-1", x_ms_client_request_id="c-1")
    served.wait_for(lambda: bool(receiver.items("RequestData")))
    (request,) = receiver.items("RequestData")
    assert request["name"] == "POST /score"
    assert request["responseCode"] == "200"
    assert request["success"] is True
    told = request["properties"]
    assert re.fullmatch(r"00:00:\d\d\.\d{3}", told.pop("duration"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", told.pop("start_time"))
    expected = {
        "Container Id": "pod-1",
        "Request Id": "r-1",
        "Client Request Id": "c-1",
        "Response Value": '"one"',
        "name": "/score",
        "url": "http://localhost/score?x=1",
        "resultCode": "200",
        "success": "True",
        "http_method": "POST",
        "Workspace Name": "bay",
        "Service Name": "tides",
    }
    assert {key: told.get(key) for key in expected} == expected


def test_application_insights_gets_failures_with_their_tracebacks(insighted, receiver):
    served = insighted()
    served.score("fail", x_request_id="r-2")
    served.wait_for(lambda: bool(receiver.items("RequestData")) and bool(receiver.items("MessageData")))
    (request,) = receiver.items("RequestData")
    assert (request["responseCode"], request["success"]) == ("500", False)
    served.wait_for(lambda: bool(receiver.items("ExceptionData")))
    exceptions = [each["exceptions"][0] for each in receiver.items("ExceptionData")]
    assert {(each["typeName"], each["message"]) for each in exceptions} == {("ValueError", "as asked")}
    served.wait_for(lambda: any("run() raised" in each["message"] for each in receiver.items("MessageData")))
    (line,) = [each for each in receiver.items("MessageData") if "run() raised" in each["message"]]
    assert line["properties"]["Request Id"] == "r-2"


def test_answers_are_kept_from_application_insights_when_that_is_said(insighted, receiver):
    served = insighted(APP_INSIGHTS_LOG_RESPONSE_ENABLED="false")
    served.score("one")
    served.wait_for(lambda: bool(receiver.items("RequestData")))
    assert "Response Value" not in receiver.items("RequestData")[0]["properties"]


@pytest.mark.parametrize(
    ("key", "connection"),
    [(KEY, "IngestionEndpoint={address}"), ("", f"InstrumentationKey={KEY};IngestionEndpoint={{address}}")],
)
def test_the_endpoint_can_come_from_the_exporter_s_own_variable(insighted, receiver, key, connection):
    served = insighted(key=key, APPLICATIONINSIGHTS_CONNECTION_STRING=connection.format(address=receiver.address))
    served.score("one")
    served.wait_for(lambda: bool(receiver.items("RequestData")))


def test_a_key_that_is_none_is_said(insighted):
    served = insighted(key="no-key")
    assert "Nothing is sent to Application Insights: " in served.log
    assert "AML_APP_INSIGHTS_KEY" in served.log
    assert "no-key" not in served.log
    assert served.score(1).status == 200


def test_the_readme_tells_of_the_variables():
    text = (SDK / "modelport_scoring" / "README.md").read_text()
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "AML_APP_INSIGHTS_KEY", "modelport_request_id"):
        assert name in text
