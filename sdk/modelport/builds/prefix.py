"""
Environments on this machine, made by rattler and uv, and kept by the hash of what went into them.

A build that is cut off must not be mistaken for an environment, and two that start
at once must not write into one folder. So each environment has a lock, which the
builder's own programs inherit: should this process be killed, they still hold the lock
until they have ended, and only then somebody else starts again. What marks an
environment as whole is written last. It is built where it stays, since scripts and
compiled files carry its path.

A file that asks conda for nothing but Python is uv's alone: no channel is asked. For
any other, the solution is kept beside the environments and found again by whoever asks
the same channels for the same packages, so that it changes only when somebody removes it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Collection
from pathlib import Path

from attrs import evolve, frozen

from modelport import errors
from modelport.builds import conda as conda_files
from modelport.builds import marks, pythons
from modelport.builds.base import Built, Wanted, is_offline
from modelport.builds.channels import masked
from modelport.builds.children import Children, own_environment
from modelport.builds.conda import Package, Requirements
from modelport.builds.diagnosis import conda_fault, failure
from modelport.builds.locks import locked
from modelport.builds.marks import Environment
from modelport.builds.scoring import ScoringPackage
from modelport.builds.solver import VERDICT, Order, Verdict
from modelport.builds.venv import Site, python_of

_FORMAT = 1  # of what a builder makes from the same input: a change makes every key another one


@frozen(kw_only=True)
class _Recipe:
    """All that a build needs to know, and its hash."""

    key: str
    requirements: Requirements
    minor: int
    python: str
    """The interpreter as uv is asked for it: `==3.11.*,>=3.9`."""
    packages: tuple[Package, ...]
    """What is asked of conda, with what scoring needs of Python; empty when uv can do it all."""
    solution: str
    """Name of the lock."""
    tools: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def about(self) -> dict[str, object]:
        """What the environment is of."""
        asked = [package.line for package in self.requirements.packages]
        if not asked:
            asked = [f"python {self.requirements.python or f'3.{self.minor}'}"]
        asked += [masked(line) for line in (*self.requirements.lines, *self.tools)]
        return {"name": self.requirements.name, "asked": asked, "solution": self.solution}


class PrefixBuilder:
    """
    Builds environments under `cache`, each in a folder named by its key, with its last log beside it.

    `scoring` is the folder of the `modelport_scoring` package that is copied into each. `offline`, or
    MODELPORT_OFFLINE=1, keeps uv and rattler from the network: only what is in their caches can be installed.
    """

    def __init__(self, cache: Path, *, scoring: Path | None = None, offline: bool = False) -> None:
        self._cache = cache.resolve()  # an environment carries its path, which must not be that of a link
        self._scoring = ScoringPackage(scoring)
        self._offline = offline or is_offline()
        self._children = Children()

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
            errors.UnsupportedByBackend: It needs conda packages, and what installs them is not here.
        """
        return self._recipe(wanted).warnings

    def build(self, wanted: Wanted, report: Callable[[str], None]) -> Built:
        """
        The environment, made now or found in the cache; `report` gets the lines of rattler and uv as they come.

        Raises:
            errors.ValidationException: As `check`.
            errors.ImageBuildFailure: A requirement could not be met; ends with the builder's last lines.
        """
        recipe = self._recipe(wanted)
        prefix = self._cache / recipe.key
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self._lock(recipe.key), lambda: report("Waiting for another build of this environment.")) as lock:
            if not marks.is_whole(prefix):
                self._make(recipe, prefix, report, lock)
            marks.used(prefix)  # `prune` goes by the last use
        return Built(key=recipe.key, python=str(python_of(prefix)), warnings=recipe.warnings)

    def has(self, key: str) -> bool:
        """Whether what was built under `key` is there still."""
        return marks.is_whole(self._cache / key)

    def close(self) -> None:
        """End the builds that run; they fail, and what they left is removed by the next one."""
        self._children.close()

    def environments(self) -> list[Environment]:
        """What is in the cache, the longest unused first; with what builds that were cut off have left."""
        found = [marks.environment(folder) for folder in self._cache.glob("*/") if marks.is_key(folder.name)]
        return sorted(found, key=lambda each: (each.last_used, each.size_bytes, each.key))

    def prune(self, keep: Collection[str], max_bytes: int | None) -> list[str]:
        """
        Remove environments until at most `max_bytes` are left, the longest unused first; None removes all.

        Those whose keys are in `keep`, and those that are being built, stay. What builds that were cut off
        have left goes in any case, and so do solutions that no environment is of. Returns the keys removed.
        """
        found = self.environments()
        total = sum(each.size_bytes for each in found)
        removed = []
        for each in found:
            if each.key in keep or (each.whole and max_bytes is not None and total <= max_bytes):
                continue
            if self._remove(each):
                total -= each.size_bytes
                removed.append(each.key)
        needed = {each.solution for each in self.environments()}
        for solution in self._cache.glob("*.conda.yml") if removed or max_bytes is None else ():
            if solution.name.partition(".")[0] not in needed:
                solution.unlink(missing_ok=True)
        return removed

    def _recipe(self, wanted: Wanted) -> _Recipe:
        requirements = Requirements() if wanted.conda is None else conda_files.read(wanted.conda)
        if requirements.packages and importlib.util.find_spec("rattler") is None:
            listed = ", ".join(f"'{each.line}'" for each in requirements.packages)
            raise errors.UnsupportedByBackend(
                f"The conda file asks conda for {listed}, and py-rattler, which installs conda packages, is not"
                " installed: pip install 'modelport[conda]'.",
                target="conda_file.dependencies",
            )
        minor, untried = pythons.minor(requirements.python)
        python = ",".join(sorted({*pythons.specifiers(requirements.python), f"==3.{minor}.*"}))
        packages = _with_python(requirements, minor)
        tools = tuple(sorted(wanted.tools))
        ingredients: dict[str, object] = {
            "format": _FORMAT,
            "platform": sysconfig.get_platform(),
            "requirements": requirements.lines,
            "scoring": self._scoring.digest(),
        }
        asked = {
            "platform": sysconfig.get_platform(),
            "channels": [channel.url for channel in requirements.channels],
            "packages": sorted(package.spec for package in packages),
        }
        ingredients |= asked if packages else {"python": python}
        ingredients |= {"tools": tools} if tools else {}
        return _Recipe(
            key=_hash(ingredients),
            requirements=requirements,
            minor=minor,
            python=python,
            packages=packages,
            solution=_hash(asked) if packages else "",
            tools=tools,
            warnings=(*requirements.warnings, *untried),
        )

    def _make(self, recipe: _Recipe, prefix: Path, report: Callable[[str], None], lock: int) -> None:
        shutil.rmtree(prefix, ignore_errors=True)
        secrets = recipe.requirements.secrets
        try:
            with self._log(recipe.key).open("w", encoding="utf-8") as log:

                def tell(line: str) -> str:
                    if line.startswith(VERDICT):
                        return line
                    shown = masked(line, secrets)
                    log.write(f"{shown}\n")
                    log.flush()
                    report(shown)
                    return shown

                site = Site(
                    prefix=prefix,
                    scoring=self._scoring,
                    children=self._children,
                    lock=lock,
                    tell=tell,
                    offline=self._offline,
                )
                if recipe.packages:
                    self._install_conda(recipe, site)
                else:
                    site.make(recipe.requirements, recipe.minor, recipe.python)
                site.install(recipe.requirements, recipe.tools)
            marks.mark(prefix, recipe.about)
        except BaseException as error:
            shutil.rmtree(prefix, ignore_errors=True)
            if isinstance(error, OSError):  # no room, no uv: nothing that a requirement could help
                raise failure(f"{error}.", []) from error
            raise

    def _install_conda(self, recipe: _Recipe, site: Site) -> None:
        site.tell("Creating an environment with conda packages.")
        order = Order(
            prefix=str(site.prefix),
            lock=str(self._cache / f"{recipe.solution}.conda.yml"),
            specs=[package.spec for package in recipe.packages],
            channels=recipe.requirements.channels,
            offline=self._offline,
        )
        said, verdict = self._solve(order, site)
        if verdict and verdict.kind == "stale":
            site.tell("Solving again.")
            shutil.rmtree(site.prefix, ignore_errors=True)
            said, verdict = self._solve(evolve(order, anew=True), site)
        if verdict:
            reason = conda_fault(verdict, recipe.packages, recipe.requirements.channels)
            raise failure(masked(reason, recipe.requirements.secrets), said)

    def _solve(self, order: Order, site: Site) -> tuple[list[str], Verdict | None]:
        """What the solver's program said, and why it failed where it did."""
        status, lines = self._children.run(
            [sys.executable, "-m", "modelport.builds.solver"],
            site.tell,
            site.lock,
            folder=self._cache,
            environment={**own_environment(), **_own_path()},
            given=order.dump(),
        )
        if not status:
            return lines, None
        *said, last = lines or [""]
        if not last.startswith(VERDICT):
            raise failure("its conda packages could not be installed.", lines)
        return said, Verdict.load(last.removeprefix(VERDICT))

    def _remove(self, environment: Environment) -> bool:
        """Remove an environment, unless it is being built or was used since."""
        folder = self._cache / environment.key
        try:
            with locked(self._lock(environment.key)):
                if marks.environment(folder).last_used != environment.last_used:
                    return False
                # The mark first: cut off here, what is left is no environment.
                marks.unmark(folder)
                shutil.rmtree(folder)
                self._log(environment.key).unlink(missing_ok=True)
        except BlockingIOError:
            return False
        return True

    def _lock(self, key: str) -> Path:
        return self._cache / f"{key}.lock"

    def _log(self, key: str) -> Path:
        return self._cache / f"{key}.log"


def _with_python(requirements: Requirements, minor: int) -> tuple[Package, ...]:
    """What is asked of conda, with a Python that scoring runs on: the running one when the file does not say."""
    if not requirements.packages:
        return ()
    named = any(package.name == "python" and package.spec != "python" for package in requirements.packages)
    first, after = pythons.TRIED[0], pythons.TRIED[-1] + 1
    bounds = f"python >=3.{first},<3.{after}.0a0" if named else f"python 3.{minor}.*"
    line = f"Python {pythons.span()}" if named else f"Python 3.{minor}"
    return (*requirements.packages, Package(line, "", "python", bounds))


def _hash(ingredients: object) -> str:
    digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
    # 80 bits never meet by chance, and a short name leaves room in paths and on `#!` lines.
    return digest[:20]


def _own_path() -> dict[str, str]:
    """What lets a program of ours find what this process has found."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
