"""
Requests over HTTP: to a Modelport server, or to Azure.

What can be sent twice without harm is tried again when the service is busy or the
connection breaks, and no sooner than the service asks; anything else only when it
surely did nothing: no connection was made, or the service put it off.
"""

from __future__ import annotations

import json
import logging
import random
import re
import ssl
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import copy
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote, urlsplit

import requests
import tenacity
from attrs import evolve
from requests.adapters import HTTPAdapter

from modelport import __version__
from modelport.arm import ids, lro, versions
from modelport.arm.ids import WorkspaceId
from modelport.arm.messages import Request, Response
from modelport.errors import (
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    UnsupportedByBackend,
    ValidationException,
)
from modelport.transports.base import Transport, no_registry
from modelport.transports.options import Options
from modelport.transports.tokens import HERE, Signer

logger = logging.getLogger(__name__)

_AGAIN = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_READS = frozenset({"getlogs", "listkeys", "listsecrets", "startpendingupload", "token"})
"""Actions that change nothing, POST though they are."""
_NEVER = frozenset({"regeneratekeys"})
"""Actions that a second time does harm, even where the service seems to have put off the first."""
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_THROTTLED = 429
_RETRIES, _THROTTLED_RETRIES = 3, 9
_PATIENCE = 300.0
"""Seconds from the first try after which none is begun; a service that asks for a longer wait gets none."""
_SPREAD = 1.25
_CONNECTIONS = 64
_REFUSED = 401
_WITHOUT_BODY = frozenset({204, 304})
_KEEPS_OPEN = 11
"""HTTP/1.1, as urllib3 counts versions."""

_QUERY = re.compile(r"(url: [^\s?]*)\?\S*")


class RestTransport:
    """Requests to one service about one workspace."""

    def __init__(
        self,
        base_url: str,
        workspace: WorkspaceId,
        signer: Signer,
        options: Options | None = None,
        *,
        also: tuple[str, ...] = (),
    ) -> None:
        """
        Prepare to talk; nothing is sent.

        Args:
            base_url: Where the service is, `https://management.azure.com`.
            workspace: Which workspace requests are about.
            signer: Says who asks.
            options: How to connect.
            also: Other addresses of the same service, which URLs in its answers may name.
        """
        self.workspace, self.options = workspace, options or Options()
        self._base_url, self._signer, self._also = base_url.rstrip("/"), signer, also
        self._session, self._closed = pooled_session(self.options), False
        self._docker: RestTransport | None = None
        self._finding = threading.Lock()

    def send(self, request: Request) -> Response:
        """
        The service's answer.

        Raises:
            errors.ServiceRequestError: None came.
            errors.ValidationException: The transport was closed.
        """
        if self._closed:  # the session would connect again, and nobody would close that
            raise ValidationException("The client was closed. Make another one to go on.", target="client")
        # One id for all tries, by which a server knows a request whose answer was lost.
        request = evolve(request, headers={"x-ms-client-request-id": str(uuid.uuid4()), **request.headers})
        tries = _Tries(request, self.options.retry_total)
        retrying = tenacity.Retrying(
            retry=tries.again,
            wait=tries.pause,
            stop=tries.stop,
            before_sleep=tries.told,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        answer: Response = retrying(self._send, request)
        return answer

    def scoring_token(self) -> Any:
        """
        A token for endpoints whose `auth_mode` is `aad_token`, with `token` and `expires_on`.

        Raises:
            errors.ClientAuthenticationError: There is none to be had.
        """
        return self._signer.scoring_token()

    def registry(self, name: str) -> Transport:
        """None: a Modelport server has no registries."""
        raise no_registry(name)

    def docker(self) -> Transport:
        """This machine's own, found or started when it is first asked for; it is closed with this one."""
        with self._finding:
            self._docker = self._docker or self._to_docker()
            return self._docker

    def _to_docker(self) -> RestTransport:
        raise UnsupportedByBackend("local=True deploys to this machine's Docker: a client of a workspace can do that.")

    def beside(self, base_url: str, workspace: WorkspaceId) -> RestTransport:
        """Another service that takes this one's tokens; connections are shared, and closed with this one's."""
        other = copy(self)
        other.workspace = workspace
        other._base_url, other._also = base_url.rstrip("/"), ()  # noqa: SLF001 (a copy of itself)
        return other

    def close(self) -> None:
        """Close the connections; what is polled is given up."""
        self._closed = True
        self._session.close()
        if self._docker is not None and self._docker is not self:
            self._docker.close()

    def _send(self, request: Request) -> Response:
        target = self._addressed(request)
        if target.credential == "none" or (target.credential == "service" and not self._is_ours(target.path)):
            return self._once(target, {})
        signed = self._signer.sign(target.method, target.path, target.credential)
        answer = self._once(target, signed)
        if answer.status != _REFUSED or _runs_out(request):
            return answer
        # What was refused did nothing: whatever it is, it can be sent again.
        if not self._signer.renewed(target.credential, signed, answer.headers.get("www-authenticate", "")):
            return answer
        return self._once(target, self._signer.sign(target.method, target.path, target.credential))

    def _once(self, target: Request, signed: Mapping[str, str]) -> Response:
        content, began = target.content, time.monotonic()
        if content is None and target.body is not None:
            content = json.dumps(target.body).encode()
        headers = {**_headers(target, content), **signed}
        try:
            if isinstance(content, Path):
                with content.open("rb") as file:
                    answer = self._request(target, headers, file)
            else:
                answer = self._request(target, headers, content)
            _must_be_whole(answer)
        except requests.RequestException as error:
            self._lost(target, error)
        except OSError as error:
            if "TLS" not in str(error):
                raise
            message = f"{error}. See connection_verify and REQUESTS_CA_BUNDLE."
            raise ValidationException(message, target="connection_verify") from error
        if self.options.logging_enable:
            seconds = time.monotonic() - began
            logger.debug("%s %s: %d in %.3f s", target.method, target.path, answer.status_code, seconds)
        return _response(answer, target)

    def _request(self, target: Request, headers: Mapping[str, str], data: Any) -> requests.Response:
        # Written as azure-core writes it; requests' own way has + for a space and %24 for a $.
        query = "&".join(f"{quote(key, safe='$')}={quote(value, safe='')}" for key, value in target.query.items())
        return self._session.request(
            target.method,
            f"{target.path}?{query}" if query else target.path,
            headers=headers,
            data=data,
            timeout=(self.options.connection_timeout, self.options.read_timeout),
            allow_redirects=target.method in ("GET", "HEAD"),
        )

    def _lost(self, target: Request, error: requests.RequestException) -> NoReturn:
        """Raise what a request without an answer is told as."""
        _forget_query(error)
        what = f"{target.method} {target.path}"
        if isinstance(error, requests.ConnectTimeout):
            said = f"{what}: no connection within {self.options.connection_timeout:g} s."
            raise ServiceRequestTimeoutError(said) from error
        if isinstance(error, requests.Timeout):
            said = f"{what}: no answer came within {self.options.read_timeout:g} s."
            raise ServiceRequestTimeoutError(said) from error
        hint = ""
        if _untrusted(error):
            hint = " Name the certificates to trust by connection_verify='ca.pem' or REQUESTS_CA_BUNDLE."
        raise ServiceRequestError(f"{what}: no answer came: {reason(error)}.{hint}") from error

    def _addressed(self, request: Request) -> Request:
        """The request with an absolute URL and an api-version; a URL that the service gave out keeps its query."""
        try:
            split = urlsplit(request.path if urlsplit(request.path).scheme else self._base_url + request.path)
            _ = split.port  # raises when it is none
        except ValueError as error:
            message = f"'{request.path}' is no URL that can be asked: {error}."
            raise HttpResponseError(message, target="url") from error
        query = {**dict(parse_qsl(split.query, keep_blank_values=True)), **request.query}
        found = ids.parted(split.path)
        if found or request.api_version:
            said = request.api_version or query.get("api-version") or versions.of(found[1] if found else "")
            query = {"api-version": said, **query} | {"api-version": said}
        return evolve(request, path=_as_sent(split._replace(query="").geturl()), query=query)

    def _is_ours(self, url: str) -> bool:
        """Whether the token may go there: it is for nobody else."""
        return _origin(url) in {_origin(each) for each in (self._base_url, *self._also)}


class _Tries:
    """How often one request is sent, and when."""

    def __init__(self, request: Request, most: int | None) -> None:
        # Without its content: tenacity holds on to this until the garbage is collected, and uploads are large.
        self._request, self._most = evolve(request, content=None), most
        action = request.path.partition("?")[0].rpartition("/")[2].lower()
        reads = request.method == "POST" and action in _READS
        self._harmless = (request.method in _AGAIN or reads) and not _runs_out(request)
        self._put_off = action not in _NEVER and not _runs_out(request)
        self._told = False

    def again(self, state: tenacity.RetryCallState) -> bool:
        """Whether another try may help and does no harm."""
        assert state.outcome
        error = state.outcome.exception()
        if error is None:
            answer = state.outcome.result()
            if answer.status == _THROTTLED and lro.delay(answer.headers):
                return self._harmless or self._put_off
            return self._harmless and answer.status in _BUSY
        if not isinstance(error, ServiceRequestError):
            return False
        cause = _cause(error)
        if _unsent(cause):
            return True
        if not self._harmless or not _passes(cause):
            return False
        # After a timeout the service may still be at it.
        return self._request.method in ("GET", "HEAD") or not isinstance(error, ServiceRequestTimeoutError)

    def pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next one: what the service asks for, and a little more lest all clients come at once."""
        asked = _asked(state)
        return asked * _CHANCE.uniform(1.0, _SPREAD) if asked else _GROWING(state) * _CHANCE.uniform(0.5, 1.0)

    def stop(self, state: tenacity.RetryCallState) -> bool:
        """Whether it has been tried enough; seconds are the monotonic clock's."""
        retries = self._most if self._most is not None else _THROTTLED_RETRIES if _asked(state) else _RETRIES
        return state.attempt_number > retries or (state.seconds_since_start or 0) + state.upcoming_sleep > _PATIENCE

    def told(self, state: tenacity.RetryCallState) -> None:
        """Say once that the service slows this client down."""
        if not self._told and _asked(state):
            self._told = True
            # Without the query: in a URL that a service gave out, that may open something.
            what, seconds = f"{self._request.method} {self._request.path.partition('?')[0]}", state.upcoming_sleep
            logger.warning("%s: the service is busy and asks to wait; trying again in %.1f s", what, seconds)


_GROWING = tenacity.wait_exponential(multiplier=0.1, max=5)
_CHANCE = random.Random()  # noqa: S311 (no secret; one of our own, as a script may have seeded the common one)


class _Session(requests.Session):
    """Proxies and certificates are the client's own, else the environment's; this machine is never behind a proxy."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """What holds for requests to `url`; by itself, requests lets the environment have the last word."""
        host = urlsplit(url).hostname
        own = {"no_proxy": host} if host in HERE else {**self.proxies, **(proxies or {})}
        return super().merge_environment_settings(url, own, stream, self.verify if verify is None else verify, cert)

    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        """A redirect to another host takes no token along, and gets none from ~/.netrc."""
        if self.should_strip_auth(response.request.url, prepared_request.url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def pooled_session(options: Options | None = None) -> requests.Session:
    """A session whose connections many threads can use at once."""
    options = options or Options()
    session = _Session()
    session.auth = _as_said
    session.verify, session.cert, session.proxies = (
        options.connection_verify,
        options.connection_cert,
        dict(options.proxies or {}),
    )
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # what one answer says stays with it
    session.headers["User-Agent"] = f"modelport/{__version__}"
    adapter = HTTPAdapter(pool_connections=8, pool_maxsize=_CONNECTIONS)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def reason(error: requests.RequestException) -> str:
    """What went wrong, without the layers that it went through: `Connection refused`."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner))
    return text.rpartition("] ")[2] or text


def _headers(target: Request, content: Any) -> dict[str, str]:
    """What is sent with every request, written and in the order as azure-core does it."""
    said = {"Accept": "application/json"}
    if target.content is None and content is not None:
        said |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    return said | {name if name.startswith("x-ms-") else name.title(): value for name, value in target.headers.items()}


def _asked(state: tenacity.RetryCallState) -> float | None:
    """Seconds that the last answer asks to wait."""
    if state.outcome is None or state.outcome.failed:
        return None
    return lro.delay(state.outcome.result().headers)


def _cause(error: BaseException) -> BaseException | None:
    """What `requests` raised, behind the errors of ours."""
    cause = error.__cause__
    while isinstance(cause, ServiceRequestError):
        cause = cause.__cause__
    return cause


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it wraps, as urllib3 and requests do it."""
    while isinstance(error, BaseException):
        yield error
        inside = getattr(error, "reason", None) or next((each for each in error.args[:1]), None)
        error = inside if isinstance(inside, BaseException) and inside is not error else error.__cause__


def _forget_query(error: requests.RequestException) -> None:
    """Take the query out of urllib3's own words, which tracebacks show: a signature in it opens a container."""
    for each in _chain(error):
        each.args = tuple(_QUERY.sub(r"\1", said) if isinstance(said, str) else said for said in each.args)


def _unsent(cause: BaseException | None) -> bool:
    """Whether no connection was made, so that nothing was sent."""
    if isinstance(cause, requests.ConnectTimeout):
        return True
    return any(type(each).__name__ in ("NewConnectionError", "NameResolutionError") for each in _chain(cause))


def _untrusted(cause: BaseException | None) -> bool:
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(cause))


def _passes(cause: BaseException | None) -> bool:
    """Whether it may be better the next time."""
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(cause, broken) and not _untrusted(cause)


def _runs_out(request: Request) -> bool:
    """Whether what it sends can be read but once."""
    return not isinstance(request.content, (bytes, Path, type(None)))


def _as_sent(url: str) -> str:
    r"""
    A URL as `requests` writes it, so that a token's host is looked for where it will go.

    Readers of URLs differ: of `https://a\@b/` one takes `a` for the host, another `b`.
    """
    prepared = requests.PreparedRequest()
    with suppress(requests.RequestException):  # what cannot be sent is told when it is
        prepared.prepare_url(url, None)
    return prepared.url or url


def _origin(url: str) -> tuple[str, str | None, int | None]:
    split = urlsplit(url)
    return split.scheme, split.hostname, split.port or {"http": 80, "https": 443}.get(split.scheme)


def _as_said(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave `Authorization` as it is: without any `auth`, a ~/.netrc would replace it."""
    return request


def _must_be_whole(answer: requests.Response) -> None:
    """
    Refuse half an answer.

    Of a body that is too short urllib3 tells, from version 2 on. Of a head that was cut off nobody does: it looks like
    one without a length, which HTTP/1.1 allows only when it also says that the connection is closed.
    """
    if answer.request.method == "HEAD" or answer.status_code in _WITHOUT_BODY:
        return
    said, came = answer.headers.get("content-length", ""), answer.raw.tell()
    if said.isdigit() and came < int(said):
        raise requests.exceptions.ChunkedEncodingError(f"half of the answer came: {came} of {said} bytes")
    closes = "close" in answer.headers.get("connection", "").lower() or answer.raw.version < _KEEPS_OPEN
    if not (said or closes or "transfer-encoding" in answer.headers):
        raise requests.exceptions.ChunkedEncodingError("half of the answer's head came")


def _response(answer: requests.Response, target: Request) -> Response:
    body: Any = None
    if answer.content and answer.status_code != requests.codes.partial_content:  # a part of a file is no document
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
    sent = {name: value for name, value in target.headers.items() if name == "x-ms-client-request-id"}
    return Response(answer.status_code, body, {**sent, **answer.headers}, answer.content)
