"""
Environments from PyPI, made by uv and kept by the hash of what went into them.

A build that is cut off must not be mistaken for an environment, and two that start
at once must not write into one folder. So each environment has a lock, which the
builder's own processes inherit: should this one be killed, uv still holds the lock
until it has ended, and only then somebody else starts again. What marks an
environment as whole is written last. It is built where it stays, since scripts and
compiled files carry its path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from uv import find_uv_bin

from modelport.builds import conda as conda_files
from modelport.builds.base import Built, Wanted
from modelport.builds.conda import Requirements
from modelport.builds.diagnosis import failure, fault, masked
from modelport.builds.locks import locked
from modelport.builds.scoring import ScoringPackage, minor_version

_FORMAT = 1  # of what a builder makes from the same input: a change makes every key another one
_MARKER = "modelport.json"

# What would make uv, or the Python that it starts, look into the user's own environment.
_LEAKS = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "__PYVENV_LAUNCHER__")


@frozen(kw_only=True)
class _Recipe:
    """All that a build needs to know, and its hash."""

    key: str
    requirements: Requirements
    minor: int
    python: str
    """The interpreter as uv is asked for it: `==3.11.*,>=3.9`."""
    warnings: tuple[str, ...]


class VenvBuilder:
    """
    Builds environments under `cache`, each in a folder named by its key, with its last log beside it.

    `scoring` is the folder of the `modelport_scoring` package that is copied into each. `offline` keeps
    uv from the network: only what it has in its own cache can be installed.
    """

    def __init__(self, cache: Path, *, scoring: Path | None = None, offline: bool = False) -> None:
        self._cache = cache.resolve()  # an environment carries its path, which must not be that of a link
        self._scoring = ScoringPackage(scoring)
        self._offline = offline
        self._children: set[int] = set()
        self._closed = False

    def key(self, wanted: Wanted) -> str:
        """
        The name of the environment: equal for files that ask for the same thing.

        Raises:
            errors.ValidationException: As `check`.
        """
        return self._recipe(wanted).key

    def check(self, wanted: Wanted) -> tuple[str, ...]:
        """
        Sentences about what will be met in another way than asked for; quick, and without the network.

        Raises:
            errors.ValidationException: The file is not a conda file, or wants a Python that cannot serve.
            errors.UnsupportedByBackend: It names conda packages that have no verified equal on PyPI.
        """
        return self._recipe(wanted).warnings

    def build(self, wanted: Wanted, report: Callable[[str], None]) -> Built:
        """
        The environment, made now or found in the cache; `report` gets uv's lines as they come.

        Raises:
            errors.ValidationException: As `check`.
            errors.ImageBuildFailure: A requirement could not be met; ends with the builder's last lines.
        """
        recipe = self._recipe(wanted)
        prefix = self._cache / recipe.key
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self._lock(recipe.key), lambda: report("Waiting for another build of this environment.")) as lock:
            if not _is_whole(prefix):
                self._make(recipe, prefix, report, lock)
            os.utime(prefix / _MARKER)  # `prune` goes by the last use
        return Built(key=recipe.key, python=str(_python(prefix)), warnings=recipe.warnings)

    def has(self, key: str) -> bool:
        """Whether what was built under `key` is there still."""
        return _is_whole(self._cache / key)

    def close(self) -> None:
        """End the builds that run; they fail, and what they left is removed by the next one."""
        self._closed = True
        for pid in list(self._children):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def prune(self, keep: Collection[str], max_bytes: int | None) -> list[str]:
        """
        Remove environments until at most `max_bytes` are left, the longest unused first; None removes all.

        Those whose keys are in `keep`, and those that are being built, stay. What builds that were cut off
        have left goes in any case. Returns the keys removed.
        """
        found = [(*_last_use_and_size(folder), folder) for folder in self._cache.glob("*/") if _is_key(folder.name)]
        total = sum(size for _, size, _ in found)
        removed = []
        for last_use, size, folder in sorted(found):
            if folder.name in keep or (last_use and max_bytes is not None and total <= max_bytes):
                continue
            if self._remove(folder, last_use):
                total -= size
                removed.append(folder.name)
        return removed

    def _recipe(self, wanted: Wanted) -> _Recipe:
        requirements = Requirements() if wanted.conda is None else conda_files.read(wanted.conda)
        minor, untried = minor_version(requirements.python)
        python = ",".join(sorted({*conda_files.python_specifiers(requirements.python), f"==3.{minor}.*"}))
        ingredients = {
            "format": _FORMAT,
            "platform": sysconfig.get_platform(),
            "python": python,
            "requirements": requirements.lines,
            "scoring": self._scoring.digest(),
        }
        digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
        # 80 bits never meet by chance, and a short name leaves room in paths and on `#!` lines.
        return _Recipe(
            key=digest[:20],
            requirements=requirements,
            minor=minor,
            python=python,
            warnings=(*requirements.warnings, *untried),
        )

    def _make(self, recipe: _Recipe, prefix: Path, report: Callable[[str], None], lock: int) -> None:
        shutil.rmtree(prefix, ignore_errors=True)
        try:
            with self._log(recipe.key).open("w", encoding="utf-8") as log:

                def tell(line: str) -> None:
                    log.write(f"{line}\n")
                    log.flush()
                    report(line)

                self._make_python(recipe, prefix, tell, lock)
                self._install(recipe, prefix, tell, lock)
            _mark(prefix)
        except BaseException as error:
            shutil.rmtree(prefix, ignore_errors=True)
            if isinstance(error, OSError):  # no room, no uv: nothing that a requirement could help
                raise failure(f"{error}.", []) from error
            raise

    def _make_python(self, recipe: _Recipe, prefix: Path, tell: Callable[[str], None], lock: int) -> None:
        tell(f"Creating an environment with Python 3.{recipe.minor}.")
        environment = {**_environment(), "PATH": _interpreter_path(recipe.minor)}
        status, lines = self._uv(
            ["venv", "--quiet", "--no-project", "--python", recipe.python, str(prefix)], environment, tell, lock
        )
        if status:
            asked = f"python={recipe.requirements.python}" if recipe.requirements.python else f"Python 3.{recipe.minor}"
            raise failure(
                f"no interpreter for {asked} is on this machine, and uv could not fetch one."
                f" Install Python 3.{recipe.minor}, or ask for a version that is there.",
                lines,
            )

    def _install(self, recipe: _Recipe, prefix: Path, tell: Callable[[str], None], lock: int) -> None:
        asked = prefix / "requirements.txt"
        asked.write_text("".join(f"{line}\n" for line in recipe.requirements.lines), encoding="utf-8")
        # One resolution: what the user pins wins, or clashes aloud.
        command = [
            "pip",
            "install",
            "--compile-bytecode",
            "--python",
            str(_python(prefix)),
            "-r",
            str(self._scoring.requirements),
        ]
        command += ["-r", str(asked)] if recipe.requirements.lines else []
        status, lines = self._uv(command, _environment(), tell, lock)
        if status:
            raise failure(fault("\n".join(lines), recipe.requirements.lines, self._scoring.lines()), lines)
        self._copy_scoring(prefix, tell, lock)

    def _copy_scoring(self, prefix: Path, tell: Callable[[str], None], lock: int) -> None:
        (site_packages,) = prefix.glob("lib/python3*/site-packages")
        copy = site_packages / "modelport_scoring"
        shutil.copytree(self._scoring.folder, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        # uv compiles only what it installs itself, and replicas start cold.
        compile_copy = [str(_python(prefix)), "-I", "-m", "compileall", "-q", str(copy)]
        status, lines = self._run(compile_copy, _environment(), tell, lock)
        if status:
            raise failure("the scoring server does not compile with this Python. Ask for another version.", lines)

    def _uv(
        self, command: Sequence[str], environment: Mapping[str, str], tell: Callable[[str], None], lock: int
    ) -> tuple[int, list[str]]:
        """The exit status and the lines of one uv command, told as they come."""
        options = ["--color", "never", *(["--offline"] if self._offline else [])]
        return self._run([find_uv_bin(), *command, *options], environment, tell, lock)

    def _run(
        self, command: Sequence[str], environment: Mapping[str, str], tell: Callable[[str], None], lock: int
    ) -> tuple[int, list[str]]:
        lines = []
        with subprocess.Popen(
            command,
            cwd=self._cache,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            pass_fds=(lock,),
        ) as process:
            assert process.stdout is not None
            try:
                self._children.add(process.pid)
                if self._closed:
                    os.killpg(process.pid, signal.SIGKILL)
                for line in process.stdout:
                    lines.append(masked(line.rstrip()))
                    tell(lines[-1])
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                self._children.discard(process.pid)
        return process.returncode, lines

    def _remove(self, folder: Path, last_use: float) -> bool:
        """Remove an environment, unless it is being built or was used since."""
        try:
            with locked(self._lock(folder.name)):
                if _last_use_and_size(folder)[0] != last_use:
                    return False
                # The marker first: cut off here, what is left is no environment.
                (folder / _MARKER).unlink(missing_ok=True)
                shutil.rmtree(folder)
                self._log(folder.name).unlink(missing_ok=True)
        except BlockingIOError:
            return False
        return True

    def _lock(self, key: str) -> Path:
        return self._cache / f"{key}.lock"

    def _log(self, key: str) -> Path:
        return self._cache / f"{key}.log"


def _interpreter_path(minor: int) -> str:
    """
    PATH for uv's search: this interpreter's own folder, the user's PATH, and what pyenv has.

    pyenv's shims stand on PATH for versions that are not switched on, and fail; the real ones do not stand there.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    inherited = os.environ.get("PATH", os.defpath).split(os.pathsep)
    own = [f"{sys.base_prefix}/bin"] if minor == sys.version_info.minor else []
    others = sorted(str(folder) for folder in pyenv.glob(f"versions/3.{minor}.*/bin"))
    return os.pathsep.join([*own, *(folder for folder in inherited if Path(folder) != pyenv / "shims"), *others])


def _environment() -> dict[str, str]:
    """The user's environment, with uv's own settings (`UV_…`), but for what would leak into the one being built."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_LEAKS)}


def _python(prefix: Path) -> Path:
    return prefix / "bin" / "python"


def _is_whole(prefix: Path) -> bool:
    # bin/python links to the machine's interpreter, which may have been removed since.
    return (prefix / _MARKER).exists() and _python(prefix).exists()


def _mark(prefix: Path) -> None:
    """Write down that `prefix` is whole, and its size, in one step."""
    size = sum(path.lstat().st_size for path in prefix.rglob("*"))
    unfinished = prefix / f"{_MARKER}.new"
    unfinished.write_text(json.dumps({"size_bytes": size}), encoding="utf-8")
    unfinished.replace(prefix / _MARKER)


def _last_use_and_size(folder: Path) -> tuple[float, int]:
    """When it was last used, and its size in bytes; zeros for what a build that was cut off has left."""
    try:
        marker = folder / _MARKER
        return marker.stat().st_mtime, json.loads(marker.read_text(encoding="utf-8"))["size_bytes"]
    except FileNotFoundError:
        return 0.0, 0


def _is_key(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{20}", name) is not None
