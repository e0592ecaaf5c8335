import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport import errors
from modelport.builds.base import Built, Wanted
from modelport.builds.image import ImageBuilder

SERVE = ["-m", "modelport_scoring", "--host", "0.0.0.0", "--entry_script", "score.py"]


def asks(*pip, packages=(), **values):
    """An environment from a conda file on the base image."""
    values.setdefault("image", "modelport-test/base:bookworm")
    return Wanted(conda={"channels": ["conda-forge"], "dependencies": [*packages, {"pip": list(pip)}]}, **values)


def post(container, path, body, until):
    """The answer of a container that serves."""

    def answer():
        container.reload()
        assert container.status == "running", container.logs().decode()
        address = container.attrs["NetworkSettings"]["IPAddress"]
        try:
            with urllib.request.urlopen(f"http://{address}:5001{path}", json.dumps(body).encode(), timeout=5) as got:
                return got.read().decode()
        except OSError:
            return None

    return until(answer, 60)


@pytest.fixture(scope="module")
def small_scoring(tmp_path_factory):
    """A stand-in for the scoring package, for tests in which nothing is served."""
    folder = tmp_path_factory.mktemp("scoring") / "modelport_scoring"
    folder.mkdir()
    (folder / "__init__.py").write_text("ANSWER = 42\n")
    (folder / "requirements.txt").write_text("# Why it is needed.\nsix>=1.16\n")
    return folder


@pytest.fixture(scope="module")
def builder(bench, small_scoring):
    return bench.builder(small_scoring)


@pytest.fixture(scope="module")
def built(bench, builder):
    """What most tests look at: an environment with `six==1.16.0`."""
    return bench.build(builder, asks("six==1.16.0", packages=["python=3.11"]))[0]


@pytest.fixture
def until():
    def wait(condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition did not come about"
            time.sleep(0.01)
        return found

    return wait


def test_a_script_is_served_by_anybody_with_nothing_to_write_to(bench, tmp_path, until):
    (tmp_path / "score.py").write_text(
        "import tabulate\n\ndef init():\n    pass\n\ndef run(raw):\n    return tabulate.tabulate([[raw]])\n"
    )
    tmp_path.chmod(0o755)
    built, _ = bench.build(bench.builder(), asks("tabulate==0.9.0"))
    container = bench.container(
        built.image,
        [built.python, *SERVE],
        environment={"AML_APP_ROOT": "/code"},
        volumes={str(tmp_path): {"bind": "/code", "mode": "ro"}},
    )
    assert "tides" in post(container, "/score", "tides", until)
    assert built.python == "/opt/modelport/env/bin/python"


def test_what_is_built_is_noted_and_labelled(bench, builder, built):
    labels = bench.engine.images.get(built.image).labels
    assert labels["modelport.kind"] == "image"
    assert labels["modelport.key"] == built.key == builder.key(asks("six==1.16.0", packages=["python=3.11"]))
    assert builder._records.image_name("env", built.key) in bench.engine.images.get(built.image).tags
    assert builder.has(built.key)
    assert not builder.has("0" * 20)
    assert "+ six==1.16.0" in builder._records.log(built.key).read_text()
    assert bench.builds(builder) == []


def test_the_image_has_what_was_asked_for_and_scoring_compiled_ahead(bench, built):
    code = (
        "import modelport_scoring as m, six, pathlib; "
        "print(m.ANSWER, six.__version__, len(list(pathlib.Path(m.__file__).parent.glob('__pycache__/*.pyc'))))"
    )
    assert bench.run(built.image, built.python, code) == "42 1.16.0 1"


def test_the_second_build_does_nothing(bench, builder, built):
    again, lines = bench.build(builder, asks("six==1.16.0", packages=["python=3.11"]))
    assert (again, lines) == (built, [])


def test_another_scoring_server_stands_on_the_same_environment(bench, builder, built, small_scoring, tmp_path):
    changed = shutil.copytree(small_scoring, tmp_path / "modelport_scoring")
    (changed / "__init__.py").write_text("ANSWER = 43\n")
    other = bench.builder(changed, cache=builder._records.folder)
    again, lines = bench.build(other, asks("six==1.16.0", packages=["python=3.11"]))
    assert lines == ["Adding the scoring server."]
    assert again.key != built.key
    assert bench.engine.images.get(again.image).attrs["Parent"] == bench.engine.images.get(built.image).attrs["Parent"]
    assert bench.run(again.image, again.python, "import modelport_scoring as m; print(m.ANSWER)") == "43"


def test_two_homes_with_one_key_keep_the_names_of_their_images(bench, builder, built, small_scoring):
    other = bench.builder(small_scoring)
    again, _ = bench.build(other, asks("six==1.16.0", packages=["python=3.11"]))
    assert again.key == built.key
    names = [bench.engine.images.get(each.image).tags for each in (built, again)]
    assert names == [[each._records.image_name("env", built.key)] for each in (builder, other)]


def test_two_who_ask_at_once_get_one_build(bench, small_scoring):
    builder, heard = bench.builder(small_scoring), [[], []]
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda lines: bench.build(builder, asks("six==1.16.0"), lines)[0], heard)
    assert one == two
    assert sorted("Adding the scoring server." in lines for lines in heard) == [False, True]
    assert any("Waiting for another build" in line for lines in heard for line in lines)


def test_the_requirement_at_fault_is_named_and_nothing_is_left(bench, builder, monkeypatch):
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    before = bench.images(builder)
    index = "--extra-index-url https://me:secret@127.0.0.1:9/simple"
    message = bench.failure(builder, asks("six==99"))
    assert "requirement 'six==99' was not found" in message
    assert "The builder's last lines:" in message
    assert "secret" not in bench.failure(builder, asks(index, "six==99"))
    assert bench.builds(builder) == []
    assert bench.images(builder) == before


def test_a_clash_with_what_scoring_needs_is_named(bench, builder):
    assert "'six==1.10' clashes with 'six>=1.16'" in bench.failure(builder, asks("six==1.10"))


def test_tools_are_installed_beside(bench, builder):
    built, _ = bench.build(builder, asks("six==1.16.0", tools=("iniconfig==2.0.0",)))
    assert bench.run(built.image, built.python, "import iniconfig, six; print(six.__version__)") == "1.16.0"


def test_what_is_in_the_volume_is_enough_without_the_network(bench, built, small_scoring):
    offline = bench.builder(small_scoring, offline=True)
    again, _ = bench.build(offline, asks("six<1.17"))
    assert bench.run(again.image, again.python, "import six; print(six.__version__)") == "1.16.0"
    assert "the network is off" in bench.failure(offline, asks("six<1.17", "tabulate==0.8.10"))
    assert "the network is off" in bench.failure(offline, Wanted(image="modelport-test/nowhere:1"))


def test_an_image_without_a_conda_file_shows_its_own_packages(bench, builder):
    image = bench.image("FROM BASE\nRUN pip install --quiet six==1.16.0 tabulate==0.9.0\n")
    built, _ = bench.build(builder, Wanted(image=image))
    code = "import modelport_scoring, six, tabulate; print(six.__version__, tabulate.__version__)"
    assert bench.run(built.image, built.python, code) == "1.16.0 0.9.0"


def test_the_packages_of_an_images_virtual_environment_are_seen(bench, builder):
    image = bench.image(
        "FROM BASE\nRUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --quiet tabulate==0.9.0\n"
        "ENV PATH=/opt/venv/bin:$PATH\n"
    )
    built, _ = bench.build(builder, Wanted(image=image))
    code = "import modelport_scoring, tabulate; print(tabulate.__version__)"
    assert bench.run(built.image, built.python, code) == "0.9.0"


def test_where_uv_cannot_run_the_images_pip_does(bench, builder):
    image = bench.image("FROM BASE\nENV UV_NO_CACHE=perhaps\nUSER nobody\n")
    built, lines = bench.build(builder, asks("six==1.16.0", image=image))
    assert any(line.startswith("Successfully installed") for line in lines)
    assert bench.run(built.image, built.python, "import modelport_scoring, six; print(six.__version__)") == "1.16.0"
    assert "requirement 'tabulate==99' was not found" in bench.failure(builder, asks("tabulate==99", image=image))
    assert "requirements six==1.10 and six>=1.16 exclude" in bench.failure(builder, asks("six==1.10", image=image))


def test_another_python_than_the_images_is_refused_with_both_named(bench, builder):
    message = bench.failure(builder, asks(packages=["python=3.10"]))
    assert "asks for python=3.10, and image 'modelport-test/base:bookworm' has Python 3.11" in message


def test_conda_packages_without_a_conda_are_refused(bench, builder):
    message = bench.failure(builder, asks(packages=["python=3.11", "libhdf5=1.14"]))
    assert "asks for libhdf5=1.14, and image 'modelport-test/base:bookworm' has no conda" in message


def test_an_image_without_python_is_refused(bench, builder):
    image = bench.image("FROM BASE\nRUN rm -f /usr/bin/python3*\n")
    assert "has no Python that the scoring server could run on" in bench.failure(builder, Wanted(image=image))


def test_an_image_without_a_shell_serves_by_itself_or_not_at_all(bench, builder):
    image = bench.empty_image()
    assert "has no `sh`" in bench.failure(builder, Wanted(image=image))
    built, lines = bench.build(builder, Wanted(image=image, own_server=True))
    assert (built.image, built.python, lines) == (image, "", [])
    assert builder.has(built.key)


def test_a_shell_that_was_killed_is_no_reason_to_call_an_image_one_without_a_shell(bench, builder):
    killed = r"printf '#!/usr/bin/perl\nexit 137;\n' > /usr/local/bin/sh && chmod +x /usr/local/bin/sh"
    image = bench.image(f"FROM BASE\nRUN {killed}\n")
    message = bench.failure(builder, Wanted(image=image))
    assert message.startswith(f"Image '{image}' could not be looked into: its `sh` ended with status 137.")
    assert builder._records.note(f"about-{image.rpartition(':')[2][:20]}") is None, "so that the next build asks again"


def test_an_image_for_another_processor_is_refused(bench, builder):
    # The header of a program for mainframes.
    header = "\x7fELF\x02\x01\x01" + "\0" * 9 + "\x02\0\x16\0\x01" + "\0" * 43
    shell = "FROM BASE\nCOPY header /tmp/sh\nRUN chmod 755 /tmp/sh && mv /tmp/sh /usr/bin/dash\n"
    image = bench.image(shell, header=header)
    assert "is for another processor" in bench.failure(builder, Wanted(image=image))


def test_the_images_own_conda_makes_what_the_file_asks_for(bench, builder):
    micromamba = (
        "#!/bin/sh\n"
        'echo "micromamba $@"\n'
        'grep -q nowhere "$5" && { echo "error    libmamba nothing provides nowhere"; exit 1; }\n'
        'python3 -m venv --without-pip "$3" && cp "$5" "$3/asked"\n'
    )
    image = bench.image(
        "FROM BASE\nCOPY micromamba /usr/local/bin/\nRUN chmod 755 /usr/local/bin/micromamba\n", micromamba=micromamba
    )
    built, lines = bench.build(builder, asks("six==1.16.0", packages=["python=3.11", "libhdf5=1.14"], image=image))
    assert any(line.startswith("micromamba create -p /opt/modelport/env -f ") for line in lines)
    code = "import modelport_scoring, six; print(open('/opt/modelport/env/asked').read())"
    assert json.loads(bench.run(built.image, built.python, code)) == {
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "libhdf5=1.14"],
    }
    message = bench.failure(builder, asks(packages=["nowhere=1"], image=image))
    assert "'nowhere=1' was not found by /usr/local/bin/micromamba" in message


class Prefixes:
    """Makes, as a builder of conda prefixes does, folders that must stay where they are. These want Debian's Python."""

    def __init__(self, folder, scoring):
        self._prefix, self._scoring = folder / "prefix", scoring

    def build(self, wanted, report):
        report("Making a prefix.")
        packages = self._prefix / "lib/python3.11/site-packages"
        packages.mkdir(parents=True)
        (self._prefix / "bin").mkdir()
        (self._prefix / "bin/python").symlink_to("/usr/bin/python3.11")
        (self._prefix / "pyvenv.cfg").write_text("home = /usr/bin\n")
        shutil.copytree(self._scoring, packages / "modelport_scoring")
        (packages / "from_conda.py").write_text(f"PREFIX = {str(self._prefix)!r}\n")
        self._prefix.chmod(0o700)
        return Built(key="a prefix", python=str(self._prefix / "bin/python"))

    def close(self):
        pass


def test_a_prefix_from_outside_is_put_in_the_same_place(bench, small_scoring, tmp_path):
    builder = bench.builder(small_scoring, prefixes=Prefixes(tmp_path, small_scoring))
    built, _ = bench.build(builder, asks(packages=["python=3.11", "libhdf5=1.14"]))
    assert built.python == str(tmp_path / "prefix/bin/python")
    code = "import from_conda, modelport_scoring as m; print(from_conda.PREFIX, m.ANSWER)"
    assert bench.run(built.image, built.python, code, tmpfs={}) == f"{tmp_path}/prefix 42"
    assert builder.has(built.key)


def test_azures_server_serves_where_it_is_asked_for(bench, builder, tmp_path, until):
    (tmp_path / "main.py").write_text("def init():\n    pass\n\ndef run(raw):\n    return 'azure'\n")
    tmp_path.chmod(0o755)
    made, _ = bench.build(builder, asks("azureml-inference-server-http", azure_server=True))
    container = bench.container(
        made.image,
        [made.python, "-m", "azureml_inference_server_http.amlserver", "--entry_script", "/code/main.py"],
        volumes={str(tmp_path): {"bind": "/code", "mode": "ro"}},
    )
    assert post(container, "/score", "tides", until) == '"azure"'
    # An image that has it, as Azure's do, is taken as it is.
    (name,) = bench.engine.images.get(made.image).tags
    context = bench.context(f"FROM {name}\nENV AZUREML_CONDA_ENVIRONMENT_PATH=/opt/modelport/env\n")
    built, lines = bench.build(builder, Wanted(context=context, azure_server=True))
    assert built.python == "/opt/modelport/env/bin/python"
    assert bench.engine.images.get(built.image).tags[0].startswith("modelport/context:")
    assert not any("Creating" in line for line in lines)
    assert builder.has(built.key)


def test_azures_server_must_be_there(bench, builder):
    message = bench.failure(builder, Wanted(image=bench.base, azure_server=True))
    assert "has Python 3.11.2, without azureml-inference-server-http" in message
    assert "has no azureml-inference-server-http" in bench.failure(builder, asks("six==1.16.0", azure_server=True))


def test_a_dockerfile_is_built_and_scoring_added(bench, builder):
    context = bench.context(
        "FROM BASE\nCOPY greeting.txt /\n", **{"greeting.txt": "ahoy", ".dockerignore": "*.tmp", "x.tmp": "1"}
    )
    built, lines = bench.build(builder, Wanted(context=context))
    assert any(line.endswith(": COPY greeting.txt /") for line in lines)
    code = "import modelport_scoring; print(open('/greeting.txt').read())"
    assert bench.run(built.image, built.python, code) == "ahoy"
    (context / "x.tmp").write_text("2")
    assert bench.build(builder, Wanted(context=context)) == (built, [])
    assert builder.key(Wanted(context=context)) == built.key
    (context / "greeting.txt").write_text("farewell")
    assert builder.key(Wanted(context=context)) != built.key


def test_a_dockerfile_that_brings_its_server_is_taken_as_it_is(bench, builder):
    context = bench.context("FROM BASE\nENV WHO=tides\n")
    built, _ = bench.build(builder, Wanted(context=context, own_server=True))
    assert built.python == ""
    assert "WHO=tides" in bench.engine.images.get(built.image).attrs["Config"]["Env"]


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        (
            "FROM BASE\n# Why.\n\nRUN echo no \\\n  && exit 3\n",
            "Dockerfile line 4, `RUN echo no && exit 3`: the command ended with status 3.",
        ),
        ("FROM BASE\nRUNN true\n", "Dockerfile line 2, `RUNN true`: unknown instruction: RUNN."),
        ("FROM BASE\nCOPY nope.txt /\n", "Dockerfile line 2, `COPY nope.txt /`: 'nope.txt' is not in the folder"),
        ("FROM modelport-test/nowhere:1\n", "line 1, `FROM modelport-test/nowhere:1`: the image 'modelport-test/nowh"),
        ("RUN true\n", "Dockerfile: no build stage in current context."),
        ("FROM BASE\nRUN --mount=type=cache,target=/x true\n", "only BuildKit knows this. Install Docker's buildx"),
    ],
)
def test_the_line_of_the_dockerfile_at_fault_is_named(bench, builder, dockerfile, words):
    assert words in bench.failure(builder, Wanted(context=bench.context(dockerfile)))


def command(folder, script):
    """Put a command `docker` first on PATH."""
    folder.mkdir()
    (folder / "docker").write_text(f"#!/bin/sh\n{script}")
    (folder / "docker").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_buildx_builds_where_it_is_installed(bench, builder, tmp_path, monkeypatch):
    # Buildx itself cannot be had everywhere: its arguments are the classic command's, but for two.
    classic = shutil.which("docker")
    if classic is None:
        pytest.skip("the command `docker` is not there")
    script = f"""
    [ "$1 $2" = "buildx version" ] && exit 0
    [ "$1 $2 $3 $4 $5" = "buildx build --load --progress plain" ] || exit 1
    shift 5
    DOCKER_BUILDKIT=0 exec {classic} build "$@" 2>&1
    """
    monkeypatch.setenv("PATH", command(tmp_path / "bin", script))
    context = bench.context("FROM BASE\nENV WHO=buildx\n")
    built, lines = bench.build(builder, Wanted(context=context, own_server=True))
    assert "WHO=buildx" in bench.engine.images.get(built.image).attrs["Config"]["Env"]
    assert any("Successfully tagged" in line for line in lines)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3',
            "Dockerfile line 3, `COPY nope.txt /`: the command ended with status 3.",
        ),
        (
            'failed to compute cache key: failed to calculate checksum of ref a::b: "/nope.txt": not found',
            "Dockerfile line 3, `COPY nope.txt /`: 'nope.txt' is not in the folder",
        ),
        (
            "dockerfile parse error on line 2: unknown instruction: RUNN",
            "Dockerfile line 2, `RUN exit 3`: unknown instruction: RUNN.",
        ),
    ],
)
def test_what_buildx_says_is_told_with_the_line(bench, builder, tmp_path, monkeypatch, said, words):
    ruler = "-" * 20
    (tmp_path / "said").write_text(f"Dockerfile:3\n{ruler}\n   3 | >>> …\n{ruler}\nERROR: failed to solve: {said}\n")
    script = f'[ "$2" = version ] && exit 0\ncat {tmp_path}/said\nexit 1\n'
    monkeypatch.setenv("PATH", command(tmp_path / "bin", script))
    context = bench.context("FROM x\nRUN exit 3\nCOPY nope.txt /\n")
    assert words in bench.failure(builder, Wanted(context=context))


def test_an_image_that_is_not_to_be_had_is_one_sentence(bench, builder):
    message = bench.failure(builder, Wanted(image="modelport-test/nowhere:1"))
    assert message.startswith("Image 'modelport-test/nowhere:1' could not be pulled: ")
    assert "docker login" in message
    assert "\n" not in message


def test_a_listener_that_raises_ends_the_build(bench, builder):
    def listen(line):
        if "Creating" in line or "sleep" in line:
            raise errors.OperationCanceled("enough")

    for wanted in (asks("six<1.16.1"), Wanted(context=bench.context("FROM BASE\nRUN sleep 60\n"))):
        with pytest.raises(errors.OperationCanceled, match="enough"):
            builder.build(wanted, listen)
    assert bench.builds(builder) == []


@pytest.mark.parametrize("end", ["kill", "remove"])
def test_a_container_that_is_ended_while_it_is_filled_is_not_blamed_on_the_image(bench, builder, end):
    def listen(line):
        if "Creating" in line:
            (container,) = bench.builds(builder)
            container.remove(force=True) if end == "remove" else container.kill()

    with pytest.raises(errors.ImageBuildFailure, match="the container in which it was made was ended, by somebody"):
        builder.build(asks("six<1.16.3"), listen)
    assert bench.builds(builder) == []


@pytest.mark.parametrize("at", ["Creating", "Running in"])
def test_closing_ends_what_runs(bench, small_scoring, at):
    builder = bench.builder(small_scoring)
    context = bench.context("FROM BASE\nRUN sleep 60\n")
    threads = []

    def listen(line):
        if at in line:
            threads.append(threading.Thread(target=builder.close))
            threads[-1].start()

    wanted = asks("six<1.16.1") if at == "Creating" else Wanted(context=context)
    began = time.monotonic()
    with pytest.raises(errors.ImageBuildFailure, match="given up, since Modelport ends"):
        builder.build(wanted, listen)
    threads[0].join()
    assert time.monotonic() - began < 20
    assert bench.builds(builder) == []
    with pytest.raises(errors.ImageBuildFailure, match="given up"):
        builder.build(asks("six<1.16.2"), lambda _: None)


def test_what_a_killed_build_left_is_removed_by_the_next(bench, small_scoring):
    builder = bench.builder(small_scoring)

    def killed():
        code = (
            "import pathlib, sys\n"
            "from modelport.builds.base import Wanted\n"
            "from modelport.builds.image import ImageBuilder\n"
            "cache, scoring, packages, image = sys.argv[1:]\n"
            "builder = ImageBuilder(pathlib.Path(cache), scoring=pathlib.Path(scoring), packages=packages)\n"
            "wanted = Wanted(image=image, conda={'dependencies': [{'pip': ['six<1.16.1']}]})\n"
            "builder.build(wanted, lambda line: print(line, flush=True))\n"
        )
        arguments = [builder._records.folder, small_scoring, bench.packages, bench.base]
        with subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            next(line for line in process.stdout if "Creating" in line)
            os.kill(process.pid, signal.SIGKILL)

    killed()
    assert len(bench.builds(builder)) == 1
    builder.prune([], 10**12)
    assert bench.builds(builder) == []
    killed()
    built, _ = bench.build(builder, Wanted(image=bench.base, conda={"dependencies": [{"pip": ["six<1.16.1"]}]}))
    assert bench.builds(builder) == []
    assert builder.has(built.key)


def test_pruning_removes_the_longest_unused_and_nothing_of_others(bench, small_scoring, builder, built):
    mine = bench.builder(small_scoring)
    old, _ = bench.build(mine, asks("six==1.16.0"))
    new, _ = bench.build(mine, asks("six<1.16.1"))
    base, _ = bench.build(mine, Wanted(image=bench.base, own_server=True))
    bench.build(mine, asks("six==1.16.0"))  # used again
    sizes = {key: record.size_bytes for key, record in mine._records.all().items()}
    assert mine.prune([], sum(sizes.values())) == []
    assert mine.prune([], sum(sizes.values()) - 1) == [new.key]
    container = bench.container(old.image, ["sleep", "60"])
    mine.prune([], None)
    assert mine.has(old.key)
    container.remove(force=True)
    kept = {old.key, *mine._records.all()}
    assert kept.isdisjoint(mine.prune([old.key], None)), "others' homes that are gone may have left something"
    assert set(mine._records.all()) == kept
    assert old.key in mine.prune([], None)
    assert bench.images(mine) == set()
    assert not mine.has(base.key)
    assert builder.has(built.key)
    assert bench.engine.images.get(bench.base)


def test_the_steps_of_a_dockerfile_are_pruned_with_its_image(bench, small_scoring):
    builder = bench.builder(small_scoring)
    context = bench.context(f"FROM BASE\nENV WHO={bench.packages}\n")
    built, lines = bench.build(builder, Wanted(context=context, own_server=True))
    step = lines[lines.index(next(line for line in lines if line.startswith("Removing intermediate"))) + 1]
    assert builder._shelf.image(step.removeprefix(" ---> "))
    assert built.key in builder.prune([], None)
    assert builder._shelf.image(step.removeprefix(" ---> ")) is None
    assert bench.engine.images.get(bench.base)


def test_what_was_made_for_a_folder_that_is_gone_is_pruned(bench, small_scoring, builder, until):
    gone, context = bench.builder(small_scoring), bench.context(f"FROM BASE\nENV WHO={uuid.uuid4()}\n")
    bench.build(gone, Wanted(context=context))
    made = bench.images(gone)
    others, _ = bench.build(builder, Wanted(context=context, own_server=True))
    # What somebody makes from an image of ours has its labels too.
    users = bench.image(f"FROM BASE\nLABEL modelport.kind=image modelport.folder={gone._records.folder}\n")
    left = bench.engine.containers.create(bench.base, ["true"], labels=gone._build_labels("0"))
    shutil.rmtree(gone._records.folder)
    bench.builder(small_scoring).prune([], None)
    assert made
    until(lambda: not any(map(gone._shelf.image, made)))  # another's prune may be at it, too
    assert builder.has(others.key), "which is of the same context, and of another folder"
    assert bench.engine.images.get(users)
    until(lambda: left.id not in [each.id for each in bench.engine.containers.list(all=True)])


def test_what_cannot_be_is_said_without_an_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    builder = ImageBuilder(tmp_path / "cache")
    with pytest.raises(errors.ValidationException, match="no file 'Dockerfile'"):
        builder.check(Wanted(context=tmp_path))
    with pytest.raises(errors.ValidationException, match="names no image to start from"):
        builder.check(Wanted(own_server=True))
    with pytest.raises(errors.ValidationException) as caught:
        builder.check(asks("six==", packages=["libhdf5", "python=3.11"]))
    assert caught.value.target == "conda_file.dependencies[2].pip[0]"
    with pytest.raises(errors.ValidationException, match="cannot serve"):
        builder.check(asks("six", packages=["python=3.7"]))
    assert builder.check(asks("six", packages=["libhdf5"])) == ()
    assert builder.key(asks("six")) == builder.key(asks("six"))
    with pytest.raises(errors.DockerEngineNotAvailableError):
        builder.build(asks("six"), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_the_key_goes_by_what_is_asked_for(bench, builder, built):
    same = builder.key(asks("six==1.16.0", packages=["python=3.11"]))
    assert same == built.key
    others = [
        asks("six==1.17.0", packages=["python=3.11"]),
        asks("six==1.16.0", packages=["python>=3.11"]),
        asks("six==1.16.0", packages=["python=3.11", "libhdf5"]),
        asks("six==1.16.0", packages=["python=3.11"], tools=("debugpy",)),
        asks("six==1.16.0", packages=["python=3.11"], azure_server=True),
        Wanted(image=bench.base),
        Wanted(image=bench.base, own_server=True),
        Wanted(image="modelport-test/nowhere:1"),
    ]
    assert len({same, *map(builder.key, others)}) == len(others) + 1
