"""
How an environment gets into an image: what is asked for, what the image has, and what follows.

Nothing here does I/O. Four ways: the image's own Python as it is; a virtual
environment on top of it; the image's own conda; or a prefix that was made outside,
for images that have neither the Python nor the conda for what the file asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from modelport.builds import conda as conda_files
from modelport.builds import pythons
from modelport.builds.base import Wanted
from modelport.builds.conda import Package, Requirements
from modelport.builds.diagnosis import failure
from modelport.builds.interpreters import Found, Interpreter
from modelport.builds.pythons import TRIED, span

FORMAT = 1
"""Of what is made from the same input: a change makes every key another one."""

Way = Literal["as it is", "venv", "conda", "prefix"]


@frozen(kw_only=True)
class Recipe:
    """How the environment of an image is made."""

    way: Way
    python: Interpreter | None = None
    """The image's Python that it stands on; None when it brings its own."""
    requirements: Requirements = field(factory=Requirements)
    """Python's version, and what pip installs."""
    packages: tuple[str, ...] = ()
    """What conda installs."""
    conda: str = ""
    """The image's conda, where it makes the environment."""
    warnings: tuple[str, ...] = ()


def read(wanted: Wanted) -> Requirements:
    """
    What the conda file asks of Python, conda and pip.

    Raises:
        errors.ValidationException: It cannot be understood.
    """
    return Requirements() if wanted.conda is None else conda_files.read(wanted.conda)


def recipe(wanted: Wanted, found: Found, *, image: str, prefixes: bool) -> Recipe:
    """
    The way for `wanted` in an image that has what was `found`; `prefixes`: whether one can be made outside.

    Raises:
        errors.ImageBuildFailure: There is no way.
        errors.ValidationException: As `read`.
    """
    requirements = read(wanted)
    packages = tuple(sorted({each.line for each in _packages(requirements)}))
    if not found.shell:
        raise failure(
            f"image '{image}' has no `sh`, so nothing can be added to it. Start from an image with a shell, or let it "
            "serve by itself: give the environment an inference_config.",
            [],
            what="Image",
        )
    if wanted.azure_server and wanted.conda is None:
        return _with_azure(wanted, found, image)
    fitting = [
        each
        for each in found.pythons
        if each.version[:2] >= (3, TRIED[0]) and pythons.admits(requirements.python, each.version)
    ]
    if fitting and not packages:
        minor = fitting[0].version[1]
        untried = f"Python 3.{minor} was not tried with the scoring server ({span()} were)."
        warnings = (*requirements.warnings, *([untried] if minor not in TRIED else ()))
        return Recipe(way="venv", python=fitting[0], requirements=requirements, warnings=warnings)
    if wanted.conda is not None and (found.conda or prefixes):
        way: Way = "conda" if found.conda else "prefix"
        return Recipe(
            way=way,
            requirements=requirements,
            packages=packages,
            conda=found.conda,
            warnings=requirements.warnings,
        )
    if prefixes and not found.pythons:
        return Recipe(way="prefix")
    raise failure(_no_way(requirements, packages, found, image), [], what="Image")


def conda_document(recipe: Recipe, channels: Any) -> str:
    """The file for the image's conda, without what pip is to install; JSON is YAML."""
    asked = recipe.requirements.python
    python = f"python {asked}" if asked and asked[0] in "<>=!~" else f"python={asked}" if asked else ""
    # Without a wish, the newest that scoring was tried on.
    python = python or f"python>=3.{TRIED[0]},<3.{TRIED[-1] + 1}"
    document = {"channels": list(channels or ["conda-forge"]), "dependencies": [python, *recipe.packages]}
    return json.dumps(document)


def hashed(ingredients: Mapping[str, Any]) -> str:
    """A key: equal for equal ingredients."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:20]


def _with_azure(wanted: Wanted, found: Found, image: str) -> Recipe:
    has_it = [each for each in found.pythons if each.azure]
    if not has_it:
        seen = " and ".join(str(each) for each in found.pythons) or "no Python"
        raise failure(
            f"image '{image}' has {seen}, without azureml-inference-server-http, which is to serve. "
            "Install it in the image, add it to the conda file, or let Modelport's own scoring server serve.",
            [],
            what="Image",
        )
    return Recipe(way="venv" if wanted.tools else "as it is", python=has_it[0])


def _no_way(requirements: Requirements, packages: tuple[str, ...], found: Found, image: str) -> str:
    has = " and ".join(str(each) for each in found.pythons)
    if packages:
        return (
            f"the conda file asks for {', '.join(packages)}, and image '{image}' has no conda to install them. "
            "Start from an image with conda or micromamba, or move them to the `pip:` section if PyPI has them."
        )
    if not has:
        return (
            f"image '{image}' has no Python that the scoring server could run on. Start from an image with Python "
            f"{span()}, or let it serve by itself: give the environment an inference_config."
        )
    if requirements.python:
        return (
            f"the conda file asks for python={requirements.python}, and image '{image}' has {has}, and no conda to "
            "install another. Start from an image with that Python, or ask for the one that is there."
        )
    return (
        f"image '{image}' has {has}, and the scoring server runs on Python {span()}. Start from an image with one of "
        "these."
    )


def _packages(requirements: Requirements) -> tuple[Package, ...]:
    """What conda is asked for beside Python and pip, which are there anyway."""
    return tuple(each for each in requirements.packages if each.name not in ("python", "pip"))
