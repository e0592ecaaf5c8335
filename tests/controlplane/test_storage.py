"""The blob protocol over real HTTP, as Azure's storage speaks it to Azure's own client."""

import base64
import socket
import threading
from contextlib import ExitStack, contextmanager
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import pytest
import requests
import uvicorn

from modelport.controlplane.blobs import Blobs
from modelport.controlplane.http import application
from modelport.controlplane.storage import Storage

TOKEN = "the-token"
BLOCK = {"x-ms-blob-type": "BlockBlob"}
WEIGHTS = "LocalUpload/aa/weights/"


class Account:
    """A storage account behind a socket."""

    def __init__(self, folder, listener):
        self.now = 1_700_000_000.0
        self.folder = folder
        self.storage = Storage(Blobs(folder, lambda: self.now), "the-secret", lambda: self.now)
        self.signature = self.storage.signature("azureml-blobstore", 3600)
        self.http = requests.Session()
        self.address = listener.address
        listener.account = self

    def ask(self, method, name="", *, query="", headers=None, data=None, signature=None):
        signature = self.signature if signature is None else signature
        path = f"/azureml-blobstore/{name}".rstrip("/") if not name.startswith("/") else name
        url = f"http://127.0.0.1:{self.address[1]}{path}?{query}&{signature}"
        return self.http.request(method, url, headers=headers, data=data, timeout=20)

    def put(self, name, data, **headers):
        return self.ask("PUT", name, headers={**BLOCK, **headers}, data=data)

    def raw(self, head, body=b""):
        """A connection on which a request was sent by hand."""
        connection = socket.create_connection(self.address, timeout=20)
        lines = f"{head}\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nx-ms-blob-type: BlockBlob\r\n\r\n"
        connection.sendall(lines.encode() + body)
        return connection


class Listener:
    """A server of one account after another."""

    account: Account

    def __init__(self, **said):
        app = application(self.handle, TOKEN, {}, lambda _: None, **said)
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = listening.getsockname()
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, args=([listening],))

    def handle(self, request):
        return self.account.storage.handle(request)


@contextmanager
def listening(until, **said):
    listener = Listener(**said)
    listener.thread.start()
    until(lambda: listener.server.started)
    yield listener
    listener.server.should_exit = True
    listener.thread.join(20)


@pytest.fixture(scope="module")
def listener(until):
    with listening(until) as listener:
        yield listener


@pytest.fixture
def account(tmp_path, listener):
    (tmp_path / "blobs").mkdir()
    account = Account(tmp_path / "blobs", listener)
    yield account
    account.http.close()


def _code(answer):
    """The code of a refusal, which stands in a header and in the body alike."""
    assert answer.headers["content-type"] == "application/xml"
    error = ET.fromstring(answer.content)
    assert error.tag == "Error"
    assert error.findtext("Message")
    assert error.findtext("Code") == answer.headers["x-ms-error-code"]
    return answer.status_code, error.findtext("Code")


def _id(text):
    return base64.b64encode(text.encode()).decode()


def test_an_upload_goes_as_azures_client_does_it(account):
    first = f"{WEIGHTS}labels.txt"
    absent = account.ask("HEAD", first)
    assert (absent.status_code, absent.headers["x-ms-error-code"]) == (404, "BlobNotFound")
    assert account.put(first, b"labels", **{"If-None-Match": "*"}).status_code == 201
    assert account.put(f"{WEIGHTS}v2/net.bin", b"net", **{"If-None-Match": "*"}).status_code == 201
    again = account.put(first, b"others", **{"If-None-Match": "*"})
    assert _code(again) == (409, "BlobAlreadyExists")
    words = {"x-ms-meta-upload_status": "completed", "x-ms-meta-name": "net", "x-ms-meta-version": "1"}
    assert account.ask("PUT", first, query="comp=metadata", headers=words).status_code == 200
    there = account.ask("HEAD", first)
    assert there.status_code == 200
    assert there.content == b""
    assert there.headers["content-length"] == "6"
    assert there.headers["x-ms-blob-type"] == "BlockBlob"
    assert there.headers["etag"]
    assert {name: there.headers[name] for name in words} == words


def test_a_download_goes_as_azures_client_does_it(account):
    account.put(f"{WEIGHTS}labels.txt", b"0123456789", **{"x-ms-meta-upload_status": "completed"})
    account.put(f"{WEIGHTS}v2/net one.bin", b"net")
    account.put("LocalUpload/aa/weights2", b"not this one")
    assert account.ask("HEAD", WEIGHTS.rstrip("/")).status_code == 404
    listed = account.ask("GET", query=f"restype=container&comp=list&prefix={WEIGHTS}&include=metadata")
    assert listed.headers["content-type"] == "application/xml"
    found = {each.findtext("Name"): each for each in ET.fromstring(listed.content).iter("Blob")}
    assert list(found) == [f"{WEIGHTS}labels.txt", f"{WEIGHTS}v2/net one.bin"]
    labels = found[f"{WEIGHTS}labels.txt"]
    assert labels.findtext("Metadata/upload_status") == "completed"
    assert labels.findtext("Properties/Content-Length") == "10"
    part = account.ask("GET", f"{WEIGHTS}labels.txt", headers={"x-ms-range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert part.headers["x-ms-meta-upload_status"] == "completed"
    whole = account.ask("GET", f"{WEIGHTS}labels.txt", headers={"x-ms-range": "bytes=0-33554431"})
    assert (whole.status_code, whole.content, whole.headers["content-range"]) == (206, b"0123456789", "bytes 0-9/10")
    rest = account.ask("GET", f"{WEIGHTS}labels.txt", headers={"Range": "bytes=7-"})
    assert (rest.status_code, rest.content) == (206, b"789")
    assert account.ask("GET", f"{WEIGHTS}v2/net%20one.bin").content == b"net"
    beyond = account.ask("GET", f"{WEIGHTS}labels.txt", headers={"x-ms-range": "bytes=10-12"})
    assert _code(beyond) == (416, "InvalidRange")


def test_what_is_read_in_ranges_does_not_change_between_them(account):
    account.put("file", b"first")
    etag = account.ask("HEAD", "file").headers["etag"]
    half = {"x-ms-range": "bytes=0-1", "If-Match": etag}
    for said in (etag, etag.strip('"')):
        assert account.ask("GET", "file", headers={**half, "If-Match": said}).content == b"fi"
    account.put("file", b"second")
    assert _code(account.ask("GET", "file", headers=half)) == (412, "ConditionNotMet")


def test_a_large_file_comes_in_blocks(account):
    for text in ("one", "two"):
        assert account.ask("PUT", "big", query=f"comp=block&blockid={_id(text)}", data=text).status_code == 201
    assert account.ask("HEAD", "big").status_code == 404
    listed = ET.fromstring(account.ask("GET", "big", query="comp=blocklist&blocklisttype=all").content)
    assert [each.text for each in listed.findall("UncommittedBlocks/Block/Name")] == [_id("one"), _id("two")]
    blocks = "".join(f"<Latest>{_id(text)}</Latest>" for text in ("two", "one"))
    body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'
    new = {"If-None-Match": "*", "x-ms-meta-said": "so"}
    assert account.ask("PUT", "big", query="comp=blocklist", headers=new, data=body).status_code == 201
    assert account.ask("GET", "big").content == b"twoone"
    assert account.ask("HEAD", "big").headers["x-ms-meta-said"] == "so"
    listed = ET.fromstring(account.ask("GET", "big", query="comp=blocklist").content)
    assert [each.text for each in listed.findall("CommittedBlocks/Block/Size")] == ["3", "3"]
    assert listed.findall("UncommittedBlocks/Block") == []
    again = account.ask("PUT", "big", query="comp=blocklist", headers=new, data=body)
    assert _code(again) == (409, "BlobAlreadyExists")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<BlockList><Latest>bm9uZQ==</Latest></BlockList>", "InvalidBlockList"),
        ("<BlockList><Oldest>bm9uZQ==</Oldest></BlockList>", "InvalidXmlDocument"),
        ("no xml", "InvalidXmlDocument"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><BlockList><Latest>&e;</Latest></BlockList>', None),
        ("<BlockList/>".encode("utf-16"), "InvalidXmlDocument"),
    ],
)
def test_a_block_list_that_cannot_be_is_refused(account, body, code):
    answer = account.ask("PUT", "big", query="comp=blocklist", data=body)
    assert _code(answer) == (400, code or "InvalidXmlDocument")
    assert account.ask("HEAD", "big").status_code == 404


def test_a_list_comes_in_pages_and_levels(account):
    for name in ("a/1", "a/2", "b", "c/d/3", "e"):
        account.put(name, b"x")

    def pages(query):
        marker, names = "", []
        while True:
            answer = account.ask("GET", query=f"restype=container&comp=list&maxresults=2&marker={marker}&{query}")
            found = ET.fromstring(answer.content)
            names.append([each.findtext("Name") for each in found.find("Blobs")])
            marker = found.findtext("NextMarker")
            if not marker:
                return names

    assert pages("") == [["a/1", "a/2"], ["b", "c/d/3"], ["e"]]
    assert pages("delimiter=/") == [["a/", "b"], ["c/", "e"]]
    assert pages("prefix=c/&delimiter=/") == [["c/d/"]]
    assert pages("prefix=none/") == pages("prefix=/") == pages("prefix=a//") == pages("prefix=../") == [[]]


def test_a_blob_can_be_deleted(account):
    account.put("file", b"x")
    assert account.ask("DELETE", "file").status_code == 202
    assert _code(account.ask("DELETE", "file")) == (404, "BlobNotFound")


@pytest.mark.parametrize("name", ["%2e%2e/x", "a/%2e%2e/%2e%2e/x", "..%2fx", "..%5cx", "a%00b", "a//b"])
def test_a_name_that_leaves_its_container_is_refused(account, name):
    head = f"PUT /azureml-blobstore/{name} HTTP/1.1\r\nContent-Length: 1"  # requests would make it another name
    with account.raw(head, b"x") as connection:
        assert b" 400 " in connection.recv(100)
    assert [each for each in account.folder.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize(
    ("method", "name", "query", "status", "code"),
    [
        ("GET", "/other-container/file", "", 403, "AuthenticationFailed"),
        ("PUT", "file", "comp=lease", 400, "UnsupportedQueryParameter"),
        ("POST", "file", "", 400, "UnsupportedQueryParameter"),
        ("GET", "", "", 400, "UnsupportedQueryParameter"),
        ("PUT", "", "restype=container", 409, "ContainerAlreadyExists"),
        ("GET", "", "restype=container&comp=list&maxresults=many", 400, "InvalidInput"),
    ],
)
def test_what_is_not_known_is_refused_as_storage_does(account, method, name, query, status, code):
    assert _code(account.ask(method, name, query=query)) == (status, code)


@pytest.mark.parametrize("kind", [{}, {"x-ms-blob-type": "PageBlob"}, {**BLOCK, "x-ms-copy-source": "http://x/y"}])
def test_only_block_blobs_are_taken(account, kind):
    answer = account.ask("PUT", "file", headers=kind, data=b"x")
    assert _code(answer) == (400, "InvalidHeaderValue")


# Who may come in


def test_a_signature_opens_its_container_for_its_time_only(account):
    assert account.put("file", b"x").status_code == 201
    account.storage._blobs.begin("code-other")
    assert account.ask("GET", "/code-other/file").status_code == 403
    account.now += 3599
    assert account.ask("GET", "file").status_code == 200
    account.now += 1
    refused = account.ask("GET", "file")
    assert _code(refused) == (403, "AuthenticationFailed")
    assert "listSecrets" in refused.text


def test_no_part_of_a_signature_can_be_changed(account):
    account.put("file", b"x")
    said = dict(parse_qsl(account.signature))
    for name, value in said.items():
        others = {key: each for key, each in said.items() if key != name}
        for changed in (others, {**said, name: f"{value}x"}, {**said, name: "2099-01-01T00:00:00Z"}):
            query = "&".join(f"{key}={requests.utils.quote(each, '')}" for key, each in changed.items())
            assert account.ask("GET", "file", signature=query).status_code in (401, 403)
    assert TOKEN not in account.signature
    assert "the-secret" not in account.signature


def test_the_token_opens_containers_too_and_a_signature_opens_nothing_else(account):
    bearer = {**BLOCK, "Authorization": f"Bearer {TOKEN}"}
    assert account.ask("PUT", "file", headers=bearer, data=b"x", signature="").status_code == 201
    assert account.ask("GET", "file", signature="").status_code == 401
    assert account.ask("GET", "file", headers={"Authorization": "Bearer other"}, signature="").status_code == 401
    for path in ("/subscriptions/s/resourceGroups/g", "/Subscriptions/x", "/shutdown"):
        assert account.ask("POST", path).status_code == 401


# The connection


def test_a_cut_upload_is_never_a_blob(account, until):
    with account.raw("PUT /azureml-blobstore/file HTTP/1.1\r\nContent-Length: 1000", b"x" * 500):
        until(lambda: list((account.folder / "parts").iterdir()))
    until(lambda: not list((account.folder / "parts").iterdir()))
    assert account.ask("HEAD", "file").status_code == 404


def test_a_client_may_wait_to_be_told_to_go_on(account):
    with account.raw("PUT /azureml-blobstore/file HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        assert connection.recv(100).startswith(b"HTTP/1.1 201 ")


def test_a_body_that_is_not_read_is_not_the_next_request(account):
    account.put("file", b"x")
    size = 3 << 20
    head = f"PUT /azureml-blobstore/file HTTP/1.1\r\nIf-None-Match: *\r\nContent-Length: {size}"
    with account.raw(head, b"x" * size) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 409 ")
        connection.sendall(
            f"GET /azureml-blobstore/file HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\nx" not in answer:
            piece = connection.recv(1000)
            assert piece, answer
            answer += piece
        assert b"HTTP/1.1 200 " in answer


def test_the_clients_id_comes_back(account):
    answer = account.ask("HEAD", "file", headers={"x-ms-client-request-id": "mine"})
    assert answer.headers["x-ms-client-request-id"] == "mine"


def test_uploads_that_stop_in_the_middle_keep_nobody_else_waiting(account, until):
    account.put("file", b"x")
    with ExitStack() as stack:
        for each in range(50):
            head = f"PUT /azureml-blobstore/slow{each} HTTP/1.1\r\nContent-Length: 9"
            stack.enter_context(account.raw(head, b"half"))
        until(lambda: len(list((account.folder / "parts").iterdir())) >= 32)
        assert account.ask("GET", "file").content == b"x"
    until(lambda: not list((account.folder / "parts").iterdir()))


def test_an_upload_of_which_nothing_more_comes_is_given_up(tmp_path, until):
    (tmp_path / "blobs").mkdir()
    with listening(until, patience=0.2) as listener:
        account = Account(tmp_path / "blobs", listener)
        head = "PUT /azureml-blobstore/file HTTP/1.1\r\nConnection: close\r\nContent-Length: 9"
        with account.raw(head, b"half") as connection:
            assert b"408" in connection.makefile("rb").readline()
        assert account.ask("GET", "file").status_code == 404
        account.http.close()
