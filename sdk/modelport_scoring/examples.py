"""
An example of what fits a schema: for the pages of OpenAPI, and for callers whose request does not fit.

A schema cannot always be met by looking at it (a pattern, a rule of a model's own),
so who uses an example for requests tries it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

TEXTS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00",
    "duration": "PT1H30M",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "email": "name@example.com",
    "uri": "https://example.com/",
    "decimal": "1.5",
    "path": "folder/file",
}
"""Formats → an example of each."""

DEEPEST = 8


def example(schema: Schema, named: Mapping[str, Schema], depth: int = 0) -> Any:
    """Return a value that the schema describes, or nearly; those that it refers to are `named`."""
    if depth > DEEPEST:  # one that contains itself
        return None
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "$ref" in schema:
        return example(named[schema["$ref"].rpartition("/")[2]], named, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            likely: Schema = next((each for each in schema[key] if each.get("type") != "null"), {})
            return example(likely, named, depth + 1)
    return _of_type(schema, named, depth)


def _of_type(schema: Schema, named: Mapping[str, Schema], depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, named, depth)
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items") or {}] * max(1, schema.get("minItems", 1))
        return [example(each, named, depth + 1) for each in items]
    if kind == "string":
        text = TEXTS.get(schema.get("format", ""), "text")
        return "dGV4dA==" if "contentEncoding" in schema else text.ljust(schema.get("minLength", 0), ".")
    if kind == "boolean":
        return True
    return None if kind == "null" else _number(schema)


def _object(schema: Schema, named: Mapping[str, Schema], depth: int) -> dict[str, Any]:
    members = {name: example(each, named, depth + 1) for name, each in schema.get("properties", {}).items()}
    others = schema.get("additionalProperties")
    if not members and isinstance(others, Mapping):
        members["key"] = example(others, named, depth + 1)
    return members


def _number(schema: Schema) -> float:
    one: float = 1 if schema.get("type") == "integer" else 1.0
    least = max(schema.get("minimum", one), schema.get("exclusiveMinimum", one - 1) + 1)
    most = min(schema.get("maximum", least), schema.get("exclusiveMaximum", least + 1) - 1)
    return type(one)(min(least, most))
