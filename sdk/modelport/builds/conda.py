"""
What a conda file asks for, said in PyPI's words.

Azure's samples name their packages in a conda file, and a process on a laptop gets
them from PyPI. That is honest only where PyPI's package has the same contents under
the same versions, so a conda package is met through a table of verified names
(`conda_names.txt`), each time with a warning; any other is refused. conda's
`pytorch` is not PyPI's `torch`: it brings other builds of other libraries.

Everything wrong with a file is said at once, in one error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from attrs import Factory, define, frozen

from modelport import errors

_SECTIONS = ("name", "channels", "dependencies", "prefix", "variables", "platforms")
_SPEC = re.compile(r"(?:[^\s:]+::)?(?P<name>[A-Za-z0-9_][\w.-]*)(?P<rest>.*)")
_BUILD = re.compile(r"(?P<version>(?:==?)?[^=<>!~\s]+)[=\s](?P<build>\S+)")
_CLAUSE = re.compile(r"(?P<op>[=!<>~]=|[=<>]|)(?P<version>\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?)(?P<any>\.\*)?")
_PIP_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?\s*(?:\[[^\]]*\]\s*)?"
    r"(?:@\s*\S.*|\(?\s*(?:(?:===|[=!<>~]=|[<>])\s*[\w.*+!-]+\s*,?\s*)*\)?\s*(?:;.*)?(?:\s--hash.*)?)"
)
_PIP_FILE_OPTION = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable)(?![\w-])")


@frozen(kw_only=True)
class Requirements:
    """What to install, and what to say about it."""

    python: str | None = None
    """Constraint on Python's version as written: `3.11`, `3.10.*`, `>=3.9,<3.12`; None when there is none."""
    pip: tuple[str, ...] = ()
    """Lines of the `pip:` section as written: requirements, and options such as `--extra-index-url …`."""
    stand_ins: tuple[tuple[str, str], ...] = ()
    """What conda packages become: `("numpy=1.26", "numpy==1.26.*")`."""
    warnings: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of a requirements file: equal for equal requirements, in whatever order they were written."""
        options = [line for line in self.pip if line.startswith("-")]
        wanted = {line for line in self.pip if not line.startswith("-")} | {pypi for _, pypi in self.stand_ins}
        return (*options, *sorted(wanted))


def read(conda: Mapping[str, Any]) -> Requirements:
    """
    The requirements of a parsed conda file, `{"dependencies": ["python=3.11", "numpy", {"pip": ["six"]}]}`.

    Raises:
        errors.ValidationException: Its shape or one of its lines cannot be understood.
        errors.UnsupportedByBackend: It names conda packages that have no verified equal on PyPI.
    """
    reading = _Reading()
    reading.file(conda)
    reading.raise_problems()
    return reading.requirements()


def admits(constraint: str | None, version: tuple[int, int, int]) -> bool:
    """
    Whether a Python `version` meets a `Requirements.python`.

    Raises:
        ValueError: The constraint cannot be understood.
    """
    return all(_meets(clause, version) for clause in python_specifiers(constraint))


def python_specifiers(constraint: str | None) -> tuple[str, ...]:
    """
    A `Requirements.python` as PEP 440 clauses; empty when any version will do.

    Raises:
        ValueError: The constraint cannot be understood.
    """
    clauses = [_pep440(part) for part in (constraint or "*").split(",")]
    # `python==3.10` is exact to conda, which means 3.10.0; people who write it mean 3.10.
    return tuple(re.sub(r"^==(\d+(\.\d+)?)$", r"==\1.*", clause) for clause in clauses if clause)


def project(requirement: str) -> str | None:
    """The normalised name (PEP 503) of the project that a pip requirement asks for; None for a URL or a path."""
    named = re.match(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?=\s*(?:[\[@(<>=!~;,]|--|$))", requirement.strip())
    return normal(named[0]) if named else None


def normal(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def pypi_names() -> Mapping[str, str]:
    """The shipped table: conda's name to PyPI's."""
    text = Path(__file__).with_name("conda_names.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {conda: pypi for conda, _, pypi in (line.partition(" ") for line in lines)}


@define
class _Reading:
    """One walk over a file, which gathers what it asks for and what is wrong with it."""

    python: list[str] = Factory(list)
    pip: list[str] = Factory(list)
    stand_ins: list[tuple[str, str]] = Factory(list)
    builds: list[str] = Factory(list)
    variables: bool = False
    pip_sections: int = 0
    faults: list[tuple[str, str]] = Factory(list)
    unknown: list[tuple[str, str]] = Factory(list)

    def file(self, conda: Any) -> None:
        if not isinstance(conda, Mapping):
            self.fault("", f"a conda file is a mapping with the key `dependencies`, and {_found(conda)} was found")
            return
        for section in map(str, conda):
            if section not in _SECTIONS:
                near = difflib.get_close_matches(section, _SECTIONS, n=1)
                meant = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(_SECTIONS)}"
                self.fault(section, f"a conda file has no key `{section}`: {meant}")
        self.variables = bool(conda.get("variables"))
        for path, item in self.items("dependencies", conda.get("dependencies"), "packages"):
            if isinstance(item, Mapping) and list(item) == ["pip"]:
                self.pip_sections += 1
                if self.pip_sections > 1:
                    self.fault(f"{path}.pip", "there is a second `pip:` section; write one with all of it")
                for line_path, line in self.items(f"{path}.pip", item["pip"], "requirements"):
                    self.pip_line(line_path, line)
            elif isinstance(item, str) and item.strip():
                self.package(path, item.strip())
            else:
                self.fault(path, f"`numpy=1.26`, or `pip:` with a list, was expected, and {_found(item)} was found")

    def items(self, path: str, value: Any, of: str) -> list[tuple[str, Any]]:
        if value is not None and not isinstance(value, (list, tuple)):
            self.fault(path, f"a list of {of} was expected, and {_found(value)} was found")
            return []
        return [(f"{path}[{index}]", item) for index, item in enumerate(value or ())]

    def pip_line(self, path: str, line: Any) -> None:
        text = re.sub(r"(^|\s)#.*", "", line).strip() if isinstance(line, str) else ""
        if not isinstance(line, str):
            self.fault(path, f"a requirement such as `six==1.17.0` was expected, and {_found(line)} was found")
        elif option := _PIP_FILE_OPTION.match(text):
            self.fault(path, f"`{option[1]}` names a file that the builder does not get; write what it asks for here")
        elif text.startswith("."):
            self.fault(path, f"'{text}' is a path beside the file, which the builder does not get; give a URL")
        elif not text or text.startswith(("-", "/")) or "://" in text or _PIP_REQUIREMENT.fullmatch(text):
            self.pip.extend([text] if text else [])
        else:
            one_equals = re.fullmatch(r"([\w.-]+)\s*=\s*([^=\s]+)", text)
            meant = f"; pip writes it '{one_equals[1]}=={one_equals[2]}'" if one_equals else ""
            self.fault(path, f"'{text}' is not a pip requirement{meant}")

    def package(self, path: str, spec: str) -> None:
        parsed = _SPEC.fullmatch(spec)
        name = parsed["name"].lower() if parsed else ""
        try:
            if parsed is None:
                raise ValueError(spec)  # noqa: TRY301 - one place says what is wrong with a line
            version, build = _version_and_build(parsed["rest"])
            specifiers = ",".join(filter(None, map(_pep440, version.split(","))))
            if name == "python":
                admits(version, (3, 9, 0))
        except ValueError:
            self.fault(path, f"'{spec}' cannot be said to PyPI; write it like `numpy=1.26` or `numpy>=1.20,<2`")
            return
        if name == "python":
            self.python.append(re.sub(r"^=(?!=)", "", version))
        elif name in pypi_names():
            self.stand_ins.append((spec, pypi_names()[name] + specifiers))
            self.builds.extend([spec] if build else [])
        elif name != "pip":  # uv needs no pip
            self.unknown.append((path, spec))

    def fault(self, path: str, what: str) -> None:
        self.faults.append((path, what))

    def raise_problems(self) -> None:
        unsupported = [
            _detail(
                errors.UnsupportedByBackend,
                path,
                f"'{spec}' comes from conda, and has no verified equal on PyPI",
            )
            for path, spec in self.unknown
        ]
        invalid = [_detail(errors.ValidationException, path, what) for path, what in self.faults]
        problems = [*invalid, *unsupported]
        if not problems:
            return
        said = "; ".join(f"{problem['message']} ({problem['target']})" for problem in problems)
        message = f"The conda file cannot be built here: {said}."
        kind: Callable[..., errors.ModelportError] = errors.ValidationException
        if unsupported:
            kind = errors.UnsupportedByBackend
            message += (
                " Move such packages to the `pip:` section if PyPI has them, wait for the Docker backend"
                ' (`MLClient.local(backend="docker")`), or wait until this backend installs conda packages.'
            )
        target = problems[0]["target"] if len(problems) == 1 else "conda_file"
        raise kind(message, target=target, details=problems)

    def requirements(self) -> Requirements:
        warnings = []
        if self.stand_ins:
            listed = ", ".join(f"{spec} as {pypi}" for spec, pypi in self.stand_ins)
            warnings.append(f"Packages that the conda file asks of conda come from PyPI instead: {listed}.")
        if self.builds:
            warnings.append(f"PyPI knows no conda builds; the build string was dropped from {', '.join(self.builds)}.")
        if self.variables:
            warnings.append(
                "The conda file's `variables` are not set in replicas;"
                " give them as the deployment's `environment_variables`."
            )
        return Requirements(
            python=",".join(filter(None, self.python)) or None,
            pip=tuple(self.pip),
            stand_ins=tuple(self.stand_ins),
            warnings=tuple(warnings),
        )


def _version_and_build(rest: str) -> tuple[str, str]:
    """Version and build of what follows a name: `=1.26.4=py311h1` or ` 1.26.4 py311h1` are `==1.26.4` and `py311h1`."""
    tight = re.sub(r"\s*([=<>!~,|]+)\s*", r"\1", rest).strip()
    built = _BUILD.fullmatch(tight)
    if not built:
        return tight, ""
    version = built["version"]
    # With a build string, a single `=` is exact to conda.
    return "==" + version.lstrip("="), built["build"]


def _pep440(clause: str) -> str:
    """
    One clause of a conda version in PEP 440: `=1.26` is `==1.26.*`, a bare `1.26.4` `==1.26.4`, what allows all "".

    Raises:
        ValueError: PEP 440 has no words for it, e.g. `1.2|1.3` and `1.2*`.
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


def _found(value: Any) -> str:
    """What stands there instead, for a message."""
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {value!r}"


def _detail(kind: type[errors.ModelportError], path: str, message: str) -> dict[str, str]:
    return {"code": kind.code, "message": message, "target": f"conda_file.{path}".rstrip(".")}
