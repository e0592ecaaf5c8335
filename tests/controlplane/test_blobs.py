"""Uploaded files: never outside their container, never half, kept as long as a record names them."""

import base64
import hashlib
import os

import pytest

from modelport.arm.ids import LOCAL_WORKSPACE
from modelport.controlplane.blobs import CONTAINER, Announced, Blobs
from modelport.errors import HttpResponseError, ResourceNotFoundError

DAY = 24 * 3600
PATHS = "azureml://datastores/workspaceblobstore/paths/"


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "blobs").mkdir()
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder, clock):
    return Blobs(folder, clock)


def _write(blobs, name, content=b"x", container=CONTAINER, **said):
    return blobs.write(container, name, content, **{"metadata": {}, **said})


def _files(folder):
    return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())


def _id(text):
    return base64.b64encode(text.encode()).decode()


# Names


def test_what_was_sent_is_found_by_its_url_by_its_record_and_by_its_datastore_path(blobs):
    _write(blobs, "LocalUpload/aa/model one/weights.bin", [b"ab", b"cd"])
    url = "http://127.0.0.1:1234/azureml-blobstore/LocalUpload/aa/model%20one"
    record = blobs.lasting(url, LOCAL_WORKSPACE)
    long = blobs.lasting(f"{PATHS}LocalUpload/aa/model one/", LOCAL_WORKSPACE)
    assert record == "/azureml-blobstore/LocalUpload/aa/model%20one"
    assert long == LOCAL_WORKSPACE.datastore_uri("workspaceblobstore/paths/LocalUpload/aa/model one/")
    for uri in (url, record, long, f"{PATHS}LocalUpload/aa/model one"):
        assert (blobs.find(uri) / "weights.bin").read_bytes() == b"abcd"
    assert blobs.find(f"{url}/weights.bin").is_file()


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/azureml-blobstore/other",
        "https://example.com/somewhere/else",
        "wasbs://container@account.blob.core.windows.net/net.bin",
        "azureml://registries/r/models/m/versions/1",
        "/subscriptions/s/x",
        "runs:/1/model",
    ],
)
def test_what_is_not_here_stays_as_it_was_said(blobs, uri):
    assert blobs.lasting(uri, LOCAL_WORKSPACE) == uri
    with pytest.raises(ResourceNotFoundError, match="Create the asset again"):
        blobs.find(uri)


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "a/../../x", "a/../b", "/etc/x", "a//b", "a/./b", "..\\x", "a\\b", "a\0b", "a\nb", "a\ufffeb", ""],
)
def test_a_name_that_leaves_its_container_is_refused(blobs, folder, name):
    for ask in (
        lambda: _write(blobs, name),
        lambda: blobs.stage(CONTAINER, name, _id("1"), b"x"),
        lambda: blobs.get(CONTAINER, name),
        lambda: blobs.delete(CONTAINER, name),
    ):
        with pytest.raises(HttpResponseError):
            ask()
    with pytest.raises(ResourceNotFoundError):
        blobs.find(f"{PATHS}{name or 'none'}")
    assert _files(folder.parent) == []


@pytest.mark.parametrize("name", ["x" * 256, "/".join(["step"] * 300)])
def test_a_name_that_is_too_long_is_refused(blobs, name):
    with pytest.raises(HttpResponseError, match="Shorten it"):
        _write(blobs, name)


def test_a_link_out_of_the_container_is_not_followed(blobs, folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    (folder / "containers" / CONTAINER / "link").symlink_to(tmp_path)
    for ask in (lambda: blobs.get(CONTAINER, "link/secret"), lambda: _write(blobs, "link/secret")):
        with pytest.raises(HttpResponseError, match="leaves its container"):
            ask()
    assert list(blobs.listed(CONTAINER)) == []


@pytest.mark.parametrize("container", ["other", "..", "containers", "", "UPPER", "a/b"])
def test_a_container_that_was_not_begun_is_not_there(blobs, container):
    with pytest.raises(HttpResponseError, match="no container") as caught:
        _write(blobs, "x", container=container)
    assert (caught.value.status_code, caught.value.error_code) == (404, "ContainerNotFound")


# Whole or not at all


def test_a_file_is_copied_and_an_empty_one_is_kept(blobs, tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    _write(blobs, "file", tmp_path / "file")
    _write(blobs, "empty", None)
    assert blobs.get(CONTAINER, "file").path.read_bytes() == b"content"
    assert blobs.get(CONTAINER, "empty").size == 0


def test_a_cut_off_upload_leaves_nothing(blobs, folder):
    def cut_off():
        yield b"half"
        raise ConnectionError

    for ask in (
        lambda: _write(blobs, "file", cut_off()),
        lambda: blobs.stage(CONTAINER, "file", _id("1"), cut_off()),
    ):
        with pytest.raises(ConnectionError):
            ask()
    with pytest.raises(HttpResponseError, match="announced 5 bytes and had 4"):
        _write(blobs, "file", b"half", announced=Announced(5))
    wrong = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    with pytest.raises(HttpResponseError, match="Content-MD5"):
        _write(blobs, "file", b"half", announced=Announced(4, wrong))
    assert _files(folder) == []
    with pytest.raises(HttpResponseError, match="no blob"):
        blobs.get(CONTAINER, "file")


def test_a_blob_that_is_sent_again_is_whole_at_every_moment(blobs):
    first = _write(blobs, "file", b"first", metadata={"said": "1"})

    def look():
        yield b"sec"
        assert blobs.get(CONTAINER, "file").path.read_bytes() == b"first"
        yield b"ond"

    second = _write(blobs, "file", look())
    assert second.path.read_bytes() == b"second"
    assert second.metadata == {}
    assert second.etag != first.etag


def test_a_new_blob_replaces_none(blobs):
    _write(blobs, "file", b"first", new=True)
    for ask in (
        lambda: _write(blobs, "file", b"second", new=True),
        lambda: blobs.commit(CONTAINER, "file", [], {}, new=True),
    ):
        with pytest.raises(HttpResponseError) as caught:
            ask()
        assert (caught.value.status_code, caught.value.error_code) == (409, "BlobAlreadyExists")
    assert blobs.get(CONTAINER, "file").path.read_bytes() == b"first"


def test_a_name_is_a_blob_or_a_folder(blobs):
    _write(blobs, "a/b")
    _write(blobs, "c")
    for name in ("a", "c/d", "c/d/e"):
        with pytest.raises(HttpResponseError, match="both a blob and a folder"):
            _write(blobs, name)
    with pytest.raises(HttpResponseError, match="no blob"):
        blobs.get(CONTAINER, "a")


def test_a_deleted_blob_leaves_no_folders(blobs, folder):
    _write(blobs, "a/b/c", metadata={"x": "1"})
    _write(blobs, "a/d")
    blobs.delete(CONTAINER, "a/b/c")
    assert [each.name for each in blobs.listed(CONTAINER)] == ["a/d"]
    assert not (folder / "containers" / CONTAINER / "a" / "b").exists()
    assert blobs.lasting(f"http://x/{CONTAINER}/a/b/c", LOCAL_WORKSPACE).startswith("http:")


# Blocks


def test_blocks_become_a_blob_in_the_order_that_is_said(blobs, folder):
    for text in ("one", "two", "three"):
        blobs.stage(CONTAINER, "file", _id(text), text.encode())
    assert blobs.staged(CONTAINER, "file") == sorted([(_id("one"), 3), (_id("two"), 3), (_id("three"), 5)])
    blob = blobs.commit(CONTAINER, "file", [("Latest", _id("two")), ("Uncommitted", _id("one"))], {"a": "b"})
    assert blob.path.read_bytes() == b"twoone"
    assert (blob.metadata, blob.blocks) == ({"a": "b"}, [(_id("two"), 3), (_id("one"), 3)])
    assert blobs.staged(CONTAINER, "file") == []
    blobs.stage(CONTAINER, "file", _id("new"), b"new")
    blob = blobs.commit(CONTAINER, "file", [("Committed", _id("one")), ("Latest", _id("new"))], {})
    assert blob.path.read_bytes() == b"onenew"
    assert len(_files(folder)) == 2  # the blob, and what is known of it


def test_a_block_that_is_not_there_changes_nothing(blobs):
    _write(blobs, "file", b"before")
    blobs.stage(CONTAINER, "file", _id("one"), b"one")
    for blocks in ([("Latest", _id("one")), ("Latest", _id("two"))], [("Committed", _id("one"))]):
        with pytest.raises(HttpResponseError, match="send it again"):
            blobs.commit(CONTAINER, "file", blocks, {})
    assert blobs.get(CONTAINER, "file").path.read_bytes() == b"before"
    assert blobs.staged(CONTAINER, "file") == [(_id("one"), 3)]


@pytest.mark.parametrize("block", ["", "no base64!", "../../x", _id("x" * 65)])
def test_a_blocks_id_is_the_base64_of_up_to_64_bytes(blobs, block):
    with pytest.raises(HttpResponseError, match="not the base64"):
        blobs.stage(CONTAINER, "file", block, b"x")


# What lasts


def test_metadata_and_blocks_outlast_a_restart(blobs, folder, clock):
    _write(blobs, "LocalUpload/aa/file", metadata={"upload_status": "completed"})
    blobs.stage(CONTAINER, "LocalUpload/aa/big", _id("one"), b"one")
    clock.now += DAY - 1
    again = Blobs(folder, clock)
    again.keep("")
    assert again.get(CONTAINER, "LocalUpload/aa/file").metadata == {"upload_status": "completed"}
    assert again.staged(CONTAINER, "LocalUpload/aa/big") == [(_id("one"), 3)]


def test_what_no_record_names_goes_after_a_day(blobs, folder, clock):
    _write(blobs, "LocalUpload/aa/weights/net.bin", metadata={"upload_status": "completed"})
    _write(blobs, "LocalUpload/bb/weights/net.bin", metadata={"upload_status": "completed"})
    _write(blobs, "LocalUpload/cc/weights/net.bin")
    _write(blobs, "somebodys/own.bin", metadata={"keep": "me"})
    code, lost = blobs.begin("code-1111"), blobs.begin("code-2222")
    for container in (code, lost):
        _write(blobs, "src/score.py", container=container)
    blobs.stage(CONTAINER, "LocalUpload/bb/weights/big", _id("one"), b"one")
    (folder / "parts" / "left").write_bytes(b"half")
    clock.now += DAY + 1
    blobs.get(CONTAINER, "LocalUpload/cc/weights/net.bin")  # a client that looks whether it need send anything
    blobs.keep('{"modelUri": "azureml://…/LocalUpload/aa/weights", "codeUri": "/code-1111/src"}')
    names = [each.name for each in blobs.listed(CONTAINER)]
    assert names == ["LocalUpload/aa/weights/net.bin", "LocalUpload/cc/weights/net.bin", "somebodys/own.bin"]
    assert blobs.get(CONTAINER, names[0]).metadata == {"upload_status": "completed"}
    assert blobs.get(code, "src/score.py").size == 1
    assert blobs.staged(CONTAINER, "LocalUpload/bb/weights/big") == []
    with pytest.raises(HttpResponseError, match="no container"):
        blobs.get(lost, "src/score.py")
    assert len(_files(folder)) == 6  # four blobs, and what is known of two of them


def test_uploads_of_before_there_were_containers_are_read_where_they_are(blobs, folder):
    kept, lost = (folder / (letter * 32) for letter in "ab")
    for old in (kept, lost):
        (old / "model one").mkdir(parents=True)
        (old / "model one" / "weights.bin").write_bytes(b"old")
        os.utime(old, (1_600_000_000, 1_600_000_000))
    record = LOCAL_WORKSPACE.datastore_uri(f"workspaceblobstore/paths/LocalUpload/{'a' * 32}/model%20one")
    assert (blobs.find(record) / "weights.bin").read_bytes() == b"old"
    blobs.keep(record)
    assert kept.is_dir()
    assert not lost.exists()
    with pytest.raises(ResourceNotFoundError):
        blobs.find(f"{record}/../../../{'c' * 32}")


# Where scripts find their model


def test_a_model_is_alone_in_the_folder_that_scripts_see(blobs):
    _write(blobs, "LocalUpload/aa/weights/v1/net.bin", b"net")
    folder = blobs.find(f"{PATHS}LocalUpload/aa/weights/")
    assert blobs.alone(folder) == folder.parent
    _write(blobs, "LocalUpload/aa/other.bin")
    seen = blobs.alone(folder)
    assert _files(seen) == ["weights/v1/net.bin"]
    assert blobs.alone(folder) == seen
    blobs.keep(f'{{"model_dir": "{seen}"}}')
    _write(blobs, "LocalUpload/aa/weights/v1/net.bin", b"new")
    assert (seen / "weights/v1/net.bin").read_bytes() == b"net"
    assert blobs.alone(folder) != seen
    blobs.keep("")
    assert not seen.exists()
    file = blobs.find(f"{PATHS}LocalUpload/aa/other.bin")
    assert _files(blobs.alone(file)) == ["other.bin"]


def test_a_container_can_be_a_model(blobs):
    container = blobs.begin("model-1111")
    _write(blobs, "net.bin", container=container)
    assert _files(blobs.alone(blobs.find("/model-1111"))) == ["model-1111/net.bin"]
    assert blobs.alone(blobs.find("/model-1111/net.bin")) == blobs.find("/model-1111")
