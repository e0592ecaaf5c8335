"""
A container of a storage account, in the protocol of Azure's blob storage.

Azure, a Modelport server and a control plane in this process all speak it, so that one
code sends files to each. Nothing is retried here: transports do that.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET

from attrs import define, field, frozen

from modelport.arm import faults
from modelport.arm.messages import Credential, Method, Request, Response, Sender
from modelport.errors import (
    ClientAuthenticationError,
    HttpResponseError,
    ModelportError,
    ResourceExistsError,
    ResourceNotFoundError,
    ValidationException,
)
from modelport.transports.base import Transport

_VERSION = "2023-11-03"
_METADATA = "x-ms-meta-"
_COMPLETED = {"upload_status": "completed"}
_REFUSED = (401, 403)


@frozen
class Blob:
    """What a container says of a blob."""

    name: str
    size: int
    metadata: Mapping[str, str] = field(factory=dict)
    etag: str | None = None

    @property
    def completed(self) -> bool:
        """Whether it was the first of an upload that was not cut off."""
        return self.metadata.items() >= _COMPLETED.items()


@define
class Container:
    """A container, and what is sent with requests so that the account lets them in."""

    transport: Sender
    url: str
    """Without a query, without a slash at the end."""

    signature: Mapping[str, str] = field(factory=dict, repr=False)
    """The shared access signature, as the query that it is."""

    credential: Credential = "none"
    renew: Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)
    """Gives another signature when this one is over."""

    _renewing: threading.Lock = field(factory=threading.Lock, init=False, repr=False, eq=False)

    def url_of(self, name: str) -> str:
        """The URL of a blob."""
        return f"{self.url}/{quote(name, safe='/~')}"

    def head(self, name: str) -> Blob | None:
        """What is known of a blob; None when there is none."""
        answer = self._send("HEAD", name)
        if answer.status == 404:
            return None
        headers = self._accepted(answer, f"Looking for '{name}'").headers
        metadata = {
            each.removeprefix(_METADATA): value for each, value in headers.items() if each.startswith(_METADATA)
        }
        return Blob(name, int(headers.get("content-length") or 0), metadata, headers.get("etag"))

    def put(self, name: str, data: bytes, *, checked: bool = True, replace: bool = False) -> None:
        """
        Write a blob at once.

        Args:
            name: Its path in the container.
            data: All of it.
            checked: Whether the account is told its MD5, to check what arrives.
            replace: Whether one that is there already is written anew.

        Raises:
            errors.ResourceExistsError: It is there already.
        """
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        headers |= _checksum(data) if checked else {}
        if not replace:
            headers["If-None-Match"] = "*"
        self._accepted(self._send("PUT", name, headers=headers, content=data), f"Uploading '{name}'")

    def put_block(self, name: str, block: str, data: bytes, *, checked: bool = True) -> None:
        """Send a block of a blob, which is no part of it before `put_blocks` says so."""
        headers = {"Content-Type": "application/octet-stream", **(_checksum(data) if checked else {})}
        answer = self._send("PUT", name, query={"comp": "block", "blockid": block}, headers=headers, content=data)
        self._accepted(answer, f"Uploading a block of '{name}'")

    def put_blocks(self, name: str, blocks: list[str], *, replace: bool = False) -> None:
        """
        Make a blob of blocks that were sent.

        Raises:
            errors.ResourceExistsError: It is there already.
        """
        listed = "".join(f"<Latest>{each}</Latest>" for each in blocks)
        content = f'<?xml version="1.0" encoding="utf-8"?>\n<BlockList>{listed}</BlockList>'.encode()
        headers = {"Content-Type": "application/xml", "x-ms-blob-content-type": "application/octet-stream"}
        if not replace:
            headers["If-None-Match"] = "*"
        answer = self._send("PUT", name, query={"comp": "blocklist"}, headers=headers, content=content)
        self._accepted(answer, f"Uploading '{name}'")

    def uncommitted(self, name: str) -> dict[str, int]:
        """The blocks that were sent of a blob and are no part of it yet, each with its size in bytes."""
        answer = self._send("GET", name, query={"comp": "blocklist", "blocklisttype": "uncommitted"})
        if answer.status == 404:
            return {}
        tree = _parsed(self._accepted(answer, f"Asking for the blocks of '{name}'"))
        blocks = tree.iterfind("UncommittedBlocks/Block")
        return {_text(each, "Name"): int(_text(each, "Size") or 0) for each in blocks}

    def complete(self, name: str, asset: str, version: str) -> None:
        """Mark the first blob of an upload: all of it is there, for this asset."""
        metadata = {**_COMPLETED, "name": asset, "version": version}
        headers = {f"{_METADATA}{key}": value for key, value in metadata.items()}
        answer = self._send("PUT", name, query={"comp": "metadata"}, headers=headers)
        self._accepted(answer, f"Ending the upload of '{name}'")

    def has_folder(self, name: str) -> bool:
        """Whether there are blobs below `name`, which ends with a slash. Asked in Azure's way."""
        if self.head(name) is not None:
            return True
        query = {"restype": "container", "comp": "list", "prefix": name, "delimiter": "/"}
        answer = self._accepted(self._send("GET", "", query=query), f"Listing '{name}'")
        blobs = _parsed(answer).find("Blobs")
        return blobs is not None and len(blobs) > 0

    def listed(self, prefix: str) -> Iterator[Blob]:
        """The blobs whose names start with `prefix`, page after page as they are needed."""
        query = {"restype": "container", "comp": "list", "prefix": prefix, "include": "metadata"}
        while True:
            tree = _parsed(self._accepted(self._send("GET", "", query=query), f"Listing '{prefix}'"))
            for each in tree.iterfind("Blobs/Blob"):
                yield _blob(each)
            marker = _text(tree, "NextMarker")
            if not marker:
                return
            query["marker"] = marker

    def read(self, blob: Blob, start: int, length: int, *, same: bool) -> bytes:
        """
        A part of a blob; shorter when the blob ends before.

        Args:
            blob: As it was listed.
            start: First byte, counted from 0.
            length: Bytes.
            same: Whether it must still be the blob that was listed: parts of two would make neither.
        """
        headers = {"x-ms-range": f"bytes={start}-{start + length - 1}"}
        if same and blob.etag:
            headers["If-Match"] = blob.etag
        answer = self._accepted(self._send("GET", blob.name, headers=headers), f"Downloading '{blob.name}'")
        data = _bytes(answer)
        wanted = min(length, blob.size - start)
        if answer.status == 200 and len(data) == blob.size:  # a server that does not know ranges
            data = data[start : start + length]
        if len(data) != wanted:
            raise HttpResponseError(
                f"Downloading '{blob.name}': {len(data)} bytes came from {start} on, not {wanted}: it was changed, or "
                "the answer was cut off. Call again to go on.",
                status_code=answer.status,
                target=blob.name,
            )
        return data

    def _send(
        self,
        method: Method,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Response:
        def send() -> Response:
            said = {"Accept": "application/xml", "x-ms-version": _VERSION, "x-ms-date": formatdate(usegmt=True)}
            return self.transport.send(
                Request(
                    method,
                    self.url_of(name) if name else self.url,
                    query={**(query or {}), **self.signature},
                    headers={**said, **(headers or {})},
                    content=content,
                    credential=self.credential,
                )
            )

        used = self.signature
        answer = send()
        if answer.status not in _REFUSED or self.renew is None:
            return answer
        with self._renewing:  # one of many threads asks for the new one
            if self.signature is used:
                self.signature = self.renew()
        return send()

    def _accepted(self, answer: Response, what: str) -> Response:
        """The answer, when it is a success."""
        if answer.status < 300:
            return answer
        code = answer.headers.get("x-ms-error-code")
        said = ""
        content = _bytes(answer)
        if content.lstrip(b"\xef\xbb\xbf").startswith(b"<"):
            tree = _parsed(answer)
            code = code or _text(tree, "Code")
            said = _text(tree, "Message").partition("\n")[0]
        else:
            fault = answer.body.get("error") if isinstance(answer.body, dict) else None
            if fault:
                code, said = code or fault.get("code"), str(fault.get("message") or "")
        host = urlsplit(self.url).netloc
        message = f"{what}: the storage '{host}' answered {answer.status} {code or ''}".rstrip() + f". {said}".rstrip()
        kinds: dict[int, type[ModelportError]] = {
            401: ClientAuthenticationError,
            403: ClientAuthenticationError,
            404: ResourceNotFoundError,
            409: ResourceExistsError,
        }
        kind = kinds.get(answer.status)
        if kind:
            raise kind(message, target=code)
        raise HttpResponseError(message, status_code=answer.status, error_code=code)


def of_datastore(transport: Transport, name: str) -> Container:
    """
    The container of a datastore of the workspace.

    Raises:
        errors.ValidationException: It is not a blob container.
        errors.ModelportError: What the service says.
    """
    place = f"{transport.workspace}/datastores/{name}"
    answer = faults.raise_for(transport.send(Request("GET", place)), f"GET datastores/{name}")
    said = answer.body.get("properties") if isinstance(answer.body, Mapping) else None
    if not isinstance(said, Mapping):
        raise HttpResponseError(f"Datastore '{name}': the service answered {str(answer.body)[:80]!r}, not a datastore.")
    if said.get("datastoreType") != "AzureBlob":
        raise ValidationException(
            f"Datastore '{name}' is of type {said.get('datastoreType')}, and files are kept in AzureBlob datastores "
            "only. Name another datastore.",
            target="datastore",
        )
    if not (said.get("accountName") and said.get("containerName")):
        raise HttpResponseError(f"Datastore '{name}': the service names no account and container for it.")
    # Only these three count: a server may end the account's name with '#', which keeps its own host and port.
    account = urlsplit(f"{said.get('protocol') or 'https'}://{said['accountName']}.blob.{said.get('endpoint')}")
    url = f"{account.scheme}://{account.netloc}{account.path}".rstrip("/") + f"/{said['containerName']}"

    def signature() -> dict[str, str]:
        body = {"expirableSecret": True, "expireAfterHours": 1}
        secrets = transport.send(Request("POST", f"{place}/listSecrets", body=body))
        return _query((secrets.body or {}).get("sasToken") if secrets.status < 300 else None)

    kind = (said.get("credentials") or {}).get("credentialsType")
    found = {} if kind == "None" else signature()
    if found:
        return Container(transport, url, found, renew=signature)
    return Container(transport, url, credential="storage")


def of_pending_upload(transport: Transport, place: str) -> tuple[Container, str]:
    """
    The container that the service gives for the files of an asset, and the URI that names it in records.

    Args:
        transport: Where to.
        place: The asset, `codes/{name}/versions/{version}`.
    """
    body = {"pendingUploadType": "TemporaryBlobReference"}
    request = Request("POST", f"{transport.workspace}/{place}/startPendingUpload", body=body)
    answer = faults.raise_for(transport.send(request), f"startPendingUpload of {place}")
    said = answer.body["blobReferenceForConsumption"]
    return of_reference(transport, said), str(said["blobUri"]).rstrip("/")


def of_reference(transport: Sender, said: Mapping[str, Any]) -> Container:
    """The container of a `blobReferenceForConsumption`: `{"blobUri": "https://…", "credential": {"sasUri": …}}`."""
    url, _, query = str((said.get("credential") or {}).get("sasUri") or said["blobUri"]).partition("?")
    container = Container(transport, url.rstrip("/"), _query(query))
    if not container.signature:
        container.credential = "storage"
    return container


def _checksum(data: bytes) -> dict[str, str]:
    mark = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(mark).decode()} if data else {}


def _query(token: str | None) -> dict[str, str]:
    return dict(parse_qsl((token or "").lstrip("?"), keep_blank_values=True))


def _blob(found: ET.Element) -> Blob:
    named = found.find("Name")
    name = (named.text or "") if named is not None else ""
    if named is not None and named.get("Encoded") == "true":
        name = unquote(name)
    said = found.find("Metadata")
    metadata = {each.tag: each.text or "" for each in said} if said is not None else {}
    size = int(_text(found, "Properties/Content-Length") or 0)
    return Blob(name, size, metadata, _text(found, "Properties/Etag") or None)


def _parsed(answer: Response) -> ET.Element:
    content = _bytes(answer)
    try:
        return ET.fromstring(content)  # noqa: S314 (expat itself limits what entities may grow to)
    except ET.ParseError as error:
        message = f"The storage's answer is not XML, but starts with {content[:60]!r}: is a proxy in between?"
        raise HttpResponseError(message, status_code=answer.status) from error


def _text(tree: ET.Element, place: str) -> str:
    return tree.findtext(place) or ""


def _bytes(answer: Response) -> bytes:
    content: Any = answer.content
    if isinstance(content, Path):
        return content.read_bytes()
    if content is None:
        return str(answer.body).encode() if isinstance(answer.body, str) else b""
    return bytes(content)
