"""Downloads from a storage account on loopback: nothing is lost, and nothing is written outside the folder."""

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stub.azure import Cut, Half, Reset, Say

from modelport.errors import HttpResponseError, ResourceNotFoundError, ServiceRequestError, ValidationException
from modelport.transports import downloads, storage

CONTAINER = "/azureml-blobstore-1"
PART = 1000
TOP = "LocalUpload/x/net"


@pytest.fixture
def container(azure_client):
    return storage.of_datastore(azure_client()._service.transport, "workspaceblobstore")


@pytest.fixture
def blobs(azure_stub):
    sizes = {"a.txt": 5, "b/large.bin": 2 * PART + 500, "b/empty": 0, "c.bin": PART}
    found = {f"{CONTAINER}/{TOP}/{name}": random.Random(name).randbytes(size) for name, size in sizes.items()}
    azure_stub.blobs |= found
    azure_stub.sizes |= {path: len(data) for path, data in found.items()}
    return {path.removeprefix(f"{CONTAINER}/{TOP}/"): data for path, data in found.items()}


def fetch(container, folder, into="net", prefix=TOP):
    downloads.download(container, prefix, folder, into, part=PART)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nth(number, fault):
    known, guard = [], threading.Lock()

    def play(seen):
        if not seen.path.startswith(CONTAINER):
            return None
        key = (seen.path, seen.query.get("comp"), seen.headers.get("x-ms-range"))
        with guard:
            if key not in known:
                known.append(key)
            return fault if known.index(key) == number else None

    return play


def test_a_folder_is_here_as_it_is_there(container, blobs, tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/mine").write_text("stays")
    (tmp_path / "net/a.txt").write_text("is overwritten")
    fetch(container, tmp_path)
    assert files(tmp_path / "net") == {**blobs, "mine": b"stays"}


def test_a_file_alone_keeps_its_name(container, blobs, tmp_path):
    fetch(container, tmp_path, prefix=f"{TOP}/c.bin")
    assert files(tmp_path) == {"net/c.bin": blobs["c.bin"]}


def test_what_only_begins_alike_is_not_fetched(azure_stub, container, blobs, tmp_path):
    azure_stub.blobs[f"{CONTAINER}/{TOP}-2/a.txt"] = b"another"
    fetch(container, tmp_path)
    assert files(tmp_path / "net") == blobs


def test_an_empty_place_is_told(container, tmp_path):
    with pytest.raises(ResourceNotFoundError, match="There are no files at"):
        fetch(container, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [Reset(), Cut(after=0), Half()], ids=["reset", "cut", "half"])
@pytest.mark.parametrize("number", range(6))
def test_a_download_that_is_cut_off_anywhere_goes_on_where_it_stopped(
    azure_stub, container, blobs, tmp_path, number, fault
):
    azure_stub.faults.append(nth(number, fault))
    with pytest.raises(ServiceRequestError, match=r"call again to go on"):
        fetch(container, tmp_path)
    azure_stub.faults.clear()
    before = [each for each in azure_stub.of("GET", TOP) if each.status == 206]
    start = len(azure_stub.seen)
    fetch(container, tmp_path)
    assert files(tmp_path / "net") == blobs
    again = [(each.path, each.headers["x-ms-range"]) for each in azure_stub.seen[start:] if each.status == 206]
    heard = {(each.path, each.headers["x-ms-range"]) for each in before}
    assert len(heard & set(again)) <= isinstance(fault, Half)  # what only half came is asked for again


def test_two_downloads_to_one_folder_do_not_spoil_each_others_files(azure_stub, container, blobs, tmp_path):
    begun = threading.Event()

    def meanwhile(seen):
        if seen.path.endswith("large.bin") and seen.headers.get("x-ms-range", "").startswith(f"bytes={PART}-"):
            first = not begun.is_set()
            begun.set()
            if first:
                fetch(container, tmp_path)
                assert files(tmp_path / "net") == blobs

    azure_stub.faults = [meanwhile]
    fetch(container, tmp_path)
    assert files(tmp_path / "net") == blobs


def test_what_is_left_of_another_blob_is_not_gone_on_with(azure_stub, container, blobs, tmp_path):
    azure_stub.faults.append(
        lambda seen: Reset() if seen.headers.get("x-ms-range", "").startswith("bytes=1000-") else None
    )
    with pytest.raises(ServiceRequestError):
        fetch(container, tmp_path)
    azure_stub.faults.clear()
    azure_stub.blobs[f"{CONTAINER}/{TOP}/b/large.bin"] = bytes(2 * PART + 500)
    fetch(container, tmp_path)
    assert (tmp_path / "net/b/large.bin").read_bytes() == bytes(2 * PART + 500)


def test_a_blob_that_changes_in_the_middle_makes_no_file(azure_stub, container, blobs, tmp_path):
    def change(seen):
        if seen.headers.get("x-ms-range", "").startswith("bytes=1000-"):
            azure_stub.blobs[seen.path] = bytes(2 * PART + 500)

    azure_stub.faults.append(change)
    with pytest.raises(HttpResponseError, match="412"):
        fetch(container, tmp_path)
    assert not (tmp_path / "net/b/large.bin").exists()


def test_an_answer_that_is_too_short_makes_no_file(azure_stub, container, blobs, tmp_path):
    azure_stub.faults.append(lambda seen: Say(206, {}, b"12") if seen.path.endswith("c.bin") else None)
    with pytest.raises(HttpResponseError, match="2 bytes came from 0 on, not 1000"):
        fetch(container, tmp_path)
    assert not (tmp_path / "net/c.bin").exists()


def test_a_server_without_ranges_will_do(azure_stub, container, blobs, tmp_path):
    azure_stub.faults.append(
        lambda seen: Say(200, {}, azure_stub.blobs[seen.path]) if "x-ms-range" in seen.headers else None
    )
    fetch(container, tmp_path)
    assert files(tmp_path / "net") == blobs


def test_lists_have_pages(azure_stub, container, blobs, tmp_path):
    azure_stub.page_size = 1
    fetch(container, tmp_path)
    assert files(tmp_path / "net") == blobs


OUTSIDE = [
    "../evil",
    "a/../../evil",
    "..",
    "a/..",
    "./a",
    "/etc/evil",
    "//evil",
    "a//b",
    "C:evil",
    "C:/evil",
    "c:\\evil",
    "..\\evil",
    "a\\..\\..\\evil",
    "NUL",
    "a/con.txt",
    "COM1",
    "lpt9.tar.gz",
    "aux ",
    "nul.",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_folder(azure_stub, container, blobs, tmp_path, name):
    azure_stub.blobs[f"{CONTAINER}/{TOP}/{name}"] = b"evil"
    folder = tmp_path / "deep/deeper"
    with pytest.raises(ValidationException, match="Nothing outside the folder") as error:
        fetch(container, folder)
    assert name.rpartition("/")[2] in str(error.value).replace("\\\\", "\\")
    assert files(tmp_path) == {}


def test_a_link_in_the_way_is_not_followed(container, blobs, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    (folder / "net").mkdir(parents=True)
    (folder / "net/b").symlink_to(outside)
    with pytest.raises(ValidationException, match="net/b' is a link"):
        fetch(container, folder)
    (folder / "net/b").unlink()
    (folder / "net").rmdir()
    (folder / "net").symlink_to(outside)
    with pytest.raises(ValidationException, match="folder/net' is a link"):
        fetch(container, folder)
    assert list(outside.iterdir()) == []


def test_a_link_where_a_file_comes_is_replaced(container, blobs, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "net").mkdir()
    (tmp_path / "net/a.txt").symlink_to(tmp_path / "secret")
    fetch(container, tmp_path)
    assert (tmp_path / "secret").read_text() == "secret"
    assert (tmp_path / "net/a.txt").read_bytes() == blobs["a.txt"]


def test_a_folder_in_the_way_of_a_file_stays(container, blobs, tmp_path):
    (tmp_path / "net/c.bin").mkdir(parents=True)
    with pytest.raises(ValidationException, match=r"c\.bin' is a folder"):
        fetch(container, tmp_path)


PIECES = st.lists(st.sampled_from([*"aN.\\/:~ ", "..", "con", "\u0301"]), min_size=1, max_size=6).map("".join)


@settings(max_examples=60)
@given(name=PIECES)
def test_whatever_a_blob_is_called_only_the_folder_is_written(azure_stub, container, tmp_path_factory, name):
    base = tmp_path_factory.mktemp("base")
    azure_stub.blobs = {f"{CONTAINER}/{TOP}/{name}": b"1"}
    try:
        downloads.download(container, TOP, base / "inner", "net")
    except (ValidationException, ResourceNotFoundError):
        assert files(base) == {}
    else:  # what ends with a slash and has nothing in it would be a folder; this has
        assert files(base) == {f"inner/net/{name}": b"1"}


def test_what_stands_in_the_way_of_a_folder_is_told(container, blobs, tmp_path):
    (tmp_path / "net").write_text("a file")
    with pytest.raises(ValidationException, match="cannot be written"):
        fetch(container, tmp_path)
