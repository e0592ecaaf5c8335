"""
The declarations as JSON Schema, for editors that complete and check YAML.

It is draft 7, which the YAML language server of VS Code and others takes. Every
schema stands alone, so that it works without a network. It refuses what the loader
refuses of a single field; rules across fields are the loader's alone.
"""

from __future__ import annotations

import ast
import inspect
import operator
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin

from modelport.entities import names, words
from modelport.entities.base import Entity, Spec
from modelport.schema import kinds
from modelport.schema.fields import taken_apart

_Schema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"
_SEVERAL = "apply"
_ANYTHING: _Schema = {}
_PASSED_OVER = {
    "$schema": {"type": "string", "description": "The schema of this file, for editors."},
    "id": {"description": "What a tool printed; it is passed over."},
    "creation_context": {"description": "What a tool printed; it is passed over."},
}
_BOUNDS = {
    operator.ge: "minimum",
    operator.le: "maximum",
    operator.gt: "exclusiveMinimum",
    operator.lt: "exclusiveMaximum",
}
_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schemas() -> dict[str, _Schema]:
    """Every schema by its name: one for each kind of document, and `apply` for files that have several."""
    made = {name: _one(entity) for kind in kinds.KINDS for name, entity in kind.schemas.items()}
    return {**made, _SEVERAL: _several()}


def _one(kind: type[Entity]) -> _Schema:
    definitions: dict[str, _Schema] = {}
    schema = _described(kind, definitions)
    return {"$schema": _DIALECT, **schema, **({"definitions": definitions} if definitions else {})}


def _several() -> _Schema:
    """For one document of a file with several: by the fields that only one kind has."""
    definitions: dict[str, _Schema] = {}
    chain: _Schema = {"anyOf": [_reference(each.entity, definitions) for each in kinds.KINDS]}
    for kind, fields in reversed(list(zip(kinds.KINDS, kinds.telling(), strict=True))):
        if fields:
            known = {"anyOf": [{"required": [name]} for name in sorted(fields)]}
            chain = {"if": known, "then": _reference(kind.entity, definitions), "else": chain}
    title = "One of the documents of a file that ml_client.apply() takes."
    return {"$schema": _DIALECT, "title": title, "type": "object", **chain, "definitions": definitions}


def _reference(kind: type[Entity], definitions: dict[str, _Schema]) -> _Schema:
    """A reference to the definition of a class, or a choice between its variants."""
    if kind.variants and not kind.variant:
        return _variants(kind, definitions)
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _described(kind, definitions)
    return {"$ref": f"#/definitions/{name}"}


def _variants(kind: type[Entity], definitions: dict[str, _Schema]) -> _Schema:
    variants = kind.variants
    assert variants
    chosen = _reference(kind.kinds()[variants.default], definitions)
    for name, each in kind.kinds().items():
        if name == variants.default:
            continue
        mark = next((key for key, value in variants.marks.items() if value == name), None)
        said: _Schema = {"required": [mark or variants.file]}
        if not mark:
            said["properties"] = {variants.file: {"enum": _spellings(each)}}
        chosen = {"if": said, "then": _reference(each, definitions), "else": chosen}
    return chosen


def _spellings(kind: type[Entity]) -> list[str]:
    return list(dict.fromkeys(kind.variant or ()))


def _described(kind: type[Entity], definitions: dict[str, _Schema]) -> _Schema:
    """The schema of a class: its fields, and nothing else."""
    properties: dict[str, _Schema] = {}
    required: list[str] = []
    told = docstrings(kind)
    for attribute, spec, hint in kind.fields():
        about = {"description": told[attribute.name]} if attribute.name in told else {}
        if spec.owned:
            properties[attribute.name] = {**about, "readOnly": True}
            continue
        if not spec.file:
            continue
        value = {**about, **_value(hint, spec, definitions)}
        for name in (attribute.name, *spec.aka):
            properties[name] = value if spec.required else _or_nothing(value)
        if spec.required:
            required.append(attribute.name)
    if kind.variants and kind.variants.file and kind.variant:
        properties[kind.variants.file] = {
            "description": "Which kind of it this is.", "enum": _spellings(kind), "default": kind.variant[0],
        }  # fmt: skip
    if kind.place:
        properties = {**_PASSED_OVER, **properties}
    schema: _Schema = {"title": (inspect.getdoc(kind) or kind.__name__).partition("\n")[0], "type": "object"}
    schema |= {"properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _or_nothing(value: _Schema) -> _Schema:
    """The same, or an empty value, which says nothing in a file."""
    if isinstance(value.get("type"), str):
        return {
            **value,
            "type": [value["type"], "null"],
            **({"enum": [*value["enum"], None]} if "enum" in value else {}),
        }
    if isinstance(value.get("type"), list):
        return {**value, "type": [*value["type"], "null"]}
    if "enum" in value:
        return {**value, "enum": [*value["enum"], None]}
    if "anyOf" in value:
        return {**value, "anyOf": [*value["anyOf"], {"type": "null"}]}
    about = {"description": value["description"]} if "description" in value else {}
    rest = {key: inner for key, inner in value.items() if key != "description"}
    return {**about, "anyOf": [rest, {"type": "null"}]} if rest else value


def _value(hint: Any, spec: Spec, definitions: dict[str, _Schema]) -> _Schema:
    types, marks = taken_apart(hint)
    for mark in marks:
        spelled = _spelled(mark, types, definitions)
        if spelled is not None:
            return spelled
    options = [_plain(each, definitions) for each in types]
    limits = dict(_limits(spec.check))
    return {**options[0], **limits} if len(options) == 1 else {"anyOf": options, **limits}


def _spelled(mark: Any, types: list[Any], definitions: dict[str, _Schema]) -> _Schema | None:
    """The schema of an odd spelling; None where files write it as its type says."""
    match mark:
        case words.Choice():
            both = list(dict.fromkeys([*mark.wire, *mark.wire.values()]))
            truths = [truth for truth in (True, False) if str(truth).lower() in mark.wire]
            return {"enum": [*both, *map(str, truths), *truths]}  # Azure's examples write 'True', in quotes
        case words.Version():
            return {"type": ["string", "integer"]}
        case words.CondaSpec():
            return {"type": ["string", "object"]}
        case words.Texts():
            return {"type": "object"}
        case words.Percentages():
            return {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100}}
        case words.Asset():
            return {"anyOf": [_plain(each, definitions) for each in types]} if len(types) > 1 else {"type": "string"}
    return None


def _plain(kind: Any, definitions: dict[str, _Schema]) -> _Schema:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict:
        inner = _value(arguments[1], Spec(), definitions)
        return {"type": "object", **({"additionalProperties": inner} if inner else {})}
    if origin is list:
        return {"type": "array", "items": _value(arguments[0], Spec(), definitions)}
    if isinstance(kind, type) and issubclass(kind, Entity):
        return _reference(kind, definitions)
    return {"type": _SIMPLE[kind]} if kind in _SIMPLE else dict(_ANYTHING)


def _limits(check: Any) -> Iterator[tuple[str, Any]]:
    """What a validator says, as far as JSON Schema can say it."""
    for each in getattr(check, "_validators", ()):
        yield from _limits(each)
    compare = getattr(check, "compare_func", None)
    if compare in _BOUNDS:
        yield _BOUNDS[compare], check.bound
    if hasattr(check, "options"):
        yield "enum", list(check.options)
    if getattr(check, "__qualname__", "").startswith(names.resource_name.__qualname__):
        yield "minLength", names.SHORTEST
        yield "maxLength", names.LONGEST
        yield "pattern", f"^{names.PATTERN.pattern}$"


def docstrings(kind: type[Entity]) -> dict[str, str]:
    """The strings beneath the fields of a class and its bases, from the source: Python does not keep them."""
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith("modelport."):
            told |= _in_module(each.__module__).get(each.__name__, {})
    return told


@cache
def _in_module(module: str) -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: dict(_beneath(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _beneath(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        said = below.value if isinstance(below, ast.Expr) else None
        if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Constant) and isinstance(said.value, str):
            assert isinstance(field.target, ast.Name)
            yield field.target.id, " ".join(said.value.split())
