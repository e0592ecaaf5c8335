"""Environments with conda packages: from channels of our own, on this disk and on loopback."""

import json
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve
from tests.builds import channel
from tests.builds.channel import HERE, OTHER, serving
from tests.builds.inspection import builder_process, environments, prefix, run

from modelport import errors
from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder


def failure(builder, wanted, report=lambda _: None):
    with pytest.raises(errors.ImageBuildFailure) as caught:
        builder.build(wanted, report)
    return caught.value.message


def solutions(builder):
    return sorted(builder._cache.glob("*.conda.yml"))


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty package cache."""
    monkeypatch.setenv("RATTLER_CACHE_DIR", str(tmp_path / "rattler"))
    return tmp_path / "rattler"


def test_an_environment_has_conda_packages_pip_packages_and_scoring(builder, main):
    lines = []
    wanted = main("click", "pyyaml", "tiny=1", pip=["idna==3.10"])
    built = builder.build(wanted, lines.append)
    said = run(
        built.python,
        "import sys, click, yaml, tiny, idna, six, modelport_scoring as m;"
        "print(sys.prefix, yaml.__with_libyaml__, tiny.__version__, idna.__version__, m.ANSWER)",
    )
    assert said == f"{prefix(built)} True 1.0 3.10 42"
    assert built.key == builder.key(wanted) == prefix(built).name
    assert built.warnings == builder.check(wanted) == ()
    assert any(line.startswith("Solved in") for line in lines)
    assert any("idna==3.10" in line for line in lines)
    assert (prefix(built).parent / f"{built.key}.log").read_text().splitlines() == lines


def test_the_real_scoring_server_runs_on_conda_s_python(tmp_path, main):
    built = PrefixBuilder(tmp_path / "cache").build(main("tiny"), print)
    said = run(built.python, "import modelport_scoring.server as s, granian, sys; print(s.__file__, sys.executable)")
    assert said.count(str(prefix(built))) == 2


def test_what_conda_installed_stays_as_it_is(builder, main):
    # `six` is needed by the stand-in for scoring, `click` by nobody: the one from the channel is new enough.
    lines = []
    built = builder.build(main("click", "markupsafe", pip=["click>=7", "MarkupSafe"]), lines.append)
    installers = {path.parent.name: path.read_text() for path in prefix(built).glob("lib/*/site-packages/*/INSTALLER")}
    assert {name.partition("-")[0]: by for name, by in installers.items()} == {
        "click": "conda",
        "markupsafe": "conda",
        "six": "uv",
    }
    assert not any("+ click" in line for line in lines)


def test_files_carry_the_prefix_in_which_they_are(builder, main):
    built = builder.build(main("where"), print)
    assert run(str(prefix(built) / "bin" / "where"), "") == str(prefix(built))
    assert (prefix(built) / "share" / "where.txt").read_text() == str(prefix(built))


def test_packages_for_every_python_are_compiled_ahead(builder, main):
    built = builder.build(main("tiny"), print)
    assert list(prefix(built).glob("lib/*/site-packages/__pycache__/tiny.*.pyc"))


def test_python_is_the_running_one_where_the_file_does_not_say(builder, main):
    built = builder.build(main("tiny", "pip"), print)
    assert run(built.python, "import sys; print('%d.%d' % sys.version_info[:2])") == HERE
    assert run(built.python, "import pip; print(pip.__version__)") == "99.0"


def test_a_file_that_asks_conda_for_python_alone_asks_no_channel(builder):
    wanted = Wanted(conda={"channels": ["http://127.0.0.1:9/nobody"], "dependencies": [f"python={HERE}", "pip=23.*"]})
    assert builder.build(wanted, print).key == builder.key(Wanted())


def test_tools_are_installed_beside_and_in_the_key(builder, main):
    wanted = evolve(main("tiny"), tools=("idna==3.10",))
    assert builder.key(wanted) != builder.key(main("tiny"))
    assert run(builder.build(wanted, print).python, "import idna; print(idna.__version__)") == "3.10"


def test_the_key_is_of_channels_in_order_and_packages_in_any(builder):
    def key(channels, packages, **rest):
        return builder.key(Wanted(conda={"channels": channels, "dependencies": packages, **rest}))

    one = key(["conda-forge", "bioconda"], ["numpy", "scipy=1"])
    assert key(["https://conda.anaconda.org/conda-forge/", "bioconda"], ["scipy=1", "numpy"], name="tides") == one
    assert key(["https://me:secret@conda.anaconda.org/t/tk-1/conda-forge", "bioconda"], ["scipy=1", "numpy"]) == one
    assert key(["bioconda", "conda-forge"], ["numpy", "scipy=1"]) != one
    assert key(["conda-forge", "bioconda"], ["numpy", "scipy=1.1"]) != one


def test_another_python_beside_conda_packages_is_checked_before_anything_starts(builder, main, tmp_path):
    with pytest.raises(errors.ValidationException, match=r"runs on Python 3\.9 to 3\.13"):
        builder.check(main("tiny", "python=2.7"))
    assert not (tmp_path / "cache").exists()


def test_a_channel_before_a_package_is_where_it_comes_from(builder, main, channels):
    extra = channels.joinpath("extra").as_uri()
    built = builder.build(main("tiny", f"{extra}::elsewhere"), print)
    assert run(built.python, "import tiny, elsewhere; print(tiny.__version__)") == "2.0"
    other = builder.build(main(f"{extra}::tiny"), print)
    assert run(other.python, "import tiny; print(tiny.__version__)") == "9.0"


def test_the_first_channel_that_has_a_package_is_the_one(builder, channels):
    order = [channels.joinpath(name).as_uri() for name in ("extra", "main")]
    built = builder.build(Wanted(conda={"channels": order, "dependencies": ["tiny"]}), print)
    assert run(built.python, "import tiny; print(tiny.__version__)") == "9.0"


def test_names_of_channels_are_looked_up_where_the_user_says(builder, channels, monkeypatch):
    with serving(channels) as served:
        monkeypatch.setenv("CONDA_CHANNEL_ALIAS", served.url)
        wanted = Wanted(conda={"channels": ["main"], "dependencies": ["flavour", "extra::elsewhere"]})
        built = builder.build(wanted, print)
    assert run(built.python, "import elsewhere; print(elsewhere.__version__)") == "1.0"
    assert any(path.startswith("/extra/") for path in served.requests)


# The package cache and the lock


def test_a_package_is_downloaded_once_for_all_environments(builder, channels, main, fresh):
    with serving(channels) as served:
        one = builder.build(main("tiny=1", of=f"{served.url}/main"), print)
        two = builder.build(main("tiny=1", "dated", of=f"{served.url}/main"), print)
    downloads = [path for path in served.requests if path.endswith(".bz2") and "repodata" not in path]
    assert sorted(Path(path).name.partition("-")[0] for path in downloads) == ["dated", "python", "tiny"]
    libraries = [next(prefix(each).glob("lib/python3.*/os.py")) for each in (one, two)]
    assert libraries[0].read_bytes() == libraries[1].read_bytes()


def test_what_was_solved_once_is_not_solved_again(builder, channels, main, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(channels / "main", mine, copy_function=os.link)
    first = builder.build(main("tiny", of=mine.as_uri()), print)
    (lock,) = solutions(builder)
    assert "tiny-2.0-0.tar.bz2" in lock.read_text()

    channel.add_python_module(mine, "tiny", "3.0")
    (mine / "noarch" / "repodata.json").unlink()  # a link, which index() would write through
    channel.index(mine)
    lines = []
    other = builder.build(main("tiny", of=mine.as_uri(), pip=["idna==3.10"]), lines.append)
    assert any(line.startswith("Found a lock with") for line in lines)
    assert other.key != first.key
    assert run(other.python, "import tiny; print(tiny.__version__)") == "2.0"

    assert set(builder.prune(keep=(), max_bytes=None)) == {first.key, other.key}
    assert solutions(builder) == []
    again = builder.build(main("tiny", of=mine.as_uri()), print)
    assert run(again.python, "import tiny; print(tiny.__version__)") == "3.0"


def test_a_lock_that_the_channel_cannot_meet_any_more_is_solved_again(builder, channels, main, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    shutil.copytree(channels / "main", mine, copy_function=os.link)
    with serving(tmp_path) as served:
        builder.build(main("tiny", of=f"{served.url}/mine"), print)
        (mine / "noarch" / "repodata.json").unlink()
        (mine / "noarch" / "tiny-2.0-0.tar.bz2").unlink()
        channel.index(mine)
        monkeypatch.setenv("RATTLER_CACHE_DIR", str(tmp_path / "rattler"))
        lines = []
        built = builder.build(main("tiny", of=f"{served.url}/mine", pip=["idna==3.10"]), lines.append)
    assert "Solving again." in lines
    assert run(built.python, "import tiny; print(tiny.__version__)") == "1.0"


def test_what_a_failed_build_has_solved_goes_with_everything(builder, main):
    failure(builder, main("tiny", pip=["idna==999"]))
    assert len(solutions(builder)) == 1
    assert builder.prune(keep=(), max_bytes=10**12) == []
    assert len(solutions(builder)) == 1
    assert builder.prune(keep=(), max_bytes=None) == []
    assert solutions(builder) == []


def test_a_solution_stays_while_an_environment_is_of_it(builder, main):
    kept = builder.build(main("tiny"), print)
    gone = builder.build(main("tiny", pip=["idna==3.10"]), print)
    other = builder.build(main("dated"), print)
    assert len(solutions(builder)) == 2
    assert set(builder.prune(keep={kept.key}, max_bytes=0)) == {gone.key, other.key}
    assert len(solutions(builder)) == 1
    assert builder.environments()[0].solution == solutions(builder)[0].name.partition(".")[0]


def test_offline_builds_from_the_lock_and_the_caches(builder, channels, main, scoring, fresh, monkeypatch):
    with serving(channels) as served:
        wanted = main("tiny", of=f"{served.url}/main")
        built = builder.build(wanted, print)
    shutil.rmtree(prefix(built))
    monkeypatch.setenv("MODELPORT_OFFLINE", "1")
    assert PrefixBuilder(builder._cache, scoring=scoring).build(wanted, print) == built
    assert run(built.python, "import tiny; print(tiny.__version__)") == "2.0"


def test_offline_solves_from_what_the_channel_said_last(builder, channels, main, scoring, fresh):
    with serving(channels) as served:
        builder.build(main("tiny", "dated", of=f"{served.url}/main"), print)
    offline = PrefixBuilder(builder._cache, scoring=scoring, offline=True)
    built = offline.build(main("dated", of=f"{served.url}/main"), print)
    assert (prefix(built) / "share" / "dated.txt").exists()
    message = failure(offline, main("flavour", "tiny=1", of=f"{served.url}/main"))
    assert "the conda packages 'flavour-1.0-rich_0.tar.bz2' and 'tiny-1.0-0.tar.bz2' are not in the package" in message
    assert "and the network is off. Build once with the network on." in message


def test_offline_names_a_channel_that_was_never_asked(tmp_path, scoring, main, fresh):
    offline = PrefixBuilder(tmp_path / "cache", scoring=scoring, offline=True)
    message = failure(offline, main("tiny", of="https://example.com/main"))
    assert "channel https://example.com/main is not in the cache, and the network is off" in message


# Credentials


def test_a_user_and_password_are_used_and_never_shown(builder, channels, main, fresh):
    lines = []
    with serving(channels, password="me:pa55 word") as served:
        url = served.url.replace("://", "://me:pa55%20word@")
        built = builder.build(main("tiny", of=f"{url}/main"), lines.append)
    assert any("***@127.0.0.1" in line for line in lines)
    assert_hidden(builder, built, lines, "pa55")


def test_a_token_is_used_and_never_shown(builder, channels, main, fresh):
    lines = []
    with serving(channels, token="tk-5ecret") as served:
        built = builder.build(main(f"{served.url}/t/tk-5ecret/main::tiny", of=f"{served.url}/t/tk-5ecret/main"),
                              lines.append)  # fmt: skip
    assert any("/t/***/main" in line for line in lines)
    assert_hidden(builder, built, lines, "tk-5ecret")


def assert_hidden(builder, built, lines, secret):
    """A secret is in no message and in no file, neither of the environment nor beside it."""
    assert not any(secret in line for line in lines)
    files = [path for path in builder._cache.rglob("*") if path.is_file() and path.suffix in ("", ".json", ".yml",
             ".log", ".txt", ".lock")]  # fmt: skip
    assert {path.name for path in files} >= {f"{built.key}.log", "modelport.json", solutions(builder)[0].name}
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert secret not in json.dumps([each.asked for each in builder.environments()])


@pytest.mark.parametrize(
    ("wants", "said", "words"),
    [
        ({"password": "me:secret"}, "http://{host}", "it wants a user and a password, or a token, in its URL"),
        ({"password": "me:secret"}, "http://me:wr0ng@{host}", "refused the request (401): the password or the token"),
        ({"token": "tk-1"}, "http://{host}/t/tk-wr0ng", "refused the request (403): the password or the token"),
    ],
)
def test_a_channel_that_refuses_is_named_without_its_secret(builder, channels, main, wants, said, words, fresh):
    with serving(channels, **wants) as served:
        message = failure(builder, main("tiny", of=f"{said.format(host=served.host)}/main"))
    assert words in message
    assert served.host in message
    assert "wr0ng" not in message


# Failures


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        (["dated", "tiny=7"], "'tiny=7' (dependencies[1]) cannot be had: "),
        (["nobody-has-this"], "has no such package, or not in such a version. Check its name and version"),
        (["dated", "lacks-one"], "'lacks-one' (dependencies[1]) cannot be had: something that it needs is in no"),
        (
            ["old-needs", "dated", "new-needs"],
            "'old-needs' and 'new-needs' (dependencies[0], dependencies[2]) exclude each other. Relax one of them.",
        ),
        (["tiny>=2", "old-needs"], "'tiny>=2' and 'old-needs' (dependencies[0], dependencies[1]) exclude each other"),
        (["for-another"], "'for-another' (dependencies[0]) cannot be had"),
        ([f"python={OTHER}", "tiny"], f"'python={OTHER}' (dependencies[0]) cannot be had"),
        (["tiny", "python=3.8.*=*_cpython"], "'python=3.8.*=*_cpython' (dependencies[1]) cannot be had"),
        (["tiny=1=nothing_0"], "'tiny=1=nothing_0' (dependencies[0]) cannot be had"),
        (["https://example.com/no::tiny"], "channel https://example.com/no could not be reached"),
    ],
)
def test_what_cannot_be_solved_names_the_line(builder, main, packages, words, monkeypatch):
    if "example.com" in packages[0]:
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody is asked
    told = []
    message = failure(builder, main(*packages), told.append)
    assert message.startswith("Environment could not be built: ")
    assert words in message
    assert "The builder's last lines:" in message
    assert told[-1] in message
    assert environments(builder) == []


def test_a_clash_of_the_pip_section_with_conda_is_named(builder, main):
    message = failure(builder, main("tiny=1", pip=["tiny==5"]))
    assert "requirement 'tiny==5' clashes with 'tiny==1.0', which conda installs" in message


def test_a_clash_of_scoring_with_conda_is_named(builder, main, scoring):
    (scoring / "requirements.txt").write_text("tiny>=5\n")
    message = failure(builder, main("tiny=1"))
    assert "'tiny>=5', which the scoring server needs, clashes with 'tiny==1.0', which conda installs" in message


def test_a_channel_that_does_not_answer_is_named(builder, main):
    message = failure(builder, main("tiny", of="http://me:secret@127.0.0.1:9/main"))
    assert "channel http://***@127.0.0.1:9/main could not be reached. Check the network" in message
    assert "secret" not in message


def test_a_folder_that_is_no_channel_is_named(builder, main, tmp_path):
    message = failure(builder, main("tiny", of=(tmp_path / "nothing").as_uri()))
    assert "was not found: there is no conda channel" in message


# Ends


def test_what_its_caller_breaks_off_leaves_nothing(builder, main):
    class BrokenOff(Exception):  # noqa: N818 - it is no error
        pass

    def break_off(line):
        if line.startswith("Installing"):
            raise BrokenOff

    with pytest.raises(BrokenOff):
        builder.build(main("tiny"), break_off)
    assert environments(builder) == []
    assert builder._children.pids == set()


def test_closing_ends_a_build_that_waits_for_a_channel(builder, channels, main, fresh):
    with serving(channels, hold="tiny-2.0-0.tar.bz2") as served, ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build, main("tiny", of=f"{served.url}/main"), print)
        assert served.held.wait(30)
        builder.close()
        with pytest.raises(errors.ImageBuildFailure, match="could not be installed"):
            building.result(timeout=30)
    assert environments(builder) == []


def test_a_killed_build_is_done_again_once_rattler_has_ended(builder, channels, main, fresh, until):
    with serving(channels, hold="tiny-2.0-0.tar.bz2") as served:
        wanted = main("tiny", of=f"{served.url}/main")
        with builder_process(builder, wanted) as process:
            try:
                assert served.held.wait(30)
            finally:
                process.send_signal(signal.SIGKILL)
        assert not builder.has(builder.key(wanted))

        told = []
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(builder.build, wanted, told.append)
            until(lambda: told)
            assert told == ["Waiting for another build of this environment."]
            served.go.set()
            built = again.result(timeout=60)
    assert any(line.startswith("Creating") for line in told)
    assert run(built.python, "import tiny, six") == ""


def test_two_processes_build_once(builder, main):
    processes = [builder_process(builder, main("tiny", "dated")) for _ in range(2)]
    told = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [lines[-1] for lines in told] == ["done", "done"]
    assert sum(line.startswith("Creating") for lines in told for line in lines) == 1


def test_two_environments_are_made_side_by_side(builder, main, fresh):
    started = threading.Barrier(2, timeout=30)

    def build(package):
        return builder.build(main("tiny", package), lambda line: line.startswith("Creating") and started.wait())

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(build, ["dated", "flavour"])
    assert one.key != two.key
    assert all(run(each.python, "import tiny") == "" for each in (one, two))
