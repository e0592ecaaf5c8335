"""
Which web pages may read the answers: those whose origins AML_CORS_ORIGINS names.

Source: flask-cors, as azureml-inference-server-http sets it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS = ("GET", "POST")


class Cors:
    """Headers for answers; `origins` is a list with commas, in which `*` stands for all."""

    def __init__(self, origins: str) -> None:
        self._origins = sorted({origin.strip() for origin in origins.split(",") if origin.strip()})
        self._lower = {origin.lower() for origin in self._origins}
        self._all = "*" in self._lower

    def headers(self, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the headers to add to the answer of this request."""
        origin = environ.get("HTTP_ORIGIN")
        if not origin:
            origin = "*" if self._all else self._origins[0]
        elif not self._all and origin.lower() not in self._lower:
            return []
        headers = [("access-control-allow-origin", origin)]
        if environ["REQUEST_METHOD"] == "OPTIONS":
            headers += _preflight(environ)
        if origin != "*" and (self._all or len(self._origins) > 1):
            headers.append(("vary", "Origin"))
        return headers


def _preflight(environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a browser asks for before the request itself; nothing where it asks for another method."""
    if environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", "").upper() not in METHODS:
        return []
    asked = sorted(name.strip() for name in environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").split(","))
    allowed = [("access-control-allow-headers", ", ".join(asked))] if any(asked) else []
    return [*allowed, ("access-control-allow-methods", ", ".join(METHODS))]
