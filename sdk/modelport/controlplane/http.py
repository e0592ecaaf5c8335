"""
The control plane's skin: requests from a socket to `App.handle`, and its answers back.

Nothing is decided here but who may come in: whoever has the token of the 0600 file
in the workspace's folder. A request about blobs may have a signature instead, which
the control plane checks.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Incoming
from starlette.responses import Response as Outgoing
from starlette.responses import StreamingResponse
from starlette.routing import Route

from modelport.arm import faults
from modelport.arm.messages import Part, Request, Response
from modelport.controlplane.storage import is_storage
from modelport.errors import (
    ClientAuthenticationError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ValidationException,
)

logger = logging.getLogger(__name__)

_METHODS = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"]
_END = "/shutdown"
_PIECE = 1 << 20
_LARGEST_BODY = 16 << 20
"""Bytes of a JSON document; files have no limit."""

_UPLOADS = 32
"""Uploads that are taken at once. They have threads of their own: clients that stop in the middle stop nobody else."""

_PATIENCE = 60.0


def application(
    handle: Callable[[Request], Response],
    token: str,
    about: dict[str, Any],
    shut_down: Callable[[bool], None],
    *,
    patience: float = _PATIENCE,
) -> Starlette:
    """
    The ASGI application before a control plane.

    Args:
        handle: `App.handle`.
        token: What callers must send as `Authorization: Bearer`.
        about: What `GET /` answers, without a token: versions, for clients that look who is there.
        shut_down: What `POST /shutdown?stop=true|false` calls; with true, replicas and the gateway end too.
        patience: Seconds without a byte after which an upload is given up.
    """
    uploads = anyio.CapacityLimiter(_UPLOADS)

    async def who(_request: Incoming) -> Outgoing:
        return _outgoing(Response(200, about))

    async def serve(incoming: Incoming) -> Outgoing:
        said = incoming.headers.get("authorization", "")
        known = hmac.compare_digest(said.encode(), f"Bearer {token}".encode())
        path = _path(incoming)
        signed = is_storage(path) and path != _END and "sig" in incoming.query_params
        if not known and not signed:
            message = "This server wants the token of its workspace's 0600 file; MLClient.local() sends it."
            return _outgoing(faults.response_of(ClientAuthenticationError(message)))
        try:
            if path == _END and incoming.method == "POST":
                shut_down(incoming.query_params.get("stop") == "true")
                return Outgoing(status_code=202)
            request = await _request(incoming, patience)
        except ValidationException as error:
            return _outgoing(faults.response_of(error))
        limiter = None if request.content is None else uploads
        return _outgoing(await anyio.to_thread.run_sync(handle, request, limiter=limiter))

    return Starlette(routes=[Route("/", who), Route("/{path:path}", serve, methods=_METHODS)])


async def _request(incoming: Incoming, patience: float) -> Request:
    path = _path(incoming)
    values: dict[str, Any] = {
        "method": incoming.method,
        "path": path,
        "query": dict(incoming.query_params),
        "headers": dict(incoming.headers),
        "base_url": f"{incoming.url.scheme}://{incoming.url.netloc}",
    }
    if is_storage(path):
        content = _pieces(incoming.stream(), patience) if incoming.method == "PUT" else None
        return Request(**values, content=content)
    text = b""
    async for piece in incoming.stream():
        text += piece
        if len(text) > _LARGEST_BODY:
            raise ValidationException(f"The body has more than {_LARGEST_BODY} bytes, which no JSON document needs.")
    try:
        return Request(**values, body=json.loads(text) if text else None)
    except ValueError as error:
        raise ValidationException(f"The body is not JSON: {error}.") from error


def _path(incoming: Incoming) -> str:
    path: str = incoming.scope["raw_path"].decode("ascii")  # as `arm.messages` has it: still percent-encoded
    return path


def _pieces(stream: AsyncIterator[bytes], patience: float) -> Iterator[bytes]:
    """The stream as the control plane's thread reads it."""

    async def following() -> bytes:
        gathered = bytearray()  # small pieces would each cost a change of threads
        try:
            while len(gathered) < _PIECE:
                with anyio.fail_after(patience):
                    gathered += await stream.__anext__()
        except StopAsyncIteration:
            pass
        except ClientDisconnect as error:
            raise ServiceRequestError("The connection ended before all of the content had come.") from error
        except TimeoutError as error:
            raise ServiceRequestTimeoutError(
                f"Nothing of the content came for {patience:g} s. Send it again."
            ) from error
        return bytes(gathered)

    while piece := anyio.from_thread.run(following):
        yield piece


def _outgoing(response: Response) -> Outgoing:
    headers = dict(response.headers)
    if isinstance(response.content, bytes):
        return Outgoing(response.content, response.status, headers)
    if response.content is not None:
        return _streamed(response, response.content)
    if response.body is None:
        return Outgoing(status_code=response.status, headers=headers)
    return Outgoing(json.dumps(response.body), response.status, headers, media_type="application/json")


def _streamed(response: Response, content: Path | Part) -> Outgoing:
    """A file, or a part of one."""
    part = content if isinstance(content, Part) else Part(content, 0, content.stat().st_size)

    def read() -> Iterator[bytes]:
        left = part.size
        with part.path.open("rb") as file:
            file.seek(part.start)
            while left and (piece := file.read(min(left, _PIECE))):
                yield piece
                left -= len(piece)

    return StreamingResponse(read(), response.status, {**response.headers, "content-length": str(part.size)})
