import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve
from tests.builds.inspection import builder_process, environments, prefix, run

from modelport import errors
from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder

HERE = f"3.{sys.version_info.minor}"


def failure(builder, conda):
    with pytest.raises(errors.ImageBuildFailure) as caught:
        builder.build(conda, lambda _: None)
    return caught.value.message


def test_an_environment_has_what_was_asked_for_and_scoring(builder, conda):
    lines = []
    built = builder.build(conda("click==8.1.8", "six==1.16.0"), lines.append)
    assert (
        run(built.python, "import modelport_scoring as m, six, click; print(m.ANSWER, six.__version__)") == "42 1.16.0"
    )
    assert built.key == prefix(built).name == builder.key(conda("click==8.1.8", "six==1.16.0"))
    assert built.warnings == builder.check(conda("click==8.1.8", "six==1.16.0"))
    assert any("six==1.16.0" in line for line in lines)
    assert (prefix(built).parent / f"{built.key}.log").read_text().splitlines() == lines


def test_packages_and_scoring_are_compiled_ahead(builder, conda, scoring):
    (scoring / "__pycache__").mkdir()
    (scoring / "__pycache__" / "old.pyc").touch()
    built = builder.build(conda(), print)
    (package,) = prefix(built).glob("lib/*/site-packages/modelport_scoring")
    assert [path.name.split(".")[0] for path in (package / "__pycache__").iterdir()] == ["__init__"]
    assert list(prefix(built).glob("lib/*/site-packages/__pycache__/six.*.pyc"))


def test_the_real_scoring_server_can_be_imported_in_a_clean_environment(tmp_path):
    built = PrefixBuilder(tmp_path / "cache").build(Wanted(), print)
    assert run(built.python, "import modelport_scoring; print(modelport_scoring.__file__)").startswith(
        str(prefix(built))
    )
    assert run(built.python, "import importlib.util as u; print(u.find_spec('granian') is not None)") == "True"


def test_nothing_of_this_environment_is_seen_in_the_one_built(builder, conda, tmp_path, monkeypatch):
    (tmp_path / "leak").mkdir()
    (tmp_path / "leak" / "six.py").write_text("__version__ = 'leaked'")
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.setenv(name, str(tmp_path / "leak"))
    built = builder.build(conda(), print)
    monkeypatch.delenv("PYTHONHOME")
    assert run(built.python, "import six; print(six.__version__ != 'leaked')") == "True"
    assert run(built.python, "import importlib.util as u; print(u.find_spec('pytest'))") == "None"


def test_equal_requirements_have_one_key(builder, conda):
    one = builder.key(conda("six", "click", packages=["python=3.11", "numpy"]))
    file = {"channels": ["conda-forge"], "dependencies": [{"pip": ["click", "six"]}, "numpy", "python=3.11"]}
    assert builder.key(Wanted(conda=file)) == one
    assert builder.key(Wanted(conda={**file, "channels": ["conda-forge", "bioconda"]})) != one
    assert builder.key(conda("six", "click", packages=["python=3.10", "numpy"])) != one
    assert builder.key(conda("six", packages=["python=3.11", "numpy"])) != one
    assert (
        builder.key(Wanted()) == builder.key(Wanted(conda={})) == builder.key(conda(packages=[f"python={HERE}"])) != one
    )


def test_another_scoring_server_is_another_environment(builder, tmp_path, scoring):
    before = builder.key(Wanted())
    os.utime(scoring / "__init__.py")
    assert builder.key(Wanted()) == before
    (scoring / "__init__.py").write_text("ANSWER = 43\n")
    assert builder.key(Wanted()) != before
    assert builder.key(Wanted()) == PrefixBuilder(tmp_path / "elsewhere", scoring=scoring).key(Wanted())


def test_the_python_that_was_asked_for_is_met(builder, conda):
    built = builder.build(conda(packages=[f"python={HERE}"]), print)
    assert run(built.python, "import sys; print('%d.%d' % sys.version_info[:2])") == HERE


def test_a_range_of_pythons_is_met_by_the_running_one(builder, conda):
    built = builder.build(conda(packages=["python>=3.9"]), print)
    assert run(built.python, "import sys; print('%d.%d' % sys.version_info[:2])") == HERE


@pytest.mark.parametrize("python", ["2.7", "3.8", "3.14", ">=3.14"])
def test_a_python_that_cannot_serve_is_refused_before_anything_starts(builder, conda, tmp_path, python):
    file = conda(packages=[f"python{'' if python.startswith('>') else '='}{python}"])
    with pytest.raises(errors.ValidationException, match=r"runs on Python 3\.9 to 3\.13"):
        builder.check(file)
    with pytest.raises(errors.ValidationException):
        builder.build(file, print)
    assert not (tmp_path / "cache").exists()


def test_a_python_that_is_not_to_be_had_is_named(builder, conda, monkeypatch):
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    message = failure(builder, conda(packages=["python=3.13.77"]))
    assert "no interpreter for python=3.13.77 is on this machine" in message
    assert environments(builder) == []


def test_without_rattler_conda_packages_are_refused_by_check_and_build(builder, conda, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rattler", None)  # as though it were not installed
    for refuse in (builder.check, builder.key, lambda file: builder.build(file, print)):
        with pytest.raises(errors.UnsupportedByBackend, match=r"'pytorch=2'.*pip install 'modelport\[conda\]'"):
            refuse(conda(packages=["pytorch=2"]))
    assert not (tmp_path / "cache").exists()
    builder.check(conda(packages=["python", "pip"]))


def test_tools_are_installed_beside_and_in_the_key(builder, conda):
    wanted = evolve(conda("click==8.1.8"), tools=("idna==3.10",))
    assert builder.key(wanted) != builder.key(conda("click==8.1.8"))
    built = builder.build(wanted, print)
    assert run(built.python, "import click, idna; print(idna.__version__)") == "3.10"


def test_a_requirement_that_does_not_exist_is_named(builder, conda, tmp_path):
    told = []
    with pytest.raises(errors.ImageBuildFailure) as caught:
        builder.build(conda("click", "no-such-package-of-modelport"), told.append)
    message = caught.value.message
    assert message.startswith(
        "Environment could not be built: requirement 'no-such-package-of-modelport' was not found:"
    )
    assert message.endswith("\n".join(told[-2:]))
    assert environments(builder) == []
    assert (tmp_path / "cache" / f"{builder.key(conda('click', 'no-such-package-of-modelport'))}.log").read_text()


@pytest.mark.parametrize("requirement", ["six==99", "six>=99"])
def test_a_version_that_does_not_exist_is_named(builder, conda, requirement):
    assert f"requirement '{requirement}' was not found: the package index has no such version" in failure(
        builder, conda(requirement)
    )


def test_a_clash_with_what_scoring_needs_is_named(builder, conda):
    message = failure(builder, conda("six==1.15.0"))
    assert "requirement 'six==1.15.0' clashes with 'six>=1.16', which the scoring server needs" in message
    assert "Because you require" in message


def test_requirements_that_exclude_each_other_are_named(builder, conda):
    assert "'click==8.1.7' and 'click==8.1.8' exclude each other" in failure(
        builder, conda("click==8.1.7", "click==8.1.8")
    )


def test_a_package_that_cannot_be_built_is_named(builder, conda, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "setup.py").write_text("raise RuntimeError('no compiler on this ship')")
    message = failure(builder, conda(f"broken @ file://{tmp_path}/broken"))
    assert "requirement 'broken @ " in message
    assert "built from its source" in message
    assert "RuntimeError: no compiler on this ship" in message.splitlines()[-3]


def test_an_index_that_cannot_be_reached_is_named_without_its_password(builder, conda, monkeypatch):
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    message = failure(builder, conda("--index-url http://me:secret@127.0.0.1:9/simple", "six"))
    assert "127.0.0.1:9/simple/six/) could not be reached" in message
    assert "secret" not in message


def test_offline_says_that_the_network_is_off(tmp_path, scoring, conda, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "nothing"))
    message = failure(PrefixBuilder(tmp_path / "cache", scoring=scoring, offline=True), conda("click"))
    assert "not in uv's cache, and the network is off" in message


def test_a_fault_of_the_machine_is_a_failed_build(builder, conda, scoring):
    (scoring / "gone").symlink_to(scoring / "nowhere")
    message = failure(builder, conda())
    assert message.startswith("Environment could not be built: ")
    assert "modelport_scoring/gone" in message
    assert environments(builder) == []


def test_what_exists_is_used_again(builder, conda):
    first = builder.build(conda(), print)
    told = []
    assert builder.build(conda(), told.append) == first
    assert told == []


def test_an_environment_whose_interpreter_has_gone_is_built_again(builder, conda):
    built = builder.build(conda(), print)
    Path(built.python).unlink()
    assert builder.build(conda(), print) == built
    assert run(built.python, "import six") == ""


def test_two_threads_build_once(builder, conda):
    told = []
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: builder.build(conda(), told.append), range(2))
    assert one == two
    assert sum(line.startswith("Creating") for line in told) == 1


def test_two_processes_build_once(builder, conda):
    processes = [builder_process(builder, conda()) for _ in range(2)]
    told = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [lines[-1] for lines in told] == ["done", "done"]
    assert sum(line.startswith("Creating") for lines in told for line in lines) == 1


def test_a_killed_build_is_done_again_once_its_children_have_ended(builder, conda, slow_package, until):
    file = conda(f"slowpackage @ file://{slow_package.path}")
    with builder_process(builder, file) as process:
        try:
            until(slow_package.begun.exists)
        finally:
            process.send_signal(signal.SIGKILL)
    assert environments(builder) == [builder.key(file)]

    told = []
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(builder.build, file, told.append)
        until(lambda: told)
        assert told == ["Waiting for another build of this environment."]
        slow_package.go.touch()
        built = again.result(timeout=60)
    assert any(line.startswith("Creating") for line in told)
    assert run(built.python, "import six") == ""


def test_a_build_that_its_caller_breaks_off_leaves_nothing(builder, conda, slow_package):
    class BrokenOff(Exception):  # noqa: N818 - it is no error
        pass

    def break_off(line):
        if line.startswith("Using"):
            raise BrokenOff

    with pytest.raises(BrokenOff):
        builder.build(conda(f"slowpackage @ file://{slow_package.path}"), break_off)
    assert environments(builder) == []


def test_prune_removes_the_longest_unused_first(builder, conda, tmp_path):
    keys = [builder.build(conda(requirement), print).key for requirement in ("six==1.16.0", "six==1.17.0", "six")]
    for age, key in enumerate(reversed(keys)):
        os.utime(tmp_path / "cache" / key / "modelport.json", (time.time() - age * 100,) * 2)
    builder.build(conda("six==1.16.0"), print)  # a use makes it the youngest
    size = json.loads((tmp_path / "cache" / keys[0] / "modelport.json").read_text())["size_bytes"]
    assert size > 10_000

    assert builder.prune(keep=(), max_bytes=10 * size) == []
    assert builder.prune(keep=(), max_bytes=2 * size + size // 2) == [keys[1]]
    assert builder.prune(keep={keys[2]}, max_bytes=0) == [keys[0]]
    assert environments(builder) == [keys[2]]
    assert builder.prune(keep=(), max_bytes=None) == [keys[2]]
    assert environments(builder) == []
    assert list((tmp_path / "cache").glob("*.log")) == []


def test_prune_removes_what_a_killed_build_has_left_and_not_what_is_being_built(builder, conda, tmp_path):
    left = tmp_path / "cache" / ("0" * 20)
    left.mkdir(parents=True)
    (tmp_path / "cache" / "mine").mkdir()
    in_build, go_on = threading.Event(), threading.Event()

    def report(line):
        if line.startswith("Using"):
            in_build.set()
            go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build, conda(), report)
        try:
            assert in_build.wait(30)
            assert builder.prune(keep=(), max_bytes=10**12) == [left.name]
            assert builder.prune(keep=(), max_bytes=None) == []
        finally:
            go_on.set()
        built = building.result(timeout=60)
    assert environments(builder) == [built.key, "mine"]
