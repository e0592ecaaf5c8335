"""What of a folder is uploaded, and by which name: Azure's, for its recordings say so."""

import base64
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.errors import ValidationException
from modelport.transports.sources import source

RECORDED = Path(__file__).parents[1] / "wire/recorded"
EMPTY = "is empty. path or local_path must be a non-empty directory"


@pytest.fixture
def write(tmp_path):
    """Writes files, by name; returns their folder."""

    def of(**files):
        for name, content in files.items():
            path = tmp_path / "top" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "top"

    return of


def names(folder, **said):
    return [each.name for each in source(folder, **said).files]


def recorded_files(name, folder):
    for path, text in json.loads((RECORDED / f"{name}.json").read_text())["files"].items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        coded = text.startswith("base64:")
        file.write_bytes(base64.b64decode(text.removeprefix("base64:")) if coded else text.encode())


def test_a_folder_has_the_hash_that_azure_gives_it(tmp_path):
    recorded_files("model-custom-local-folder", tmp_path)
    recorded_files("environment-build-context", tmp_path)
    found = source(tmp_path / "weights").object_hash()
    assert found == "2fba010d36d193f30cd53c40d0cb09d8b1282140275a4ee8ac769b3d12b96344"
    found = source(tmp_path / "image").object_hash()
    assert found == "2325c2923e64879068ff83500f560e624690a325e45162eb7ec9a14ff5f68e4a"


def test_a_file_has_the_hash_that_azure_gives_it(write):
    found = source(write(**{"net.bin": b"\0\1"}) / "net.bin").object_hash()
    assert found == "5901f82eba3dc7815073b89f82a0e7e3b02d417f2f780781d38c089c25ee2684"


def test_code_has_the_hash_that_azure_gives_it(tmp_path):
    recorded_files("deployment-managed-inline-assets", tmp_path)
    found = source(tmp_path / "src").content_hash()
    assert found == "87df37595cc7bda09fe2345cf6c0573a0dfcf63363ab88f76e7e7181bff8e575"


def test_names_are_taken_in_the_order_of_small_letters(write):
    # Values by azure-ai-ml 1.35.2 itself, for a folder with an ignore file and an empty folder left by it.
    folder = write(
        **{"B.txt": "1", "a.txt": "2", "C/x.txt": "3", "c.txt": "4", "logs/x.log": "5", ".amlignore": "*.log\n"}
    )
    assert source(folder).object_hash() == "b8b968713dcf832c0973f512c1263f33ae178f5a129f666afa94d53be7fe414e"
    assert source(folder).content_hash() == "41bf09f21959068d9ef8b11690800de512570e55d172db6a8d70bdee77ca74a0"


def test_a_hash_does_not_depend_on_the_size_of_blocks(write):
    folder = write(**{"a": b"x" * 5000, "b/c": b""})
    assert source(folder, block=7).object_hash() == source(folder).object_hash()
    assert source(folder, block=7).content_hash() == source(folder).content_hash()


def test_amlignore_wins_over_gitignore(write):
    folder = write(**{"a.py": "", "b.log": "", "c.tmp": "", ".gitignore": "*.log\n"})
    assert names(folder) == [".gitignore", "a.py", "c.tmp"]
    (folder / ".amlignore").write_text("*.tmp\n.*ignore\n")
    assert names(folder) == ["a.py", "b.log"]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ("data/", ["a.py", "sub/a.py", "sub/b.log"]),
        ("/a.py", ["data/b.log", "sub/a.py", "sub/b.log"]),
        ("*.log\n!sub/*.log", ["a.py", "sub/a.py", "sub/b.log"]),
        ("# all\n\n**/b.log", ["a.py", "sub/a.py"]),
        ("sub", ["a.py", "data/b.log"]),
        ("sub/*\n!sub/a.py", ["a.py", "data/b.log", "sub/a.py"]),
        ("[ab].py\n\\#x", ["data/b.log", "sub/b.log"]),
    ],
)
def test_the_syntax_is_gits(write, lines, kept):
    folder = write(
        **{"a.py": "", "sub/a.py": "", "sub/b.log": "", "data/b.log": "", ".amlignore": f"{lines}\n.amlignore\n"}
    )
    assert names(folder) == kept


def test_an_ignore_file_below_says_nothing(write):
    assert names(write(**{"sub/.amlignore": "*", "sub/a": ""})) == ["sub/.amlignore", "sub/a"]


def test_an_ignore_file_that_is_no_text_is_told(write):
    with pytest.raises(ValidationException, match=r"\.amlignore' is not UTF-8 text"):
        source(write(**{".amlignore": b"\xff\xfe", "a": ""}))


def test_what_python_leaves_behind_is_no_code(write):
    folder = write(**{"score.py": "", "__pycache__/score.pyc": "", "sub/__pycache__/x.pyc": "", ".git/HEAD": ""})
    assert names(folder, leave_out=("__pycache__", ".git")) == ["score.py"]
    assert len(names(folder)) == 4


def test_links_are_what_they_point_at(write, tmp_path):
    folder = write(**{"a.txt": "1", "sub/b.txt": "2"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.txt").write_text("3")
    (folder / "link.txt").symlink_to(folder / "a.txt")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    found = source(folder)
    assert [each.name for each in found.files] == ["a.txt", "link.txt", "linked/c.txt", "sub/b.txt"]
    assert [each.size for each in found.files] == [1, 1, 1, 1]
    (tmp_path / "top-2").symlink_to(folder)
    assert source(tmp_path / "top-2").object_hash() == found.object_hash()


def test_a_link_into_a_folder_that_it_is_in_has_no_end(write):
    folder = write(**{"sub/a": ""})
    (folder / "sub/loop").symlink_to(folder)
    with pytest.raises(ValidationException, match=r"sub/loop' leads back to '.*top', which it is in"):
        source(folder)
    (folder / ".amlignore").write_text("loop\n")
    assert names(folder) == [".amlignore", "sub/a"]


def test_a_link_to_nothing_is_told(write):
    folder = write(a="")
    (folder / "link").symlink_to(folder / "nothing")
    with pytest.raises(ValidationException, match="link' cannot be read: No such file"):
        source(folder)


def test_a_pipe_is_no_file(write):
    folder = write(a="")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValidationException, match="pipe' is neither a file nor a folder"):
        source(folder)


def test_empty_folders_are_left_out_and_nothing_but_them_is_an_error(write):
    folder = write(a="")
    (folder / "empty/deeper").mkdir(parents=True)
    assert names(folder) == ["a"]
    (folder / "a").unlink()
    with pytest.raises(ValidationException, match=EMPTY):
        source(folder)
    (folder / "a").touch()
    (folder / ".amlignore").write_text("*\n")
    with pytest.raises(ValidationException, match=EMPTY):
        source(folder)


def test_a_file_that_is_gone_is_told(write):
    folder = write(a="1", b="2")
    found = source(folder)
    (folder / "b").unlink()
    with pytest.raises(ValidationException, match="b' cannot be read: No such file"):
        found.object_hash()


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\\b"])
def test_a_name_that_no_url_can_have_is_told(write, name):
    folder = write(a="")
    if sys.platform == "darwin" and name == b"caf\xe9":
        return  # its file systems have no such names
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()
    with pytest.raises(ValidationException, match="Rename it"):
        source(folder)


def test_a_huge_file_has_larger_blocks_rather_than_too_many(write):
    folder = write(a="")
    with (folder / "huge").open("wb") as file:
        file.truncate(300 << 30)
    found = source(folder)
    huge = found.files[1]
    blocks = found.blocks(huge)
    assert len(blocks) <= 50_000
    assert sum(length for _, length in blocks) == 300 << 30


TREES = st.dictionaries(
    st.lists(st.sampled_from(["a", "B", "b.c", "é", "A b"]), min_size=1, max_size=3).map("/".join),
    st.binary(max_size=20),
    min_size=1,
    max_size=6,
).filter(lambda tree: not any(other.startswith(f"{name}/") for name in tree for other in tree))


@settings(max_examples=25)
@given(first=TREES, second=TREES)
def test_equal_files_have_equal_hashes_and_others_have_others(tmp_path_factory, first, second):
    made = []
    for tree in (first, second):
        folder = tmp_path_factory.mktemp("tree")
        for name, content in tree.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        made.append(source(folder))
    assert (made[0].content_hash() == made[1].content_hash()) is (first == second)
    assert made[0].object_hash() != made[1].object_hash() or first == second
