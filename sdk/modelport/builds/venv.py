"""
What uv does: environments of this machine's interpreters, and what PyPI has.

One resolution installs what the user asked for, what scoring needs and the tools: what
the user pins wins, or clashes aloud. Where conda has installed something already, that
counts as pinned too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen
from uv import find_uv_bin

from modelport.builds import pythons
from modelport.builds.children import Children, own_environment
from modelport.builds.conda import Requirements
from modelport.builds.diagnosis import failure, fault
from modelport.builds.scoring import ScoringPackage


@frozen(kw_only=True)
class Site:
    """A folder that becomes an environment, and the programs that make it one."""

    prefix: Path
    scoring: ScoringPackage
    children: Children
    lock: int
    """Descriptor of the lock that the programs hold."""
    tell: Callable[[str], str]
    offline: bool

    @property
    def python(self) -> Path:
        """The interpreter."""
        return python_of(self.prefix)

    def make(self, requirements: Requirements, minor: int, specifiers: str) -> None:
        """
        Make a virtual environment of an interpreter such as `==3.11.*,>=3.9`.

        Raises:
            errors.ImageBuildFailure: There is none, and none can be fetched.
        """
        self.tell(f"Creating an environment with Python 3.{minor}.")
        command = ["venv", "--quiet", "--no-project", "--python", specifiers, str(self.prefix)]
        status, lines = self._uv(command, PATH=pythons.interpreter_path(minor))
        if status:
            asked = f"python={requirements.python}" if requirements.python else f"Python 3.{minor}"
            raise failure(
                f"no interpreter for {asked} is on this machine, and uv could not fetch one."
                f" Install Python 3.{minor}, or ask for a version that is there.",
                lines,
            )

    def install(self, requirements: Requirements, tools: Sequence[str]) -> None:
        """
        Install the `pip:` section, `tools` and what scoring needs beside what is there, and the scoring server.

        Raises:
            errors.ImageBuildFailure: A requirement could not be met.
        """
        pinned = _installed_by_conda(self.prefix)
        wanted = [*requirements.lines, *tools]
        command = ["pip", "install", "--compile-bytecode", "--python", str(self.python)]
        command += ["-r", str(self.scoring.requirements)]
        command += self._file("-r", "requirements.txt", wanted) + self._file("-c", "conda-pins.txt", pinned)
        # A conda package may mark its Python as managed by somebody else; it is managed by us.
        command += ["--break-system-packages"] if requirements.packages else []
        status, lines = self._uv(command)
        if status:
            said = "\n".join(lines)
            raise failure(fault(said, wanted, self.scoring.lines(), pinned, offline=self.offline), lines)
        self._copy_scoring()
        if requirements.packages:
            # conda packages for every Python come without; what does not compile nobody could import either.
            self._compile(site_packages(self.prefix), "-j", "0")

    def _copy_scoring(self) -> None:
        copy = site_packages(self.prefix) / "modelport_scoring"
        shutil.copytree(self.scoring.folder, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        # uv compiles only what it installs itself, and replicas start cold.
        status, lines = self._compile(copy)
        if status:
            raise failure("the scoring server does not compile with this Python. Ask for another version.", lines)

    def _compile(self, folder: Path, *flags: str) -> tuple[int, list[str]]:
        command = [str(self.python), "-I", "-m", "compileall", "-q", *flags, str(folder)]
        quiet: Callable[[str], str] = str if flags else self.tell
        return self.children.run(command, quiet, self.lock, folder=self.prefix.parent, environment=own_environment())

    def _file(self, flag: str, name: str, lines: Sequence[str]) -> list[str]:
        path = self.prefix / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return [flag, str(path)] if lines else []

    def _uv(self, command: Sequence[str], **environment: str) -> tuple[int, list[str]]:
        """The exit status and the lines of one uv command, told as they come."""
        options = ["--color", "never", *(["--offline"] if self.offline else [])]
        return self.children.run(
            [find_uv_bin(), *command, *options],
            self.tell,
            self.lock,
            folder=self.prefix.parent,
            environment={**own_environment(), **environment},
        )


def python_of(prefix: Path) -> Path:
    """The interpreter of an environment."""
    return prefix / "bin" / "python"


def site_packages(prefix: Path) -> Path:
    """Where an environment has its packages."""
    # conda's own Python has a link python3.1 to python3.11 beside it.
    (found,) = {path.resolve() for path in prefix.glob("lib/python3*/site-packages")}
    return found


def distributions(prefix: Path) -> dict[str, tuple[str, str, str]]:
    """What is installed, by normalised name: how pip names it, its version or URL with `==` or ` @ `, and by whom."""
    found = {}
    for folder in sorted(site_packages(prefix).glob("*.dist-info")):
        named = re.search(r"^Name: *(\S+)$.*?^Version: *(\S+)$", _text(folder / "METADATA"), re.MULTILINE | re.DOTALL)
        if named:
            installer = _text(folder / "INSTALLER").strip()
            url = json.loads(_text(folder / "direct_url.json") or "{}").get("url")
            where = f" @ {url}" if url and installer != "conda" else f"=={named[2]}"
            found[re.sub(r"[-_.]+", "-", named[1]).lower()] = (named[1], where, installer)
    return found


def _installed_by_conda(prefix: Path) -> list[str]:
    """Pins of what conda has installed that Python can import."""
    if not (prefix / "conda-meta").is_dir():
        return []
    return [f"{name}{version}" for name, version, _ in distributions(prefix).values()]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
