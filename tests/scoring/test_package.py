"""What lets the folder be copied into any environment."""

from __future__ import annotations

import ast
import sys
from itertools import pairwise
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sdk" / "modelport_scoring"
FILES = sorted(PACKAGE.rglob("*.py"))
NEEDS = {
    "server.py": {"granian"},
    "raw.py": {"werkzeug"},
    "conversions.py": {"msgspec"},
    "shapes.py": {"msgspec"},
    "typed.py": {"orjson"},
}
"""Files that import a requirement. All but the first are loaded only by scripts that ask for it: test_typed.py."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_is_python_3_9(path):
    ast.parse(path.read_text(), feature_version=(3, 9))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_imports_only_the_standard_library_its_requirements_and_this_package(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(node.module.partition(".")[0])
    assert names <= sys.stdlib_module_names | {"modelport_scoring"} | NEEDS.get(path.name, set())


def test_every_requirement_has_its_reason():
    lines = (PACKAGE / "requirements.txt").read_text().splitlines()
    for above, line in pairwise(lines):
        if line and not line.startswith("#"):
            assert above.startswith("#")
