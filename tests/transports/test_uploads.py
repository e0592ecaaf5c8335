"""Uploads to a storage account on loopback: whatever is cut off, the next call sends the rest, and only the rest."""

import hashlib
import os
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stub.azure import Cut, Half, Reset, Say

from modelport.errors import ClientAuthenticationError, HttpResponseError, ServiceRequestError, ValidationException
from modelport.transports import storage, uploads
from modelport.transports.sources import source

CONTAINER = "/azureml-blobstore-1"
BLOCK = 1000
FOLDER, FILE = 10, 7
"""Requests to the account for the folder, and for its large file alone."""


@pytest.fixture
def container(azure_client):
    return storage.of_datastore(azure_client()._service.transport, "workspaceblobstore")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "weights"
    for name, size in (("a.txt", 8), ("b/empty.bin", 0), ("b/large.bin", 2 * BLOCK + 500), ("c.bin", BLOCK)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(random.Random(name).randbytes(size))
    return folder


def send(container, path, **said):
    """Upload a path as models are uploaded, in small blocks."""
    local = source(path, block=said.pop("block", BLOCK))
    under = f"LocalUpload/{local.object_hash()}"
    return uploads.upload(container, local, under, asset="net", version="1")


def contents(path):
    """What is in a folder, or a file, by path in the container."""
    local = source(path)
    base = f"{CONTAINER}/LocalUpload/{local.object_hash()}"
    top = base if local.is_file else f"{base}/{local.name}"
    return {f"{top}/{each.name}": each.path.read_bytes() for each in local.files}


def sent(stub, start=0):
    """What carried content to the account, and was taken: path and block, once for each time."""
    return [
        (each.path, each.query.get("blockid"), hashlib.sha256(each.body).hexdigest())
        for each in stub.seen[start:]
        if each.method == "PUT" and each.query.get("comp") in (None, "block") and each.status == 201
    ]


def to_the_account(stub, start=0):
    return [each for each in stub.seen[start:] if each.path.startswith(CONTAINER)]


def nth(number, fault):
    """A fault for the n-th different request to the account, counted from 0, and for all its repetitions."""
    known, guard = [], threading.Lock()

    def play(seen):
        if not seen.path.startswith(CONTAINER):
            return None
        key = (seen.method, seen.path, *sorted(item for item in seen.query.items() if item[0] != "sig"))
        with guard:
            if key not in known:
                known.append(key)
            return fault if known.index(key) == number else None

    return play


def test_a_folder_is_there_as_it_is_here(azure_stub, container, folder):
    where = send(container, folder)
    assert azure_stub.blobs == contents(folder)
    assert f"{CONTAINER}/{where}/a.txt" in azure_stub.metadata
    assert azure_stub.metadata[f"{CONTAINER}/{where}/a.txt"] == {
        "upload_status": "completed",
        "name": "net",
        "version": "1",
    }


def test_what_is_there_is_not_sent_again(azure_stub, container, folder):
    send(container, folder)
    start = len(azure_stub.seen)
    send(container, folder)
    assert [(each.method, each.status) for each in azure_stub.seen[start:]] == [("HEAD", 200), ("HEAD", 404)]


def test_what_an_older_client_put_elsewhere_serves(azure_stub, container, folder):
    where = send(container, folder)
    old = where.replace("LocalUpload", "az-ml-artifacts")
    azure_stub.blobs |= {path.replace(where, old): data for path, data in azure_stub.blobs.items()}
    azure_stub.metadata[f"{CONTAINER}/{old}/a.txt"] = azure_stub.metadata.pop(f"{CONTAINER}/{where}/a.txt")
    assert send(container, folder) == old


FAULTS = [Reset(), Cut(after=3), Half()]


REQUESTS = [*(("folder", number) for number in range(FOLDER)), *(("file", number) for number in range(FILE))]
# Half of an answer to a HEAD is a status, and so says all that is asked.
CASES = [(*each, fault) for each in REQUESTS for fault in FAULTS if each[1] or not isinstance(fault, Half)]


@pytest.mark.parametrize(("what", "number", "fault"), CASES)
def test_an_upload_that_is_cut_off_anywhere_goes_on_where_it_stopped(
    azure_stub, container, folder, what, number, fault
):
    path = folder if what == "folder" else folder / "b/large.bin"
    azure_stub.faults.append(nth(number, fault))
    with pytest.raises(ServiceRequestError, match=r"was cut off: .* call again to go on") as error:
        send(container, path)
    assert str(path) in str(error.value)
    azure_stub.faults.clear()
    start = len(azure_stub.seen)
    send(container, path)
    assert azure_stub.blobs == contents(path)
    # Nothing that the account has taken is sent again. (After `Half` it has taken it, though nobody heard that.)
    before, after = sent(azure_stub), sent(azure_stub, start)
    before = before[: len(before) - len(after)]
    assert not {(path, block) for path, block, _ in before} & {(path, block) for path, block, _ in after}


def test_each_request_of_an_upload_is_cut_off_by_a_test(azure_stub, container, folder):
    send(container, folder)
    assert len(to_the_account(azure_stub)) == FOLDER
    send(container, folder / "b/large.bin")
    assert len(to_the_account(azure_stub)) == FOLDER + FILE


def test_a_blob_of_another_size_is_written_anew(azure_stub, container, folder):
    path = next(each for each in contents(folder) if each.endswith("c.bin"))
    first = next(iter(sorted(contents(folder))))
    azure_stub.blobs[path] = b"half"
    azure_stub.sizes[path] = 4
    send(container, folder)
    assert azure_stub.blobs == contents(folder)
    azure_stub.metadata[first].clear()
    azure_stub.blobs[path], azure_stub.sizes[path] = b"half", 4
    send(container, folder)
    assert azure_stub.blobs == contents(folder)


def test_a_file_that_changes_after_its_hash_was_made_is_not_sent(azure_stub, container, folder):
    local = source(folder, block=BLOCK)
    under = f"LocalUpload/{local.object_hash()}"
    changed = (folder / "b/large.bin").read_bytes()
    stat = (folder / "b/large.bin").stat()
    (folder / "b/large.bin").write_bytes(changed[:-1] + b"!")
    os.utime(folder / "b/large.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nobody can tell by the time
    with pytest.raises(ValidationException, match=r"large\.bin' changed while it was uploaded"):
        uploads.upload(container, local, under, asset="net", version="1")
    assert azure_stub.metadata.get(f"{CONTAINER}/{under}/weights/a.txt", {}) == {}
    (folder / "b/large.bin").write_bytes(changed)
    uploads.upload(container, local, under, asset="net", version="1")
    assert azure_stub.blobs == contents(folder)


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b""), lambda path: path.write_bytes(bytes(5000))])
def test_a_file_that_grows_or_shrinks_is_noticed(container, folder, change):
    local = source(folder, block=BLOCK)
    local.object_hash()
    change(folder / "c.bin")
    with pytest.raises(ValidationException, match="changed while it was uploaded"):
        uploads.upload(container, local, "LocalUpload/x", asset="net", version="1")


def test_a_signature_that_is_over_is_asked_for_anew_once(azure_stub, container, folder):
    old = set(azure_stub.signatures)

    def expire(seen):
        if seen.method == "PUT" and seen.path.endswith("large.bin") and seen.query.get("sig") in old:
            return Say(403, {"x-ms-error-code": "AuthenticationFailed"}, b"")
        return None

    asked = len([each for each in azure_stub.seen if each.path.endswith("listSecrets")])
    azure_stub.faults.append(expire)
    before = dict(container.signature)
    renewed = container.renew
    azure_stub.signatures.add("new")
    container.renew = lambda: {**renewed(), "sig": "new"}
    send(container, folder)
    assert container.signature != before
    assert len([each for each in azure_stub.seen if each.path.endswith("listSecrets")]) == asked + 1
    assert azure_stub.blobs == contents(folder)


def test_what_the_account_refuses_is_told_with_its_code(azure_stub, container, folder):
    azure_stub.faults.append(
        lambda seen: (
            Say(403, {"x-ms-error-code": "AuthorizationPermissionMismatch"}, b"") if seen.method == "PUT" else None
        )
    )
    with pytest.raises(ClientAuthenticationError, match="AuthorizationPermissionMismatch"):
        send(container, folder)


def test_an_answer_that_is_no_xml_is_told(azure_stub, container, folder):
    send(container, folder)
    next(iter(azure_stub.metadata.values())).clear()
    azure_stub.faults.append(
        lambda seen: Say(200, {"Content-Type": "text/html"}, b"hello") if seen.query.get("comp") == "list" else None
    )
    with pytest.raises(HttpResponseError, match="is a proxy in between"):
        send(container, folder)


def test_fifteen_hundred_files_are_as_many_requests_and_a_few(azure_stub, container, tmp_path):
    folder = tmp_path / "many"
    for number in range(1500):
        file = folder / f"{number % 10}" / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    start = len(azure_stub.seen)
    send(container, folder)
    assert len(azure_stub.blobs) == 1500
    assert len(azure_stub.seen) - start <= 1503
    assert len({each.headers["host"] for each in azure_stub.seen}) == 1


NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=12)
    .filter(lambda name: name not in (".", "..", ".amlignore", ".gitignore") and len(name.encode()) < 60)
    .filter(lambda name: name.strip(". ") == name),
    min_size=1,
    max_size=3,
)


@settings(max_examples=20)
@given(steps=NAMES)
def test_any_name_of_a_file_arrives(azure_stub, container, tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("names") / "top #1 %41 ü"
    file = folder.joinpath(*steps)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"1")
    azure_stub.blobs.clear()
    where = send(container, folder)
    assert azure_stub.blobs == {f"{CONTAINER}/{where}/{'/'.join(steps)}": b"1"}
