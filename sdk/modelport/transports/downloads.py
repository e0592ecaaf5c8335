"""
Files from a container, and never to a place outside the folder that they are for.

Files arrive in parts, under other names beside their own, and get their own when all
are there: what was cut off goes on where it stopped, and is never mistaken for whole.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modelport.errors import ResourceNotFoundError, ServiceRequestError, ValidationException
from modelport.transports.progress import bar
from modelport.transports.storage import Blob, Container
from modelport.transports.tasks import all_done, task

_FIRST = 32 << 20
PART = 4 << 20
"""Bytes that one request asks for, where a file has more."""

_FOLDER = "hdi_isfolder"
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")


def download(
    container: Container,
    prefix: str,
    folder: str | os.PathLike[str],
    into: str = "",
    *,
    show_progress: bool = False,
    part: int = PART,
) -> None:
    """
    Write the blobs below `prefix` into a folder; files that are there are overwritten.

    Args:
        container: Where from.
        prefix: Path of a folder or of a file in the container.
        folder: Nothing outside it is touched; made when it does not exist.
        into: Where in it, `net/weights`; empty for the folder itself.
        show_progress: Whether to draw a bar on a terminal.
        part: Bytes that one request asks for, where a file has more.

    Raises:
        errors.ResourceNotFoundError: There is nothing.
        errors.ValidationException: A blob's name leads out of the folder, or to what is no file.
        errors.ServiceRequestError: It was cut off. Call again to go on.
    """
    prefix = prefix.strip("/")
    try:
        _fetch_all(container, prefix, Path(folder).resolve(), into, part, show_progress)
    except ServiceRequestError as error:
        message = f"Downloading '{prefix}' was cut off: {error.message} What arrived is kept: call again to go on."
        raise type(error)(message, target="path") from error


def _fetch_all(container: Container, prefix: str, root: Path, into: str, part: int, show_progress: bool) -> None:
    blobs = [each for each in container.listed(prefix) if each.name == prefix or each.name.startswith(f"{prefix}/")]
    if not blobs:
        raise ResourceNotFoundError(f"There are no files at '{prefix}' of '{container.url}'.", target="path")
    start = f"{into}/" if into else ""
    # All names are looked at before anything is written.
    files: dict[Path, Blob] = {}
    folders: list[Path] = []
    for each in blobs:
        name = start + (each.name.removeprefix(prefix)[1:] or Path(prefix).name)
        if _FOLDER in each.metadata or (name.endswith("/") and each.size == 0):
            folders.append(_place(root, name.rstrip("/")))
        else:
            files[_place(root, name)] = each
    with bar(f"Downloading {Path(prefix).name}", sum(each.size for each in blobs), show=show_progress) as moved:
        tasks = [task(_fetch, container, each, root, place, part, moved) for place, each in files.items()]
        all_done(tasks[:1])  # alone: what the account refuses, it refuses once
        all_done(tasks[1:])
    for place in folders:
        with _writable(place):
            place.mkdir(parents=True, exist_ok=True)
    for place, each in files.items():
        with _writable(place):
            arrived = _unfinished(container, each, place)
            if not arrived.exists() and place.is_file() and place.stat().st_size == each.size:
                continue  # another download of the same was quicker
            if arrived.stat().st_size != each.size:
                arrived.unlink()
                raise ValidationException(f"'{place}': another download wrote it too. Try again when that has ended.")
            arrived.replace(place)


def _fetch(container: Container, blob: Blob, root: Path, place: Path, part: int, moved: Callable[[int], None]) -> None:
    """Write one blob, from where an earlier download stopped."""
    _refuse_links(root, place)
    unfinished = _unfinished(container, blob, place)
    if place.is_dir():
        raise ValidationException(f"'{place}' is a folder, and '{blob.name}' is a file: move it away.", target="path")
    if unfinished.is_symlink():
        raise _leads_out(blob.name, f"'{unfinished}' is a link")
    with _writable(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        have = min(unfinished.stat().st_size, blob.size) if unfinished.is_file() else 0
        moved(have)
        # Never emptied, and written where the bytes belong: another download may be at the same file.
        with open(unfinished, "r+b", opener=_made) as file:
            file.seek(have)
            while have < blob.size:
                # Of a small file, what Azure's SDK asks for; of others less, as many are on their way at once.
                data = container.read(blob, have, _FIRST if blob.size <= part else part, same=have > 0)
                file.write(data)
                have += len(data)
                moved(len(data))


def _made(path: str, flags: int) -> int:
    """For `open`: a file that is there stays as it is, and one that is not is made."""
    return os.open(path, flags | os.O_CREAT, 0o666)


def _place(root: Path, name: str) -> Path:
    """
    Where a blob's file is below `root`.

    Raises:
        errors.ValidationException: Not below it, or on some system not a file.
    """
    steps = name.split("/")
    for step in steps:
        if step in ("", ".", ".."):
            raise _leads_out(name, f"'{step}' is no name of a file")
        if "\\" in step or "\0" in step or _DRIVE.match(step):
            raise _leads_out(name, f"{step!r} names another place on some system")
        if _DEVICES.fullmatch(step.rstrip(". ")):
            raise _leads_out(name, f"'{step}' is a device on Windows")
    place = root.joinpath(*steps)
    _refuse_links(root, place)
    return place


def _refuse_links(root: Path, place: Path) -> None:
    for each in place.parents:
        if each == root:
            return
        if each.is_symlink():
            raise _leads_out(str(place.relative_to(root)), f"'{each}' is a link")


def _leads_out(name: str, why: str) -> ValidationException:
    return ValidationException(
        f"The answer has a file {name!r}, which is not written: {why}. Nothing outside the folder is ever touched.",
        target="path",
    )


def _unfinished(container: Container, blob: Blob, place: Path) -> Path:
    """Where a file arrives. Its name is of this very blob: what is left of another must not be gone on with."""
    said = f"{place.name}\0{container.url}\0{blob.name}\0{blob.size}\0{blob.etag}"
    return place.with_name(f".{hashlib.sha256(os.fsencode(said)).hexdigest()[:24]}.part")


@contextmanager
def _writable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValidationException(f"'{place}' cannot be written: {error.strerror}.", target="path") from error
