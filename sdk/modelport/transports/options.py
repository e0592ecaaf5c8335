"""
How a client connects: the keywords of azure-core that scripts give to `MLClient`.

They belong to one client. What they leave open, `requests` takes from the environment:
`HTTPS_PROXY`, `NO_PROXY`, `REQUESTS_CA_BUNDLE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from attrs import fields, frozen


@frozen(kw_only=True)
class Options:
    """Settings of a client's connections."""

    connection_verify: bool | str = True
    """Whether certificates are checked, or the file or folder of those that are trusted."""
    connection_cert: str | tuple[str, str] | None = None
    """The client's own certificate: a PEM file, or one and its key."""
    connection_timeout: float = 30.0
    """Seconds in which a connection must stand."""
    read_timeout: float = 300.0
    """Seconds without a byte after which an answer is given up."""
    retry_total: int | None = None
    """How often a request that failed is sent again; None is a few times, and more for a service that throttles."""
    logging_enable: bool = False
    """Whether each request is logged at DEBUG: method, address, status and time; never a header or a body."""
    proxies: Mapping[str, str] | None = None
    """By scheme, as for `requests`; None is what the environment says."""
    authentication_policy: Any = None
    """Instead of a credential: an azure-core policy, whose `on_request` sets the headers of a request."""


def of(keywords: Mapping[str, Any], others: Iterable[str]) -> Options:
    """
    The options that keywords say; a path may be a `Path`.

    Args:
        keywords: By name.
        others: Keywords that the caller takes itself, for the hint.

    Raises:
        TypeError: There is no such keyword.
    """
    known = [each.name for each in fields(Options)]
    for name in keywords:
        if name not in known:
            near = get_close_matches(name, [*known, *others], 1)
            hint = f" Did you mean '{near[0]}'?" if near else f" There are {', '.join(sorted([*known, *others]))}."
            raise TypeError(f"MLClient() got an unexpected keyword argument '{name}'.{hint}")
    verify = keywords.get("connection_verify", True)
    return Options(**{**keywords, "connection_verify": verify if isinstance(verify, bool) else str(verify)})
