"""
From one declaration to a marshmallow schema for each face.

A document is laid flat (attribute name to value) before marshmallow sees it, and
built up again after it, because a field's place in the wire document
(`properties.model`, `sku.capacity`) is data of the declaration, not code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from functools import cache
from typing import Any, get_args

from marshmallow import EXCLUDE, Schema, ValidationError, missing
from marshmallow import fields as ma

from modelport.entities.base import Entity, Spec, as_answered, nearest
from modelport.errors import ValidationException
from modelport.schema.fields import Face, Part, field_for, shown

_REST = "\0rest"
_ALWAYS_IN_FILES = frozenset({"$schema", "id", "creation_context"})
_MOST_TOLD = 30
_LONGEST_HINTED = 64
_ALWAYS_ON_WIRE = ("name", "type", "etag")


class EntitySchema(Schema):
    """
    The schema of one entity class for one face; `schema_of` makes them.

    `load` and `dump` are its own: marshmallow's, which know collections, partial documents and hooks, take as long
    again for what stays unused here.
    """

    _kind: type[Entity]
    _face: Face
    _places: Mapping[str, tuple[str, ...]]
    """Attribute to its place in the document."""

    _names: Mapping[str, str]
    """Of files: every accepted key to its attribute."""

    _silent: Mapping[str, None]
    """Of records: attributes that are None when the document does not say them; elsewhere they have a default."""

    _fixed: Mapping[tuple[str, ...], Any]
    """What its documents always contain, by place."""

    _owned: frozenset[str]
    """Attributes that files may contain, because a tool printed them, and that say nothing."""

    class Meta:
        """Keys that are not fields are dealt with here, not by marshmallow."""

        unknown = EXCLUDE

    def load(self, data: Any, **_: Any) -> Entity:
        """
        The entity that a document describes.

        Raises:
            marshmallow.ValidationError: All problems of the document, nested as its fields are.
        """
        said, made, problems = self.flat(data), {}, {}
        for name, field in self.load_fields.items():
            if name not in said and not field.required:
                continue
            try:
                made[name] = field.deserialize(said.get(name, missing), name, said)
            except ValidationError as error:
                problems[name] = error.messages
        if self._face is Face.YAML:
            for key, sentence in self.strange_keys(data).items():
                problems[key] = [problems[key], sentence] if key in problems else [sentence]
        if problems:
            raise ValidationError(problems)
        return self.made(made)

    def dump(self, obj: Entity, **_: Any) -> dict[str, Any]:
        """The document of an entity."""
        return self.built_up({name: field.serialize(name, obj) for name, field in self.dump_fields.items()}, obj)

    def flat(self, document: Any) -> dict[str, Any]:
        """Lay the document flat: what it says, by attribute."""
        if not isinstance(document, Mapping):
            raise ValidationError({"_schema": [f"Expected a mapping, found {shown(document)}."]})
        if self._face is Face.YAML:
            return {
                self._names[key]: value for key, value in document.items() if key in self._names and value is not None
            }
        if not isinstance(document.get(self._kind.home) or {}, Mapping):
            message = f"Expected a mapping, found {shown(document[self._kind.home])}."
            raise ValidationError({self._kind.home: [message]})
        rest = dict(document)
        said: dict[str, Any] = dict(_identity(self._kind, rest))
        for attribute, place in self._places.items():
            value = _take(rest, place)
            if value is not None:
                said[attribute] = value
        _forget(self._kind, rest)
        said[_REST] = rest
        return said

    def strange_keys(self, document: Mapping[Any, Any]) -> dict[str, str]:
        """What is wrong with a file's keys. One that no field has is a mistake; on the wire it is news, and is kept."""
        strange = [key for key in document if key not in self._names and key not in _ALWAYS_IN_FILES | self._owned]
        problems = {str(key): "Unknown field." + self.hint(str(key)) for key in strange[:_MOST_TOLD]}
        said: dict[str, str] = {}
        for key in document:
            name = self._names.get(key)
            if name in said:
                problems[str(key)] = f"The same field as '{said[name]}': say it once."
            elif name:
                said[name] = key
        if len(strange) > _MOST_TOLD:
            problems["_schema"] = f"{len(strange) - _MOST_TOLD:,} more unknown fields."
        return problems

    def hint(self, key: str) -> str:
        """What else the writer may have meant."""
        if len(key) > _LONGEST_HINTED:
            return ""
        if self._kind.__name__ == "Environment" and key in ("channels", "dependencies"):
            return " That belongs into a conda file: name it in conda_file."
        return nearest(key, list(self._names))

    def made(self, said: dict[str, Any]) -> Entity:
        """The entity."""
        rest = said.pop(_REST, {})
        try:
            with as_answered() if self._face is Face.RECORD else nullcontext():
                entity = self._kind(**{**self._silent, **said})
        except ValidationException as error:
            raise ValidationError({error.target or "_schema": [error.message]}) from error
        entity._unknown = rest  # noqa: SLF001 (the one writer of it)
        return entity

    def built_up(self, said: dict[str, Any], entity: Entity) -> dict[str, Any]:
        """Put what was said where the document has it."""
        if self._face is Face.YAML:
            document: dict[str, Any] = {}
            if self._kind.variants and self._kind.variants.file and self._kind.variant:
                document[self._kind.variants.file] = self._kind.variant[0]
            return document | {name: value for name, value in said.items() if value is not None}
        document = deepcopy(entity._unknown) if entity._unknown else {}  # noqa: SLF001 (its one reader)
        for attribute, value in said.items():
            if value is not None:
                _put(document, self._places[attribute], value)
        for place, value in self._fixed.items():
            if _found(document, place) is None:  # a newer service may have said another word there
                _put(document, place, value)
        return document


@cache
def schema_of(kind: type[Entity], face: Face) -> EntitySchema:
    """The schema for `kind` itself, not for its variants."""
    fields: dict[str, ma.Field[Any]] = {}
    places: dict[str, tuple[str, ...]] = {}
    names: dict[str, str] = {}
    owned = set()
    silent: dict[str, None] = {}
    for attribute, spec, hint in kind.fields():
        name = attribute.name
        if spec.owned:
            owned.add(name)
        if not _appears(spec, face):
            continue
        wanted = spec.required and face is Face.YAML
        keywords: dict[str, Any] = {"required": wanted, "error_messages": {"required": "Missing; it is required."}}
        if spec.check and face is not Face.RECORD:
            keywords["validate"] = _validator(spec, attribute)
        fields[name] = field_for(hint, face, lambda part: part_of(part, face), **keywords)
        if face is Face.YAML:
            names |= dict.fromkeys((name, *spec.aka), name)
        elif not spec.identity:
            places[name] = _place(kind, name, spec)
            if face is Face.RECORD and attribute.default is not None and type(None) in get_args(hint):
                silent[name] = None
    if kind.variants and kind.variants.file and face is Face.YAML:
        owned.add(kind.variants.file)
    if face is not Face.YAML:
        fields |= _identity_fields(kind)
        fields[_REST] = ma.Raw(load_only=True)
    made = type(f"{kind.__name__}{face.name}", (EntitySchema,), {
        "_kind": kind, "_face": face, "_places": places, "_names": names, "_silent": silent,
        "_owned": frozenset(owned), "_fixed": _fixed(kind), **fields,
    })  # fmt: skip
    schema: EntitySchema = made()
    return schema


def part_of(kind: type[Entity], face: Face) -> Part:
    """The field for an entity inside another one."""
    return Part(lambda document: read(kind, document, face), lambda entity: write(entity, face))


def read(kind: type[Entity], document: Any, face: Face) -> Entity:
    """
    The entity that a document describes, of the variant that it names.

    A wire document is taken apart: what remains of it is what nobody knows.

    Raises:
        marshmallow.ValidationError: All problems of the document, nested as its fields are.
    """
    variant: Any = variant_of(kind, document, face)
    entity: Entity = schema_of(variant, face).load(document)
    return entity


def write(entity: Entity, face: Face) -> dict[str, Any]:
    """The document of an entity."""
    kind: Any = type(entity)
    document: dict[str, Any] = schema_of(kind, face).dump(entity)
    return document


def variant_of(kind: type[Entity], document: Any, face: Face) -> type[Entity]:
    """Which subclass a document is about."""
    variants = kind.variants
    if not variants or kind.variant or not isinstance(document, Mapping):
        return kind
    home = document.get(kind.home) or {} if face is not Face.YAML and kind.home else document
    if not isinstance(home, Mapping):
        return kind.kinds()[variants.default]  # which refuses it
    for mark, name in variants.marks.items():
        if home.get(mark):
            return kind.kinds()[name]
    key = variants.file if face is Face.YAML else variants.wire
    said = home.get(key) if key else None
    if said is None:
        return kind.kinds()[variants.default]
    for each in kind.kinds().values():
        if each.variant and str(said).lower() in (each.variant[0], each.variant[1].lower()):
            return each
    if face is Face.RECORD:  # of a newer service; what the document says of it is kept as it came
        return kind.kinds()[variants.default] if kind.place else kind
    names = list(kind.kinds())
    raise ValidationError({str(key): [f"{said!r} is not one of {', '.join(names)}.{nearest(str(said), names)}"]})


def _appears(spec: Spec, face: Face) -> bool:
    if face is Face.YAML:
        return spec.file and not spec.owned
    if spec.identity or spec.wire is None:
        return False
    return face is Face.RECORD or not spec.owned


def _validator(spec: Spec, attribute: Any) -> Any:
    def run(value: Any) -> None:
        try:
            if spec.check and value is not None:
                spec.check(None, attribute, value)
        except (ValueError, TypeError) as error:
            raise ValidationError(str(error.args[0])) from error

    return run


def _identity_fields(kind: type[Entity]) -> dict[str, ma.Field[Any]]:
    return {attribute.name: ma.Raw(load_only=True) for attribute, spec, _ in kind.fields() if spec.identity}


def _place(kind: type[Entity], name: str, spec: Spec) -> tuple[str, ...]:
    wire = spec.wire or camel(name)
    if wire.startswith("/"):
        return tuple(wire[1:].split("."))
    return ((kind.home,) if kind.home else ()) + tuple(wire.split("."))


def camel(name: str) -> str:
    """`instance_type` as `instanceType`."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def _fixed(kind: type[Entity]) -> dict[tuple[str, ...], Any]:
    """What documents of this class always contain: the variant's name, and the class's constants."""
    fixed = {tuple(place.split(".")): value for place, value in kind.constants.items()}
    if kind.variants and kind.variants.wire and kind.variant:
        fixed[((kind.home,) if kind.home else ()) + (kind.variants.wire,)] = kind.variant[1]
    return fixed


def _identity(kind: type[Entity], document: Mapping[str, Any]) -> dict[str, str]:
    """The names that a record's ARM id contains; a container's id ends before `versions`."""
    text = document.get("id")
    if not kind.place or not isinstance(text, str):
        return {}
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", kind.place)
    if "/versions/" in pattern:
        pattern = pattern.replace("/versions/", "(?:/versions/") + ")?"
    found = re.search(f"/{pattern}$", text, re.IGNORECASE)
    return {name: value for name, value in found.groupdict().items() if value} if found else {}


def _forget(kind: type[Entity], rest: dict[str, Any]) -> None:
    """Drop from `rest` what says nothing new: fixed values, ARM's own keys, objects that became empty."""
    for place, value in _fixed(kind).items():
        if str(_found(rest, place)).lower() == str(value).lower():
            _take(rest, place)
    if kind.place:
        for key in _ALWAYS_ON_WIRE:
            rest.pop(key, None)
    for attribute, spec, _ in kind.fields():
        if spec.owned and spec.wire is not None:
            _take(rest, _place(kind, attribute.name, spec))
    for key in (kind.home, *(place[0] for place in _fixed(kind))):
        if key in rest and not rest[key]:
            del rest[key]


def _take(document: dict[str, Any], place: tuple[str, ...]) -> Any:
    for key in place[:-1]:
        inner = document.get(key)
        if not isinstance(inner, dict):
            return None
        document = inner
    return document.pop(place[-1], None)


def _found(document: dict[str, Any], place: tuple[str, ...]) -> Any:
    inner: Any = document
    for key in place:
        inner = inner.get(key) if isinstance(inner, dict) else None
    return inner


def _put(document: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for key in place[:-1]:
        if document.get(key) is None:
            document[key] = {}
        document = document[key]
    document[place[-1]] = value
