"""
Files to a service, addressed by their content.

What was sent once is never sent again: an asset's name is the hash of its files, and
it is looked up before anything is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from modelport.arm import faults
from modelport.arm.messages import Request
from modelport.errors import ValidationException
from modelport.transports.base import Transport

_PIECE = 1 << 20


def files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """
    The files of a path, each with its name in an upload: a file by its own name, a folder's below the folder.

    Compiled Python and version control are left out.
    """
    if path.is_file():
        yield path.name, path
        return
    for each in sorted(path.rglob("*")):
        relative = each.relative_to(path)
        if each.is_file() and not {"__pycache__", ".git"} & set(relative.parts):
            yield relative.as_posix(), each


def content_hash(path: Path) -> str:
    """
    A SHA-256 of names and contents, 64 hex digits; equal for equal files wherever they are.

    Raises:
        errors.ValidationException: A file cannot be read.
    """
    whole = hashlib.sha256()
    for name, file in files_of(path):
        one = hashlib.sha256()
        try:
            with file.open("rb") as stream:
                while piece := stream.read(_PIECE):
                    one.update(piece)
        except OSError as error:
            raise ValidationException(f"'{file}' cannot be read: {error.strerror}.", target="path") from error
        whole.update(f"{name}\0{one.hexdigest()}\n".encode())
    return whole.hexdigest()


def upload(transport: Transport, place: str, path: Path, *, under: str = "") -> str:
    """
    Send the files of `path`; returns the URI that names them.

    Args:
        transport: Where to.
        place: The asset that they are for, `codes/{name}/versions/{version}`.
        path: A file or a folder.
        under: Name that a folder's content gets in the upload; empty puts it at the top.
    """
    body = {"pendingUploadType": "TemporaryBlobReference"}
    begun = Request("POST", f"{transport.workspace}/{place}/startPendingUpload", body=body)
    answer = faults.raise_for(transport.send(begun), f"startPendingUpload of {place}")
    where = str(answer.body["blobReferenceForConsumption"]["blobUri"])
    top = f"{where}/{quote(under)}" if under else where
    for name, file in files_of(path):
        put = Request("PUT", f"{top}/{quote(name)}", headers={"x-ms-blob-type": "BlockBlob"}, content=file)
        faults.raise_for(transport.send(put), f"Uploading '{file}'")
    return f"{top}/{quote(path.name)}" if path.is_file() else top
