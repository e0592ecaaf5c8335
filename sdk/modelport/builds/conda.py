"""
What a conda file asks for.

Its `pip:` section is uv's affair, and so is a file that wants nothing of conda but
Python. Whatever else it names comes from its channels. Everything wrong with a file is
said at once, in one error, before anything is fetched.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from attrs import Factory, define, frozen

from modelport import errors
from modelport.builds import channels, pythons
from modelport.builds.channels import Channel, masked

_SECTIONS = ("name", "channels", "dependencies", "prefix", "variables", "platforms")
_SPEC = re.compile(r"(?:(?P<channel>\S+)::)?(?P<name>[A-Za-z0-9_][\w.-]*)(?P<rest>[^\[]*)(?:\[(?P<keys>[^\]]*)\])?")
_KEYS = ("version", "build", "build_number", "subdir", "fn", "url", "md5", "sha256", "license", "license_family")
_BRACKET = re.compile(r"""\s*([\w-]+)\s*=\s*('[^']*'|"[^"]*"|[^,'"]+)\s*""")
_VERSION = r"\*|[\w*][\w.*+!-]*|\^\S*\$"
_CLAUSE = re.compile(rf"(?:[=!<>~]=|[=<>])?\s*(?:{_VERSION})")
_PIP_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?\s*(?:\[[^\]]*\]\s*)?"
    r"(?:@\s*\S.*|\(?\s*(?:(?:===|[=!<>~]=|[<>])\s*[\w.*+!-]+\s*,?\s*)*\)?\s*(?:;.*)?(?:\s--hash.*)?)"
)
_PIP_FILE_OPTION = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable)(?![\w-])")


@frozen
class Package:
    """What is asked of conda by one line."""

    line: str
    """As it was written, without secrets."""
    place: str
    """Where it stands: `dependencies[2]`."""
    name: str
    spec: str
    """The line in rattler's words, whose channel is a URL."""


@frozen(kw_only=True)
class Requirements:
    """What to install, and what to say about it."""

    name: str = ""
    python: str | None = None
    """Constraint on Python's version as written: `3.11`, `3.10.*`, `>=3.9,<3.12`; None when there is none."""
    packages: tuple[Package, ...] = ()
    """What must come from conda; empty when uv can do it all."""
    channels: tuple[Channel, ...] = ()
    """Where that comes from, the best first."""
    pip: tuple[str, ...] = ()
    """Lines of the `pip:` section as written: requirements, and options such as `--extra-index-url …`."""
    warnings: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of a requirements file: equal for equal requirements, in whatever order they were written."""
        options = [line for line in self.pip if line.startswith("-")]
        return (*options, *sorted({line for line in self.pip if not line.startswith("-")}))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show."""
        return tuple(secret for channel in self.channels for secret in channel.secrets)


def read(conda: Mapping[str, Any]) -> Requirements:
    """
    The requirements of a parsed conda file, `{"dependencies": ["python=3.11", "numpy", {"pip": ["six"]}]}`.

    Raises:
        errors.ValidationException: Its shape or one of its lines cannot be understood.
    """
    reading = _Reading()
    reading.file(conda)
    reading.raise_problems()
    return reading.requirements()


def project(requirement: str) -> str | None:
    """The normalised name (PEP 503) of the project that a pip requirement asks for; None for a URL or a path."""
    named = re.match(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?=\s*(?:[\[@(<>=!~;,]|--|$))", requirement.strip())
    return normal(named[0]) if named else None


def normal(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@define
class _Reading:
    """One walk over a file, which gathers what it asks for and what is wrong with it."""

    name: str = ""
    packages: list[Package] = Factory(list)
    channels: list[Channel] = Factory(list)
    pip: list[str] = Factory(list)
    variables: bool = False
    pip_sections: int = 0
    faults: list[tuple[str, str]] = Factory(list)

    def file(self, conda: Any) -> None:
        if not isinstance(conda, Mapping):
            self.fault("", f"a conda file is a mapping with the key `dependencies`, and {_found(conda)} was found")
            return
        for section in map(str, conda):
            if section not in _SECTIONS:
                near = difflib.get_close_matches(section, _SECTIONS, n=1)
                meant = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(_SECTIONS)}"
                self.fault(section, f"a conda file has no key `{section}`: {meant}")
        self.name = str(conda.get("name") or "")
        self.variables = bool(conda.get("variables"))
        for path, item in self.items("channels", conda.get("channels"), "channels"):
            self.channel(path, item)
        for path, item in self.items("dependencies", conda.get("dependencies"), "packages"):
            if isinstance(item, Mapping) and list(item) == ["pip"]:
                self.pip_sections += 1
                if self.pip_sections > 1:
                    self.fault(f"{path}.pip", "there is a second `pip:` section; write one with all of it")
                for line_path, line in self.items(f"{path}.pip", item["pip"], "requirements"):
                    self.pip_line(line_path, line)
            elif isinstance(item, str) and item.strip():
                self.package(path, re.sub(r"\s#.*", "", item).strip())
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

    def channel(self, path: str, item: Any) -> None:
        if not isinstance(item, str) or not item.strip():
            self.fault(path, f"a channel such as `conda-forge` was expected, and {_found(item)} was found")
            return
        try:
            found = channels.channels(item)
        except ValueError as error:
            self.fault(path, str(error))
            return
        self.ask(found)

    def ask(self, found: tuple[Channel, ...]) -> None:
        self.channels += [each for each in found if each.url not in {other.url for other in self.channels}]

    def package(self, path: str, line: str) -> None:
        shown = masked(line)
        parsed = _SPEC.fullmatch(line)
        problem = _problem(parsed)
        if problem or parsed is None:
            self.fault(path, f"'{shown}' {problem}")
            return
        spec = f"{parsed['name']}{parsed['rest']}" + (f"[{parsed['keys']}]" if parsed["keys"] else "")
        if parsed["channel"]:
            channel = channels.without_platform(parsed["channel"])
            subdir = parsed["channel"].removeprefix(channel)
            try:
                found = channels.channels(channel)
            except ValueError as error:
                self.fault(path, f"'{shown}': {error}")
                return
            self.ask(found)
            spec = f"{found[0].url}{subdir}::{spec}" if len(found) == 1 else spec
        self.packages.append(Package(shown, path, parsed["name"].lower(), spec))

    def fault(self, path: str, what: str) -> None:
        self.faults.append((path, what))

    def raise_problems(self) -> None:
        problems = [
            {
                "code": errors.ValidationException.code,
                "message": what,
                "target": f"conda_file.{path}".rstrip("."),
            }
            for path, what in self.faults
        ]
        if problems:
            said = "; ".join(f"{problem['message']} ({problem['target']})" for problem in problems)
            target = problems[0]["target"] if len(problems) == 1 else "conda_file"
            raise errors.ValidationException(
                f"The conda file cannot be built here: {said}.", target=target, details=problems
            )

    def requirements(self) -> Requirements:
        warnings = []
        if self.variables:
            warnings.append(
                "The conda file's `variables` are not set in replicas;"
                " give them as the deployment's `environment_variables`."
            )
        constraints = [_python(each) for each in self.packages if each.name == "python"]
        plain = all(each.name in ("python", "pip") for each in self.packages) and None not in constraints
        found = self.channels or [*channels.channels("defaults")]
        return Requirements(
            name=self.name,
            python=",".join(filter(None, constraints)) or None,
            packages=() if plain else tuple(self.packages),
            channels=() if plain else tuple(found),
            pip=tuple(self.pip),
            warnings=tuple(warnings),
        )


def _problem(parsed: re.Match[str] | None) -> str:
    """What is wrong with a line that asks for a package; empty when nothing is."""
    wrong = "is not a conda package; write it like `numpy=1.26` or `numpy>=1.20,<2`"
    if parsed is None:
        return wrong
    for key in filter(None, re.split(r""",(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""", parsed["keys"] or "")):
        named = _BRACKET.fullmatch(key)
        if named and named[1] == "channel":
            return "names its channel in brackets; write it before the package: `conda-forge::numpy`"
        if not named or named[1] not in _KEYS:
            return f"asks for `{key.strip()}`, which is not understood; known are {', '.join(_KEYS)}"
        if named[1] == "version" and not _is_version(named[2].strip("'\"")):
            return wrong
    rest = parsed["rest"]
    if rest.strip() and not re.match(r"[\s=!<>~(]", rest):
        return wrong
    return "" if _split(rest) is not None else wrong


def _split(rest: str) -> tuple[str, str] | None:
    """Version and build of what follows a name, ` 1.26.4 py311h1` or `=1.26.4=py311h1`; None: it is neither."""
    tight = re.sub(r"\s*([=<>!~,|()]+)\s*", r"\1", rest).strip()
    if not tight:
        return "", ""
    built = re.fullmatch(r"(=?=?[^=<>!~\s]*[^=<>!~\s|,(])[=\s]([\w.*+^$|()\\-]+)", tight)
    version, build = (built[1], built[2]) if built else (tight, "")
    # With a build string, a single `=` is exact to conda.
    return ("==" + version.lstrip("=") if build else version, build) if _is_version(version) else None


def _is_version(text: str) -> bool:
    if text.count("(") != text.count(")"):
        return False
    clauses = re.split(r"[,|]", text.replace("(", "").replace(")", ""))
    return all(_CLAUSE.fullmatch(clause.strip()) and re.search(r"[\d*^]", clause) for clause in clauses)


def _python(package: Package) -> str | None:
    """The constraint that a line puts on Python; None when it is more than uv can be told."""
    parsed = _SPEC.fullmatch(package.spec)
    parts = _split(parsed["rest"]) if parsed and not parsed["channel"] and not parsed["keys"] else None
    if parts is None or parts[1]:
        return None
    constraint = re.sub(r"^=(?!=)", "", parts[0])
    try:
        pythons.specifiers(constraint)
    except ValueError:
        return None
    return constraint


def _found(value: Any) -> str:
    """What stands there instead, for a message."""
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {value!r}"
