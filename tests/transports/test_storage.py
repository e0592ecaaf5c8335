"""A container as services describe it, and what storage accounts of all kinds answer."""

import json
import os
import pty
import subprocess
import sys
import textwrap

import pytest
from tests.stub.azure import Say

from modelport.errors import HttpResponseError, ResourceNotFoundError
from modelport.transports import storage, uploads
from modelport.transports.progress import bar
from modelport.transports.sources import source

CONTAINER = "/azureml-blobstore-1"


@pytest.fixture
def transport(azure_client):
    return azure_client()._service.transport


def says(stub, path, document, method="GET"):
    body = document if isinstance(document, bytes) else json.dumps(document)
    headers = {"Content-Type": "application/xml" if isinstance(document, bytes) else "application/json"}
    stub.faults.append(
        lambda seen: Say(200, headers, body) if seen.method == method and seen.path.endswith(path) else None
    )


@pytest.mark.parametrize(
    ("said", "url"),
    [
        (
            {"accountName": "acc", "endpoint": "core.windows.net", "protocol": "https"},
            "https://acc.blob.core.windows.net/c",
        ),
        ({"accountName": "acc", "endpoint": "core.chinacloudapi.cn"}, "https://acc.blob.core.chinacloudapi.cn/c"),
        ({"accountName": "127.0.0.1:80#", "endpoint": "x", "protocol": "http"}, "http://127.0.0.1:80/c"),
        ({"accountName": "127.0.0.1:80/acc#", "endpoint": "x", "protocol": "http"}, "http://127.0.0.1:80/acc/c"),
        ({"accountName": "modelport#", "endpoint": "x", "protocol": "local"}, "local://modelport/c"),
    ],
)
def test_the_address_of_a_container_is_what_its_datastore_says(azure_stub, transport, said, url):
    says(azure_stub, "/datastores/d", {"properties": {"datastoreType": "AzureBlob", "containerName": "c", **said}})
    says(azure_stub, "/listSecrets", {"secretsType": "Sas", "sasToken": "?sv=1&sig=a%2Bb%3D"}, "POST")
    container = storage.of_datastore(transport, "d")
    assert (container.url, container.signature, container.credential) == (url, {"sv": "1", "sig": "a+b="}, "none")
    assert "a+b=" not in repr(container)


@pytest.mark.parametrize(
    "said",
    [[], "a page of a proxy", {}, {"properties": None}, {"properties": {"datastoreType": "AzureBlob"}}],
)
def test_what_is_no_datastore_is_told(azure_stub, transport, said):
    says(azure_stub, "/datastores/d", said)
    with pytest.raises(HttpResponseError, match="Datastore 'd': the service"):
        storage.of_datastore(transport, "d")


@pytest.mark.parametrize("secrets", [{"secretsType": "AccountKey", "key": "k"}, {}])
def test_without_a_signature_the_callers_own_token_is_taken(azure_stub, transport, secrets):
    says(azure_stub, "/listSecrets", secrets, "POST")
    assert storage.of_datastore(transport, "workspaceblobstore").credential == "storage"


def test_a_pending_upload_says_where_and_what_for(azure_stub, transport):
    reference = {"blobUri": "https://h/c/", "credential": {"sasUri": "https://h/c?sig=1"}}
    says(azure_stub, "/startPendingUpload", {"blobReferenceForConsumption": reference}, "POST")
    container, uri = storage.of_pending_upload(transport, "codes/c/versions/1")
    assert (container.url, container.signature, uri) == ("https://h/c", {"sig": "1"}, "https://h/c")


def test_a_name_that_xml_cannot_have_comes_encoded(azure_stub, transport):
    listed = (
        b"\xef\xbb\xbf<EnumerationResults><Blobs><Blob><Name Encoded='true'>a%EF%BF%BEb</Name><Properties>"
        b"<Content-Length>3</Content-Length><Etag>0x1</Etag></Properties><Metadata><hdi_isfolder>true</hdi_isfolder>"
        b"</Metadata></Blob></Blobs><NextMarker/></EnumerationResults>"
    )
    says(azure_stub, CONTAINER, listed)
    (blob,) = storage.of_datastore(transport, "workspaceblobstore").listed("a")
    assert blob == storage.Blob("a\ufffeb", 3, {"hdi_isfolder": "true"}, "0x1")


def test_a_blob_that_is_not_there_is_none_and_a_container_that_is_not_is_an_error(azure_stub, transport):
    container = storage.of_datastore(transport, "workspaceblobstore")
    assert container.head("absent") is None
    assert container.uncommitted("absent") == {}
    error = b"<Error><Code>ContainerNotFound</Code><Message>It is gone.\nRequestId:1</Message></Error>"
    azure_stub.faults.append(
        lambda seen: Say(404, {"Content-Type": "application/xml"}, error) if "comp" in seen.query else None
    )
    with pytest.raises(ResourceNotFoundError, match=r"404 ContainerNotFound\. It is gone\.$"):
        list(container.listed("x"))


@pytest.mark.parametrize("status", [400, 412, 500, 503])
def test_other_refusals_carry_their_status(azure_stub, transport, status):
    container = storage.of_datastore(transport, "workspaceblobstore")
    azure_stub.faults.append(lambda _: Say(status, {"x-ms-error-code": "Odd"}, b""))
    with pytest.raises(HttpResponseError, match=f"answered {status} Odd") as error:
        container.complete("a", "net", "1")
    assert (error.value.status_code, error.value.error_code) == (status, "Odd")


def test_where_listing_is_forbidden_each_file_is_looked_for(azure_stub, transport, tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    container = storage.of_datastore(transport, "workspaceblobstore")
    uploads.upload(container, source(tmp_path), "LocalUpload/x", asset="net", version="1")
    where = f"{CONTAINER}/LocalUpload/x/{tmp_path.name}"
    azure_stub.metadata[f"{where}/a"].clear()
    del azure_stub.blobs[f"{where}/c"]
    azure_stub.faults.append(lambda seen: Say(403, {}, b"") if seen.query.get("comp") == "list" else None)
    start = len(azure_stub.seen)
    uploads.upload(container, source(tmp_path), "LocalUpload/x", asset="net", version="1")
    puts = [each.path for each in azure_stub.seen[start:] if each.method == "PUT" and "comp" not in each.query]
    assert puts == [f"{where}/c"]


def test_there_is_no_bar_where_there_is_no_terminal(capfd):
    with bar("Uploading x", 10, show=True) as moved:
        moved(5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("show", [True, False])
def test_a_terminal_shows_how_far_it_is(show):
    script = f"""
        import sys
        from modelport.transports.progress import bar
        with bar("Uploading [red]weights", 10, show={show}) as moved:
            moved(10)
        print("rich" in sys.modules)
    """
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True, text=True)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 1 << 16):
            seen += piece
    except OSError:
        pass  # what Linux says when the other end is closed and all was read
    finally:
        os.close(ours)
    assert run.stdout.split() == [str(show)]
    assert (b"Uploading [red]weights" in seen) is show
