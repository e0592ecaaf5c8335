"""
Uploaded files.

A container is a folder and a blob is a file in it, so that a replica reads a model
from where it was uploaded to. A blob comes to its name in one step when all of it is
there: an upload that was cut off is never half a blob. Records name files as Azure's
would, by a datastore path, or by a path that starts with the container's name.

What is written by way of an asset is kept as long as a record names it: the folder
`LocalUpload/{hash}` that equal files share, and the container of one upload.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from attrs import frozen

from modelport.arm.ids import WorkspaceId
from modelport.errors import HttpResponseError, ResourceNotFoundError

CONTAINER = "azureml-blobstore"
"""The container of the datastore `workspaceblobstore`."""

DATASTORE = "workspaceblobstore"

_UPLOADS = "LocalUpload"
_KEPT = 24 * 3600.0
"""Seconds for which files that no record names are kept: their upload may be going on, or be taken up again."""

_PIECE = 1 << 20
_LONGEST = 1024
"""Characters of a blob's name. Source: Azure's naming rules."""

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")
"""What XML cannot have, or a terminal should not: one such name would make lists unreadable."""

_CONTAINER = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_PATHS = re.compile(rf"azureml://(?:.*/)?datastores/{DATASTORE}/paths/(?P<name>.*)", re.IGNORECASE)
_BEFORE = re.compile(rf"{_UPLOADS}/(?P<upload>[0-9a-f]{{32}})(?:/(?P<rest>.*))?")
"""Where uploads were before there were containers: each in a folder of its own beside them."""

Content = bytes | Path | Iterable[bytes] | None
Source = Literal["Committed", "Uncommitted", "Latest"]


@frozen
class Announced:
    """What a request says of its content."""

    size: int | None = None
    """Bytes; None when that was not said."""

    md5: str | None = None
    """Base64; None when that was not said."""


_NOTHING = Announced()


@frozen
class Blob:
    """What is known of one blob."""

    name: str
    path: Path
    size: int
    modified: float
    """Seconds since 1970."""
    etag: str
    metadata: Mapping[str, str]
    blocks: Sequence[tuple[str, int]]
    """Ids and sizes in bytes of the blocks that it was put together from, in order; empty when it came whole."""


class Blobs:
    """The containers of a workspace. Threads may share it."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """
        Use the containers in `folder`, which is there.

        Args:
            folder: Where they are.
            clock: Seconds since 1970.
        """
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()
        """Held while blobs get or lose their names. One process has a workspace."""
        self._containers, self._notes = folder / "containers", folder / "notes"
        self._blocks, self._parts, self._views = folder / "blocks", folder / "parts", folder / "views"
        for each in (self._containers / CONTAINER, self._notes, self._blocks, self._parts, self._views):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Containers

    def begin(self, name: str) -> str:
        """
        A container for one upload, made when it is not there.

        Args:
            name: Its name: 3 to 63 small letters, digits and hyphens.
        """
        folder = self._containers / name
        folder.mkdir(mode=0o700, exist_ok=True)
        self._touch(folder)
        return name

    def container(self, name: str) -> Path:
        """
        A container's folder.

        Raises:
            errors.HttpResponseError: ContainerNotFound.
        """
        folder = self._containers / name
        if not _CONTAINER.fullmatch(name) or not folder.is_dir():
            raise _refused(404, "ContainerNotFound", f"There is no container '{name}'.")
        return folder

    def keep(self, records: str) -> None:
        """
        Remove what `records`, the text of them all, do not name and nobody has touched for a day.

        What people put elsewhere in the datastore than `LocalUpload` is theirs.
        """
        shutil.rmtree(self._parts)  # of a server that ended while they were written
        self._parts.mkdir(mode=0o700)
        for blocks in self._blocks.iterdir():
            if self._old(blocks):
                shutil.rmtree(blocks, ignore_errors=True)
        for view in self._views.iterdir():
            if view.name not in records:
                shutil.rmtree(view, ignore_errors=True)
        uploads = self._containers / CONTAINER / _UPLOADS
        containers = [each for each in self._containers.iterdir() if each.name != CONTAINER]
        for unit in [*containers, *(uploads.iterdir() if uploads.is_dir() else ())]:
            if unit.name not in records and self._old(unit):
                shutil.rmtree(unit, ignore_errors=True)
                shutil.rmtree(self._notes / unit.relative_to(self._containers), ignore_errors=True)
        for before in self._folder.iterdir():
            if re.fullmatch("[0-9a-f]{32}", before.name) and before.name not in records and self._old(before):
                shutil.rmtree(before, ignore_errors=True)

    # Reading

    def find(self, uri: str) -> Path:
        """
        The file or folder that a record's URI names.

        Raises:
            errors.ResourceNotFoundError: Nothing was uploaded under it.
        """
        path = self._named(uri)
        if path is None:
            raise ResourceNotFoundError(f"No files were uploaded as '{uri}'. Create the asset again from its files.")
        return path

    def alone(self, path: Path) -> Path:
        """
        A folder in which the file or folder at `path` is alone, under its name: what `AZUREML_MODEL_DIR` says.

        It is the one that it is in, unless that has more: equal files under other names, or other models. Then it is
        one with links to the same bytes, which stay as they are even when blobs are written anew.
        """
        if path.parent != self._containers and [each.name for each in path.parent.iterdir()] == [path.name]:
            return path.parent
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        marks = "\n".join(f"{each} {each.stat().st_ino}" for each in files)
        view, part = self._views / hashlib.sha256(marks.encode()).hexdigest(), self._part()
        if not view.is_dir():
            for each in files:
                link = part / path.name / each.relative_to(path)
                link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _link(each, link)
            with suppress(OSError):  # another thread was first
                part.rename(view)
            shutil.rmtree(part, ignore_errors=True)
        return view

    def lasting(self, uri: str, workspace: WorkspaceId) -> str:
        """
        `uri` as records keep it: without the address of the server that took the upload.

        A datastore's URI gets its long form; of a URL the path stays, when its files are here.
        """
        if uri.lower().startswith("azureml://datastores/"):
            return workspace.datastore_uri(uri[len("azureml://datastores/") :])
        named = _split(uri)
        if named is None or self._named(uri) is None:
            return uri
        container, name = named
        return f"/{container}/{name}" if name else f"/{container}"

    def get(self, container: str, name: str) -> Blob:
        """
        What is known of a blob.

        Raises:
            errors.HttpResponseError: BlobNotFound, ContainerNotFound or InvalidUri.
        """
        path = None if name.endswith("/") else self._path(container, name)
        try:
            blob = self._blob(container, name, path) if path else None
        except OSError:
            blob = None
        if blob is None:
            raise _refused(404, "BlobNotFound", f"There is no blob '{name}' in '{container}'.")
        self._touch(self._unit(container, name))
        return blob

    def listed(self, container: str, prefix: str = "") -> Iterator[Blob]:
        """
        The blobs whose names start with `prefix`, in the order of their names.

        Raises:
            errors.HttpResponseError: ContainerNotFound.
        """
        root = self.container(container)
        try:
            top = self._path(container, prefix.rpartition("/")[0]) if "/" in prefix else root
        except HttpResponseError:  # no blob has such a name
            return
        names = [Path(folder, file).relative_to(root).as_posix() for folder, _, files in os.walk(top) for file in files]
        for name in sorted(each for each in names if each.startswith(prefix)):
            with suppress(FileNotFoundError):  # it was deleted meanwhile
                blob = self._blob(container, name, root / name)
                if blob:
                    yield blob

    # Writing

    def write(
        self,
        container: str,
        name: str,
        content: Content,
        *,
        metadata: Mapping[str, str],
        announced: Announced = _NOTHING,
        new: bool = False,
    ) -> Blob:
        """
        Keep a blob.

        Args:
            container: Where.
            name: Its name.
            content: Its bytes.
            metadata: Words about it.
            announced: What the content must be.
            new: Refuse when it is there already.

        Raises:
            errors.HttpResponseError: BlobAlreadyExists, InvalidUri, ContainerNotFound, or not what was announced.
        """
        path = self._path(container, name)
        if new and path.exists():  # before all of it is read; what counts is `_arrive`
            raise _exists(name)
        part = self._received(content, announced)
        return self._arrive(part, container, name, {"metadata": dict(metadata)}, new=new)

    def describe(self, container: str, name: str, metadata: Mapping[str, str]) -> Blob:
        """Replace a blob's metadata. Raises `errors.HttpResponseError`: BlobNotFound."""
        blob = self.get(container, name)
        self._note(container, name, {"metadata": dict(metadata), "blocks": list(blob.blocks)})
        os.utime(blob.path)  # another ETag, as with Azure
        return self.get(container, name)

    def delete(self, container: str, name: str) -> None:
        """Remove a blob. Raises `errors.HttpResponseError`: BlobNotFound."""
        with self._lock:
            blob, root = self.get(container, name), self.container(container)
            self._note_path(container, name).unlink(missing_ok=True)
            blob.path.unlink(missing_ok=True)
            with suppress(OSError):  # up to a folder that has more
                for folder in blob.path.relative_to(root).parents[:-1]:
                    (root / folder).rmdir()

    def stage(self, container: str, name: str, block: str, content: Content, announced: Announced = _NOTHING) -> None:
        """
        Keep a block of a blob that will be put together later.

        Args:
            container: Where.
            name: The blob's name.
            block: The block's id: base64 of at most 64 bytes.
            content: Its bytes.
            announced: What the content must be.

        Raises:
            errors.HttpResponseError: InvalidQueryParameterValue, InvalidUri, or not what was announced.
        """
        self._path(container, name)
        file = _block_file(block)
        folder = self._staged(container, name)
        part = self._received(content, announced)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            part.replace(folder / file)
        finally:
            part.unlink(missing_ok=True)
        self._touch(folder)
        self._touch(self._unit(container, name))

    def staged(self, container: str, name: str) -> list[tuple[str, int]]:
        """Ids and sizes in bytes of the blocks that wait to be put together."""
        folder = self._staged(container, name)
        found = [(base64.b64encode(bytes.fromhex(each.name)).decode(), each) for each in _files(folder)]
        return [(block, each.stat().st_size) for block, each in sorted(found)]

    def commit(
        self,
        container: str,
        name: str,
        blocks: Sequence[tuple[Source, str]],
        metadata: Mapping[str, str],
        *,
        new: bool = False,
    ) -> Blob:
        """
        Put a blob together.

        Args:
            container: Where.
            name: Its name.
            blocks: Of what, in order: blocks that wait, or that the present blob was put together from.
            metadata: Words about it.
            new: Refuse when it is there already.

        Raises:
            errors.HttpResponseError: InvalidBlockList, BlobAlreadyExists, InvalidUri or ContainerNotFound.
        """
        path = self._path(container, name)
        if new and path.exists():
            raise _exists(name)
        found = list(self._pieces_of(container, name, blocks))
        part = self._part()
        try:
            with part.open("wb") as file:
                for source, start, size in found:
                    _copy(source, start, size, file)
            noted = [(block, size) for (_, block), (_, _, size) in zip(blocks, found, strict=True)]
            blob = self._arrive(part, container, name, {"metadata": dict(metadata), "blocks": noted}, new=new)
        finally:
            part.unlink(missing_ok=True)
        shutil.rmtree(self._staged(container, name), ignore_errors=True)
        return blob

    # Within

    def _pieces_of(
        self, container: str, name: str, blocks: Sequence[tuple[Source, str]]
    ) -> Iterator[tuple[Path, int, int]]:
        """File, first byte and size of each block."""
        folder = self._staged(container, name)
        present: dict[str, tuple[Path, int, int]] = {}
        with suppress(HttpResponseError):
            blob, start = self.get(container, name), 0
            for block, size in blob.blocks:
                present[block] = (blob.path, start, size)
                start += size
        for source, block in blocks:
            file = folder / _block_file(block)
            if source != "Committed" and file.is_file():
                yield file, 0, file.stat().st_size
            elif source != "Uncommitted" and block in present:
                yield present[block]
            else:
                raise _refused(400, "InvalidBlockList", f"There is no block '{block}' of '{name}': send it again.")

    def _received(self, content: Content, announced: Announced) -> Path:
        """A file with the bytes of `content`, which will be moved to where it belongs."""
        part = self._part()
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with part.open("wb") as file:
                for piece in pieces(content):
                    file.write(piece)
                    if announced.md5:
                        digest.update(piece)
            _check(announced, part.stat().st_size, digest.digest())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return part

    def _arrive(self, part: Path, container: str, name: str, note: dict[str, Any], *, new: bool) -> Blob:
        """Give a whole file its name."""
        path = self._path(container, name)
        try:
            with self._lock:
                if new and path.is_file():
                    raise _exists(name)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._note_path(container, name).unlink(missing_ok=True)  # what it said of the old content
                part.replace(path)
                if any(note.values()):
                    self._note(container, name, note)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise _is_folder(name) from error
        finally:
            part.unlink(missing_ok=True)
        self._touch(self._unit(container, name))
        return self.get(container, name)

    def _blob(self, container: str, name: str, path: Path) -> Blob | None:
        stat = path.stat()
        if not path.is_file():
            return None
        try:
            note = json.loads(self._note_path(container, name).read_text())
        except (FileNotFoundError, NotADirectoryError):
            note = {}
        etag = f'"0x{stat.st_mtime_ns:X}{stat.st_ino:X}"'
        blocks = [(str(block), int(size)) for block, size in note.get("blocks", ())]
        return Blob(name, path, stat.st_size, stat.st_mtime, etag, note.get("metadata", {}), blocks)

    def _named(self, uri: str) -> Path | None:
        """What a URI names, when it is there."""
        datastore = _PATHS.fullmatch(uri)
        named = (CONTAINER, datastore["name"]) if datastore else _split(uri)
        if named is None:
            return None
        container, said = named[0], named[1].rstrip("/")
        for name in dict.fromkeys([said, unquote(said)]):
            before = _BEFORE.fullmatch(name) if container == CONTAINER else None
            with suppress(HttpResponseError):
                paths = [self._path(container, name) if name else self.container(container)]
                if before:
                    old = self._folder / before["upload"]
                    paths.append(_below(old, before["rest"]) if before["rest"] else old)
                for path in paths:
                    if path.exists():
                        return path
        return None

    def _path(self, container: str, name: str) -> Path:
        """Where a blob is, or the folder that its name would make."""
        return _below(self.container(container), name)

    def _unit(self, container: str, name: str) -> Path:
        """The folder that is kept or removed as a whole, to which a blob belongs."""
        steps = name.split("/")
        root = self._containers / container
        return root.joinpath(*steps[:2]) if container == CONTAINER and steps[0] == _UPLOADS and steps[2:] else root

    def _note_path(self, container: str, name: str) -> Path:
        unit = self._notes / self._unit(container, name).relative_to(self._containers)
        return unit / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def _note(self, container: str, name: str, note: dict[str, Any]) -> None:
        path, part = self._note_path(container, name), self._part()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_text(json.dumps(note))
        part.replace(path)

    def _staged(self, container: str, name: str) -> Path:
        return self._blocks / hashlib.sha256(f"{container}/{name}".encode()).hexdigest()

    def _part(self) -> Path:
        return self._parts / uuid.uuid4().hex

    def _touch(self, folder: Path) -> None:
        with suppress(OSError):
            os.utime(folder, (self._clock(), self._clock()))

    def _old(self, folder: Path) -> bool:
        return self._clock() - folder.stat().st_mtime > _KEPT


def _below(root: Path, name: str) -> Path:
    """The path of `name` in `root`, which it does not leave."""
    steps = name.split("/")
    if any(step in ("", ".", "..") for step in steps) or "\\" in name or _UNWRITABLE.search(name):
        message = f"'{name}' cannot be a blob's name: each step of it needs a name, and nothing leaves its container."
        raise _refused(400, "InvalidUri", message)
    if len(name) > _LONGEST or any(len(step.encode()) > 255 for step in steps):
        message = f"A blob's name has at most {_LONGEST} characters, and each step of it 255 bytes. Shorten it."
        raise _refused(400, "InvalidUri", message)
    path = root.joinpath(*steps)
    if not path.resolve().is_relative_to(root.resolve()):
        raise _refused(400, "InvalidUri", f"'{name}' leaves its container.")
    return path


def _split(uri: str) -> tuple[str, str] | None:
    """Container and name of a URL, or of a record's path; the name is as it stands there."""
    container, _, name = urlsplit(uri).path.removeprefix("/").partition("/")
    has_host = "://" in uri and not uri.lower().startswith("azureml:")
    return (container, name) if (has_host or uri.startswith("/")) and _CONTAINER.fullmatch(container) else None


def _block_file(block: str) -> str:
    """The name of a block's file."""
    try:
        raw = base64.b64decode(block, validate=True)
    except binascii.Error:
        raw = b""
    if not 0 < len(raw) <= 64:
        message = f"The block id '{block}' is not the base64 of 1 to 64 bytes."
        raise _refused(400, "InvalidQueryParameterValue", message)
    return raw.hex()


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def pieces(content: Content) -> Iterator[bytes]:
    """The bytes of a request's content, one after another."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    elif isinstance(content, bytes):
        yield content
    else:
        yield from content or ()


def _check(announced: Announced, size: int, md5: bytes) -> None:
    """Refuse content that is not what its request announced."""
    if announced.size not in (None, size):
        message = f"The request announced {announced.size} bytes and had {size}: it was cut off. Send it again."
        raise _refused(400, "InvalidInput", message)
    if announced.md5 and base64.b64encode(md5).decode() != announced.md5:
        raise _refused(400, "Md5Mismatch", "The content is not what its Content-MD5 says. Send it again.")


def _link(file: Path, link: Path) -> None:
    try:
        link.hardlink_to(file)
    except OSError:  # a file system without links
        shutil.copyfile(file, link)


def _copy(source: Path, start: int, size: int, to: Any) -> None:
    """Add `size` bytes of a file, from `start` on."""
    with source.open("rb") as file:
        file.seek(start)
        while size and (piece := file.read(min(size, _PIECE))):
            to.write(piece)
            size -= len(piece)


def _refused(status: int, code: str, message: str) -> HttpResponseError:
    return HttpResponseError(message, status_code=status, error_code=code)


def _exists(name: str) -> HttpResponseError:
    return _refused(409, "BlobAlreadyExists", f"The blob '{name}' exists already.")


def _is_folder(name: str) -> HttpResponseError:
    message = f"'{name}' cannot be both a blob and a folder of others: here a container is a folder of files."
    return _refused(409, "ResourceTypeMismatch", message)
