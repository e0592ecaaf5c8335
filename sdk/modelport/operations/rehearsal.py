"""
A service that is only looked at: what would be sent to it, without sending it.

What a plan compares must be what a deployment would really send, names of uploads
included. So it is made by the same code, over a transport that lets only questions
through, and takes note of the rest.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from modelport.arm import ids
from modelport.arm.messages import Request, Response
from modelport.transports.base import Transport

_NOWHERE = "https://rehearsal.invalid"


class Rehearsal:
    """GETs go to another transport; anything else is answered as if it had been done. Threads may share it."""

    def __init__(self, transport: Transport) -> None:
        self.workspace, self.options, self._transport = transport.workspace, transport.options, transport
        self.puts: dict[str, Any] = {}
        """What would be put, by its place in the workspace."""
        self.files: dict[str, int] = {}
        """The files that would be sent, each with its size in bytes."""
        self._lock = threading.Lock()

    def send(self, request: Request) -> Response:
        """The service's answer to a question; to anything else the answer that it would give."""
        found = ids.parted(urlsplit(request.path).path)
        place = found[1] if found else None
        if place is None:
            return self._blob(request)
        if request.method in ("GET", "HEAD"):
            if place in self.puts:
                return Response(200, self.puts[place])
            return self._transport.send(request)
        if request.method == "PUT":
            document = {**(request.body or {}), "id": f"{self.workspace}/{place}", "name": place.rpartition("/")[2]}
            self.puts[place] = document
            return Response(201, document)
        return Response(200, _granted(place))

    def scoring_token(self) -> Any:
        """The other transport's."""
        return self._transport.scoring_token()

    def registry(self, name: str) -> Transport:
        """The other transport's."""
        return self._transport.registry(name)

    def docker(self) -> Transport:
        """The other transport's."""
        return self._transport.docker()

    def close(self) -> None:
        """Nothing is held."""

    def _blob(self, request: Request) -> Response:
        """A storage account: nothing is there yet, and everything may be put there."""
        if request.method in ("GET", "HEAD"):
            return Response(404, None, {"x-ms-error-code": "BlobNotFound"})
        if request.query.get("comp") in (None, "block"):
            name = urlsplit(request.path).path
            with self._lock:
                self.files[name] = self.files.get(name, 0) + _size(request)
        return Response(201)


def _granted(place: str) -> dict[str, Any]:
    """What `startPendingUpload` and `listSecrets` answer, in one."""
    container = f"{_NOWHERE}/{quote(place, safe='')}"
    signed = {"credentialType": "SAS", "sasUri": f"{container}?sig=rehearsal"}
    return {
        "pendingUploadId": "rehearsal",
        "pendingUploadType": "TemporaryBlobReference",
        "blobReferenceForConsumption": {"blobUri": container, "storageAccountArmId": None, "credential": signed},
        "secretsType": "Sas",
        "sasToken": "sig=rehearsal",
    }


def _size(request: Request) -> int:
    content = request.content
    if isinstance(content, Path):
        return content.stat().st_size
    if isinstance(content, bytes):
        return len(content)
    said = request.headers.get("content-length", "")
    return int(said) if said.isdigit() else 0
