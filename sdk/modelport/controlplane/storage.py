"""
The blob protocol: containers as Azure's storage answers for them.

One client code so serves Azure and this server. Requests are told from the resource
manager's by their path, which starts with a container's name. Documents are XML, and
so are errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import format_datetime
from itertools import islice
from typing import TypeAlias
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from modelport.arm.messages import Part, Request, Response
from modelport.controlplane import signatures
from modelport.controlplane.blobs import Announced, Blob, Blobs, Source, pieces
from modelport.errors import HttpResponseError, ModelportError

_META = "x-ms-meta-"
_MOST = 5000
"""Entries of one page of a list. Source: Azure's List Blobs."""
_LARGEST = 16 << 20
"""Bytes of a block list; 50,000 blocks need a quarter of that."""
_RANGE = re.compile(r"bytes=(?P<first>\d+)-(?P<last>\d*)")
_SOURCES: Mapping[str, Source] = {
    "Committed": "Committed",
    "Uncommitted": "Uncommitted",
    "Latest": "Latest",
}

Answer: TypeAlias = "Callable[[Request, str, str], Response]"


def is_storage(path: str) -> bool:
    """Whether a path is a container's, and not the resource manager's."""
    return not path.lower().startswith("/subscriptions/") and len(path) > 1


class Storage:
    """The storage account of a workspace. Threads may share it."""

    def __init__(self, blobs: Blobs, secret: str, clock: Callable[[], float]) -> None:
        """
        Answer for `blobs`.

        Args:
            blobs: The containers.
            secret: What signatures are made with.
            clock: Seconds since 1970.
        """
        self._blobs, self._secret, self._clock = blobs, secret, clock
        self._of_containers: Mapping[tuple[str, str], Answer] = {
            ("GET", ""): self._container,
            ("HEAD", ""): self._container,
            ("PUT", ""): self._make,
            ("GET", "list"): self._list,
        }
        self._of_blobs: Mapping[tuple[str, str], Answer] = {
            ("HEAD", ""): self._about,
            ("GET", ""): self._get,
            ("GET", "metadata"): self._about,
            ("GET", "blocklist"): self._blocks,
            ("PUT", ""): self._put,
            ("PUT", "block"): self._stage,
            ("PUT", "blocklist"): self._commit,
            ("PUT", "metadata"): self._describe,
            ("DELETE", ""): self._delete,
        }

    def signature(self, container: str, seconds: float) -> str:
        """What opens a container for so long, as the query of a URL."""
        return signatures.signed(self._secret, container, self._clock() + seconds)

    def handle(self, request: Request) -> Response:
        """The answer to a request; every refusal is an answer. Who has no token needs a signature in the URL."""
        echo = {"x-ms-version": "2022-11-02"}
        if "x-ms-client-request-id" in request.headers:
            echo["x-ms-client-request-id"] = request.headers["x-ms-client-request-id"]
        try:
            answer = self._handle(request)
        except ModelportError as error:
            answer = _fault(error, request.method)
        return Response(answer.status, None, {**echo, **answer.headers}, answer.content)

    def _handle(self, request: Request) -> Response:
        container, _, name = (unquote(part) for part in request.path[1:].partition("/"))
        if "sig" in request.query:
            signatures.check(request.query, self._secret, container, self._clock())
        comp = request.query.get("comp", "")
        of_container = not name and request.query.get("restype") == "container"
        run = (self._of_containers if of_container else self._of_blobs).get((request.method, comp))
        if run is None or not (name or of_container):
            said = f"{request.method} {request.path}" + (f" with comp={comp}" if comp else "")
            raise _refused(400, "UnsupportedQueryParameter", f"This server's storage knows no {said}.")
        return run(request, container, name)

    # Containers

    def _container(self, _request: Request, container: str, _name: str) -> Response:
        modified = self._blobs.container(container).stat().st_mtime
        return Response(200, headers={"etag": f'"0x{int(modified):X}"', "last-modified": _date(modified)})

    def _make(self, _request: Request, container: str, _name: str) -> Response:
        self._blobs.container(container)
        raise _refused(409, "ContainerAlreadyExists", f"The container '{container}' exists already.")

    def _list(self, request: Request, container: str, _name: str) -> Response:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        marker, most = query.get("marker", ""), _whole(query.get("maxresults"), "maxresults") or _MOST
        entries = _grouped(self._blobs.listed(container, prefix), prefix, delimiter)
        later = (each for each in entries if _name_of(each) >= marker)
        page = list(islice(later, min(most, _MOST) + 1))
        root = ET.Element("EnumerationResults", ServiceEndpoint=f"{request.base_url}/", ContainerName=container)
        for tag, said in (("Prefix", prefix), ("Marker", marker), ("MaxResults", str(most)), ("Delimiter", delimiter)):
            if said:
                ET.SubElement(root, tag).text = said
        blobs = ET.SubElement(root, "Blobs")
        following = _name_of(page.pop()) if len(page) > min(most, _MOST) else ""
        for entry in page:
            if isinstance(entry, Blob):
                _entry(blobs, entry, metadata="metadata" in query.get("include", ""))
            else:
                ET.SubElement(ET.SubElement(blobs, "BlobPrefix"), "Name").text = entry
        ET.SubElement(root, "NextMarker").text = following
        return _xml(200, root)

    # Blobs

    def _about(self, request: Request, container: str, name: str) -> Response:
        blob = self._met(request, self._blobs.get(container, name))
        length = {"content-length": str(blob.size)} if request.method == "HEAD" else {}
        return Response(200, headers={**_headers(blob), **length})

    def _get(self, request: Request, container: str, name: str) -> Response:
        """A blob, or the range of it that is asked for."""
        blob = self._met(request, self._blobs.get(container, name))
        said = request.headers.get("x-ms-range") or request.headers.get("range")
        found = _RANGE.fullmatch(said) if said else None
        if found is None:
            return Response(200, headers=_headers(blob), content=blob.path)
        first = int(found["first"])
        last = min(int(found["last"] or blob.size), blob.size - 1)
        if not first <= last:
            raise _refused(416, "InvalidRange", f"'{name}' has {blob.size} bytes: there is no range {said}.")
        headers = {**_headers(blob), "content-range": f"bytes {first}-{last}/{blob.size}"}
        return Response(206, headers=headers, content=Part(blob.path, first, last - first + 1))

    def _put(self, request: Request, container: str, name: str) -> Response:
        kind = request.headers.get("x-ms-blob-type", "")
        if kind.lower() != "blockblob" or "x-ms-copy-source" in request.headers:
            message = "This server's storage takes blobs with their content: send x-ms-blob-type: BlockBlob."
            raise _refused(400, "InvalidHeaderValue", message)
        blob = self._blobs.write(
            container,
            name,
            request.content,
            metadata=_metadata(request),
            announced=_announced(request),
            new=_is_new(request),
        )
        return Response(201, headers=_marks(blob))

    def _stage(self, request: Request, container: str, name: str) -> Response:
        self._blobs.stage(container, name, request.query.get("blockid", ""), request.content, _announced(request))
        return Response(201)

    def _commit(self, request: Request, container: str, name: str) -> Response:
        blocks = list(_block_list(request))
        blob = self._blobs.commit(container, name, blocks, _metadata(request), new=_is_new(request))
        return Response(201, headers=_marks(blob))

    def _blocks(self, request: Request, container: str, name: str) -> Response:
        kind = request.query.get("blocklisttype", "committed").lower()
        waiting = self._blobs.staged(container, name) if kind in ("uncommitted", "all") else []
        headers: dict[str, str] = {}
        present: list[tuple[str, int]] = []
        try:
            blob = self._blobs.get(container, name)
            headers = {**_marks(blob), "x-ms-blob-content-length": str(blob.size)}
            present = list(blob.blocks) if kind in ("committed", "all") else []
        except HttpResponseError:
            if not self._blobs.staged(container, name):
                raise
        root = ET.Element("BlockList")
        for tag, blocks in (("CommittedBlocks", present), ("UncommittedBlocks", waiting)):
            below = ET.SubElement(root, tag)
            for block, size in blocks:
                one = ET.SubElement(below, "Block")
                ET.SubElement(one, "Name").text = block
                ET.SubElement(one, "Size").text = str(size)
        return _xml(200, root, headers)

    def _describe(self, request: Request, container: str, name: str) -> Response:
        return Response(200, headers=_marks(self._blobs.describe(container, name, _metadata(request))))

    def _delete(self, _request: Request, container: str, name: str) -> Response:
        self._blobs.delete(container, name)
        return Response(202)

    @staticmethod
    def _met(request: Request, blob: Blob) -> Blob:
        """The blob, when it is the one that the caller has in mind: what is read in ranges must not change between."""
        wanted = request.headers.get("if-match", "*")
        if wanted != "*" and wanted.strip('"') != blob.etag.strip('"'):  # lists tell it without quotes
            raise _refused(412, "ConditionNotMet", f"'{blob.name}' was changed since. Read it again from its start.")
        return blob


def _headers(blob: Blob) -> dict[str, str]:
    """What is said of a blob beside its content."""
    words = {f"{_META}{name}": value for name, value in blob.metadata.items()}
    kind = {"content-type": "application/octet-stream", "x-ms-blob-type": "BlockBlob", "accept-ranges": "bytes"}
    return {**_marks(blob), **kind, **words}


def _marks(blob: Blob) -> dict[str, str]:
    return {"etag": blob.etag, "last-modified": _date(blob.modified)}


def _metadata(request: Request) -> dict[str, str]:
    found = {name[len(_META) :]: value for name, value in request.headers.items() if name.startswith(_META)}
    for name in found:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise _refused(400, "InvalidMetadata", f"'{name}' is not a name of metadata: use letters, digits and _.")
    return found


def _announced(request: Request) -> Announced:
    size = _whole(request.headers.get("content-length"), "Content-Length")
    return Announced(size, request.headers.get("content-md5"))


def _is_new(request: Request) -> bool:
    return request.headers.get("if-none-match") == "*"


def _whole(text: str | None, name: str) -> int | None:
    if text is None or re.fullmatch(r"\d{1,15}", text):
        return None if text is None else int(text)
    raise _refused(400, "InvalidInput", f"{name} must be a whole number, not '{text}'.")


def _block_list(request: Request) -> Iterator[tuple[Source, str]]:
    """What a blob is to be put together from. No DTD is read: nothing in it can grow or refer to files."""
    text = b""
    for piece in pieces(request.content):
        text += piece
        if len(text) > _LARGEST:
            raise _refused(413, "RequestBodyTooLarge", f"A block list has at most {_LARGEST} bytes.")
    try:
        if "<!" in text.decode("utf-8-sig"):
            raise _refused(400, "InvalidXmlDocument", "A block list has no declarations.")
        root = ET.fromstring(text)  # noqa: S314 (without declarations there are no entities)
    except (ET.ParseError, UnicodeDecodeError) as error:
        raise _refused(400, "InvalidXmlDocument", f"The block list is not XML: {error}.") from error
    for each in root:
        if each.tag not in _SOURCES:
            raise _refused(400, "InvalidXmlDocument", f"A block list has no <{each.tag}>.")
        yield _SOURCES[each.tag], (each.text or "").strip()


def _grouped(blobs: Iterator[Blob], prefix: str, delimiter: str) -> Iterator[Blob | str]:
    """The blobs of one level, and the names of the levels below it, each once."""
    told = ""
    for blob in blobs:
        head, found, _ = blob.name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if not found:
            yield blob
        elif told != (told := f"{prefix}{head}{delimiter}"):
            yield told


def _name_of(entry: Blob | str) -> str:
    return entry if isinstance(entry, str) else entry.name


def _entry(blobs: ET.Element, blob: Blob, *, metadata: bool) -> None:
    """One blob of a list."""
    one = ET.SubElement(blobs, "Blob")
    ET.SubElement(one, "Name").text = blob.name
    properties = ET.SubElement(one, "Properties")
    for tag, value in (
        ("Creation-Time", _date(blob.modified)),
        ("Last-Modified", _date(blob.modified)),
        ("Etag", blob.etag.strip('"')),
        ("Content-Length", str(blob.size)),
        ("Content-Type", "application/octet-stream"),
        ("BlobType", "BlockBlob"),
    ):
        ET.SubElement(properties, tag).text = value
    if metadata:
        words = ET.SubElement(one, "Metadata")
        for name, value in blob.metadata.items():
            ET.SubElement(words, name).text = value


def _xml(status: int, root: ET.Element, headers: Mapping[str, str] | None = None) -> Response:
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(status, headers={"content-type": "application/xml", **(headers or {})}, content=text)


def _fault(error: ModelportError, method: str) -> Response:
    """A refusal in storage's own form."""
    status, code = error.status, error.code
    if isinstance(error, HttpResponseError):
        status, code = error.status_code, error.error_code or code
    headers = {"x-ms-error-code": code}
    if method == "HEAD":
        return Response(status, headers=headers)
    root = ET.Element("Error")
    ET.SubElement(root, "Code").text = code
    ET.SubElement(root, "Message").text = re.sub(r"[^\t\n -\uffff]", "?", error.message)
    return _xml(status, root, headers)


def _date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, timezone.utc), usegmt=True)


def _refused(status: int, code: str, message: str) -> HttpResponseError:
    return HttpResponseError(message, status_code=status, error_code=code)
