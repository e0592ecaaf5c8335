"""
Where in a request the arguments of run() stand: it is the one, or it has one under each name.

One parameter whose values are objects (a dataclass, a model, a dict, a table) is the
body. Otherwise the body is an object with a key for each parameter, as Azure's
clients send it, `{"data": [[1, 2]]}`; where there is one parameter only, its value
may also stand alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from modelport_scoring.conversions import Conversion, Misfit, Schema, made, parsed
from modelport_scoring.inputs import json_or_text

Query = Mapping[str, Sequence[str]]
"""Name → values, as text."""

NAMES = {dict: "object", list: "array", type(None): "null"}
"""Kinds of documents, as msgspec words them."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of run(), or a field of what is one; `default` counts where it is not required."""

    name: str
    conversion: Conversion
    required: bool
    default: Any


class Shape(Protocol):
    """
    What turns a request into arguments.

    Attributes:
        told: The end of the sentence "the body is …", for the log.
    """

    told: str

    def of_json(self, body: bytes) -> dict[str, Any]:
        """Return the arguments in a body. May raise a Misfit."""

    def of_query(self, query: Query) -> dict[str, Any]:
        """Return the arguments in a query. May raise a Misfit."""

    def schema(self) -> tuple[Schema, dict[str, Schema]]:
        """Return the JSON Schema of the body, and those that it refers to by name."""


class Document:
    """The body is JSON for the only parameter, which asks no more of it than to be an object, if that."""

    told = "JSON"

    def __init__(self, name: str, loads: Callable[[bytes], Any], *, is_object: bool) -> None:
        self._name = name
        self._loads = loads
        self._is_object = is_object

    def of_json(self, body: bytes) -> dict[str, Any]:
        """Return the document. May raise a Misfit."""
        try:
            document = self._loads(body)
        except ValueError:
            document = parsed(body)
        if self._is_object and not isinstance(document, dict):
            raise _unlike("object", document)
        return {self._name: document}

    def of_query(self, query: Query) -> dict[str, Any]:
        """Return the query as a document."""
        return {self._name: {name: _one(list(map(json_or_text, values))) for name, values in query.items()}}

    def schema(self) -> tuple[Schema, dict[str, Schema]]:
        """Return the JSON Schema of the document."""
        return {"type": "object", "examples": [{}]} if self._is_object else {}, {}


class Whole:
    """The body is the value of the only parameter."""

    told = "JSON, made into it"

    def __init__(self, name: str, conversion: Conversion) -> None:
        self._name = name
        self._conversion = conversion

    def of_json(self, body: bytes) -> dict[str, Any]:
        """Return the argument in a body. May raise a Misfit."""
        return {self._name: self._conversion.of_json(body)}

    def of_query(self, query: Query) -> dict[str, Any]:
        """Return the argument, whose keys are those of the query. May raise a Misfit."""
        texts = {name: _one(list(values)) for name, values in query.items()}
        documents = {name: _one(list(map(json_or_text, values))) for name, values in query.items()}
        return {self._name: _first_fit(self._conversion, [documents, texts])}

    def schema(self) -> tuple[Schema, dict[str, Schema]]:
        """Return the JSON Schema of the value, and those that it refers to by name."""
        return self._conversion.schema()


class Fields:
    """The body is an object with the arguments; other keys are ignored."""

    told = "a JSON object with the arguments"

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = parameters
        fields: list[Any] = [
            (each.name, each.conversion.wire)
            if each.required
            else (each.name, each.conversion.wire, msgspec.field(default_factory=_constant(each.default)))
            for each in parameters
        ]
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Arguments", fields, kw_only=True), dec_hook=made)
        self._left_to_others = [each for each in parameters if each.conversion.wire is msgspec.Raw]

    def of_json(self, body: bytes) -> dict[str, Any]:
        """Return the arguments in a body. May raise a Misfit."""
        try:
            arguments = msgspec.structs.asdict(self._decoder.decode(body))
        except msgspec.ValidationError as error:
            raise Misfit(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._of_document(parsed(body))
        for each in self._left_to_others:
            if isinstance(arguments[each.name], msgspec.Raw):
                try:
                    arguments[each.name] = each.conversion.of_json(arguments[each.name])
                except Misfit as misfit:
                    raise misfit.below(each.name) from None
        return arguments

    def of_query(self, query: Query) -> dict[str, Any]:
        """Return the arguments in a query. May raise a Misfit."""
        return self._each(query, lambda each: _first_fit(each.conversion, _meanings(query[each.name])))

    def schema(self) -> tuple[Schema, dict[str, Schema]]:
        """Return the JSON Schema of the object, and those that it refers to by name."""
        properties, named = {}, {}
        for each in self._parameters:
            properties[each.name], others = each.conversion.schema()
            named.update(others)
            if not each.required and isinstance(each.default, (str, int, float, type(None))):
                properties[each.name] = {**properties[each.name], "default": each.default}
        required = [each.name for each in self._parameters if each.required]
        return {"type": "object", "properties": properties, **({"required": required} if required else {})}, named

    def _of_document(self, document: Any) -> dict[str, Any]:
        if not isinstance(document, dict):
            raise _unlike("object", document)
        return self._each(document, lambda each: each.conversion.of_document(document[each.name]))

    def _each(self, given: Mapping[str, Any], made_of: Callable[[Parameter], Any]) -> dict[str, Any]:
        arguments = {}
        for each in self._parameters:
            if each.name in given:
                try:
                    arguments[each.name] = made_of(each)
                except Misfit as misfit:
                    raise misfit.below(each.name) from None
            elif each.required:
                raise Misfit(f"Object missing required field `{each.name}`")
            else:
                arguments[each.name] = each.default
        return arguments


class Either:
    """The body is an object with the value's name, or the value alone, which is never an object."""

    told = "JSON, the value alone or in an object under its name"

    def __init__(self, name: str, conversion: Conversion, fields: Fields, of_fields: Callable[..., Any] | None) -> None:
        """Make the value of the `fields` in an object by `of_fields`; without, they have it under its name."""
        self._name = name
        self._conversion = conversion
        self._fields = fields
        self._of_fields = of_fields

    def of_json(self, body: bytes) -> dict[str, Any]:
        """Return the argument in a body. May raise a Misfit."""
        if body.lstrip()[:1] == b"{":
            return self._made(self._fields.of_json(body))
        return {self._name: self._conversion.of_json(body)}

    def of_query(self, query: Query) -> dict[str, Any]:
        """Return the argument in a query. May raise a Misfit."""
        return self._made(self._fields.of_query(query))

    def schema(self) -> tuple[Schema, dict[str, Schema]]:
        """Return the JSON Schema of the object: version 2 of OpenAPI has no words for the other."""
        return self._fields.schema()

    def _made(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments if self._of_fields is None else {self._name: self._of_fields(**arguments)}


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _unlike(wanted: str, document: Any) -> Misfit:
    return Misfit(f"Expected `{wanted}`, got `{NAMES.get(type(document), type(document).__name__)}`")


def _one(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _meanings(values: Sequence[str]) -> list[Any]:
    """Return what the values of one name may stand for: JSON, as in Azure, text, or an array of one."""
    documents = list(map(json_or_text, values))
    return [_one(documents), _one(list(values)), documents]


def _first_fit(conversion: Conversion, meanings: Sequence[Any]) -> Any:
    """Return the value of the first meaning that fits; the Misfit of the first where none does."""
    first, *others = meanings
    try:
        return conversion.of_document(first, strict=False)
    except Misfit as misfit:
        for each in others:
            with suppress(Misfit):
                return conversion.of_document(each, strict=False)
        raise misfit from None
