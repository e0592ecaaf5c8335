"""
Signatures that open a container for a time.

Whoever has one can read and write blobs without the workspace's token, which
therefore never travels in a URL. They have the form of Azure's shared access
signatures, so that its clients send them along as they are, but only this server
reads them: what is signed is the container, what may be done, and until when.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timezone
from urllib.parse import urlencode

from modelport.errors import HttpResponseError

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_MAY = "racwdl"
"""Read, add, create, write, delete, list."""


def signed(secret: str, container: str, until: float) -> str:
    """
    A signature, as the query of a URL.

    Args:
        secret: The workspace's.
        container: What it opens.
        until: When it ends, in seconds since 1970.
    """
    end = datetime.fromtimestamp(until, timezone.utc).strftime(_TIME)
    said = {"sv": "2022-11-02", "sr": "c", "sp": _MAY, "se": end}
    return urlencode({**said, "sig": _signature(secret, container, said)})


def check(query: Mapping[str, str], secret: str, container: str, now: float) -> None:
    """
    Let a request pass whose URL has a signature.

    Raises:
        errors.HttpResponseError: AuthenticationFailed: it is not of this workspace or container, or its time is over.
    """
    wanted = _signature(secret, container, query)
    if not hmac.compare_digest(wanted.encode(), query.get("sig", "").encode()):
        raise _refused(f"The signature does not open the container '{container}'. Ask for one by listSecrets.")
    end = datetime.strptime(query["se"], _TIME).replace(tzinfo=timezone.utc).timestamp()  # as it was signed
    if now >= end:
        raise _refused(f"The signature ended at {query['se']}. Ask for another by listSecrets.")


def _signature(secret: str, container: str, said: Mapping[str, str]) -> str:
    text = "\n".join([container, *(said.get(name, "") for name in ("sv", "sr", "sp", "se"))])
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def _refused(message: str) -> HttpResponseError:
    return HttpResponseError(message, status_code=403, error_code="AuthenticationFailed")
