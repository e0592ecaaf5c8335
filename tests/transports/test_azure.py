"""Azure on a bad day: what a client makes of breaks, throttling, jumping clocks, ended tokens and endless answers."""

import itertools
import json
import math
import socket
import subprocess
import sys
import threading
import time
import traceback
from types import SimpleNamespace

import pytest
from tests.conftest import client_of
from tests.stub.azure import AzureStub, Half, Reset, Say

from modelport import MLClient
from modelport.arm import lro
from modelport.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint
from modelport.errors import (
    ClientAuthenticationError,
    DeploymentFailed,
    HttpResponseError,
    PollingTimeoutError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ValidationException,
)
from modelport.transports import storage

HTML = "<html><head><title>502 Bad\n Gateway</title></head><body><h1>nginx</h1></body></html>"
SOON = {"x-ms-retry-after-ms": "20"}


class Credential:
    """Gives tokens in turn, and goes on with the last."""

    def __init__(self, *tokens):
        self.tokens, self.asked = list(tokens), 0

    def get_token(self, *_scopes, **_keywords):
        token = self.tokens[min(self.asked, len(self.tokens) - 1)]
        self.asked += 1
        return SimpleNamespace(token=token, expires_on=time.time() + 3600)


def times(count, fault, *, method=None, part=""):
    """A fault that is played so often, to requests like these."""
    left = [count]
    lock = threading.Lock()

    def play(seen):
        with lock:
            if (method and seen.method != method) or part not in seen.path or not left[0]:
                return None
            left[0] -= 1
            return fault

    return play


@pytest.fixture
def tides(azure_stub, azure_client):
    """A client of a stub that has an endpoint; what it took to make it is forgotten."""
    client = azure_client()
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(20)
    azure_stub.seen.clear()
    return client


def _put(client, **values):
    return client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides", **values))


@pytest.mark.parametrize("fault", [Reset(), Half(), Say(503), Say(500, {}, HTML), Say(429, SOON)])
def test_what_passes_by_itself_is_not_noticed(azure_stub, tides, fault):
    azure_stub.faults = [
        *(times(1, fault, method=each) for each in ("GET", "PUT")),
        times(1, fault, part="operationsStatus"),
        times(1, fault, part="listKeys"),
        times(1, fault, part="operationResults"),
    ]
    assert _put(tides, tags={"a": "b"}).result(20).tags == {"a": "b"}
    assert tides.online_endpoints.get_keys("tides").primary_key
    # Half an answer to a deletion means that it was done: the second finds nothing.
    tides.online_endpoints.begin_delete("tides").result(20)
    assert azure_stub.resources == {}
    puts = azure_stub.of("PUT")
    assert len(puts) == 2
    assert len({each.headers["x-ms-client-request-id"] for each in puts}) == 1


def test_a_reset_deletion_is_done_once_more(azure_stub, tides):
    azure_stub.faults = [times(2, Reset(), method="DELETE")]
    tides.online_endpoints.begin_delete("tides").result(20)
    assert azure_stub.resources == {}
    assert len(azure_stub.of("DELETE")) == 3


def test_keys_are_not_replaced_again_when_the_answer_was_lost(azure_stub, tides):
    azure_stub.faults = [times(1, Half(), part="regenerateKeys")]
    with pytest.raises(ServiceRequestError, match=r"POST .*regenerateKeys: no answer came"):
        tides.online_endpoints.begin_regenerate_keys("tides")
    assert len(azure_stub.of("POST", "regenerateKeys")) == 1


def test_a_storm_of_429_is_waited_out_and_told_once(azure_stub, tides, caplog):
    azure_stub.faults = [times(6, Say(429, {"x-ms-retry-after-ms": "40"}))]
    began = time.monotonic()
    list(tides.models.list())
    assert time.monotonic() - began >= 6 * 0.04
    assert len(azure_stub.seen) == 7
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "the service is busy and asks to wait" in caplog.text


def test_a_storm_of_429_that_goes_on_is_given_up(azure_stub, tides):
    azure_stub.faults = [lambda _: Say(429, SOON, {"error": {"code": "TooManyRequests", "message": "Slow down."}})]
    with pytest.raises(HttpResponseError, match=r"\(TooManyRequests\) Slow down\.") as caught:
        list(tides.models.list())
    assert caught.value.status_code == 429
    assert len(azure_stub.seen) == 10


def test_a_storm_over_many_threads_is_bounded_too(azure_stub, tides):
    azure_stub.faults = [lambda _: Say(429, SOON)]
    failed = []

    def ask():
        try:
            tides.online_endpoints.get("tides")
        except HttpResponseError as error:
            failed.append(error.status_code)

    _in_threads(16, ask)
    assert failed == [429] * 16
    assert len(azure_stub.seen) <= 160


def _in_threads(count, work):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not any(each.is_alive() for each in threads)


def test_a_token_that_ends_in_the_middle_is_renewed_once(azure_stub, azure_client):
    credential = Credential("one", "two")
    azure_stub.tokens, azure_stub.polls = {"one"}, 5
    client = azure_client(credential)
    poller = _put(client)
    azure_stub.tokens = {"two"}
    assert poller.result(20).name == "tides"
    assert credential.asked == 2
    assert sum(each.status == 401 for each in azure_stub.seen) <= 1


@pytest.mark.parametrize("method", ["put", "delete", "regenerate"])
def test_a_refused_token_is_renewed_whatever_is_asked(azure_stub, azure_client, method):
    credential = Credential("one", "two")
    azure_stub.tokens = {"one"}
    client = azure_client(credential)
    _put(client).result(20)
    azure_stub.tokens = {"two"}
    endpoints = client.online_endpoints
    begun = {
        "put": lambda: _put(client),
        "delete": lambda: endpoints.begin_delete("tides"),
        "regenerate": lambda: endpoints.begin_regenerate_keys("tides"),
    }[method]()
    begun.result(20)
    assert credential.asked == 2


def test_threads_whose_token_has_ended_renew_it_once(azure_stub, azure_client):
    credential = Credential("one", "two")
    azure_stub.tokens = {"one"}
    client = azure_client(credential)
    _put(client).result(20)
    azure_stub.tokens = {"two"}
    names = []
    _in_threads(16, lambda: names.append(client.online_endpoints.get("tides").name))
    assert (names, credential.asked) == (["tides"] * 16, 2)


def test_a_token_that_is_never_good_is_told(azure_stub, azure_client):
    azure_stub.tokens = set()
    credential = Credential("one", "two", "three")
    with pytest.raises(ClientAuthenticationError, match="The access token is invalid") as caught:
        list(azure_client(credential).models.list())
    assert (caught.value.status_code, caught.value.error_code) == (401, "InvalidAuthenticationToken")
    assert (credential.asked, len(azure_stub.seen)) == (2, 2)


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_clocks_that_jump_change_nothing(azure_stub, azure_client, monkeypatch, jump):
    now, jumped = time.time, threading.Event()
    credential = Credential("one", "two")
    azure_stub.polls, azure_stub.retry_after_ms = 6, 30
    client = azure_client(credential)
    monkeypatch.setattr(time, "time", lambda: now() + (jump if jumped.is_set() else 0))
    poller = _put(client)
    azure_stub.faults = [times(2, Say(429, {"Retry-After": "0.05"}))]
    jumped.set()
    began = time.monotonic()
    assert poller.result(20).name == "tides"
    assert time.monotonic() - began > 0.1
    assert credential.asked == 1


@pytest.mark.parametrize("way", ["operation", "resource"])
def test_an_operation_is_followed_through_resets_and_errors(azure_stub, tides, way):
    azure_stub.way, azure_stub.polls = way, 4
    poller = _put(tides)
    faults = [Reset(), Say(503), Say(200, {}, HTML), Say(502, {}, HTML), Half()]
    azure_stub.faults = [times(6, each, method="GET") for each in faults[:2]] + [
        times(1, each, method="GET") for each in faults[2:]
    ]
    assert poller.result(60).provisioning_state == "Succeeded"


def test_an_operation_that_is_forgotten_is_followed_by_its_resource(azure_stub, tides):
    azure_stub.polls = 3
    poller = _put(tides)
    azure_stub.faults = [lambda seen: Say(404) if "operationsStatus" in seen.path else None]
    assert poller.result(20).provisioning_state == "Succeeded"


def test_a_deletion_that_is_forgotten_is_done_when_there_is_nothing_left(azure_stub, tides):
    azure_stub.faults = [lambda seen: Say(404) if "operationResults" in seen.path else None]
    assert tides.online_endpoints.begin_delete("tides").result(20) is None


def test_an_operations_failure_is_its_own(azure_stub, tides):
    place = "onlineEndpoints/tides"
    azure_stub.failing[place] = {
        "code": "BadArgument",
        "message": "No.",
        "details": [{"code": "Quota", "message": "There are 3 cores left."}],
    }
    poller = _put(tides)
    with pytest.raises(DeploymentFailed, match=r"\(BadArgument\) No\. There are 3 cores left\.") as caught:
        poller.result(20)
    assert isinstance(caught.value, HttpResponseError)
    assert caught.value.error.code == "BadArgument"
    assert caught.value.error.details[0].code == "Quota"


RESUME = """
import sys
from types import SimpleNamespace
from modelport import MLClient
url, ca, subscription, group, name, token = sys.argv[1:]
credential = SimpleNamespace(get_token=lambda *_: SimpleNamespace(token="t", expires_on=9e9))
client = MLClient(
    credential, subscription, group, name,
    cloud="Stub", cloud_metadata={"resource_manager": url}, connection_verify=ca,
)
poller = client.online_endpoints.begin_create_or_update(None, continuation_token=token)
print(poller.result(20).provisioning_state)
"""


def test_an_operation_that_never_ends_tells_how_to_resume_it_and_another_process_does(azure_stub, tides):
    azure_stub.polls = math.inf
    poller = _put(tides)
    with pytest.raises(PollingTimeoutError, match=r"It goes on.*continuation_token=poller\.continuation_token\(\)"):
        poller.result(0.3)
    token = poller.continuation_token()
    assert "Bearer" not in token
    for each in azure_stub.operations.values():
        each.left = 2
    where = azure_stub.workspace
    said = [azure_stub.url, str(azure_stub.ca), where.subscription, where.group, where.name, token]
    puts = len(azure_stub.of("PUT"))
    done = subprocess.run(
        [sys.executable, "-c", RESUME, *said], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("Succeeded\n", "")
    assert len(azure_stub.of("PUT")) == puts
    assert poller.result(20).provisioning_state == "Succeeded"


def test_every_begin_can_be_resumed(azure_stub, tides, azure_client):
    other = azure_client()
    endpoints, deployments = other.online_endpoints, other.online_deployments
    begun = tides.online_endpoints.begin_regenerate_keys("tides")
    assert endpoints.begin_regenerate_keys("tides", continuation_token=begun.continuation_token()).result(20) is None
    blue = ManagedOnlineDeployment(
        name="blue", endpoint_name="tides", model="azureml:m:1", environment="azureml:e:1", instance_type="S"
    )
    token = tides.online_deployments.begin_create_or_update(blue).continuation_token()
    assert deployments.begin_create_or_update(blue, continuation_token=token).result(20).name == "blue"
    with pytest.raises(ValidationException, match="of another operation: Deployment 'blue' of 'tides'"):
        endpoints.begin_create_or_update(None, continuation_token=token)
    with pytest.raises(ValidationException, match="of another operation"):
        deployments.begin_delete("blue", "tides", continuation_token=token)
    token = tides.online_deployments.begin_delete("blue", "tides").continuation_token()
    assert deployments.begin_delete("blue", "tides", continuation_token=token).result(20) is None
    token = tides.online_endpoints.begin_delete("tides").continuation_token()
    assert endpoints.begin_delete("tides", continuation_token=token).result(20) is None
    assert azure_stub.resources == {}


def test_a_client_that_was_closed_polls_no_more(azure_stub, tides):
    azure_stub.polls = math.inf
    poller = _put(tides, tags={"a": "b"})
    tides._service.transport.close()
    with pytest.raises(ValidationException, match="client was closed"):
        poller.result(20)


def test_what_was_done_at_once_needs_no_look_and_cannot_be_resumed(azure_stub, tides):
    azure_stub.way = "done"
    poller = _put(tides, tags={"a": "b"})
    assert poller.result(20).tags == {"a": "b"}
    assert [each.method for each in azure_stub.seen] == ["PUT"]
    with pytest.raises(ValidationException, match="nothing to resume"):
        poller.continuation_token()


@pytest.mark.parametrize("token", ["x", "e30=", "bm90IGpzb24=", "é", "W10="])
def test_what_is_no_token_is_told(tides, token):
    with pytest.raises(ValidationException, match="no continuation token"):
        tides.online_endpoints.begin_delete("tides", continuation_token=token)


def test_a_server_without_hints_is_polled_soon(azure_stub, tides):
    azure_stub.retry_after_ms, azure_stub.polls = 0, 3
    began = time.monotonic()
    _put(tides).result(20)
    assert time.monotonic() - began < 15, "Azure's own client waits 30 s"


def test_a_server_that_asks_for_a_pause_gets_it(azure_stub, tides):
    azure_stub.retry_after_ms, azure_stub.polls = 300, 2
    began = time.monotonic()
    _put(tides).result(20)
    assert time.monotonic() - began >= 0.6


def test_requests_about_an_operation_have_its_id(azure_stub, tides):
    azure_stub.polls = 3
    _put(tides).result(20)
    begun = azure_stub.seen[0].headers["x-ms-client-request-id"]
    assert {each.headers["x-ms-client-request-id"] for each in azure_stub.seen} == {begun}
    assert [each.headers["accept"] for each in azure_stub.seen] == ["application/json", *["*/*"] * 5]
    assert len({each.query["api-version"] for each in azure_stub.seen}) == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Say(400, {}, HTML), "was answered with HTTP status 400: 502 Bad Gateway"),
        (Say(403, {}, "<html><body>Blocked by <b>the</b> firewall</body></html>"), ": Blocked by the firewall"),
        (Say(403, {}, "<Error><Code>NotHere</Code><Message>Go &amp; ask.\nTime</Message></Error>"), "Go & ask"),
        (Say(404), "was answered with HTTP status 404"),
        (Say(400, {}, "[1, 2"), ": \\[1, 2"),
        (Say(302, {}, ""), "HTTP status 302"),
        (Say(200, {}, HTML), "answered with '<html>.*is a proxy in between"),
        (Say(200, {}, ""), "answered with nothing, not with a Model document"),
    ],
)
def test_an_answer_that_is_no_json_is_told_in_a_sentence(azure_stub, tides, said, told):
    azure_stub.faults = [lambda _: said]
    with pytest.raises(HttpResponseError, match=told):
        tides.models.get("m", "1")


def test_azures_errors_have_all_that_it_said(azure_stub, tides):
    fault = {
        "code": "UserError",
        "message": "The request is invalid.",
        "target": "traffic",
        "details": [{"code": "Sum", "message": "It sums up to 110.", "details": [{"message": "Blue has 60."}]}],
        "innererror": {"code": "BadTraffic", "message": "Use 100."},
        "additionalInfo": [{"type": "ComponentName", "info": {"value": "managementfrontend"}}],
    }
    said = Say(404, {"x-ms-request-id": "id-1"}, json.dumps({"error": fault}))
    azure_stub.faults = [lambda _: said]
    with pytest.raises(ResourceNotFoundError) as caught:
        tides.models.get("m", "1")
    error = caught.value
    assert isinstance(error, HttpResponseError)
    assert error.message == "The request is invalid. Use 100. It sums up to 110. Blue has 60."
    assert (error.status_code, error.reason, error.request_id) == (404, "Not Found", "id-1")
    assert (error.error_code, error.error.code, error.error.message) == ("UserError", "UserError", error.message)
    assert (error.target, error.error.target, error.response) == ("traffic", "traffic", None)
    assert error.details == fault["details"]
    assert error.additional_info == fault["additionalInfo"]
    assert error.error.innererror == fault["innererror"]


@pytest.mark.parametrize("page", [{"value": [5]}, {"value": "tides"}, {"value": [], "nextLink": 5}, []])
def test_a_page_that_is_none_is_told_in_a_sentence(azure_stub, tides, page):
    azure_stub.faults = [lambda _: Say(200, {"Content-Type": "application/json"}, json.dumps(page))]
    with pytest.raises(HttpResponseError, match=r"answered with .*, not with a list"):
        list(tides.online_endpoints.list())


@pytest.mark.parametrize("url", [":80x/operation", "http://[::1/operation", "https://127.0.0.1:many/operation"])
def test_an_address_that_is_none_is_told_in_a_sentence(azure_stub, tides, url):
    said = Say(201, {"Azure-AsyncOperation": url}, {"properties": {"provisioningState": "Creating"}})
    azure_stub.faults = [lambda seen: said if seen.method == "PUT" else None]
    with pytest.raises(HttpResponseError, match="is no URL that can be asked"):
        _put(tides).result(20)


def test_lists_of_many_pages_are_read_as_they_are_needed(azure_stub, tides):
    azure_stub.page_size = 2
    for number in range(5):
        _put_endpoint(tides, f"tides-{number}")
    azure_stub.seen.clear()
    endpoints = tides.online_endpoints.list()
    assert next(endpoints).name
    assert len(azure_stub.seen) == 1
    assert len(list(endpoints)) == 5
    assert len(azure_stub.seen) == 3


def _put_endpoint(client, name):
    return client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name)).result(20)


@pytest.mark.parametrize("items", [[], [{"id": "/same", "name": "same", "properties": {"latestVersion": "1"}}]])
@pytest.mark.parametrize("moving", [False, True])
def test_a_list_without_an_end_has_one(azure_stub, tides, items, moving):
    def page(seen):
        number = int(seen.query.get("$skip", 0)) + 1 if moving else 1
        link = f"{azure_stub.url}{seen.path}?api-version=x&$skip={number}"
        return Say(200, {}, json.dumps({"value": items, "nextLink": link}))

    azure_stub.faults = [page]
    with pytest.raises(HttpResponseError, match="its pages have no end"):
        list(tides.models.list())
    assert len(azure_stub.seen) <= 30


def test_a_change_that_would_lose_anothers_is_refused(azure_stub, tides):
    mine, theirs = (tides.online_endpoints.get("tides") for _ in range(2))
    assert mine.etag
    theirs.tags = {"team": "theirs"}
    tides.online_endpoints.begin_create_or_update(theirs, if_match=theirs.etag).result(20)
    mine.tags = {"team": "mine"}
    with pytest.raises(ResourceModifiedError, match="changed by somebody else"):
        tides.online_endpoints.begin_create_or_update(mine, if_match=mine.etag)
    assert azure_stub.resources["onlineEndpoints/tides"]["tags"] == {"team": "theirs"}
    tides.online_endpoints.begin_create_or_update(mine).result(20)
    assert azure_stub.resources["onlineEndpoints/tides"]["tags"] == {"team": "mine"}


def test_many_threads_share_a_client(azure_stub, tides):
    azure_stub.faults = [times(10, Reset(), method="GET"), times(10, Say(503), method="GET")]
    made, numbers = [], itertools.count()

    def work():
        name = f"tides-{next(numbers)}"
        made.append(_put_endpoint(tides, name).name)
        assert tides.online_endpoints.get(name).name == name
        tides.online_endpoints.begin_delete(name).result(60)

    _in_threads(16, work)
    assert len(made) == 16
    assert list(azure_stub.resources) == ["onlineEndpoints/tides"]


def test_a_certificate_that_nobody_vouches_for_is_told_and_not_tried_again(azure_stub, azure_client):
    client = azure_client(connection_verify=True)
    with pytest.raises(ServiceRequestError, match=r"connection_verify='ca\.pem' or REQUESTS_CA_BUNDLE"):
        list(client.models.list())
    assert azure_stub.seen == []


def test_a_file_of_certificates_that_is_not_there_is_told(azure_client):
    with pytest.raises(ValidationException, match=r"/nowhere\.pem.*See connection_verify"):
        list(azure_client(connection_verify="/nowhere.pem").models.list())


def test_the_environments_certificates_are_trusted_and_the_clients_own_come_first(
    azure_stub, azure_client, monkeypatch, tmp_path
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(azure_stub.ca))
    assert list(azure_client(connection_verify=True).models.list()) == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    assert list(azure_client().models.list()) == []


def test_without_a_credential_azure_identity_makes_one_with_the_clouds_authority(azure_stub, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(azure_stub.ca))
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "00000000-0000-0000-0000-000000000001")
    addresses = {"resource_manager": azure_stub.url, "active_directory": azure_stub.url}
    azure_stub.tokens = {"faketoken"}
    client = MLClient(None, azure_stub.workspace.subscription, "rg", "ws", cloud="Stub", cloud_metadata=addresses)
    assert azure_stub.seen == []
    assert list(client.models.list()) == []
    client._service.transport.close()
    assert [each.path for each in azure_stub.of("POST")] == ["/00000000-0000-0000-0000-000000000001/oauth2/v2.0/token"]


class Stranger:
    """A host that is not Azure's; `heard` is the head of each request that it got."""

    def __init__(self):
        self.heard = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.netloc = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            connection, _ = self._listening.accept()
            with connection:
                head = connection.recv(1 << 16).decode()
                if not head:
                    return
                self.heard.append(head)
                length = "Content-Length: 12\r\nConnection: close"
                connection.sendall(f'HTTP/1.1 200 OK\r\n{length}\r\n\r\n{{"value":[]}}'.encode())

    def close(self):
        socket.create_connection(self._listening.getsockname()).close()
        self._thread.join(20)
        self._listening.close()


@pytest.fixture
def stranger():
    stranger = Stranger()
    yield stranger
    stranger.close()


@pytest.mark.parametrize(
    "link",
    ["http://{strange}/x", "http://{own}@{strange}/x", "http://{strange}\\@{own}/x", "http://{strange}#@{own}/x"],
)
def test_no_address_in_an_answer_or_a_continuation_token_makes_a_token_go_elsewhere(stranger, link):
    # Over plain http, so that a stranger's certificate is not what saves the token.
    with AzureStub(tls=False) as stub:
        client = client_of(stub, connection_verify=True)
        link = link.format(strange=stranger.netloc, own=stub.url.partition("//")[2])
        page = {"value": [], "nextLink": link}
        stub.faults = [lambda seen: Say(200, {}, page) if seen.path.endswith("onlineEndpoints") else None]
        assert list(client.online_endpoints.list()) == []
        follow = lro.Follow("location", link, None)
        client.online_endpoints.begin_delete(continuation_token=lro.token_of(follow, "x")).result(20)
        client._service.transport.close()
    assert len(stranger.heard) == 2
    assert "faketoken" not in "".join(stranger.heard)


def test_what_a_broken_connection_is_told_as_has_no_signature_in_it(azure_client):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    container = storage.of_datastore(azure_client(retry_total=0)._service.transport, "workspaceblobstore")
    container.url = f"http://127.0.0.1:{port}/container"
    assert container.signature["sig"]
    with pytest.raises(ServiceRequestError, match="Connection refused") as caught:
        container.head("weights.bin")
    told = "".join(traceback.format_exception(caught.value))
    assert "with url: /container/weights.bin" in told
    assert "sig=" not in told
