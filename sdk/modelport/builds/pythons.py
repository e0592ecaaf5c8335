"""
Which Python an environment gets.

Conda files constrain it in conda's words, uv wants PEP 440's, and scoring runs on some
minor versions only. Where the running one will do it is taken: models are pickled by it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from modelport import errors

TRIED = range(9, 14)
"""Minor versions of Python 3 that scoring runs on."""

_CLAUSE = re.compile(r"(?P<op>[=!<>~]=|[=<>]|)(?P<version>\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?)(?P<any>\.\*)?")


def admits(constraint: str | None, version: tuple[int, int, int]) -> bool:
    """
    Whether a Python `version` meets a constraint such as `3.11`, `3.10.*` or `>=3.9,<3.12`.

    Raises:
        ValueError: The constraint cannot be understood.
    """
    return all(_meets(clause, version) for clause in specifiers(constraint))


def specifiers(constraint: str | None) -> tuple[str, ...]:
    """
    A constraint as PEP 440 clauses; empty when any version will do.

    Raises:
        ValueError: The constraint cannot be understood.
    """
    clauses = [_pep440(part) for part in (constraint or "*").split(",")]
    # `python==3.10` is exact to conda, which means 3.10.0; people who write it mean 3.10.
    return tuple(re.sub(r"^==(\d+(\.\d+)?)$", r"==\1.*", clause) for clause in clauses if clause)


def minor(constraint: str | None) -> tuple[int, tuple[str, ...]]:
    """
    The minor version of Python 3 to build with, and what to say about it.

    The running one where it will do, otherwise the newest that will.

    Raises:
        errors.ValidationException: Scoring runs on none that will do.
    """
    running = sys.version_info.minor
    if constraint is None and running not in TRIED:
        return running, (f"Python 3.{running} was not tried with the scoring server ({span()} were).",)
    fitting = [minor for minor in TRIED if any(admits(constraint, (3, minor, patch)) for patch in range(100))]
    if not fitting:
        raise errors.ValidationException(
            f"python={constraint} of the conda file cannot serve: the scoring server runs on Python {span()}."
            " Ask for one of these.",
            target="conda_file.dependencies",
        )
    return (running if running in fitting else fitting[-1]), ()


def span() -> str:
    """The versions that scoring runs on, for people."""
    return f"3.{TRIED[0]} to 3.{TRIED[-1]}"


def interpreter_path(minor: int) -> str:
    """
    PATH for uv's search: this interpreter's own folder, the user's PATH, and what pyenv has.

    pyenv's shims stand on PATH for versions that are not switched on, and fail; the real ones do not stand there.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    inherited = os.environ.get("PATH", os.defpath).split(os.pathsep)
    own = [f"{sys.base_prefix}/bin"] if minor == sys.version_info.minor else []
    others = sorted(str(folder) for folder in pyenv.glob(f"versions/3.{minor}.*/bin"))
    return os.pathsep.join([*own, *(folder for folder in inherited if Path(folder) != pyenv / "shims"), *others])


def _pep440(clause: str) -> str:
    """
    One clause of a conda version in PEP 440: `=3.10` is `==3.10.*`, a bare `3.10.4` `==3.10.4`, what allows all "".

    Raises:
        ValueError: PEP 440 has no words for it, e.g. `3.1*`.
    """
    if clause in ("", "*", "=*", "==*"):
        return ""
    parsed = _CLAUSE.fullmatch(clause)
    if not parsed:
        raise ValueError(clause)
    operator, version, any_after = parsed["op"], parsed["version"], parsed["any"] or ""
    if operator in (">", "<=", "~=") and any_after:
        raise ValueError(clause)
    if operator in (">=", "<"):
        any_after = ""
    if operator == "=" and re.fullmatch(r"[\d.]+", version):
        any_after = ".*"
    return f"{'==' if operator in ('', '=') else operator}{version}{any_after}"


def _meets(clause: str, version: tuple[int, ...]) -> bool:
    parsed = _CLAUSE.fullmatch(clause)
    if not parsed:
        raise ValueError(clause)
    wanted = tuple(int(part) for part in parsed["version"].split("."))
    width = len(wanted) if parsed["any"] else max(len(wanted), len(version))
    here = (*version, *[0] * width)[:width]
    there = (*wanted, *[0] * width)[:width]
    return {
        "==": here == there,
        "!=": here != there,
        ">=": here >= there,
        "<=": here <= there,
        ">": here > there,
        "<": here < there,
        "~=": here >= there and here[: len(wanted) - 1] == wanted[:-1],
    }[parsed["op"]]
