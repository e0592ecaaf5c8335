"""
A storage account: block blobs, their metadata, lists.

Source: what the recordings have, and Azure's Blob Service REST reference for the rest:
Put Block, Put Block List, Get Block List, conditional headers, error codes.
"""

import base64
import hashlib
import re
from datetime import datetime, timezone
from email.utils import format_datetime
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from .messages import Answer, Seen
from .state import State

VERSION = "2022-11-02"
_STARTED = format_datetime(datetime.now(timezone.utc), usegmt=True)


def answer(state: State, seen: Seen, body: bytes) -> Answer:
    """What the account says; `body` is the request's, whether or not it is kept."""
    refused = _refused(state, seen)
    if refused:
        return refused
    comp = seen.query.get("comp", "")
    if seen.query.get("restype") == "container":
        return _list(state, seen) if seen.method == "GET" and comp == "list" else Answer(201)
    served = {
        ("HEAD", ""): _read,
        ("GET", ""): _read,
        ("HEAD", "metadata"): _read,
        ("GET", "metadata"): _read,
        ("GET", "blocklist"): _blocks,
        ("DELETE", ""): _delete,
    }.get((seen.method, comp))
    if served:
        return served(state, seen)
    changed = {"": _put, "block": _put_block, "blocklist": _put_blocks, "metadata": _put_metadata}.get(comp)
    if seen.method != "PUT" or not changed:
        return error(400, "InvalidQueryParameterValue")
    if "content-length" not in seen.headers:
        return error(411, "MissingContentLengthHeader")
    checksum = seen.headers.get("content-md5")
    if checksum and checksum != base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode():
        return error(400, "Md5Mismatch")
    return changed(state, seen, body)


def error(status: int, code: str) -> Answer:
    """An error as the account words it."""
    text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return Answer(status, text.encode(), {"x-ms-error-code": code, "Content-Type": "application/xml"})


def _refused(state: State, seen: Seen) -> Answer | None:
    bearer = seen.headers.get("authorization")
    if "sig" in seen.query:
        if bearer:
            return error(400, "InvalidAuthenticationInfo")
        return None if seen.query["sig"] in state.signatures else error(403, "AuthenticationFailed")
    if not bearer:
        return error(401, "NoAuthenticationInformation")
    if "x-ms-version" not in seen.headers:
        return error(400, "MissingRequiredHeader")
    good = state.tokens is None or bearer.removeprefix("Bearer ") in state.tokens
    return None if good else error(401, "InvalidAuthenticationInfo")


def _put(state: State, seen: Seen, body: bytes) -> Answer:
    if seen.headers.get("x-ms-blob-type") != "BlockBlob":
        return error(400, "MissingRequiredHeader")
    if seen.headers.get("if-none-match") == "*" and seen.path in state.blobs:
        return error(409, "BlobAlreadyExists")
    state.committed.pop(seen.path, None)
    return _keep(state, seen, body, len(body) or seen.size_bytes)


def _put_block(state: State, seen: Seen, body: bytes) -> Answer:
    name = seen.query.get("blockid", "")
    if not name:
        return error(400, "InvalidQueryParameterValue")
    state.blocks.setdefault(seen.path, {})[name] = body if state.keep else b""
    state.sizes[f"{seen.path}?{name}"] = seen.size_bytes
    return Answer(201)


def _put_blocks(state: State, seen: Seen, body: bytes) -> Answer:
    if seen.headers.get("if-none-match") == "*" and seen.path in state.blobs:
        return error(409, "BlobAlreadyExists")
    waiting = state.blocks.get(seen.path, {})
    names = [str(each.text) for each in ET.fromstring(body) if each.tag in ("Latest", "Uncommitted")]
    if not set(names) <= set(waiting):
        return error(400, "InvalidBlockList")
    sizes = {name: state.sizes.pop(f"{seen.path}?{name}") for name in names}
    state.blocks.pop(seen.path, None)
    state.committed[seen.path] = sizes
    return _keep(state, seen, b"".join(waiting[name] for name in names), sum(sizes.values()))


def _keep(state: State, seen: Seen, content: bytes, size: int) -> Answer:
    state.blobs[seen.path] = content if state.keep else b""
    state.sizes[seen.path] = size
    _take_metadata(state, seen)
    return Answer(201, headers=_tags(state, seen.path))


def _put_metadata(state: State, seen: Seen, _body: bytes) -> Answer:
    if seen.path not in state.blobs:
        return error(404, "BlobNotFound")
    _take_metadata(state, seen)
    return Answer(200, headers=_tags(state, seen.path))


def _take_metadata(state: State, seen: Seen) -> None:
    said = {name: value for name, value in seen.headers.items() if name.startswith("x-ms-meta-")}
    state.metadata[seen.path] = {name.removeprefix("x-ms-meta-"): value for name, value in said.items()}


def _read(state: State, seen: Seen) -> Answer:
    if seen.path not in state.blobs:
        return error(404, "BlobNotFound")
    content = state.blobs[seen.path]
    headers = {f"x-ms-meta-{name}": value for name, value in state.metadata.get(seen.path, {}).items()}
    headers |= {**_tags(state, seen.path), "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    headers["x-ms-blob-type"] = "BlockBlob"
    if seen.query.get("comp") == "metadata":
        return Answer(200, headers=headers)
    if seen.headers.get("if-match", headers["ETag"]) not in ("*", headers["ETag"]):
        return error(412, "ConditionNotMet")
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers.get("x-ms-range", seen.headers.get("range", "")))
    if not wanted or seen.method == "HEAD":
        return Answer(200, content, headers)
    first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
    if first >= len(content):
        return error(416, "InvalidRange")
    return Answer(206, content[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"})


def _delete(state: State, seen: Seen) -> Answer:
    if state.blobs.pop(seen.path, None) is None:
        return error(404, "BlobNotFound")
    state.metadata.pop(seen.path, None)
    state.committed.pop(seen.path, None)
    return Answer(202)


def _blocks(state: State, seen: Seen) -> Answer:
    waiting, there = state.blocks.get(seen.path), seen.path in state.blobs
    if not waiting and not there:
        return error(404, "BlobNotFound")
    which = seen.query.get("blocklisttype", "committed")
    lists = []
    if which in ("committed", "all"):
        lists.append(("CommittedBlocks", state.committed.get(seen.path, {})))
    if which in ("uncommitted", "all"):
        lists.append(("UncommittedBlocks", {name: state.sizes[f"{seen.path}?{name}"] for name in waiting or ()}))
    text = "".join(
        f"<{name}>"
        + "".join(f"<Block><Name>{escape(key)}</Name><Size>{size}</Size></Block>" for key, size in blocks.items())
        + f"</{name}>"
        for name, blocks in lists
    )
    return _xml(f"<BlockList>{text}</BlockList>")


def _list(state: State, seen: Seen) -> Answer:
    prefix, delimiter = seen.query.get("prefix", ""), seen.query.get("delimiter", "")
    root = seen.path.rstrip("/") + "/"
    names = sorted(path.removeprefix(root) for path in state.blobs if path.startswith(root + prefix))
    items: dict[str, bool] = {}
    for name in names:
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        items[prefix + head + delimiter if found else name] = bool(found)
    most = min(int(seen.query.get("maxresults", 5000)), 5000, state.page_size)
    after = [name for name in items if name >= seen.query.get("marker", "")]
    page = after[: int(most)]
    following = after[len(page)] if len(after) > len(page) else ""
    with_metadata = "metadata" in seen.query.get("include", "")
    blobs = "".join(
        f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
        if items[name]
        else _item(state, root, name, with_metadata)
        for name in page
    )
    return _xml(
        f'<EnumerationResults ServiceEndpoint="{state.url}/" ContainerName="{root.strip("/")}">'
        f"<Prefix>{escape(prefix)}</Prefix><MaxResults>{int(most)}</MaxResults><Delimiter>{escape(delimiter)}</Delimiter>"
        f"<Blobs>{blobs}</Blobs><NextMarker>{escape(following)}</NextMarker></EnumerationResults>"
    )


def _item(state: State, root: str, name: str, with_metadata: bool) -> str:
    path, tags = root + name, _tags(state, root + name)
    said = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in state.metadata.get(path, {}).items())
    return (
        f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{tags['Last-Modified']}</Last-Modified>"
        f"<Etag>{escape(tags['ETag'])}</Etag><Content-Length>{state.sizes.get(path, len(state.blobs[path]))}"
        "</Content-Length><Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType>"
        f"</Properties>{f'<Metadata>{said}</Metadata>' if with_metadata else ''}</Blob>"
    )


def _tags(state: State, path: str) -> dict[str, str]:
    tag = hashlib.sha256(state.blobs[path]).hexdigest()[:16] if state.keep else f"{state.sizes[path]:x}"
    return {"ETag": f'"0x{tag}"', "Last-Modified": _STARTED, "x-ms-version": VERSION}


def _xml(text: str) -> Answer:
    return Answer(200, f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode(), {"Content-Type": "application/xml"})
