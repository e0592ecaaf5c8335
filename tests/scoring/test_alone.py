"""
The scoring server where nothing of `modelport` is installed, on every Python of ours that the machine has.

Each environment holds what `requirements.txt` names and nothing else, and the folder is copied beside the script, as a
person would do it by hand. Which Pythons were found is told at the end of the run: a green one says what it covered.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import uv

PACKAGE = Path(__file__).parents[2] / "sdk" / "modelport_scoring"
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
OWN = sysconfig.get_python_version()
SCRIPTS = {
    "undecorated": 'def run(raw): return {"saw": raw}',
    "rawhttp": """
from azureml.contrib.services.aml_request import rawhttp
@rawhttp
def run(request): return {"saw": request.get_data(as_text=True)}
""",
    "parsed": 'def run(data: dict): return {"saw": data if isinstance(data, str) else "parsed"}',
}
ALONE = """
import importlib.util
assert importlib.util.find_spec("modelport") is None
def init(): pass
"""


def _interpreter(version: str) -> str | None:
    """The machine's Python of this version: the tests' own, or what uv finds without downloading anything."""
    if version == OWN:
        return sys.executable
    for home in (Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions").glob(f"{version}.*"):
        if (home / "bin" / "python").exists():
            return str(home / "bin" / "python")
    command = [uv.find_uv_bin(), "python", "find", "--no-project", "--no-python-downloads", "--quiet", version]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


FOUND = {version: python for version in VERSIONS if (python := _interpreter(version))}


@pytest.fixture(scope="module", params=FOUND)
def alone(request, tmp_path_factory):
    """The interpreter of an environment with what the requirements name, and the package's folder copied into it."""
    folder = tmp_path_factory.mktemp("alone")
    python = folder / "bin" / "python"
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", FOUND[request.param], folder], check=True)
    install = [uv.find_uv_bin(), "pip", "install", "-q", "--python", python, "-r", PACKAGE / "requirements.txt"]
    subprocess.run(install, check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    shutil.copytree(PACKAGE, packages / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return str(python)


def test_the_pythons_that_are_covered_are_told(record_property):
    record_property("told", f"The scoring server alone: Python {', '.join(FOUND)}, of {', '.join(VERSIONS)}.")
    assert OWN in FOUND


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_is_served_where_nothing_of_modelport_is_installed(serve, alone, script):
    served = serve(ALONE + script, python=alone)
    answer = served.score({"data": [1]})
    assert answer.status == 200, served.log
    assert json.loads(answer.body) in ({"saw": '{"data": [1]}'}, {"saw": "parsed"})
    assert served.request("GET", "/").body == b"Healthy"
    served.process.terminate()
    assert served.process.wait(20) == 0
