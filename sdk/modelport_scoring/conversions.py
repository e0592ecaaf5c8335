"""
From JSON to a value of a type: by msgspec, or by pydantic where the type has a model of its in it.

msgspec converts while it parses, which takes less than parsing alone does elsewhere.
What it does not know (`arrays`) it hands over as a parsed document.

JSON of Python's own making has `NaN` in it, which is no JSON: Azure's scripts read
it, so what the fast parsers refuse is tried once more by Python's.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec

from modelport_scoring import arrays
from modelport_scoring.annotations import Unusable, is_model, parts

MOST_FAULTS = 3
"""Of a model's, in a message."""

TEMPLATE = "#/components/schemas/{name}"
"""How a schema refers to another."""

DATED = Annotated[datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""msgspec calls a time that may be without a zone just a string."""

Schema = dict[str, Any]


class Misfit(Exception):  # noqa: N818  # an answer, not a fault of ours
    """A request does not fit; the message says why, and where: ``Expected `int`, got `str` - at `$.depth` ``."""

    def below(self, name: str) -> Misfit:
        """Return the same fault of a value that stands under this name."""
        text, mark = str(self), " - at `$"
        return Misfit(text.replace(mark, f"{mark}.{name}") if mark in text else f"{text}{mark}.{name}`")


class Conversion(Protocol):
    """
    What makes values of one type.

    Attributes:
        wire: What msgspec should make of the value where it stands in an object; `Raw` leaves it to `of_json`.
    """

    wire: Any

    def of_json(self, text: bytes) -> Any:
        """Return the value. May raise a Misfit."""

    def of_document(self, document: Any, *, strict: bool = True) -> Any:
        """Return the value of a parsed document, or of text where not strict. May raise a Misfit."""

    def schema(self, *, written: bool = False) -> tuple[Schema, dict[str, Schema]]:
        """Return the JSON Schema of the type, as read or as written, and those that it refers to by name."""


def conversion(annotation: Any) -> Conversion:
    """
    Return what makes values of the type.

    Raises:
        Unusable: Nothing does.
    """
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and any(_is_of_pydantic(each) for each in parts(annotation)):
        return Models(annotation) if hasattr(pydantic, "TypeAdapter") else OldModels(annotation)
    return Standard(annotation)


def parsed(text: bytes) -> Any:
    """Return the document, by the parser that Azure's scripts use. May raise a Misfit."""
    try:
        return json.loads(text)
    except RecursionError:
        raise Misfit("It is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise Misfit(f"It is not JSON: {error}") from None


class Standard:
    """Types of the standard library, attrs, msgspec, and those of `arrays`."""

    def __init__(self, annotation: Any) -> None:
        self.wire = annotation
        try:
            self._decoder = msgspec.json.Decoder(annotation, dec_hook=made)
        except (TypeError, ValueError) as error:
            raise Unusable(str(error)) from None
        for each in parts(annotation):
            if _is_unknown(each):
                raise Unusable(f"JSON has nothing for {getattr(each, '__qualname__', each)}")

    def of_json(self, text: bytes) -> Any:
        """Return the value. May raise a Misfit."""
        try:
            return self._decoder.decode(text)
        except msgspec.ValidationError as error:
            raise Misfit(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.of_document(parsed(text))

    def of_document(self, document: Any, *, strict: bool = True) -> Any:
        """Return the value of a parsed document, or of text where not strict. May raise a Misfit."""
        try:
            return msgspec.convert(document, self.wire, strict=strict, dec_hook=made)
        except (msgspec.ValidationError, UnicodeError) as error:  # json reads half a pair of surrogates too
            raise Misfit(str(error)) from None

    def schema(self, *, written: bool = False) -> tuple[Schema, dict[str, Schema]]:  # noqa: ARG002  # read and written are one
        """Return the JSON Schema of the type, and those that it refers to by name."""
        wire = DATED if self.wire is datetime else self.wire
        (schema,), named = msgspec.json.schema_components([wire], ref_template=TEMPLATE, schema_hook=arrays.schema)
        return schema, named


class Models:
    """Types that pydantic 2 makes."""

    wire = msgspec.Raw

    def __init__(self, annotation: Any) -> None:
        pydantic = sys.modules["pydantic"]
        self._error = pydantic.ValidationError
        try:
            self._adapter = pydantic.TypeAdapter(annotation)
        except Exception as error:  # of several kinds, with links and advice on further lines
            raise Unusable(str(error).partition("\n")[0]) from error

    def of_json(self, text: bytes) -> Any:
        """Return the value. May raise a Misfit."""
        try:
            return self._adapter.validate_json(bytes(text))
        except self._error as error:
            if error.errors()[0]["type"] == "json_invalid":
                return self.of_document(parsed(text))
            raise Misfit(_told(error)) from None

    def of_document(self, document: Any, *, strict: bool = True) -> Any:  # noqa: ARG002  # a model says itself
        """Return the value of a parsed document. May raise a Misfit."""
        try:
            return self._adapter.validate_python(document)
        except self._error as error:
            raise Misfit(_told(error)) from None

    def schema(self, *, written: bool = False) -> tuple[Schema, dict[str, Schema]]:
        """Return the JSON Schema of the type, and those that it refers to by name."""
        mode = "serialization" if written else "validation"
        schema = self._adapter.json_schema(ref_template=TEMPLATE.replace("name", "model"), mode=mode)
        return schema, schema.pop("$defs", {})


class OldModels:
    """Types that pydantic 1 makes."""

    wire = msgspec.Raw

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._pydantic = sys.modules["pydantic"]
        try:
            self.schema()
        except Exception as error:
            raise Unusable(str(error).partition("\n")[0]) from error

    def of_json(self, text: bytes) -> Any:
        """Return the value. May raise a Misfit."""
        return self.of_document(parsed(bytes(text)))

    def of_document(self, document: Any, *, strict: bool = True) -> Any:  # noqa: ARG002  # a model says itself
        """Return the value of a parsed document. May raise a Misfit."""
        try:
            return self._pydantic.parse_obj_as(self._annotation, document)
        except self._pydantic.ValidationError as error:
            raise Misfit(_told(error)) from None

    def schema(self, *, written: bool = False) -> tuple[Schema, dict[str, Schema]]:  # noqa: ARG002  # read and written are one
        """Return the JSON Schema of the type, and those that it refers to by name."""
        schema = dict(self._pydantic.schema_of(self._annotation, ref_template=TEMPLATE.replace("name", "model")))
        return schema, schema.pop("definitions", {})


def made(kind: Any, document: Any) -> Any:
    """Return a value of a type that msgspec does not know; ValueError and TypeError are its words for a misfit."""
    make = arrays.maker(kind)
    assert make is not None  # `Standard` has refused the others
    try:
        return make(document)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _is_unknown(part: Any) -> bool:
    """Whether it is a type that neither msgspec nor `arrays` makes."""
    try:
        known = msgspec.inspect.type_info(part)
    except (TypeError, ValueError):
        return False  # no type, as the dots in `tuple[int, ...]`; one that is of no use was refused before
    return isinstance(known, msgspec.inspect.CustomType) and arrays.maker(part) is None


def _is_of_pydantic(part: Any) -> bool:
    """Whether it is a model, a dataclass of pydantic's, one of its other types, or a type with its rules beside it."""
    if is_model(part) or hasattr(part, "__pydantic_validator__"):
        return True
    rules = (type(each) for each in getattr(part, "__metadata__", ()))
    return any(
        each.__module__.partition(".")[0] in ("pydantic", "annotated_types")
        for each in (part, *rules)
        if isinstance(each, type)
    )


def _told(error: Any) -> str:
    """Return a model's complaints as msgspec words them."""
    faults = error.errors()
    told = "; ".join(f"{each['msg']} - at `{_place(each['loc'])}`" for each in faults[:MOST_FAULTS])
    return told if len(faults) <= MOST_FAULTS else f"{told}; and {len(faults) - MOST_FAULTS} more"


def _place(location: tuple[Any, ...]) -> str:
    steps = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in location if each != "__root__")
    return f"${''.join(steps)}"
