"""What `pip install modelport` brings along: 30 MB and 25 distributions at most."""

from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import modelport
import modelport_scoring


@pytest.fixture(scope="module")
def core():
    """Names of what the core needs, as it is installed here, with what each of them needs."""
    found, asked = {}, [("modelport", "")]
    while asked:
        name, extra = asked.pop()
        if (name, extra) in found:
            continue
        found[name, extra] = distribution(name)
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                inner = canonicalize_name(needed.name)
                asked += [(inner, ""), *((inner, each) for each in needed.extras)]
    return {name: each for (name, _), each in found.items()}


def test_the_core_is_at_most_25_distributions(core):
    assert {"attrs", "requests", "azure-identity"} <= set(core)
    assert len(core) <= 25, sorted(core)


def test_the_core_is_at_most_30_megabytes(core):
    ours = [Path(each.__file__).parent for each in (modelport, modelport_scoring)]
    files = [path for folder in ours for path in folder.rglob("*")]
    for name, each in core.items():
        if name != "modelport":
            assert each.files, f"{name} does not say which files it has"
            files += [Path(str(path.locate())) for path in each.files]
    sizes = {path: path.stat().st_size for path in files if path.suffix != ".pyc" and path.is_file()}
    assert sum(sizes.values()) <= 30e6
