import time

import pytest
from tests.builds.channel import add_channels, shared

from modelport.builds.base import Wanted
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
