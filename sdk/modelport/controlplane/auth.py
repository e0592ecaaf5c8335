"""
Keys and tokens of endpoints.

Keys are random. Tokens are made from an endpoint's secret and the time, so that
none need be stored: any token of the present or the last window is valid. The
gateway is told the next window's too, so that it need not hear in the very second
in which a window begins.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import string
from typing import Any

WINDOW = 6 * 3600
"""Seconds for which one token is given out; it stays valid for as long again."""

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 32


def new_key() -> str:
    """A key: 32 letters and digits, about 190 bits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))


def new_credentials() -> dict[str, str]:
    """What a new endpoint gets: two keys, and the secret that its tokens are made from."""
    return {"primary": new_key(), "secondary": new_key(), "secret": new_key()}


def token(credentials: dict[str, str], now: float) -> dict[str, Any]:
    """The answer to the action `token`, as Azure sends it; times in seconds since 1970."""
    present = window(now)
    return {
        "accessToken": _token(credentials["secret"], present),
        "expiryTimeUtc": (present + 2) * WINDOW,
        "refreshAfterTimeUtc": (present + 1) * WINDOW,
        "tokenType": "Bearer",
    }


def accepted(auth_mode: str, credentials: dict[str, str], now: float) -> tuple[str, ...]:
    """The bearer values that open an endpoint now. `auth_mode` is the wire's word."""
    if auth_mode == "Key":
        return credentials["primary"], credentials["secondary"]
    if auth_mode == "AMLToken":
        return tuple(_token(credentials["secret"], window(now) + step) for step in (-1, 0, 1))
    return ()


def window(now: float) -> int:
    """The number of the window in which `now`, seconds since 1970, is."""
    return int(now // WINDOW)


def _token(secret: str, number: int) -> str:
    digest = hmac.new(secret.encode(), f"{number}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
