"""The samples run as they are, each in a workspace of its own."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from modelport.schema import files

SAMPLES = Path(__file__).parents[1] / "samples"
home = runpy.run_path(str(Path(__file__).parent / "cli" / "conftest.py"))["home"]


def run(home, script):
    """What a sample printed; it ran to its end without a word of complaint."""
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_blue_green(home):
    told = run(home, SAMPLES / "blue_green" / "blue_green.py")
    assert 'blue says {"cultivar": [0]}\ngreen says {"cultivar": [0]}\n' in told
    counts = {
        what: dict(re.findall(r"'(\w+)': (\d+)", who))
        for what, who in re.findall(r"^(.+): \{(.+)\}$", told, re.MULTILINE)
    }
    assert counts["mirrored"] == {"blue": "200"}
    assert set(counts["green 10%"]) == {"blue", "green"}
    assert counts["green 100%"] == counts["without blue"] == {"green": "200"}


def test_blue_green_trains_with_the_version_that_serves():
    folder = SAMPLES / "blue_green"
    pins = {f'"{line}"' for line in files.read_mapping(folder / "conda.yml")["dependencies"][-1]["pip"]}
    (trains_with,) = re.findall(r"^# dependencies = \[(.+)\]$", (folder / "train.py").read_text(), re.MULTILINE)
    assert pins == set(trains_with.split(", "))


@pytest.mark.parametrize(
    "path", sorted(each for each in SAMPLES.iterdir() if each.is_dir()), ids=lambda path: path.name
)
def test_every_sample_has_a_test_and_a_short_readme(path):
    assert f"test_{path.name}" in globals()
    assert len((path / "README.md").read_text().splitlines()) <= 40
