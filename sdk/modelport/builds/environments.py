"""
Environments in images: made in a container of the image, where uv and its cache are mounted.

uv is this machine's own, from its wheel. Where it cannot run in the image (another
libc, another machine's) the image's pip does, with the same files and the same cache.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen
from docker.types import Mount
from uv import find_uv_bin

from modelport.builds.base import Built, Wanted
from modelport.builds.diagnosis import failure, fault
from modelport.builds.layers import ENVIRONMENT, WORK, Layer, read_only, volume
from modelport.builds.recipes import Recipe, conda_document
from modelport.builds.scoring import ScoringPackage

PYTHON = f"{ENVIRONMENT}/bin/python"
"""The interpreter of an environment that was made in the image."""

_UV, _SCORING, _ASKED, _PREFIX, _PACKAGES = (
    f"{WORK}/{each}" for each in ("uv", "scoring", "asked", "prefix", "packages")
)

# What of the user's environment is for uv in a container as well: indexes and how to reach them, no paths of here.
_SETTINGS = re.compile(r"UV_(?!CACHE|PYTHON|PROJECT|TOOL|CONFIG_FILE|INSTALL|FIND_LINKS)\w+|\w+_proxy", re.IGNORECASE)

_COPY_SCORING = """
import compileall, os, shutil, sys, sysconfig
target = os.path.join(sysconfig.get_path("purelib"), "modelport_scoring")
shutil.rmtree(target, ignore_errors=True)
shutil.copytree(sys.argv[1], target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
for folder, _, files in os.walk(target):
    os.chmod(folder, 0o755)
    for each in files:
        os.chmod(os.path.join(folder, each), 0o644)
sys.exit(not compileall.compile_dir(target, quiet=1))
"""
# A replica is not root, and Python may stand in root's home.
_OPEN_TO_ALL = """
import os, stat, sys
for each in {os.path.realpath(sys.executable), os.path.abspath(sys.prefix), os.path.abspath(sys.base_prefix)}:
    while each != "/":
        each = os.path.dirname(each)
        mode = stat.S_IMODE(os.stat(each).st_mode)
        if not mode & stat.S_IXOTH:
            os.chmod(each, mode | stat.S_IXOTH)
"""
# A virtual environment made from a virtual environment would see only what Python itself has.
_SEE_FOLDERS = """
import os, sys, sysconfig
with open(os.path.join(sysconfig.get_path("purelib"), "modelport_image.pth"), "w") as file:
    file.writelines(folder + "\\n" for folder in sys.argv[1:])
"""


@contextmanager
def mounted(
    recipe: Recipe, wanted: Wanted, *, scoring: ScoringPackage, packages: str, outside: Built | None, work: Path
) -> Iterator[list[Mount]]:
    """What the container needs from outside; files for it stand in a folder in `work` meanwhile."""
    with TemporaryDirectory(prefix="asked-", dir=work) as folder:
        asked = Path(folder)
        asked.chmod(0o755)  # another root than ours, where Docker maps users
        files = {
            "requirements.txt": _text(recipe.requirements.lines),
            "tools.txt": _text(wanted.tools),
            "scoring.txt": "" if wanted.azure_server else scoring.requirements.read_text(encoding="utf-8"),
            "image.txt": _text(recipe.python.packages if recipe.python and wanted.conda is None else ()),
            "conda.yml": conda_document(recipe, (wanted.conda or {}).get("channels")),
        }
        for name, text in files.items():
            (asked / name).write_text(text, encoding="utf-8")
        mounts = [read_only(asked, _ASKED), volume(packages, _PACKAGES)]
        if outside:
            mounts.append(read_only(Path(outside.python).parent.parent, _PREFIX))
        if sys.platform == "linux":
            mounts.append(read_only(Path(find_uv_bin()), _UV))
        yield mounts


def scoring_mounted(scoring: ScoringPackage) -> Mount:
    """What a container for `copy_scoring` needs."""
    return read_only(scoring.folder, _SCORING)


def copy_scoring(layer: Layer, python: str, tell: Callable[[str], None]) -> None:
    """
    Put the scoring server, compiled ahead, where `python` of the image finds it.

    Raises:
        errors.ImageBuildFailure: This Python cannot compile it.
    """
    status, lines = layer.run([python, "-I", "-c", _COPY_SCORING, _SCORING], tell)
    if status:
        raise failure(
            "the scoring server does not compile with this Python. Ask for another version.", lines, what="Image"
        )


@frozen(kw_only=True)
class Filling:
    """A container in which an environment is made."""

    layer: Layer
    recipe: Recipe
    wanted: Wanted
    image: str
    """Its name, for sentences."""
    scoring: Sequence[str]
    """What the scoring server needs, when it is to serve."""
    offline: bool
    tell: Callable[[str], None]

    def make(self, outside: Built | None) -> str:
        """
        Make the environment, or copy what was made `outside`; return its interpreter.

        Raises:
            errors.ImageBuildFailure: It cannot be made.
        """
        if outside:
            self._copy(outside)
            return outside.python
        # Not `--version`, which says nothing of settings that the image has for another uv.
        uv = self.layer.run([_UV, "cache", "dir"], lambda _: None, _variables())[0] == 0
        if self.recipe.way == "conda":
            self._conda()
        else:
            self._venv(uv)
        self._install(uv)
        if self.wanted.azure_server and self._run([PYTHON, "-I", "-c", "import azureml_inference_server_http"])[0]:
            raise failure(
                "the environment has no azureml-inference-server-http, which is to serve. Add it to the conda file's "
                "`pip:` section, or let Modelport's own scoring server serve.",
                [],
            )
        self._run(["chmod", "-R", "a+rX", ENVIRONMENT])
        self._run([PYTHON, "-I", "-c", _OPEN_TO_ALL])
        return PYTHON

    def _copy(self, outside: Built) -> None:
        # To the very path, which scripts and libraries of a conda prefix carry.
        prefix = Path(outside.python).parent.parent
        self.tell("Copying the environment that was made outside the image.")
        status, lines = self._run(["mkdir", "-p", str(prefix)])
        if not status:
            status, lines = self._run(["cp", "-a", f"{_PREFIX}/.", str(prefix)])
        if status:
            raise failure("the environment that was made for it could not be copied into it.", lines)
        self._run(["chmod", "-R", "a+rX", str(prefix)])
        status, lines = self._run([outside.python, "-I", "-c", f"import modelport_scoring\n{_OPEN_TO_ALL}"])
        if status:
            raise failure(
                f"the environment that was made for it does not run in image '{self.image}'. Start from an image "
                "with glibc, such as Debian's.",
                lines,
            )

    def _venv(self, uv: bool) -> None:
        python = self.recipe.python
        assert python
        self.tell(f"Creating an environment with the image's {python}.")
        # What a conda file asks for is all that there is; without one, the image's own packages are to be seen.
        seen = [] if self.wanted.conda is not None else ["--system-site-packages"]
        made_by_uv = [_UV, "venv", "--quiet", "--no-project", "--python", python.path, *seen, ENVIRONMENT]
        made_by_python = [python.path, "-m", "venv", "--without-pip", *seen, ENVIRONMENT]
        status, lines = self._run(made_by_uv if uv else made_by_python)
        if status:
            raise failure(
                f"{python} of image '{self.image}' cannot make virtual environments. Install its module `venv`, or "
                "start from another image.",
                lines,
            )
        if seen and python.folders:
            self._run([PYTHON, "-I", "-c", _SEE_FOLDERS, *python.folders])

    def _conda(self) -> None:
        conda = self.recipe.conda
        create = ["create"] if "micromamba" in conda else ["env", "create"]
        command = [conda, *create, "-p", ENVIRONMENT, "-f", f"{_ASKED}/conda.yml"]
        self.tell(f"Creating an environment with {conda} of the image.")
        status, lines = self._run([*command, *(["--offline"] if self.offline else [])])
        if status:
            missing = [spec for spec in self.recipe.packages if _is_missing(spec, lines)]
            named = (
                f"'{missing[0]}' was not found" if missing else "what the conda file asks for could not be installed"
            )
            raise failure(
                f"{named} by {conda} of image '{self.image}'. Check the name, the version and the channels.", lines
            )

    def _install(self, uv: bool) -> None:
        """All that pip is to install, in one resolution: what the user pins wins, or clashes aloud."""
        wanted = {"scoring": self.scoring, "requirements": self.recipe.requirements.lines, "tools": self.wanted.tools}
        files = [f"{_ASKED}/{name}.txt" for name, lines in wanted.items() if lines]
        if not files:
            return
        asked = [option for each in files for option in ("-r", each)]
        if uv:
            command = [_UV, "pip", "install", "--color", "never", "--compile-bytecode", "--python", PYTHON, *asked]
            command += ["--offline"] if self.offline else []
        else:
            assert self.recipe.python
            pip = [self.recipe.python.path, "-m", "pip", "--python", PYTHON]
            command = [*pip, "install", "--progress-bar", "off", *asked, *(["--no-index"] if self.offline else [])]
        # The image's packages stay as they are: another version beside them could break what needs them.
        status, lines = self._run([*command, "-c", f"{_ASKED}/image.txt"] if self.wanted.conda is None else command)
        if status and self.wanted.conda is None and "No solution found" in "\n".join(lines):
            self.tell("With the image's own versions that cannot be; installing others beside them.")
            status, lines = self._run(command)
        if status:
            ours = [*wanted["requirements"], *wanted["tools"]]
            raise failure(_sentence("\n".join(lines), ours, self.scoring, offline=self.offline), lines)

    def _run(self, command: Sequence[str]) -> tuple[int, list[str]]:
        return self.layer.run(command, self.tell, _variables())


def _is_missing(spec: str, lines: Sequence[str]) -> bool:
    """Whether conda, mamba or micromamba says in `lines` that there is no such package."""
    name = re.escape(re.split(r"[\s=<>!~\[]", spec.rpartition("::")[2])[0].lower())
    words = rf"(nothing provides|not found|does not exist|not available)\b.*\b{name}\b|\b{name}\b.*does not exist"
    return any(re.search(words, line.lower()) or re.fullmatch(rf" +- {name}\b.*", line.lower()) for line in lines)


def _sentence(output: str, wanted: Sequence[str], scoring: Sequence[str], *, offline: bool) -> str:
    """As `fault`, which reads uv's words; this is for pip's."""
    if named := re.search(r"ERROR: No matching distribution found for (\S+)", output):
        return f"requirement '{named[1]}' was not found: the package index has no such version. Check its name."
    if named := re.search(r"ERROR: Cannot install (.+?) because these package versions have conflict", output):
        return f"requirements {named[1]} exclude each other. Relax one of them."
    return fault(output, wanted, scoring, offline=offline)


def _variables() -> dict[str, str]:
    """The environment of commands: the user's settings for indexes, and where caches are."""
    return {
        **{name: value for name, value in os.environ.items() if _SETTINGS.fullmatch(name)},
        "UV_CACHE_DIR": f"{_PACKAGES}/uv",
        "UV_LINK_MODE": "copy",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "PIP_CACHE_DIR": f"{_PACKAGES}/pip",
        "PIP_ROOT_USER_ACTION": "ignore",
        "CONDA_PKGS_DIRS": f"{_PACKAGES}/conda",
        "CONDA_ALWAYS_YES": "true",
        "MAMBA_ALWAYS_YES": "true",
        "MAMBA_ROOT_PREFIX": f"{_PACKAGES}/mamba",
    }


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
