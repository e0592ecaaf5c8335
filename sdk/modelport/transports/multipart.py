"""
A `multipart/form-data` body that is written as it is sent.

`requests` would put all files together in memory first. This takes what its `files`
argument takes, knows its own length, and reads a file only when its turn comes.
"""

from __future__ import annotations

import io
import mimetypes
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from modelport.errors import ValidationException

_PIECE = 1 << 16
_OCTETS = "application/octet-stream"


@frozen
class _Part:
    """One field of the form: what stands before its content, the content, and the content's size in bytes."""

    head: bytes
    content: bytes | Path | Any
    size: int
    start: int = 0
    """Where an open file stood when it was given."""

    def pieces(self) -> Iterator[bytes]:
        yield self.head
        if isinstance(self.content, bytes):
            yield self.content
        elif isinstance(self.content, Path):
            with self.content.open("rb") as file:
                yield from _read(file)
        else:
            self.content.seek(self.start)
            yield from _read(self.content)
        yield b"\r\n"


@frozen
class Multipart:
    """A body: iterate over it to send it, as often as needed; `len` is its size in bytes."""

    parts: tuple[_Part, ...]
    boundary: str = field(factory=lambda: secrets.token_hex(16))

    @property
    def content_type(self) -> str:
        """What goes with it as `Content-Type`."""
        return f"multipart/form-data; boundary={self.boundary}"

    def __len__(self) -> int:
        inside = sum(len(each.head) + each.size + 2 for each in self.parts)
        return inside + len(self.parts) * len(self._line()) + len(self._end())

    def __iter__(self) -> Iterator[bytes]:
        for each in self.parts:
            yield self._line()
            yield from each.pieces()
        yield self._end()

    def _line(self) -> bytes:
        return f"--{self.boundary}\r\n".encode()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def form(files: Any, fields: Mapping[str, Any]) -> Multipart:
    """
    The body for files and plain fields.

    Args:
        files: As for `requests`: `{field: file}` or `[(field, file), …]`, where a file is bytes, text, an open binary
            file, a path, or a tuple `(file name, file[, content type[, headers]])`.
        fields: Fields with text; a list gives a field several values.

    Raises:
        errors.ValidationException: A file is none of these, or cannot be read.
    """
    pairs: Iterable[Any] = files.items() if isinstance(files, Mapping) else files
    plain = [_plain(name, value) for name, said in fields.items() for value in _several(said)]
    try:
        return Multipart((*plain, *(_file(str(name), said) for name, said in pairs)))
    except OSError as error:
        message = f"files: '{error.filename}' cannot be read: {error.strerror}."
        raise ValidationException(message, target="files") from error


def _several(said: Any) -> list[Any]:
    return list(said) if isinstance(said, (list, tuple)) else [said]


def _plain(name: str, value: Any) -> _Part:
    content = value if isinstance(value, bytes) else str(value).encode()
    return _Part(_head(name, None, None, {}), content, len(content))


def _file(name: str, said: Any) -> _Part:
    called, file, kind, headers = (*said, None, None, None)[:4] if isinstance(said, tuple) else (None, said, None, None)
    if called is None:
        given = file if isinstance(file, os.PathLike) else getattr(file, "name", None)
        called = Path(given).name if isinstance(given, (str, os.PathLike)) else name
    head = _head(name, called, kind or mimetypes.guess_type(str(called))[0] or _OCTETS, headers or {})
    if isinstance(file, str):
        file = file.encode()
    if isinstance(file, (bytes, bytearray)):
        return _Part(head, bytes(file), len(file))
    if isinstance(file, os.PathLike):
        path = Path(file)
        return _Part(head, path, path.stat().st_size)
    if not hasattr(file, "read") or isinstance(file, io.TextIOBase):
        message = (
            f"files: '{name}' must be bytes, text, a path or a file that is open in binary mode, not {file!r:.80}."
        )
        raise ValidationException(message, target="files")
    if not (hasattr(file, "seekable") and file.seekable()):
        content = file.read()
        return _Part(head, content, len(content))
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return _Part(head, file, size, start)


def _head(name: str, called: str | None, kind: str | None, headers: Mapping[str, str]) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{_quoted(name)}"']
    if called is not None:
        lines[0] += f'; filename="{_quoted(str(called))}"'
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines += [f"{key}: {value}" for key, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValidationException(f"files: a header of '{name}' has a line break.", target="files")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _quoted(text: str) -> str:
    """A name as browsers write it. Source: HTML standard, "multipart/form-data encoding algorithm"."""
    return text.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")


def _read(file: Any) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
