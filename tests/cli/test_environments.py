"""`modelport env`, as people run it."""

import json
import subprocess

import pytest


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "conda.yml"
    path.write_text("name: tides\ndependencies:\n  - python\n  - pip:\n    - idna==3.10\n")
    return path


@pytest.fixture
def own(home):
    """A home with a cache of environments for itself: these commands empty it."""
    (home.folder / "environments").unlink()
    return home


@pytest.fixture
def built(own, file):
    """The key and the Python of an environment that was built."""
    told = own.run("env", "build", str(file))
    assert told.returncode == 0, told.stderr
    assert "Creating an environment with Python" in told.stderr
    lines = dict(line.split(": ", 1) for line in told.stdout.splitlines())
    assert set(lines) == {"key", "python"}
    return lines["key"], lines["python"]


def test_an_environment_is_built_ahead_of_time(own, built, file):
    _, python = built
    assert subprocess.run([python, "-I", "-c", "import idna, modelport_scoring"], check=False).returncode == 0
    assert "Creating" not in own.run("env", "build", str(file)).stderr


def test_environments_are_listed_with_what_they_are_of(own, built):
    told = own.run("env", "list").stdout
    assert told.startswith(built[0])
    assert " MB  20" in told
    assert "tides: python 3." in told
    (said,) = json.loads(own.run("env", "list", "--json").stdout)
    assert (said["key"], said["name"], said["asked"][1:]) == (built[0], "tides", ["idna==3.10"])
    assert said["size_bytes"] > 10_000


def test_nothing_is_listed_where_nothing_was_built(own):
    assert own.run("env", "list").stdout == "There are no environments.\n"
    assert own.run("env", "prune", "--all").stdout == "Nothing was removed.\n"


def test_environments_are_pruned_but_those_that_run(own, built):
    key, python = built
    assert own.run("env", "prune").stdout == "Nothing was removed.\n"
    waits = subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert own.run("env", "prune", "--all").stdout == "Nothing was removed.\n"
    finally:
        waits.communicate(b"\n")
    assert own.run("env", "prune", "--max-bytes", "1K").stdout.startswith(f"Removed {key} (")
    assert own.run("env", "list").stdout == "There are no environments.\n"


def test_how_much_may_be_left_must_be_a_number(own):
    told = own.run("env", "prune", "--max-bytes", "much")
    assert told.returncode == 2
    assert "'much' is not a number of bytes; write it like 500M or 20G." in told.stderr


def test_an_environment_is_exported_by_key_and_by_file(own, built, file, tmp_path):
    text = own.run("env", "export", built[0]).stdout
    assert text == own.run("env", "export", str(file)).stdout
    assert text.startswith("name: tides\ndependencies:\n  - python=3.")
    assert "    - idna==3.10\n" in text
    written = own.run("env", "export", built[0], "--explicit", "--output", str(tmp_path / "lock.txt"))
    assert written.stdout == f"{tmp_path / 'lock.txt'}\n"
    assert "# pip: idna==3.10\n" in (tmp_path / "lock.txt").read_text()


def test_what_was_exported_can_be_built(own, built, tmp_path):
    (tmp_path / "exported.yml").write_text(own.run("env", "export", built[0]).stdout)
    again = own.run("env", "build", str(tmp_path / "exported.yml"), "--offline")
    assert again.returncode == 0, again.stderr


def test_what_is_not_built_cannot_be_exported(own, file):
    told = own.run("env", "export", str(file))
    assert told.returncode == 1
    assert f"is not built: run `modelport env build {file}`" in told.stderr
    assert "neither a file nor the key of an environment" in own.run("env", "export", "tides").stderr


def test_a_bad_file_is_told_with_its_lines(own, tmp_path):
    (tmp_path / "bad.yml").write_text("dependencies:\n  - numpy===\n  - scipy>=\n")
    told = own.run("env", "build", str(tmp_path / "bad.yml"))
    assert told.returncode == 1
    assert "'numpy===' is not a conda package" in told.stderr
    assert "(conda_file.dependencies[1])" in told.stderr
    assert "Traceback" not in told.stderr
