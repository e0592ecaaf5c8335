"""
Flask's `request`, and what stands on it, for scripts that use Flask.

Azure's server is an application of Flask's, and calls run() in the middle of one of
its requests. So there `flask.request` and `jsonify()` work in run(), and scripts use
them. Ours is none: it makes an application, and its context for each call of run(),
where a module of the script's has one of those names when it has been loaded. Azure's
own package loads Flask too, and who only imports that pays nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from modelport_scoring.inputs import Headers, Text
from modelport_scoring.raw import with_body

NAMES = (
    *("after_this_request", "current_app", "g", "get_flashed_messages", "has_request_context", "jsonify"),
    *("make_response", "render_template", "render_template_string", "request", "send_file", "send_from_directory"),
    *("session", "stream_with_context", "url_for"),
)
"""What Flask has that stands on an application or a request."""


def is_used_below(root: str) -> bool:
    """Whether a module that has been loaded from this folder has Flask, or one of its `NAMES`."""
    flask = sys.modules["flask"]
    known = {id(flask), *(id(getattr(flask, name, flask)) for name in NAMES)}
    # Their dictionaries, and not `module.__file__`: some load what they are asked for.
    found = [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
    own = [names for names in found if str(names.get("__file__")).startswith(root)]
    return any(id(value) in known for names in own for value in list(names.values()))


class InFlask(Text):
    """An input whose run() is called in the context of a request of Flask's."""

    def __init__(self, own: Text) -> None:
        self._own = own
        self.bodies, self.media_type, self.told, self.is_typed = own.bodies, own.media_type, own.told, own.is_typed
        self._application = sys.modules["flask"].Flask(__name__, static_folder=None)
        self.advice = own.advice  # type: ignore[method-assign]  # the other's, as it is
        self.components = own.components  # type: ignore[method-assign]

    def of_query(self, environ: Mapping[str, Any]) -> Any:
        """Return the request, and what run() takes."""
        return with_body(environ, b""), self._own.of_query(environ)

    def of_body(self, environ: Mapping[str, Any], body: bytes) -> Any:
        """Return the request, and what run() takes."""
        return with_body(environ, body), self._own.of_body(environ, body)

    def call(self, data: Any, headers: Headers) -> Any:
        """Call run() in the request."""
        environ, own = data
        with self._application.request_context(environ):
            return self._own.call(own, headers)

    def item(self, data: Any) -> Any:
        """Return what a batch has of one request; of several, no one is Flask's."""
        return self._own.item(data[1])

    def call_batch(self, items: list[Any]) -> Any:
        """Call run() for several requests."""
        return self._own.call_batch(items)
