"""
What run() is given, by how it is decorated: the body as text, the request itself, or arguments.

One of the three is chosen when the script is loaded, so that no request asks again.

Source: azureml-inference-server-http, for the choice, the messages and the statuses.
"""

from __future__ import annotations

import codecs
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

RAW_MODULES = (
    f"{__package__}.raw",
    "azureml_inference_server_http.api.aml_request",
    "azureml.contrib.services.aml_request",
)
"""Where a script may have got its `@rawhttp` from: each notes there that it was used."""

AS_WRITTEN = f"{__package__}.as_written"
"""How escapes in a query that are no UTF-8 are decoded: not at all, as by Werkzeug."""

Headers = Callable[[], "dict[str, str]"]
"""The request's headers, put together only when they are asked for."""

Run = Callable[..., Any]


class Refusal(Exception):  # noqa: N818  # an answer, not a fault of ours
    """The request is answered with this status and message, and run() is not called."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Text:
    """The body as text; a query as the text of a JSON object. For run() without a decorator."""

    bodies: Sequence[str] = ("POST",)
    """Methods whose body is read and given to `of_body`."""
    media_type = "application/json"
    """What a page of OpenAPI says that the body is."""
    told = "text"
    """The end of the sentence "the body is …", for the log."""
    is_typed = False
    """Whether annotations decide what run() is given."""

    def __init__(self, run: Run, parameters: Sequence[inspect.Parameter], *, with_headers: bool) -> None:
        self._run = run
        self._parameters = parameters
        self._name = parameters[0].name
        self._with_headers = with_headers

    def of_query(self, environ: Mapping[str, Any]) -> Any:
        """Return what `call` takes, for a GET. May raise a Refusal."""
        return json.dumps(query_document(environ["QUERY_STRING"]))

    def of_body(self, environ: Mapping[str, Any], body: bytes) -> Any:  # noqa: ARG002  # the others want it
        """Return what `call` takes, for a method of `bodies`. May raise a Refusal."""
        try:
            return str(body, "utf-8")
        except UnicodeDecodeError as error:
            raise Refusal(400, f"Input cannot be decoded as UTF-8: {error}") from None

    def call(self, data: Any, headers: Headers) -> Any:
        """Call run()."""
        if self._with_headers:
            return self._run(**{self._name: data, "request_headers": headers()})
        return self._run(**{self._name: data})

    def item(self, data: Any) -> Any:
        """Return what a batch has of one request. May raise a Refusal."""
        return data

    def call_batch(self, items: list[Any]) -> Any:
        """Call run() for several requests."""
        return self._run(**{self._name: items})

    def advice(self, failure: BaseException) -> str | None:  # noqa: ARG002  # `Typed` wants it
        """Return what may be wrong with a script whose run() failed in this way."""
        return None

    def components(self, version: str) -> dict[str, Any]:  # noqa: ARG002  # `Typed` wants it
        """Return the schemas of a page of OpenAPI by name, where the annotations say them."""
        return {}


class Raw(Text):
    """The request itself. For `@rawhttp`."""

    bodies = ("POST", "GET", "OPTIONS", "HEAD")

    def __init__(self, run: Run, parameters: Sequence[inspect.Parameter], *, with_headers: bool) -> None:
        super().__init__(run, parameters, with_headers=with_headers)
        # Not loaded yet where the script has its decorator from Azure's own package.
        self._request = import_module(RAW_MODULES[0]).AMLRequest

    def of_body(self, environ: Mapping[str, Any], body: bytes) -> Any:
        """Return the request."""
        return self._request.of(environ, body)


class Arguments(Text):
    """One argument for each key of a JSON object, which inference-schema converts. For `@input_schema`."""

    def of_query(self, environ: Mapping[str, Any]) -> Any:
        """Return the arguments that the query has."""
        return self._arguments(query_document(environ["QUERY_STRING"]))

    def of_body(self, environ: Mapping[str, Any], body: bytes) -> Any:
        """Return the arguments that the body has."""
        if not _is_json(environ.get("CONTENT_TYPE", "")):
            raise Refusal(415, "Expects Content-Type to be application/json")
        if not body:
            raise Refusal(400, "POST body is empty. Expecting a JSON dictionary.")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"POST body could not be decoded as JSON: {error}") from None
        if not isinstance(document, dict):
            raise Refusal(400, "POST body should be a JSON dictionary.")
        return self._arguments(document)

    def call(self, data: Any, headers: Headers) -> Any:
        """Call run()."""
        if self._with_headers:
            return self._run(**data, request_headers=headers())
        return self._run(**data)

    def _arguments(self, document: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {}
        for parameter in self._parameters:
            value = document.get(parameter.name, parameter.default)
            if value is inspect.Parameter.empty:
                raise Refusal(400, f"A value is not provided for the {parameter.name!r} parameter.")
            arguments[parameter.name] = value
        return arguments


def is_raw() -> bool:
    """Whether the script, which has been loaded, is decorated with `@rawhttp`."""
    return any(getattr(sys.modules.get(name), "_rawHttpRequested", False) for name in RAW_MODULES)


def _is_json(content_type: str) -> bool:
    name = content_type.partition(";")[0].strip().lower()
    return name == "application/json" or (name.startswith("application/") and name.endswith("+json"))


def query_texts(query: str) -> dict[str, list[str]]:
    """Return the values of each name in a query."""
    # WSGI hands bytes over as Latin-1.
    text = query.encode("latin-1").decode("utf-8", "replace")
    return parse_qs(text, keep_blank_values=True, errors=AS_WRITTEN)


def query_document(query: str) -> dict[str, Any]:
    """Return a query as a JSON object: values that are JSON as such, others as text, repeated keys as lists."""
    values = {key: [json_or_text(item) for item in items] for key, items in query_texts(query).items()}
    return {key: items if len(items) > 1 else items[0] for key, items in values.items()}


def _as_written(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(AS_WRITTEN, _as_written)


def json_or_text(text: str) -> Any:
    """Return what the text says as JSON, or the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
