"""
HTTP as a script sees it: the request that `@rawhttp` gives to run(), and an answer with its own status and headers.

Azure promises Flask's request and response here, and scripts use all of them:
`files.getlist("file[]")`, a file's `stream`, `response.mimetype = …`. Both are
Werkzeug's, which Flask only extends, so they are taken from there. It is loaded
by the scripts that import these names (`stand_ins`), and by no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, TypeVar

from werkzeug.wrappers import Request, Response

Function = TypeVar("Function", bound=Callable[..., Any])

PROXIES = ("", "127.0.0.1", "::1")
"""Where a proxy may be that ends TLS and says so: at a Unix socket, or on this machine. Source: gunicorn's default."""

_rawHttpRequested = False  # noqa: N816  # the name in Azure's packages, which `inputs` asks in the same way


def rawhttp(function: Function) -> Function:
    """Mark a script whose run() takes the request itself, an `AMLRequest`."""
    global _rawHttpRequested  # noqa: PLW0603  # as in Azure: it is the script that is marked, under whatever decorators
    _rawHttpRequested = True
    return function


def with_body(environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Return a WSGI environment whose body has been read already as one that has it."""
    # Read up to its end, with or without a length: where the client told none, the script sees none.
    own = {"wsgi.input": BytesIO(body), "wsgi.input_terminated": True}
    if environ.get("HTTP_X_FORWARDED_PROTO") == "https" and environ.get("REMOTE_ADDR", "") in PROXIES:
        own["wsgi.url_scheme"] = "https"
    return {"SCRIPT_NAME": "", **environ, **own}


class AMLRequest(Request):
    """The request, as Flask has it: `method`, `args`, `headers`, `files`, `form`, `get_data()`, `get_json()`, …"""

    @classmethod
    def of(cls, environ: Mapping[str, Any], body: bytes) -> AMLRequest:
        """Return the request in a WSGI environment whose body has been read already."""
        return cls(with_body(environ, body))


class AMLResponse(Response):
    """An answer that is sent as it stands; a Flask response but for its constructor."""

    default_mimetype = "text/html"

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Mapping[str, str] = {},  # Azure's signature; never changed
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        """
        Answer with `message`: bytes, text, or with `json_str` anything that JSON can hold; None is `{}`.

        A comma in a header's value separates the values of a repeated header.

        Source: azureml-inference-server-http.
        """
        if json_str or message is None:
            document = json.dumps({} if message is None else message)
            super().__init__(document, status=status_code, mimetype="application/json")
        else:
            super().__init__(message, status=status_code)
            if "Content-Type" in response_headers:
                self.headers.remove("Content-Type")
        self.headers["x-ms-run-function-failed"] = str(run_function_failed)
        for name, values in response_headers.items():
            for value in values.split(","):
                self.headers.add(name, value.strip())
