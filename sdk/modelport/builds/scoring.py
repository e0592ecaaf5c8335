"""The scoring server as builders see it: a folder that is copied into whatever replicas run in, and what it needs."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from modelport import errors
from modelport.builds import conda as conda_files


class ScoringPackage:
    """The `modelport_scoring` package in `folder`; None: the one that is installed here."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or _installed()
        self._digest: tuple[object, str] = (None, "")

    @property
    def requirements(self) -> Path:
        """The file that lists what it needs."""
        return self.folder / "requirements.txt"

    def lines(self) -> list[str]:
        """What it needs, without the comments."""
        return [
            line for line in self.requirements.read_text(encoding="utf-8").splitlines() if conda_files.project(line)
        ]

    def digest(self) -> str:
        """Hash of the folder's contents, read again only when a file of it was touched."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        seen = [(path, status.st_mtime_ns, status.st_size) for path in files for status in [path.stat()]]
        if self._digest[0] != seen:
            digest = hashlib.sha256()
            for path in files:
                contents = path.read_bytes()
                digest.update(f"{path.relative_to(self.folder).as_posix()}\0{len(contents)}\0".encode() + contents)
            self._digest = (seen, digest.hexdigest())
        return self._digest[1]


def _installed() -> Path:
    """The installed `modelport_scoring`, found without importing it."""
    spec = importlib.util.find_spec("modelport_scoring")
    if spec is None or not spec.submodule_search_locations:
        raise errors.LocalServerError(
            "The package modelport_scoring, which every environment needs, is not installed. Install modelport again."
        )
    return Path(spec.submodule_search_locations[0])
