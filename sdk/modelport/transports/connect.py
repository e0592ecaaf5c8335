"""Where a client says where, into a transport."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve

from modelport.arm.ids import LOCAL_WORKSPACE, WorkspaceId
from modelport.arm.messages import Request, Response
from modelport.errors import ServiceRequestError, ServiceRequestTimeoutError, ValidationException
from modelport.transports import launch
from modelport.transports.rest import RestTransport, TokenCredential

_AZURE = "https://management.azure.com"
_SPARE = 120
"""Seconds before its end at which a token is no longer used."""


def local(home: Path | None, backend: str) -> RestTransport:
    """
    To the background server of a workspace on this machine, started when none runs.

    Raises:
        errors.LocalServerError: It could not be started.
    """
    return _Background(launch.find_or_start((home or launch.home_folder()).expanduser().resolve(), backend))


def server(url: str, token: str) -> RestTransport:
    """
    To a Modelport server.

    Raises:
        errors.ValidationException: `url` is not an http or https URL.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValidationException(f"'{url}' is not an http or https URL.", target="url")
    return RestTransport(url, LOCAL_WORKSPACE, lambda: token)


def azure(credential: TokenCredential, subscription: str, group: str, workspace: str) -> RestTransport:
    """To Azure's public cloud."""
    return RestTransport(_AZURE, WorkspaceId(subscription, group, workspace), _Token(credential, f"{_AZURE}/.default"))


class _Background(RestTransport):
    """To the background server, which may be another one, at another address, by the next request."""

    def __init__(self, server: launch.Server) -> None:
        super().__init__(server.url, LOCAL_WORKSPACE, lambda: server.token)
        self._home = server.home

    def _send(self, request: Request) -> Response:
        try:
            return super()._send(request)
        except ServiceRequestTimeoutError:
            raise
        except ServiceRequestError as error:
            found = launch.find(self._home)
            if found is None:
                message = f"The background server of '{self._home}' is not up. Run `modelport up`, then try again."
                raise ServiceRequestError(message) from error
            self._base_url = found.url  # what can be sent twice without harm is; the rest finds it the next time
            raise

    def _addressed(self, request: Request) -> Request:
        """URLs that an earlier server gave out are the present one's."""
        here = urlsplit(request.path)._replace(scheme="", netloc="")
        return super()._addressed(evolve(request, path=here.geturl()))


class _Token:
    """A credential's token, asked for again when it nears its end."""

    def __init__(self, credential: TokenCredential, scope: str) -> None:
        self._credential, self._scope = credential, scope
        self._known: Any = None

    def __call__(self) -> str:
        known = self._known
        if known is None or known.expires_on - _SPARE < time.time():
            known = self._known = self._credential.get_token(self._scope)
        return str(known.token)
