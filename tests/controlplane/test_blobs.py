"""Uploaded files: never outside their folder, never half."""

import pytest

from modelport.arm.ids import LOCAL_WORKSPACE
from modelport.controlplane.blobs import Blobs, lasting
from modelport.errors import ResourceNotFoundError, ValidationException


@pytest.fixture
def blobs(tmp_path):
    (tmp_path / "blobs").mkdir()
    return Blobs(tmp_path / "blobs")


def test_what_was_sent_is_found_by_its_url_and_by_its_record(blobs):
    url = blobs.begin()
    blobs.write(f"{url}/model%20one/weights.bin", [b"ab", b"cd"])
    record = lasting(f"http://127.0.0.1:1234{url}/model%20one", LOCAL_WORKSPACE)
    assert record.startswith("azureml://subscriptions/")
    assert "127.0.0.1" not in record
    assert (blobs.find(record) / "weights.bin").read_bytes() == b"abcd"
    assert blobs.find(f"{url}/model%20one/weights.bin").is_file()


def test_a_file_is_copied_and_an_empty_one_is_kept(blobs, tmp_path):
    url = blobs.begin()
    (tmp_path / "file").write_bytes(b"content")
    blobs.write(f"{url}/file", tmp_path / "file")
    blobs.write(f"{url}/empty", None)
    assert blobs.find(f"{url}/file").read_bytes() == b"content"
    assert blobs.find(f"{url}/empty").read_bytes() == b""


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "%2e%2e/x", "..%2fx", "a/%2E%2E/%2e%2e/x", "/etc/x", "%2fetc/x", "..\\x", "a%00b", "..%5cx"],
)
def test_a_path_that_leaves_its_upload_is_refused(blobs, tmp_path, name):
    url = blobs.begin()
    with pytest.raises(ValidationException, match="leaves the folder"):
        blobs.write(f"{url}/{name}", b"x")
    with pytest.raises((ValidationException, ResourceNotFoundError)):
        blobs.find(f"{url}/{name}")
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_an_upload_that_was_not_begun_is_refused(blobs):
    for url in (f"/blobs/LocalUpload/{'0' * 32}/x", "/blobs/LocalUpload/../x", "/blobs/other/x", blobs.begin()):
        with pytest.raises(ResourceNotFoundError, match="startPendingUpload"):
            blobs.write(url, b"x")


def test_a_cut_off_upload_leaves_nothing(blobs, tmp_path):
    def cut_off():
        yield b"half"
        raise ConnectionError

    url = blobs.begin()
    with pytest.raises(ConnectionError):
        blobs.write(f"{url}/file", cut_off())
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []
    with pytest.raises(ResourceNotFoundError, match="Create the asset again"):
        blobs.find(f"{url}/file")


def test_a_file_that_is_sent_again_is_whole_at_every_moment(blobs):
    url = blobs.begin()
    blobs.write(f"{url}/file", b"first")

    def look():
        yield b"sec"
        assert blobs.find(f"{url}/file").read_bytes() == b"first"
        yield b"ond"

    blobs.write(f"{url}/file", look())
    assert blobs.find(f"{url}/file").read_bytes() == b"second"


def test_uploads_that_no_record_names_are_removed(blobs):
    kept, lost = blobs.begin(), blobs.begin()
    for url in (kept, lost):
        blobs.write(f"{url}/file", b"x")
    blobs.keep(f'{{"codeUri": "azureml://…/{kept}"}}')
    assert blobs.find(f"{kept}/file").is_file()
    with pytest.raises(ResourceNotFoundError):
        blobs.find(f"{lost}/file")
