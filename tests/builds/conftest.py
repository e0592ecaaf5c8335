import contextlib
import io
import re
import tarfile
import tempfile
import time
import uuid
from pathlib import Path

import docker
import pytest
from tests.builds.channel import add_channels, shared

from modelport import errors
from modelport.builds.base import Wanted
from modelport.builds.image import ImageBuilder
from modelport.builds.prefix import PrefixBuilder
from modelport.testing import environments_folder


@pytest.fixture(scope="session", autouse=True)
def _rattler_cache(tmp_path_factory):
    """A package cache for this process: what tests put into their channels is no business of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATTLER_CACHE_DIR", str(tmp_path_factory.mktemp("rattler")))
        patch.setenv("CONDA_OVERRIDE_CUDA", "")  # no graphics card, whatever this machine has
        patch.delenv("CONDA_CHANNEL_ALIAS", raising=False)
        patch.delenv("MODELPORT_OFFLINE", raising=False)
        yield


@pytest.fixture(scope="session")
def channels():
    """The folder of the channels `main` and `extra`."""
    return shared(environments_folder().with_name("test-channels"), add_channels)


@pytest.fixture
def main(channels):
    """A conda file that asks the channel `main` for these packages."""

    def file(*packages, pip=(), of=None):
        channel = of or (channels / "main").as_uri()
        section = [{"pip": [*pip]}] if pip else []
        return Wanted(conda={"name": "tides", "channels": [channel], "dependencies": [*packages, *section]})

    return file


@pytest.fixture
def scoring(tmp_path):
    """A stand-in for the scoring package that needs little, so that a build takes a second."""
    folder = tmp_path / "scoring" / "modelport_scoring"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("ANSWER = 42\n")
    (folder / "requirements.txt").write_text("# Why it is needed.\nsix>=1.16\n")
    return folder


@pytest.fixture
def builder(tmp_path, scoring):
    return PrefixBuilder(tmp_path / "cache", scoring=scoring)


@pytest.fixture
def conda():
    """A conda file, with these lines in its `pip:` section."""

    def file(*pip, packages=()):
        return Wanted(
            conda={"name": "tides", "channels": ["conda-forge"], "dependencies": [*packages, {"pip": list(pip)}]}
        )

    return file


@pytest.fixture
def until():
    """Wait for a condition."""

    def wait(condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come about"
            time.sleep(0.01)

    return wait


class SlowPackage:
    """A source package that says when its build has begun, and ends it when it is told to."""

    def __init__(self, folder):
        folder.mkdir()
        self.path = folder
        self.begun = folder.parent / "begun"
        self.go = folder.parent / "go"
        (folder / "setup.py").write_text(
            "import pathlib, time, setuptools\n"
            f"pathlib.Path({str(self.begun)!r}).touch()\n"
            "deadline = time.monotonic() + 60\n"
            f"while not pathlib.Path({str(self.go)!r}).exists() and time.monotonic() < deadline:\n"
            "    time.sleep(0.01)\n"
            "setuptools.setup(name='slowpackage', version='1', py_modules=[])\n"
        )


@pytest.fixture
def slow_package(tmp_path):
    package = SlowPackage(tmp_path / "slowpackage")
    yield package
    package.go.touch()


class Bench:
    """Makes builders of images, whose folders, images, containers and packages go in the end, whatever happened."""

    base = "modelport-test/base:bookworm"

    def __init__(self, engine, folder):
        self.engine = engine
        self._folder = folder
        self.packages = f"modelport-test-{uuid.uuid4().hex[:12]}"
        self._builders = []
        self._images = []

    def builder(self, scoring=None, *, cache=None, **values):
        """A builder with a folder of its own, or with that of another one."""
        cache = cache or Path(tempfile.mkdtemp(dir=self._folder))
        self._builders.append(ImageBuilder(cache, scoring=scoring, packages=self.packages, **values))
        return self._builders[-1]

    def build(self, builder, wanted, heard=None):
        """What is built, and the lines that were heard."""
        lines = [] if heard is None else heard
        try:
            return builder.build(wanted, lines.append), lines
        finally:
            self._steps("\n".join(lines))

    def _steps(self, lines):
        """Take note of what the steps of a Dockerfile leave, which are the engine's cache."""
        self._images += re.findall(r"^ ---> ([0-9a-f]{12})$", lines, re.MULTILINE)

    def failure(self, builder, wanted, kind=errors.ImageBuildFailure):
        """The message of the error with which a build ends."""
        with pytest.raises(kind) as caught:
            self.build(builder, wanted)
        return caught.value.message

    def context(self, dockerfile, **files):
        """A folder with a Dockerfile that starts from the base image, and with other files."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / "Dockerfile").write_text(dockerfile.replace("BASE", self.base))
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder

    def image(self, dockerfile, **files):
        """The id of an image that was built from a Dockerfile, as people do it."""
        image, log = self.engine.images.build(path=str(self.context(dockerfile, **files)), rm=True, forcerm=True)
        self._steps("".join(each.get("stream", "") for each in log))
        self._images.append(image.id)
        return image.id

    def empty_image(self):
        """The id of an image with nothing in it."""
        nothing = io.BytesIO()
        tarfile.open(fileobj=nothing, mode="w").close()
        name = f"modelport-test/empty:{uuid.uuid4().hex[:12]}"
        self.engine.api.import_image_from_data(nothing.getvalue(), *name.split(":"))
        self._images.append(self.engine.images.get(name).id)
        return self._images[-1]

    def container(self, image, command, **values):
        """A container that runs, as anybody, with nothing to write to but /tmp; it is removed with everything else."""
        values = {"user": "1001", "read_only": True, "tmpfs": {"/tmp": ""}, **values}
        labels = {"modelport-test": self.packages}
        container = self.engine.containers.create(image, command[1:], entrypoint=command[:1], labels=labels, **values)
        container.start()
        return container

    def run(self, image, python, code, **values):
        """What `code` prints in the image, run by anybody."""
        container = self.container(image, [python, "-c", code], **values)
        status = container.wait()["StatusCode"]
        said = container.logs().decode()
        container.remove(force=True)
        assert status == 0, said
        return said.strip()

    def builds(self, builder):
        """The containers in which `builder`, or another one with its folder, builds."""
        found = self.engine.containers.list(all=True, filters={"label": "modelport.kind=build"}, ignore_removed=True)
        return [each for each in found if Path(each.labels["modelport.lock"]).parent == builder._records.folder]

    def images(self, builder):
        """The ids of images that `builder` has noted and that are there."""
        noted = {record.image for record in builder._records.all().values() if record.ours}
        return {image for image in noted if builder._shelf.image(image)}

    def close(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self._remove_packages)
            stack.callback(self._remove_images)
            for builder in self._builders:
                stack.callback(self._remove_builder, builder)
            for container in self.engine.containers.list(
                all=True, filters={"label": f"modelport-test={self.packages}"}
            ):
                stack.callback(container.remove, force=True)

    def _remove_builder(self, builder):
        self._images += [record.image for record in builder._records.all().values() if record.ours]
        for container in self.builds(builder):
            container.remove(force=True)
        builder.close()

    def _remove_images(self):
        left = set(self._images)
        # An image goes when nothing that was made from it is left.
        while gone := {image for image in left if self._gone(image)}:
            left -= gone

    def _remove_packages(self):
        with contextlib.suppress(docker.errors.NotFound):
            self.engine.volumes.get(self.packages).remove()

    def _gone(self, image):
        with contextlib.suppress(docker.errors.ImageNotFound):
            if self.base in self.engine.images.get(image).tags:
                return True
            try:
                self.engine.api.remove_image(image, force=True, noprune=True)
            except docker.errors.APIError:
                return False
        return True


@pytest.fixture(scope="module")
def bench(docker_engine, tmp_path_factory):
    made = Bench(docker_engine, tmp_path_factory.mktemp("images"))
    yield made
    made.close()
