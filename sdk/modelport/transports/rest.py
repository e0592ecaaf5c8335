"""
Requests over HTTP: to a Modelport server, or to Azure.

A verb that can be sent twice without harm is tried again when the service is busy
or the connection breaks; POST is not.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import requests
import tenacity
from attrs import evolve
from requests.adapters import HTTPAdapter

from modelport import __version__
from modelport.arm import ids, versions
from modelport.arm.ids import WorkspaceId
from modelport.arm.messages import Request, Response
from modelport.errors import ServiceRequestError, ServiceRequestTimeoutError

_AGAIN = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_BUSY = frozenset({429, 502, 503, 504})
_TRIES = 4
_CONNECTIONS = 64
_HERE = frozenset({"127.0.0.1", "::1", "localhost"})


class TokenCredential(Protocol):
    """What azure-identity's credentials are, and anything else that can give a token."""

    def get_token(self, *scopes: str, **keywords: Any) -> Any:
        """An object with `token` and `expires_on`."""


class RestTransport:
    """Requests to one service about one workspace."""

    def __init__(
        self,
        base_url: str,
        workspace: WorkspaceId,
        token: Callable[[], str],
        *,
        timeout: float = 300.0,
    ) -> None:
        """
        Prepare to talk; nothing is sent.

        Args:
            base_url: Where the service is, `https://management.azure.com`.
            workspace: Which workspace requests are about.
            token: Gives what goes behind `Bearer`, each time it is asked.
            timeout: Seconds without a byte after which an answer is given up.
        """
        self.workspace = workspace
        self._base_url, self._token, self._timeout = base_url.rstrip("/"), token, timeout
        self._session = pooled_session()

    def send(self, request: Request) -> Response:
        """The service's answer. Raises `errors.ServiceRequestError` when none came."""
        # One id for all tries, by which a server knows a request whose answer was lost.
        request = evolve(request, headers={"x-ms-client-request-id": str(uuid.uuid4()), **request.headers})
        if request.method not in _AGAIN:
            return self._send(request)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda answer: answer.status in _BUSY)
            | tenacity.retry_if_exception(_may_try_again),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
            stop=tenacity.stop_after_attempt(_TRIES),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        answer: Response = retrying(self._send, request)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send(self, request: Request) -> Response:
        target = self._addressed(request)
        headers = {"Accept": "application/json", **target.headers}
        # The token is for nobody else.
        if target.credential == "service" and urlsplit(target.path)[:2] == urlsplit(self._base_url)[:2]:
            headers["Authorization"] = f"Bearer {self._token()}"
        content = request.content
        try:
            if isinstance(content, Path):
                with content.open("rb") as file:
                    answer = self._request(target, headers, data=file)
            elif content is not None:
                answer = self._request(target, headers, data=content)
            else:
                answer = self._request(target, headers, json=request.body)
        except requests.Timeout as error:
            said = f"{request.method} {target.path}: no answer came within {self._timeout:g} s."
            raise ServiceRequestTimeoutError(said) from error
        except requests.RequestException as error:
            said = f"{request.method} {target.path}: no answer came: {reason(error)}."
            raise ServiceRequestError(said) from error
        return _response(answer)

    def _request(self, target: Request, headers: Mapping[str, str], **content: Any) -> requests.Response:
        return self._session.request(
            target.method, target.path, params=dict(target.query), headers=headers, timeout=self._timeout, **content
        )

    def _addressed(self, request: Request) -> Request:
        """The request with an absolute URL and an api-version; a URL that the service gave out keeps its query."""
        split = urlsplit(request.path)
        if not split.scheme:
            split = urlsplit(self._base_url + request.path)
        query = {**dict(parse_qsl(split.query)), **request.query}
        found = ids.parted(split.path)
        if found:
            said = request.api_version or query.get("api-version") or versions.of(found[1])
            query = {**query, "api-version": said}
        return evolve(request, path=split._replace(query="").geturl(), query=query)


class _Session(requests.Session):
    """Proxies and certificates are the environment's, as with `requests`, but this machine is never behind a proxy."""

    def merge_environment_settings(self, url: Any, proxies: Any, *others: Any) -> Any:
        """What the environment says about requests to `url`."""
        host = urlsplit(url).hostname
        return super().merge_environment_settings(url, {"no_proxy": host} if host in _HERE else proxies, *others)


def pooled_session() -> requests.Session:
    """A session whose connections many threads can use at once."""
    session = _Session()
    session.auth = _as_said
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


def _may_try_again(error: BaseException) -> bool:
    """After a timeout the service may still be at it."""
    return isinstance(error, ServiceRequestError) and not isinstance(error, ServiceRequestTimeoutError)


def _as_said(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave `Authorization` as it is: without any `auth`, a ~/.netrc would replace it."""
    return request


def _response(answer: requests.Response) -> Response:
    body: Any = None
    if answer.content:
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
    return Response(answer.status_code, body, answer.headers, answer.content)
