"""Requests over HTTP: what is tried again, what never is, and what is sent with them."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from modelport.arm import versions
from modelport.arm.ids import LOCAL_WORKSPACE
from modelport.arm.messages import Request
from modelport.errors import ServiceRequestError, ServiceRequestTimeoutError, ValidationException
from modelport.transports import connect
from modelport.transports.rest import RestTransport
from modelport.transports.scoring import Scorer


class Service:
    """A server that does what it was told to do, in turn: answer with a status, `cut` the connection, or `hang`."""

    def __init__(self):
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
                body = json.dumps({"told": told}).encode()
                self.send_response(told)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        for method in ("GET", "PUT", "POST", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service():
    made = Service()
    yield made
    made.close()


@pytest.fixture
def transport(service):
    made = RestTransport(service.url, LOCAL_WORKSPACE, lambda: "secret", timeout=0.5)
    yield made
    made.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("fault", [429, 502, 503, 504, "cut"])
def test_what_can_be_sent_twice_is_tried_again(service, transport, method, fault):
    service.told = [fault, fault]
    answer = transport.send(Request(method, "/subscriptions/x", body={"a": 1} if method == "PUT" else None))
    assert (answer.status, len(service.asked)) == (200, 3)
    if method == "PUT":
        assert {each.body for each in service.asked} == {b'{"a": 1}'}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_cannot_is_not(service, transport, method):
    service.told = [503]
    assert transport.send(Request(method, "/subscriptions/x", body={})).status == 503
    service.told = ["cut"]
    with pytest.raises(ServiceRequestError, match=f"{method} .*no answer came"):
        transport.send(Request(method, "/subscriptions/x", body={}))
    assert len(service.asked) == 2


def test_an_answer_that_says_no_is_not_tried_again(service, transport):
    for status in (400, 401, 404, 409, 412, 500):
        service.told = [status]
        assert transport.send(Request("GET", "/subscriptions/x")).status == status
    assert len(service.asked) == 6


def test_a_service_that_stays_busy_is_believed_in_the_end(service, transport):
    service.told = [503] * 10
    assert transport.send(Request("GET", "/subscriptions/x")).status == 503
    assert len(service.asked) == 4


def test_a_service_that_hangs_is_given_up(service, transport):
    service.told = ["hang"]
    with pytest.raises(ServiceRequestTimeoutError, match=r"no answer came within 0\.5 s"):
        transport.send(Request("POST", "/subscriptions/x"))


def test_nobody_there_is_one_error():
    transport = RestTransport("http://127.0.0.1:1", LOCAL_WORKSPACE, lambda: "secret")
    with pytest.raises(ServiceRequestError, match="no answer came"):
        transport.send(Request("POST", "/subscriptions/x"))
    transport.close()


def test_a_request_says_who_and_which_version(service, transport):
    transport.send(Request("GET", f"{LOCAL_WORKSPACE}/models", query={"$top": "1"}))
    transport.send(Request("GET", f"{service.url}/subscriptions/y?api-version=1999-01-01&t=%2F"))
    first, second = service.asked
    assert first.headers["Authorization"] == "Bearer secret"
    assert first.headers["User-Agent"].startswith("modelport/")
    assert len(first.headers["x-ms-client-request-id"]) == 36
    assert first.path == f"{LOCAL_WORKSPACE}/models?%24top=1&api-version={versions.of('models')}"
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


class Credential:
    """Tokens that last as long as they are told to."""

    def __init__(self, *lives):
        self.lives, self.scopes = list(lives), []

    def get_token(self, *scopes):
        self.scopes.append(scopes)
        return SimpleNamespace(token=f"token-{len(self.scopes)}", expires_on=time.time() + self.lives.pop(0))


def test_a_token_is_asked_for_when_it_is_needed_and_kept_while_it_lasts():
    credential = Credential(3600)
    transport = connect.azure(credential, "s", "g", "w")
    assert credential.scopes == []
    assert [transport._token(), transport._token()] == ["token-1"] * 2
    assert credential.scopes == [("https://management.azure.com/.default",)]


def test_a_token_that_nears_its_end_is_renewed():
    transport = connect.azure(Credential(60, 3600), "s", "g", "w")
    assert [transport._token(), transport._token(), transport._token()] == ["token-1", "token-2", "token-2"]


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", ""])
def test_a_servers_url_must_be_one(url):
    with pytest.raises(ValidationException, match="not an http or https URL"):
        connect.server(url, "token")


def test_all_tries_of_a_request_have_one_id(service, transport):
    service.told = [503, 503]
    transport.send(Request("PUT", "/x", body={}))
    assert len({each.headers["x-ms-client-request-id"] for each in service.asked}) == 1
    assert len(service.asked) == 3


def test_a_put_without_an_answer_in_time_is_not_sent_again(service, transport):
    service.told = ["hang"]
    with pytest.raises(ServiceRequestTimeoutError):
        transport.send(Request("PUT", "/x", body={}))
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


def test_a_redirect_is_not_followed(service):
    service.told = [307]
    scorer = Scorer()
    assert scorer.post(service.url, b"{}", {}, 5).status == 307
    assert len(service.asked) == 1
    scorer.close()
