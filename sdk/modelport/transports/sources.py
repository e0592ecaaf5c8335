"""
What of a file or a folder is uploaded, and the hashes that name it.

The hashes are Azure's own, so that equal files have equal names whichever client sent
them, and nothing is sent twice. A folder is walked once and read once: while a hash is
made, each block gets a mark of its own, by which a file that changes before it is sent
is noticed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from attrs import define, field, frozen
from pathspec import PathSpec

from modelport.errors import ValidationException

BLOCK = 4 << 20
"""Bytes that one request carries at most, where a file has no more than `MOST_BLOCKS` of them. So does Azure's SDK."""

MOST_BLOCKS = 50_000
"""Blocks that a blob can have. Source: Put Block List."""

LEFT_OUT_OF_CODE = ("__pycache__", ".git")
"""Folders that are never sent with code."""

_IGNORE_FILES = (".amlignore", ".gitignore")
_BEGIN = b"Initialize for october 2021 AML CLI version"


@frozen
class File:
    """A file that is uploaded."""

    name: str
    """Where it is below the folder, with `/` between steps; of a file on its own, its name."""

    path: Path
    size: int


@frozen
class Folder:
    """A folder below the one that is uploaded. Empty ones are not uploaded, but Azure's hash knows their names."""

    name: str
    parts: tuple[File | Folder, ...]


@define
class Source:
    """A file or a folder on this machine, as it is uploaded."""

    path: Path
    parts: tuple[File | Folder, ...]
    block: int = BLOCK
    marks: dict[str, list[int]] = field(factory=dict, repr=False)
    """For each file that was read: the CRC-32 of each of its blocks, which costs little beside the hash."""

    @property
    def name(self) -> str:
        """What it is called in the upload."""
        return self.path.name

    @property
    def is_file(self) -> bool:
        """Whether it is a file on its own."""
        return self.path.is_file()

    @property
    def files(self) -> list[File]:
        """What is uploaded, in the order of names; the first one's blob carries the mark of completion."""
        return sorted(_files(self.parts), key=lambda each: each.name)

    def object_hash(self) -> str:
        """
        The hash that names models and build contexts, 64 hex digits.

        Source: recordings of azure-ai-ml 1.35.2: a SHA-256 of names and contents, folder by folder, in the order of
        names in lower case; of a file on its own, of its content.
        """
        whole = hashlib.sha256(_BEGIN)

        def take(parts: tuple[File | Folder, ...]) -> None:
            for part in parts:
                if not self.is_file:
                    whole.update(_encoded(part.name.rpartition("/")[2]))
                if isinstance(part, Folder):
                    take(part.parts)
                else:
                    for piece in self._read(part):
                        whole.update(piece)

        take(self.parts)
        return whole.hexdigest()

    def content_hash(self) -> str:
        """
        The hash that names code, 64 hex digits.

        Source: recordings of azure-ai-ml 1.35.2, `hashVersion` 202208: a SHA-256 of the number of files, of `#path#`
        and the size of each, and then of their contents, in the order of paths in lower case.
        """
        files = sorted(self.files, key=lambda each: (each.name.lower(), each.name))
        whole = hashlib.sha256(str(len(files)).encode())
        for each in files:
            whole.update(_encoded(f"#{each.name}#{each.size}"))
        for each in files:
            for piece in self._read(each):
                whole.update(piece)
        return whole.hexdigest()

    def blocks(self, file: File) -> list[tuple[int, int]]:
        """Where the blocks of a file begin, and how long they are, in bytes; none for an empty file."""
        step = self._step(file)
        return [(start, min(step, file.size - start)) for start in range(0, file.size, step)]

    def read(self, file: File, start: int, length: int) -> bytes:
        """
        A block of a file.

        Raises:
            errors.ValidationException: It is no longer what it was when its hash was made, or it cannot be read.
        """
        with _readable(file.path), file.path.open("rb") as stream:
            stream.seek(start)
            data = stream.read(length)
            longer = start + length == file.size and stream.read(1)
        known = self.marks.get(file.name)
        if longer or len(data) != length or (known and crc32(data) != known[start // self._step(file)]):
            raise _changed(file)
        return data

    def _step(self, file: File) -> int:
        return max(self.block, -(-file.size // MOST_BLOCKS))

    def _read(self, file: File) -> Iterator[bytes]:
        """The content of a file, block by block; their marks are kept."""
        marks, read, step = [], 0, self._step(file)
        with _readable(file.path), file.path.open("rb") as stream:
            while piece := stream.read(step):
                marks.append(crc32(piece))
                read += len(piece)
                yield piece
        if read != file.size:
            raise _changed(file)
        self.marks[file.name] = marks


def source(path: Path, *, leave_out: tuple[str, ...] = (), block: int = BLOCK) -> Source:
    """
    What of `path` is uploaded.

    A link is what it points at. `.amlignore` in the folder says what is left out, or else `.gitignore`; those in
    folders below say nothing, as with Azure.

    Args:
        path: A file or a folder.
        leave_out: Names of folders that are never uploaded.
        block: Bytes that one request carries at most.

    Raises:
        errors.ValidationException: It does not exist or cannot be read, has no files, has a link that leads back into
            a folder that it is in, or a name that no URL can have.
    """
    path = path.resolve() if path.is_symlink() or path.name in ("", "..") else path.absolute()
    if path.is_file():
        return Source(path, (_file(path.name, path),), block)
    ignored = _ignored(path)
    parts = _parts(path, "", ignored, leave_out, {_identity(path): path})
    if next(_files(parts), None) is None:
        raise ValidationException(
            f"Directory {path} is empty. path or local_path must be a non-empty directory.", target="path"
        )
    return Source(path, parts, block)


_Ignored = Callable[[str], bool]


def _ignored(folder: Path) -> _Ignored:
    """
    Whether a path below `folder` is left out; a folder's path ends with `/`.

    The last line that speaks of a path decides, as in Azure's SDK: git would not look into a folder that it ignores.
    """
    for name in _IGNORE_FILES:
        file = folder / name
        if file.is_file():
            with _readable(file):
                lines = file.read_text(encoding="utf-8-sig").splitlines()
            try:
                return PathSpec.from_lines("gitignore", lines).match_file
            except ValueError as error:
                raise ValidationException(f"'{file}': {error}.", target="path") from error
    return lambda _: False


def _parts(
    folder: Path, prefix: str, ignored: _Ignored, leave_out: tuple[str, ...], above: dict[tuple[int, int], Path]
) -> tuple[File | Folder, ...]:
    """What is in a folder, in the order of names in lower case. `above` are the folders that it is in."""
    with _readable(folder), os.scandir(folder) as found:
        entries = sorted(found, key=lambda each: (each.name.lower(), each.name))
    parts: list[File | Folder] = []
    for entry in entries:
        name, path = prefix + entry.name, Path(entry.path)
        if ignored(name):
            continue
        if entry.is_dir():
            if entry.name in leave_out:
                continue
            identity = _identity(path)
            if identity in above:
                raise ValidationException(
                    f"'{path}' leads back to '{above[identity]}', which it is in: there is no end to it. "
                    "Remove the link, or name it in .amlignore.",
                    target="path",
                )
            inner = _parts(path, f"{name}/", ignored, leave_out, {**above, identity: path})
            parts.append(Folder(name, inner))
        else:
            parts.append(_file(name, path))
    return tuple(parts)


def _file(name: str, path: Path) -> File:
    if not path.is_file():
        with _readable(path):
            path.stat()
        raise ValidationException(f"'{path}' is neither a file nor a folder: it cannot be uploaded.", target="path")
    if "\\" in name:
        raise ValidationException(
            f"'{path}' has a backslash in its name, which storage takes for a step of the path. Rename it.",
            target="path",
        )
    _encoded(name)
    return File(name, path, path.stat().st_size)


def _files(parts: tuple[File | Folder, ...]) -> Iterator[File]:
    for part in parts:
        if isinstance(part, Folder):
            yield from _files(part.parts)
        else:
            yield part


def _identity(folder: Path) -> tuple[int, int]:
    with _readable(folder):
        found = folder.stat()
    return found.st_dev, found.st_ino


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        message = f"{os.fsencode(name)!r} is a file whose name is not UTF-8 text, so no URL can name it. Rename it."
        raise ValidationException(message, target="path") from error


def _changed(file: File) -> ValidationException:
    return ValidationException(
        f"'{file.path}' changed while it was uploaded, so nothing was registered. Try again when nobody writes it.",
        target="path",
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell which file could not be read, and why."""
    try:
        yield
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise ValidationException(f"'{path}' cannot be read: {said}.", target="path") from error
    except UnicodeDecodeError as error:
        raise ValidationException(f"'{path}' is not UTF-8 text: {error}.", target="path") from error
