"""
Schemas in the words of each version of OpenAPI.

Version 3.1 is JSON Schema as msgspec and pydantic write it. Version 3.0 knows fewer
words, and other ones; version 2 has none for a choice between schemas, which stands
there as anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelport_scoring.examples import example

Schema = dict[str, Any]

RESERVED = ("ServiceInput", "ServiceOutput", "ErrorResponse")
"""Schemas of every page, which a class of the script's may have the name of."""

NESTED = ("items", "additionalProperties", "not")
CHOICES = ("anyOf", "oneOf", "allOf")

SECOND = {
    *("$ref", "type", "format", "title", "description", "default", "enum", "example", "required", "properties"),
    *("items", "additionalProperties", "allOf", "x-nullable", "minimum", "exclusiveMinimum", "maximum"),
    *("exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems"),
    *("minProperties", "maxProperties", "readOnly"),
}
THIRD = SECOND - {"x-nullable"} | {"nullable", "anyOf", "oneOf", "not", "discriminator", "writeOnly", "deprecated"}


def components(
    version: str, given: tuple[Schema, Mapping[str, Schema]], returned: tuple[Schema, Mapping[str, Schema]], sample: Any
) -> dict[str, Schema]:
    """
    Return the schemas of a page by name, `ServiceInput` and `ServiceOutput` and what they refer to.

    Args:
        version: Of OpenAPI: `2`, `3` or `3.1`.
        given: The schema of what run() takes, and those that it refers to by name.
        returned: The schema of what it returns, likewise.
        sample: What can be sent; None where that is not known.
    """
    named = {**returned[1], **given[1]}
    result = example(*returned) if returned[0] else None
    tops = {"ServiceInput": _top(*given, sample), "ServiceOutput": _top(*returned, result)}
    others = {_free(name): schema for name, schema in named.items()}
    return {name: spelled(schema, version) for name, schema in {**tops, **others}.items()}


def spelled(schema: Any, version: str) -> Any:
    """Return the schema in the words of this version."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    words: Schema = {}
    for word, value in schema.items():
        if word == "properties":
            words[word] = {name: spelled(each, version) for name, each in value.items()}
        elif word in NESTED and isinstance(value, dict):
            words[word] = spelled(value, version)
        elif word in (*CHOICES, "prefixItems"):
            words[word] = [spelled(each, version) for each in value]
        elif word == "$ref":
            words[word] = _reference(value, version)
        elif word == "discriminator":
            mapping = {tag: _reference(each, version) for tag, each in value.get("mapping", {}).items()}
            words[word] = {**value, "mapping": mapping}
        else:
            words[word] = value
    return words if version == "3.1" else _older(words, version)


def _top(schema: Schema, named: Mapping[str, Schema], sample: Any) -> Schema:
    """Return a schema that stands by itself, with its example."""
    if set(schema) == {"$ref"}:
        schema = named[schema["$ref"].rpartition("/")[2]]
    schema = {word: value for word, value in schema.items() if word != "examples"}
    return schema if sample is None else {**schema, "example": sample}


def _free(name: str) -> str:
    return f"{name}_" if name in RESERVED else name


def _reference(value: str, version: str) -> str:
    name = _free(value.rpartition("/")[2])
    return f"#/definitions/{name}" if version == "2" else f"#/components/schemas/{name}"


def _older(words: Schema, version: str) -> Schema:
    """Return a schema of JSON Schema 2020-12, whose inner ones are older already, as versions 2 and 3.0 have it."""
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in words:
            words = {**words, limit: words[exclusive], exclusive: True}
    if "const" in words:
        words = {**words, "enum": [words["const"]]}
    if words.get("examples"):
        words = {**words, "example": words["examples"][0]}
    if "contentEncoding" in words:
        words = {**words, "format": "byte"}
    if words.get("type") == "array" and not isinstance(words.get("items"), dict):
        words = {**words, "items": {}}
    if words.get("default", "") is None:
        del words["default"]
    words = _without_null(words, "x-nullable" if version == "2" else "nullable")
    if "$ref" in words and len(words) > 1:  # nothing may stand beside it
        words = {**words, "allOf": [{"$ref": words["$ref"]}]}
        del words["$ref"]
    known = SECOND if version == "2" else THIRD
    return {word: value for word, value in words.items() if word in known}


def _without_null(words: Schema, nullable: str) -> Schema:
    """Return the schema without the type `null`, which older versions do not have."""
    if words.get("type") == "null":
        return {"enum": [None]}
    for choice in ("anyOf", "oneOf"):
        if {"enum": [None]} in words.get(choice, ()):
            left = [each for each in words[choice] if each != {"enum": [None]}]
            rest = {word: value for word, value in words.items() if word != choice}
            return {**(left[0] if len(left) == 1 else {choice: left}), **rest, nullable: True}
    return words
