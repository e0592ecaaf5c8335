"""
Uploaded files.

Each upload gets a folder of its own under a random name, which the asset's record
then names: an upload that was cut off is a folder that nothing names, never half an
asset. Records name it as Azure's would, by a datastore path.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from modelport.arm.ids import WorkspaceId
from modelport.errors import ResourceNotFoundError, ValidationException

ROOT = "/blobs/LocalUpload/"
_UPLOAD = re.compile(r"LocalUpload/(?P<upload>[0-9a-f]{32})(?:/(?P<rest>.*))?$")
_PIECE = 1 << 20


class Blobs:
    """The uploads of a workspace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self) -> str:
        """A new upload's path in URLs: `/blobs/LocalUpload/{32 hex digits}`."""
        upload = uuid.uuid4().hex
        (self._folder / upload).mkdir(mode=0o700)
        return ROOT + upload

    def find(self, uri: str) -> Path:
        """
        The file or folder that a URL or a record's URI names.

        Raises:
            errors.ResourceNotFoundError: Nothing was uploaded under it.
            errors.ValidationException: It leaves its upload's folder.
        """
        found = _UPLOAD.search(uri)
        path = self._path(found["upload"], found["rest"] or "") if found else None
        if path is None or not path.exists():
            raise ResourceNotFoundError(f"No files were uploaded as '{uri}'. Create the asset again from its files.")
        return path

    def write(self, url: str, content: bytes | Path | Iterable[bytes] | None) -> None:
        """
        Keep one file of an upload.

        Raises:
            errors.ResourceNotFoundError: The upload was not begun.
            errors.ValidationException: It leaves its upload's folder.
        """
        found = _UPLOAD.search(url)
        if not found or not found["rest"] or not (self._folder / found["upload"]).is_dir():
            raise ResourceNotFoundError(f"There is no upload for '{url}': begin one by startPendingUpload.")
        path = self._path(found["upload"], found["rest"])
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            if isinstance(content, Path):
                shutil.copyfile(content, part)
            else:
                with part.open("wb") as file:
                    for piece in [content] if isinstance(content, bytes) else content or ():
                        file.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def keep(self, records: str) -> None:
        """Remove the uploads that `records`, the text of them all, do not name: cut off, or replaced."""
        for upload in self._folder.iterdir():
            if upload.name not in records:
                shutil.rmtree(upload, ignore_errors=True)

    def _path(self, upload: str, rest: str) -> Path:
        rest = unquote(rest)
        steps = PurePosixPath(rest).parts
        if any(step in ("..", os.sep) for step in steps) or rest.startswith("/") or "\\" in rest or "\0" in rest:
            raise ValidationException(f"'{rest}' leaves the folder of its upload.", target="path")
        return self._folder.joinpath(upload, *steps)


def lasting(uri: str, workspace: WorkspaceId) -> str:
    """`uri` as records keep it: without the address of the server that took the upload."""
    found = _UPLOAD.search(uri)
    if not found:
        return uri
    return workspace.datastore_uri(f"workspaceblobstore/paths/{found[0]}")
