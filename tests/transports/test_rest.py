"""Requests over HTTP: what is tried again, what never is, and what is sent with them."""

import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from modelport.arm import versions
from modelport.arm.ids import LOCAL_WORKSPACE
from modelport.arm.messages import Request
from modelport.errors import ServiceRequestError, ServiceRequestTimeoutError, ValidationException
from modelport.transports import connect
from modelport.transports.options import Options
from modelport.transports.rest import RestTransport
from modelport.transports.scoring import Scorer
from modelport.transports.tokens import Fixed


class Service:
    """
    A server that does what it was told to do, in turn: answer with a status, or one and headers, `cut` the
    connection, or `hang`.
    """

    def __init__(self, port=0):
        self.told, self.asked, self.go_on = [], [], threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                length = int(self.headers.get("content-length") or 0)
                service.asked.append(
                    SimpleNamespace(
                        method=self.command, path=self.path, headers=self.headers, body=self.rfile.read(length)
                    )
                )
                told = service.told.pop(0) if service.told else 200
                if told == "hang":
                    service.go_on.wait(30)
                if told in ("cut", "hang"):
                    self.close_connection = True
                    return
                told, headers = told if isinstance(told, tuple) else (told, {})
                body = json.dumps({"told": told}).encode()
                self.send_response(told)
                self.send_header("content-type", "application/json")
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        for method in ("GET", "PUT", "POST", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Half:
    """A server that promises more than it sends."""

    def __init__(self):
        self.asked, self._socket = 0, socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if not connection.recv(65536):
                    return
                self.asked += 1
                connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"a": 1}')

    def close(self):
        with socket.create_connection(self._socket.getsockname()):
            pass
        self._thread.join()
        self._socket.close()


@pytest.fixture
def service():
    made = Service()
    yield made
    made.close()


@pytest.fixture
def transport(service):
    made = RestTransport(service.url, LOCAL_WORKSPACE, Fixed(lambda: "secret"))
    yield made
    made.close()


@pytest.fixture
def impatient(service):
    made = RestTransport(service.url, LOCAL_WORKSPACE, Fixed(lambda: "secret"), Options(read_timeout=0.5))
    yield made
    made.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("fault", [408, 429, 500, 502, 503, 504, "cut"])
def test_what_can_be_sent_twice_is_tried_again(service, transport, method, fault):
    service.told = [fault, fault]
    answer = transport.send(Request(method, "/subscriptions/x", body={"a": 1} if method == "PUT" else None))
    assert (answer.status, len(service.asked)) == (200, 3)
    if method == "PUT":
        assert {each.body for each in service.asked} == {b'{"a": 1}'}


@pytest.mark.parametrize("action", ["listKeys", "token", "getLogs", "listSecrets", "startPendingUpload"])
@pytest.mark.parametrize("fault", [503, "cut"])
def test_actions_that_only_read_are_too(service, transport, action, fault):
    service.told = [fault]
    assert transport.send(Request("POST", f"/subscriptions/x/{action}", body={})).status == 200
    assert len(service.asked) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_the_service_put_off_did_nothing_and_is_sent_again(service, transport, method):
    service.told = [(429, {"Retry-After": "0.02"})]
    assert transport.send(Request(method, "/subscriptions/x/package", body={})).status == 200
    assert len(service.asked) == 2


def test_keys_are_never_replaced_twice(service, transport):
    for fault in ((429, {"Retry-After": "0.02"}), 503):
        service.told = [fault]
        assert transport.send(Request("POST", "/subscriptions/x/regenerateKeys", body={})).status in (429, 503)
    assert len(service.asked) == 2


def test_pieces_that_are_gone_are_not_sent_again(service, transport):
    service.told = [503]
    assert transport.send(Request("PUT", "/subscriptions/x", content=iter([b"one", b"two"]))).status == 503
    assert len(service.asked) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_cannot_is_not(service, transport, method):
    service.told = [503]
    assert transport.send(Request(method, "/subscriptions/x", body={})).status == 503
    service.told = ["cut"]
    with pytest.raises(ServiceRequestError, match=f"{method} .*no answer came"):
        transport.send(Request(method, "/subscriptions/x", body={}))
    assert len(service.asked) == 2


def test_an_answer_that_says_no_is_not_tried_again(service, transport):
    for status in (400, 401, 403, 404, 409, 412, 501):
        service.told = [status]
        assert transport.send(Request("GET", "/subscriptions/x")).status == status
    assert len(service.asked) == 7


def test_a_service_that_stays_busy_is_believed_in_the_end(service, transport):
    service.told = [503] * 10
    assert transport.send(Request("GET", "/subscriptions/x")).status == 503
    assert len(service.asked) == 4


def test_a_service_that_hangs_is_given_up(service, impatient):
    service.told = ["hang"]
    with pytest.raises(ServiceRequestTimeoutError, match=r"no answer came within 0\.5 s"):
        impatient.send(Request("POST", "/subscriptions/x"))


def test_nobody_there_is_one_error():
    transport = RestTransport("http://127.0.0.1:1", LOCAL_WORKSPACE, Fixed(lambda: "secret"))
    with pytest.raises(ServiceRequestError, match="no answer came: Connection refused"):
        transport.send(Request("POST", "/subscriptions/x"))
    transport.close()


def test_a_server_that_comes_late_is_met_whatever_is_asked():
    """Nothing was sent while nobody was there."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
    transport = RestTransport(
        f"http://127.0.0.1:{port}", LOCAL_WORKSPACE, Fixed(lambda: "secret"), Options(retry_total=1000)
    )
    answers = []
    asking = threading.Thread(target=lambda: answers.append(transport.send(Request("POST", "/x/regenerateKeys"))))
    asking.start()
    late = Service(port)
    asking.join(30)
    transport.close()
    late.close()
    assert [each.status for each in answers] == [200]
    assert len(late.asked) == 1


def test_retry_total_bounds_the_tries(service, transport):
    for most in (0, 1, 4):
        service.asked.clear()
        service.told = [503] * 10
        made = RestTransport(service.url, LOCAL_WORKSPACE, Fixed(lambda: "secret"), Options(retry_total=most))
        assert made.send(Request("GET", "/subscriptions/x")).status == 503
        assert len(service.asked) == most + 1
        made.close()


def test_a_wait_that_is_too_long_is_not_begun(service, transport):
    service.told = [(503, {"Retry-After": "3600"})]
    assert transport.send(Request("GET", "/subscriptions/x")).status == 503
    assert len(service.asked) == 1


def test_half_an_answer_is_none(service):
    """Whatever the version of urllib3."""
    half = Half()
    transport = RestTransport(half.url, LOCAL_WORKSPACE, Fixed(lambda: "secret"))
    with pytest.raises(ServiceRequestError, match="no answer came"):
        transport.send(Request("GET", "/x"))
    assert half.asked == 4
    transport.close()
    half.close()


def test_a_redirect_takes_no_token_along(service, transport, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    elsewhere = Service()
    service.told = [(307, {"Location": f"{elsewhere.url}/stolen"})]
    assert transport.send(Request("GET", "/subscriptions/x")).status == 200
    assert "authorization" not in elsewhere.asked[0].headers
    service.told = [(307, {"Location": f"{elsewhere.url}/stolen"})]
    assert transport.send(Request("PUT", "/subscriptions/x", body={"a": 1})).status == 307
    assert len(elsewhere.asked) == 1
    elsewhere.close()


def test_a_proxy_of_the_clients_own_is_used(service):
    transport = RestTransport(
        "http://azure.example", LOCAL_WORKSPACE, Fixed(lambda: "secret"), Options(proxies={"http": service.url})
    )
    assert transport.send(Request("GET", "/subscriptions/x")).status == 200
    assert service.asked[0].path == "http://azure.example/subscriptions/x"
    transport.close()


def test_the_environments_proxy_is_used_and_the_clients_own_comes_first(service, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", service.url)
    monkeypatch.setenv("http_proxy", service.url)
    other = Service()
    for options, used in ((Options(), service), (Options(proxies={"http": other.url}), other)):
        transport = RestTransport("http://azure.example", LOCAL_WORKSPACE, Fixed(lambda: "secret"), options)
        transport.send(Request("GET", "/subscriptions/x"))
        assert len(used.asked) == 1
        transport.close()
    other.close()


def test_a_server_says_on_which_request_it_answers(service, transport):
    answer = transport.send(Request("GET", "/subscriptions/x"))
    assert answer.headers["x-ms-client-request-id"] == service.asked[0].headers["x-ms-client-request-id"]


def test_requests_are_logged_when_that_was_asked_for(service, caplog):
    caplog.set_level(logging.DEBUG, "modelport")
    for options in (Options(), Options(logging_enable=True)):
        transport = RestTransport(service.url, LOCAL_WORKSPACE, Fixed(lambda: "secret"), options)
        transport.send(Request("PUT", "/subscriptions/x", query={"sig": "hidden"}, body={"key": "hidden"}))
        transport.close()
    assert len(caplog.records) == 1
    assert f"PUT {service.url}/subscriptions/x: 200 in 0." in caplog.text
    assert not {"secret", "hidden"} & set(caplog.text.replace('"', " ").split())


def test_headers_are_written_as_azures_client_does(service, transport):
    transport.send(Request("PUT", "/subscriptions/x", body={}, headers={"if-match": "1", "x-ms-version": "2"}))
    assert [name for name in service.asked[0].headers if name != "Host"] == [
        *["User-Agent", "Accept-Encoding", "Accept", "Connection", "Content-Type", "Content-Length"],
        *["x-ms-client-request-id", "If-Match", "x-ms-version", "Authorization"],
    ]


def test_a_request_says_who_and_which_version(service, transport):
    transport.send(Request("GET", f"{LOCAL_WORKSPACE}/models", query={"$top": "1"}))
    transport.send(Request("GET", f"{service.url}/subscriptions/y?api-version=1999-01-01&t=%2F"))
    first, second = service.asked
    assert first.headers["Authorization"] == "Bearer secret"
    assert first.headers["User-Agent"].startswith("modelport/")
    assert len(first.headers["x-ms-client-request-id"]) == 36
    assert first.path == f"{LOCAL_WORKSPACE}/models?api-version={versions.of('models')}&$top=1"
    assert second.path == "/subscriptions/y?api-version=1999-01-01&t=%2F"


def test_neither_netrc_nor_a_proxy_comes_between(service, transport, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert transport.send(Request("GET", "/subscriptions/x")).status == 200
    assert service.asked[0].headers["Authorization"] == "Bearer secret"


def test_a_file_is_streamed_and_sent_whole_when_it_is_tried_again(service, transport, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    service.told = [503]
    transport.send(Request("PUT", "/blobs/x", content=tmp_path / "file"))
    assert [len(each.body) for each in service.asked] == [100_000] * 2


def test_a_body_that_is_no_json_is_text(service, transport, monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda *_, **__: "no json")
    assert transport.send(Request("DELETE", "/subscriptions/x")).body == "no json"


@pytest.mark.parametrize("fault", [500, 502, 503, 504, 429])
def test_scoring_is_never_tried_again(service, fault):
    service.told = [fault]
    scorer = Scorer()
    assert scorer.post(service.url, b"1", {}, None).status == fault
    assert len(service.asked) == 1
    scorer.close()


def test_scoring_that_is_cut_off_is_not_tried_again_either(service):
    scorer = Scorer()
    assert scorer.post(service.url, b"1", {}, 5).status == 200
    service.told = ["cut"]
    with pytest.raises(ServiceRequestError, match="could not be reached"):
        scorer.post(service.url, b"1", {}, 5)
    assert len(service.asked) == 2
    scorer.close()


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", ""])
def test_a_servers_url_must_be_one(url):
    with pytest.raises(ValidationException, match="not an http or https URL"):
        connect.server(url, "token")


def test_all_tries_of_a_request_have_one_id(service, transport):
    service.told = [503, 503]
    transport.send(Request("PUT", "/x", body={}))
    assert len({each.headers["x-ms-client-request-id"] for each in service.asked}) == 1
    assert len(service.asked) == 3


def test_a_put_without_an_answer_in_time_is_not_sent_again(service, impatient):
    service.told = ["hang"]
    with pytest.raises(ServiceRequestTimeoutError):
        impatient.send(Request("PUT", "/x", body={}))
    assert len(service.asked) == 1


def test_the_token_goes_to_its_own_service_alone(service, transport):
    elsewhere = Service()
    try:
        transport.send(Request("GET", f"{elsewhere.url}/x"))
        transport.send(Request("GET", f"{service.url}/x"))
        assert "authorization" not in elsewhere.asked[0].headers
        assert service.asked[0].headers["authorization"] == "Bearer secret"
    finally:
        elsewhere.close()


def test_the_token_goes_to_every_address_of_the_service(service):
    """Behind `AZUREML_DEV_URL_MFE` the answers may name the cloud's own address."""
    other = Service()
    transport = RestTransport(
        "https://dev.example", LOCAL_WORKSPACE, Fixed(lambda: "secret"), also=(f"{service.url}/",)
    )
    transport.send(Request("GET", f"{service.url}/x"))
    transport.send(Request("GET", f"{other.url}/x"))
    assert service.asked[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in other.asked[0].headers
    transport.close()
    other.close()


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("https://management.azure.com:443/x", True),
        ("https://MANAGEMENT.azure.com/x", True),
        ("https://management.azure.com:8443/x", False),
        ("http://management.azure.com/x", False),
        ("https://management.azure.com.example/x", False),
        ("https://management.azure.com@example.com/x", False),
    ],
)
def test_an_address_is_the_services_by_scheme_host_and_port(url, ours):
    transport = connect.azure(None, ("s", "g", "w"))
    assert transport._is_ours(url) is ours
    transport.close()


def test_a_redirect_is_not_followed(service):
    service.told = [307]
    scorer = Scorer()
    assert scorer.post(service.url, b"{}", {}, 5).status == 307
    assert len(service.asked) == 1
    scorer.close()
