"""The notebooks run from top to bottom, in a kernel and a workspace of their own, and are kept without outputs."""

import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
home = runpy.run_path(str(Path(__file__).parent / "cli" / "conftest.py"))["home"]


def values(notebook):
    """What the cells that end with a value showed, by their last line."""
    return {
        cell.source.splitlines()[-1]: output.data["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result"
    }


def printed(notebook):
    return "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )


def test_blue_green(home):
    notebook = nbformat.read(NOTEBOOKS / "blue_green.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    client.execute(env=home.environ)

    shown = values(notebook)
    assert shown["before"] == "{'blue': 100}"
    assert shown["mirrored"] == "{'blue': 200}"
    assert "'green'" in shown["tenth"]
    assert "'blue'" in shown["tenth"]
    assert shown["after"] == shown["callers(100)"] == "{'green': 100}"
    assert shown["[each.name for each in ml_client.online_endpoints.list()]"] == "[]"
    assert 'blue says {"cultivar": [0]}' in printed(notebook)
    assert 'green says {"cultivar": [0]}' in printed(notebook)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_outputs_are_kept(path):
    cells = nbformat.read(path, as_version=4).cells
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_has_a_test(path):
    assert f"test_{path.stem}" in globals()
