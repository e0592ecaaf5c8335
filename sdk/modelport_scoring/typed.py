"""
What run() is given when its annotations ask for it: the body as bytes, parsed, or made into what they name.

Loaded only for such a script, and with it the parsers. A request is converted in
run()'s own turn: a class of the script's may have code of its own in it, which
expects as many threads as run() does, and who waits for his turn waits as bytes.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, get_args, get_origin

import orjson

from modelport_scoring import openapi
from modelport_scoring.annotations import (
    ABSENT,
    Parameters,
    Run,
    Unusable,
    field_types,
    is_named_tuple,
    resolved,
    shown,
    signature,
    takes_object,
)
from modelport_scoring.conversions import Misfit, Schema, conversion
from modelport_scoring.examples import example
from modelport_scoring.inputs import Headers, Refusal, Text, query_document, query_texts
from modelport_scoring.shapes import Document, Either, Fields, Parameter, Shape, Whole

REMEDY = (
    "Annotate it as what JSON can be made into (dict, list[float], datetime, a dataclass, a pydantic model, …), or set "
    "MODELPORT_TYPED=false to be given the body as text, as in Azure"
)
PARSED_TWICE = "the JSON object must be str, bytes or bytearray, not "
"""How json.loads() complains of what has been parsed."""


class Bytes(Text):
    """The body as it is."""

    told = "given as it is"
    media_type = "application/octet-stream"
    is_typed = True

    def of_query(self, environ: Mapping[str, Any]) -> Any:
        """Return the query as the bytes of a JSON object."""
        return json.dumps(query_document(environ["QUERY_STRING"])).encode()

    def of_body(self, environ: Mapping[str, Any], body: bytes) -> Any:  # noqa: ARG002  # the others want it
        """Return the body."""
        return body

    def components(self, version: str) -> dict[str, Schema]:
        """Return the schemas of a page of OpenAPI, by name."""
        given: Schema = {"type": "string", "format": "binary"}
        return openapi.components(version, (given, {}), _returned(self._run), None)


class Typed(Text):
    """What the annotations name, made of JSON."""

    is_typed = True

    def __init__(self, run: Run, parameters: Parameters, *, with_headers: bool, shape: Shape) -> None:
        super().__init__(run, parameters, with_headers=with_headers)
        self._shape = shape
        self.told = shape.told

    def of_query(self, environ: Mapping[str, Any]) -> Any:
        """Return the query."""
        return query_texts(environ["QUERY_STRING"])

    def of_body(self, environ: Mapping[str, Any], body: bytes) -> Any:  # noqa: ARG002  # the others want it
        """Return the body, or a Refusal of one that is not there."""
        if not body:
            raise Refusal(400, self._sentence("It is empty"))
        return body

    def call(self, data: Any, headers: Headers) -> Any:
        """Call run(), or raise a Refusal of what does not fit."""
        arguments = self._arguments(data)
        if self._with_headers:
            arguments["request_headers"] = headers()
        return self._run(**arguments)

    def item(self, data: Any) -> Any:
        """Return what a batch has of one request, or raise a Refusal of what does not fit."""
        return self._arguments(data)[self._name]

    def _arguments(self, data: Any) -> dict[str, Any]:
        try:
            return self._shape.of_json(data) if type(data) is bytes else self._shape.of_query(data)
        except Misfit as misfit:
            raise Refusal(400, self._sentence(str(misfit))) from None

    def advice(self, failure: BaseException) -> str | None:
        """Return what may be wrong with a script whose run() failed in this way."""
        if isinstance(failure, TypeError) and str(failure).startswith(PARSED_TWICE):
            return (
                "json.loads() was given what has been parsed already, as the annotations of run() ask. Remove the "
                "call, or the annotations, or set MODELPORT_TYPED=false."
            )
        return None

    def components(self, version: str) -> dict[str, Schema]:
        """Return the schemas of a page of OpenAPI, by name."""
        return openapi.components(version, self._shape.schema(), _returned(self._run), self._example)

    @cached_property
    def _example(self) -> Any:
        """What can be sent; None where none could be found."""
        try:
            sample = example(*self._shape.schema())
            self._shape.of_json(json.dumps(sample).encode())
        except Exception:  # noqa: BLE001  # a class of the script's may say no in its own way
            return None
        return sample

    def _sentence(self, reason: str) -> str:
        sample = self._example
        fits = (
            f"An example of what does: {json.dumps(sample)}" if sample is not None else "/swagger.json says what does"
        )
        return f"The request does not fit {signature(self._run)}: {reason.rstrip('.')}. {fits}."


def chosen(run: Run, parameters: Parameters, *, with_headers: bool) -> Bytes | Typed:
    """
    Return what calls run(), by the annotations of its parameters for data.

    Raises:
        Unusable: No request can be made into one of them; the message names it.
    """
    first = parameters[0]
    kind = _type(run, first)
    if len(parameters) > 1:
        shape: Shape = Fields([_parameter(run, each) for each in parameters])
    elif kind is bytes:
        return Bytes(run, parameters, with_headers=with_headers)
    elif _is_any(kind) or _is_dict(kind):
        shape = Document(first.name, orjson.loads, is_object=_is_dict(kind))
    else:
        shape = _shape_of_one(run, first, kind)
    return Typed(run, parameters, with_headers=with_headers, shape=shape)


def _shape_of_one(run: Run, parameter: inspect.Parameter, kind: Any) -> Shape:
    one = _parameter(run, parameter)
    if takes_object(kind):
        return Whole(parameter.name, one.conversion)
    if not is_named_tuple(kind):
        return Either(parameter.name, one.conversion, Fields([one]), None)
    # JSON has an array for it, as json.dumps() writes it, but people write an object.
    defaults = kind._field_defaults
    fields = [
        Parameter(name, conversion(each), name not in defaults, defaults.get(name))
        for name, each in field_types(kind).items()
    ]
    return Either(parameter.name, one.conversion, Fields(fields), kind)


def _parameter(run: Run, parameter: inspect.Parameter) -> Parameter:
    try:
        made_by = conversion(_type(run, parameter))
    except Unusable as unusable:
        raise _refused(parameter, unusable) from unusable
    return Parameter(parameter.name, made_by, parameter.default is ABSENT, parameter.default)


def _type(run: Run, parameter: inspect.Parameter) -> Any:
    try:
        return resolved(parameter.annotation, run)
    except Unusable as unusable:
        raise _refused(parameter, unusable) from unusable


def _refused(parameter: inspect.Parameter, reason: Unusable) -> Unusable:
    annotation = shown(parameter.annotation)
    return Unusable(
        f"{parameter.name!r} is annotated as {annotation}, which a request cannot be made into: {reason}. {REMEDY}."
    )


def _returned(run: Run) -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of what run() returns; one that says nothing where it is no JSON, or not said."""
    try:
        kind = resolved(inspect.signature(run).return_annotation, run)
        return ({"type": "object"}, {}) if kind is type(None) else conversion(kind).schema(written=True)
    except Unusable:
        return {}, {}


def _is_any(kind: Any) -> bool:
    return kind is Any or (get_origin(kind) is Annotated and get_args(kind)[0] is Any)


def _is_dict(kind: Any) -> bool:
    return (get_origin(kind) or kind) is dict and get_args(kind) in ((), (str, Any))
