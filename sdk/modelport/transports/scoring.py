"""
Scoring requests over HTTP.

A POST is sent once and never again: a model that ran twice is worse than an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import Message
from pathlib import Path
from typing import Any

import requests
from attrs import frozen
from requests.exceptions import BaseHTTPError  # type: ignore[attr-defined]  # urllib3's, by its only door

from modelport.arm.messages import lower
from modelport.errors import ServiceRequestError, ServiceRequestTimeoutError
from modelport.transports.rest import pooled_session, reason

Content = bytes | Path | Iterable[bytes]
"""A body: bytes, a file's, or pieces, which are sent in chunks when they do not know their length."""

_CONNECT, _LONGEST = 30.0, 330.0
"""
Seconds to connect and, where the caller has no other wish, without a byte: a little more than any endpoint may take.

Source: at most 300 s on Kubernetes, 180 s on managed endpoints.
"""

_PIECE = 1 << 16


@frozen
class Answer:
    """What came back. `seconds` is the time from sending to the last byte."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    """Names in lower case."""
    encoding: str
    seconds: float


@frozen
class Opened:
    """An answer whose body is still coming. `pieces` gives it as it comes; `close` ends the connection."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    encoding: str
    seconds: float
    """From sending to the end of the headers."""
    pieces: Callable[[], Iterator[bytes]]
    close: Callable[[], None]

    def whole(self) -> Answer:
        """The answer with all of its body, which is read, and the connection given back."""
        try:
            return Answer(self.status, b"".join(self.pieces()), self.headers, self.encoding, self.seconds)
        finally:
            self.close()


class Scorer:
    """One pool of connections for all endpoints of a client. Threads may share it."""

    def __init__(self, session: requests.Session | None = None) -> None:
        """Score over `session`; by default over one of its own."""
        self._session = session or pooled_session()

    def post(self, url: str, content: Content, headers: Mapping[str, str], timeout: float | None) -> Answer:
        """
        The answer to one scoring request, whatever its status.

        Args:
            url: The endpoint's scoring URI.
            content: The body.
            headers: Sent with it.
            timeout: Seconds to connect, and seconds without a byte, after which the answer is given up. None waits for
                as long as an endpoint may take.

        Raises:
            errors.ServiceRequestError: No answer came, or not all of it.
        """
        with self._asked(url, content, headers, timeout, stream=False) as answer:
            return Answer(
                answer.status_code,
                answer.content,
                lower(answer.headers),
                _encoding(answer.headers),
                answer.elapsed.total_seconds(),
            )

    def open(self, url: str, content: Content, headers: Mapping[str, str], timeout: float | None) -> Opened:
        """As `post`, but the body of the answer is left to be read as it comes, and `close` must be called."""
        with self._asked(url, content, headers, timeout, stream=True) as answer:
            return Opened(
                answer.status_code,
                lower(answer.headers),
                _encoding(answer.headers),
                answer.elapsed.total_seconds(),
                lambda: _pieces(url, answer, timeout),
                answer.close,
            )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @contextmanager
    def _asked(
        self, url: str, content: Content, headers: Mapping[str, str], timeout: float | None, *, stream: bool
    ) -> Iterator[requests.Response]:
        waits = (_CONNECT, _LONGEST) if timeout is None else (timeout, timeout)
        with _told(url, timeout):
            if isinstance(content, Path):
                with content.open("rb") as file:
                    yield self._post(url, file, headers, waits, stream)
            else:
                yield self._post(url, content, headers, waits, stream)

    def _post(
        self, url: str, data: Any, headers: Mapping[str, str], waits: tuple[float, float], stream: bool
    ) -> requests.Response:
        return self._session.post(url, data=data, headers=headers, timeout=waits, allow_redirects=False, stream=stream)


@contextmanager
def _told(url: str, timeout: float | None) -> Iterator[None]:
    """What goes wrong on the way, in our words."""
    within = f"within {timeout:g} s" if timeout is not None else f"for {_LONGEST:g} s"
    try:
        yield
    except requests.Timeout as error:
        remedy = " Give invoke() a longer timeout." if timeout is not None else ""
        raise ServiceRequestTimeoutError(f"{url} did not answer {within}.{remedy}") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise ServiceRequestError(f"The answer of {url} was cut off: {reason(error)}.") from error
    except requests.RequestException as error:
        if "Read timed out" in str(error):  # the body of an answer stopped to come
            raise ServiceRequestTimeoutError(f"The answer of {url} stopped {within} before its end.") from error
        raise ServiceRequestError(f"{url} could not be reached: {reason(error)}.") from error


def _pieces(url: str, answer: requests.Response, timeout: float | None) -> Iterator[bytes]:
    """An answer's body as it comes, whatever its framing."""
    with _told(url, timeout):
        read = getattr(answer.raw, "read1", None)
        if read is None or getattr(answer.raw, "chunked", False):
            yield from answer.iter_content(None)
            return
        try:
            while piece := read(_PIECE, decode_content=True):
                yield piece
        except BaseHTTPError as error:
            raise requests.exceptions.ChunkedEncodingError(error) from error


def _encoding(headers: Mapping[str, str]) -> str:
    """The charset that an answer names, when there is such a one; else UTF-8, also for text."""
    message = Message()
    message["content-type"] = headers.get("content-type", "")
    said = str(message.get_content_charset("utf-8"))
    with suppress(LookupError, ValueError):
        "".encode(said)
        return said
    return "utf-8"
