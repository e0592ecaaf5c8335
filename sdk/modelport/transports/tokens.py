"""
What a request carries to say who asks: a server's token, Microsoft Entra's, or what a policy writes.

Tokens are kept while they last, by the monotonic clock: a computer whose clock jumps
neither asks for one again and again nor believes for ever in one that has ended. When
the service refuses one, a new one is asked for, once.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import urlsplit

from attrs import field, frozen

from modelport.arm.messages import Credential
from modelport.errors import ClientAuthenticationError
from modelport.transports.clouds import Cloud

HERE = frozenset({"127.0.0.1", "::1", "localhost"})
"""This machine: what goes to it passes no network."""

_SPARE = 120.0
"""Seconds before its end at which a token is no longer used."""
_LEAST = 5.0
"""Seconds for which a token that was just given is used, whatever the clock says of its end."""
_ZONES = ".storage.azure.net"
"""Hosts of accounts that are in a DNS zone of Azure's: `{account}.z01.blob.storage.azure.net`."""

_CLAIMS = re.compile(r'claims="([^"]+)"')


class TokenCredential(Protocol):
    """What azure-identity's credentials are, and anything else that can give a token."""

    def get_token(self, *scopes: str, **keywords: Any) -> Any:
        """An object with `token` and `expires_on`."""


class Signer(Protocol):
    """Says who asks. Threads may share it."""

    def sign(self, method: str, url: str, whose: Credential) -> Mapping[str, str]:
        """
        The headers that say so.

        Raises:
            errors.ClientAuthenticationError: There is no token to be had.
        """

    def renewed(self, whose: Credential, signed: Mapping[str, str], challenge: str) -> bool:
        """
        Whether signing again may help, after a 401.

        Args:
            whose: As for `sign`.
            signed: The headers that were refused.
            challenge: The answer's `WWW-Authenticate`.
        """

    def scoring_token(self) -> Any:
        """
        A token for endpoints whose `auth_mode` is `aad_token`, with `token` and `expires_on`.

        Raises:
            errors.ClientAuthenticationError: There is none to be had.
        """


class Fixed:
    """The token of a Modelport server."""

    def __init__(self, token: Callable[[], str]) -> None:
        """Sign with what `token` gives each time."""
        self._token = token

    def sign(self, method: str, url: str, whose: Credential) -> Mapping[str, str]:  # noqa: ARG002 (the protocol's)
        """The token, for the server itself."""
        return _bearer(self._token()) if whose == "service" else {}

    def renewed(self, whose: Credential, signed: Mapping[str, str], challenge: str) -> bool:  # noqa: ARG002 (as above)
        """When it is another one by now: the background server may have been started anew."""
        return whose == "service" and signed != _bearer(self._token())

    def scoring_token(self) -> Any:
        """None of Microsoft Entra's."""
        raise ClientAuthenticationError("A Microsoft Entra token is wanted: make the MLClient with a credential.")


@frozen
class _Known:
    token: str = field(repr=False)
    until: float


class Entra:
    """Tokens of a credential, each kept until it nears its end; threads that want the same one ask once."""

    def __init__(
        self, credential: TokenCredential | None, cloud: Cloud, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Prepare to ask; nothing is asked.

        Args:
            credential: Whose; None is azure-identity's `DefaultAzureCredential`, made when a token is needed.
            cloud: Where.
            clock: Seconds that never go backwards.
        """
        self._credential, self._cloud, self._clock = credential, cloud, clock
        self._scopes = {"service": cloud.management_scope, "storage": cloud.storage_scope}
        self._known: dict[str, _Known] = {}
        self._lock = threading.RLock()

    def sign(self, method: str, url: str, whose: Credential) -> Mapping[str, str]:  # noqa: ARG002 (the protocol's)
        """A token for the management API, or for storage."""
        if whose == "none":
            return {}
        where = urlsplit(url)
        if where.scheme != "https" and where.hostname not in HERE:
            raise ClientAuthenticationError(
                f"A credential's token is not sent to {where.scheme}://{where.netloc}, where everybody on the way "
                "could read it: use https."
            )
        if whose == "storage" and not self._is_storage(where.hostname or ""):
            raise ClientAuthenticationError(
                f"A token for storage is not sent to '{where.netloc}', which is no storage account of the cloud "
                f"'{self._cloud.name}'. If it is one, say so: cloud_metadata={{'storage_endpoint': '…'}}."
            )
        scope = self._scopes[whose]
        with self._lock:
            known = self._known.get(scope)
            if known is None or known.until < self._clock():
                known = self._renew(scope)
        return _bearer(known.token)

    def renewed(self, whose: Credential, signed: Mapping[str, str], challenge: str) -> bool:
        """When the credential has another one; asked with the claims that the service wants."""
        scope = self._scopes.get(whose)
        if scope is None:
            return False
        with self._lock:
            known = self._known.get(scope)
            if known is None or _bearer(known.token) == signed:
                known = self._renew(scope, **_wanted(challenge))
        return _bearer(known.token) != signed

    def scoring_token(self) -> Any:
        """One for Azure ML itself; asked for each time, as the credential keeps it."""
        return self._ask(self._cloud.scoring_scope)

    def _is_storage(self, host: str) -> bool:
        """Whether it may see the token for storage, which opens all accounts of the user: datastores name any host."""
        return host in HERE or host.endswith((f".{self._cloud.storage_endpoint}", _ZONES))

    def _renew(self, scope: str, **keywords: Any) -> _Known:
        given = self._ask(scope, **keywords)
        lasts = max(float(given.expires_on) - time.time() - _SPARE, _LEAST)
        known = self._known[scope] = _Known(str(given.token), self._clock() + lasts)
        return known

    def _ask(self, scope: str, **keywords: Any) -> Any:
        try:
            with self._lock:
                if self._credential is None:
                    made = import_module("azure.identity").DefaultAzureCredential
                    authority = self._cloud.active_directory.rstrip("/")
                    # An authority of one's own is not asked about at Microsoft's.
                    self._credential = made(authority=authority, disable_instance_discovery=not self._cloud.is_known)
            return self._credential.get_token(scope, **keywords)
        except Exception as error:
            kind = "DefaultAzureCredential" if self._credential is None else type(self._credential).__name__
            message = f"{kind} gave no token for {scope}: {str(error) or type(error).__name__}"
            raise ClientAuthenticationError(message, target=scope) from error


class Policy:
    """What an `authentication_policy` of azure-core's kind writes into a request, in place of a token."""

    def __init__(self, policy: Any, tokens: Entra) -> None:
        """Sign with `policy`; `tokens` are for what it is not asked about."""
        self._policy, self._tokens = policy, tokens

    def sign(self, method: str, url: str, whose: Credential) -> Mapping[str, str]:
        """The headers that the policy sets."""
        if whose != "service":
            return self._tokens.sign(method, url, whose)
        headers: dict[str, str] = {}
        request = SimpleNamespace(method=method, url=url, headers=headers)
        context = SimpleNamespace(options={"enforce_https": True})
        self._policy.on_request(SimpleNamespace(http_request=request, context=context))
        return headers

    def renewed(self, whose: Credential, signed: Mapping[str, str], challenge: str) -> bool:
        """When it writes something else the next time."""
        if whose != "service":
            return self._tokens.renewed(whose, signed, challenge)
        return False

    def scoring_token(self) -> Any:
        """The credential's."""
        return self._tokens.scoring_token()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _wanted(challenge: str) -> dict[str, str]:
    """
    What to ask the credential with.

    Source: continuous access evaluation; claims are base64 in `WWW-Authenticate`.
    """
    found = _CLAIMS.search(challenge)
    if not found:
        return {}
    try:
        padded = found[1] + "=" * (-len(found[1]) % 4)
        return {"claims": base64.urlsafe_b64decode(padded).decode()}
    except ValueError:
        return {}
