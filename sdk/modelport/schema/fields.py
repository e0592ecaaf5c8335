"""
How a field's type and words become a marshmallow field, for each face.

The words themselves (`entities.words`) are data; what they do to a value is here
and nowhere else, so that a new odd spelling touches two files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from pathlib import Path
from reprlib import Repr
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from marshmallow import ValidationError, missing
from marshmallow import fields as ma

from modelport.entities import words
from modelport.entities.base import Entity
from modelport.errors import ValidationException
from modelport.schema import documents

_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")
_DURATION = re.compile(
    r"P(?:(?P<d>\d+(?:\.\d+)?)D)?(?:T(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PER_SECOND = {"ms": 1000, "s": 1}

_origin: ContextVar[Path | None] = ContextVar("origin", default=None)
_folder: ContextVar[Path | None] = ContextVar("folder", default=None)

_shown = Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = 80


class Face(Enum):
    """For whom a document is: people (`YAML`), a server (`REQUEST`), or what a server answers and keeps (`RECORD`)."""

    YAML = "yaml"
    REQUEST = "request"
    RECORD = "record"


@contextmanager
def relative_to(folder: Path | None) -> Iterator[None]:
    """Within it, relative paths in files are taken from `folder`; None leaves them as they are."""
    token = _origin.set(folder)
    try:
        yield
    finally:
        _origin.reset(token)


@contextmanager
def written_to(folder: Path | None) -> Iterator[None]:
    """Within it, paths that are written to files are relative to `folder` where they can be."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def shown(value: Any) -> str:
    """A value as a message shows it: whole when it is short."""
    return _shown.repr(value)


def is_uri(text: str) -> bool:
    """Whether it names something that is not a local path: `azureml:x:1`, `https://…`, or an ARM id."""
    return bool(_URI.match(text)) or text.lower().startswith("/subscriptions/")


def _anchored(text: str) -> str:
    origin = _origin.get()
    if origin is None or is_uri(text):
        return text
    try:
        return os.path.realpath(os.path.join(origin, text))  # noqa: PTH118 (pathlib's take three times as long)
    except (OSError, ValueError) as error:  # a NUL
        raise ValidationError(f"{shown(text)} is no path: {error}.") from error


def _beside(text: Any) -> Any:
    """A local path as a file in the folder that is written to names it; elsewhere, and for URIs, as it is."""
    folder = _folder.get()
    if folder is None or not isinstance(text, str) or is_uri(text):
        return text
    path = Path.cwd() / text
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return text if Path(text).is_absolute() else Path(os.path.relpath(path, folder)).as_posix()


class _Field(ma.Field[Any]):
    """A field that says what it expected and what it found."""

    expected = "another value"

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **keywords: Any) -> Any:
        try:
            if value is missing or value is None:
                return super().deserialize(value, attr, data, **keywords)
            made = self._deserialize(value, attr, data, **keywords)
            for check in self.validators:
                check(made)
        except ValidationError as error:
            if isinstance(error.messages, list) and error.messages[0].startswith("Not a valid"):
                message = f"Expected {self.expected}, found {shown(value)}."
                raise ValidationError(message) from error
            raise
        except ValidationException as error:
            raise ValidationError(error.message) from error
        return made

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **keywords: Any) -> Any:  # noqa: ARG002
        value = getattr(obj, attr)
        return None if value is None else self._serialize(value, attr, obj, **keywords)


class Text(_Field, ma.String):
    """Text."""

    expected = "text"


class Whole(_Field, ma.Integer):
    """A whole number; `1.0` and `"1"` are none."""

    expected = "a whole number"

    def __init__(self, **keywords: Any) -> None:
        super().__init__(strict=True, **keywords)

    def _deserialize(self, value: Any, *place: Any, **keywords: Any) -> Any:
        return value if type(value) is int else super()._deserialize(value, *place, **keywords)


class Number(_Field, ma.Float):
    """A number."""

    expected = "a number"


class Switch(_Field, ma.Boolean):
    """True or false."""

    expected = "true or false"


class Table(_Field, ma.Dict):
    """A mapping."""

    expected = "a mapping"

    def _deserialize(self, value: Any, *place: Any, **keywords: Any) -> dict[Any, Any]:
        try:
            table: dict[Any, Any] = super()._deserialize(value, *place, **keywords)  # type: ignore[no-untyped-call]
        except ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            # marshmallow says {name: {"key" or "value": …}}; people know a name only.
            told = {str(name): said for name, each in error.messages.items() for said in each.values()}
            raise ValidationError(told) from error
        return table


class Sequence(_Field, ma.List[Any]):
    """A list."""

    expected = "a list"


class Anything(_Field):
    """A value that passes as it is."""


class PathText(Text):
    """A path, taken from the file's folder, or a URI."""

    def _deserialize(self, value: Any, *place: Any, **keywords: Any) -> Any:
        return _anchored(super()._deserialize(value, *place, **keywords))

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return _beside(value)


class DurationText(_Field):
    """ISO 8601 on the wire."""

    expected = "a duration such as PT0.75S"

    def __init__(self, word: words.Duration, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.word = word

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return None if value is None else iso_duration(value / _PER_SECOND[self.word.unit])

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if not found or value in ("P", "PT"):
            raise ValidationError("Not a valid duration.")
        seconds = sum(float(part) * _SECONDS[unit] for unit, part in found.groupdict().items() if part)
        return round(seconds * _PER_SECOND[self.word.unit])


def iso_duration(seconds: float) -> str:
    """ISO 8601 as Azure's SDK writes it: 0.75 is `PT0.75S`, 90 is `PT1M30S`, 180 is `PT3M`."""
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else "", f"{round(rest, 3):g}S" if rest else ""]
    return "PT" + ("".join(parts) or "0S")


class ChoiceText(_Field):
    """One of a few words, each in either spelling; a record may have a word that is newer than this."""

    def __init__(self, word: words.Choice, face: Face, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.word, self.face = word, face

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if value is None:
            return None
        known = self.word.known(value)
        if known is None:
            return value
        return known if self.face is Face.YAML else self.word.wire[known]

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if self.face is Face.RECORD:
            return self.word.known(value) or value
        return self.word.python(value)


class VersionText(_Field):
    """Text, or a whole number that is made text."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return words.Version.python(value)


class CondaText(_Field):
    """A path or a mapping in files; YAML text with sorted keys on the wire."""

    def __init__(self, wire: bool, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.wire = wire

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if self.wire and isinstance(value, dict):
            return yaml.safe_dump(value)
        return value if self.wire else _beside(value)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if self.wire:
            if not isinstance(value, str):
                raise ValidationError(f"Expected a conda file as YAML text, found {shown(value)}.")
            return documents.value(value, "The conda file")
        if isinstance(value, dict):
            return value
        if not isinstance(value, str):
            raise ValidationError(f"Expected a path or a mapping, found {shown(value)}.")
        return _anchored(value)


class TextTable(Table):
    """A mapping whose values are made text."""

    def _deserialize(self, value: Any, *place: Any, **keywords: Any) -> Any:
        return {key: _text(each) for key, each in super()._deserialize(value, *place, **keywords).items()}

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return None if value is None else {key: _text(each) for key, each in value.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


class TrafficTable(Table):
    """Names to percentages; zeros say nothing and are not sent."""

    def __init__(self, face: Face, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.sparse = face is Face.REQUEST

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if value is None:
            return None
        return {name: share for name, share in value.items() if share or not self.sparse}


class WrappedTable(Table):
    """Each value inside an object with one key, on the wire."""

    def __init__(self, key: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.key = key

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return None if value is None else {name: {self.key: each} for name, each in value.items()}

    def _deserialize(self, value: Any, *place: Any, **keywords: Any) -> Any:
        table = super()._deserialize(value, *place, **keywords)
        return {name: each.get(self.key, each) if isinstance(each, dict) else each for name, each in table.items()}


class Part(_Field):
    """Another entity, of the class that its document names. `load` and `dump` are `faces`' own."""

    expected = "a mapping"

    def __init__(self, load: Callable[[Any], Entity], dump: Callable[[Entity], Any], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.read, self.write = load, dump

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return self.write(value) if isinstance(value, Entity) else value

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, Mapping):
            return self.read(value)
        raise ValidationError("Not a valid mapping.")


class IdTable(_Field):
    """A list of entities in files, an object with their resource ids as keys on the wire."""

    expected = "an object with resource ids as keys"

    def __init__(self, kind: type[Entity], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.kind = kind

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return None if value is None else {each.resource_id: {} for each in value}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValidationError("Not a valid object.")
        return [self._made(key, said if isinstance(said, Mapping) else {}) for key, said in value.items()]

    def _made(self, resource_id: str, said: Mapping[str, Any]) -> Entity:
        values = {
            "resource_id": resource_id,
            "client_id": said.get("clientId"),
            "principal_id": said.get("principalId"),
        }
        return self.kind(**values)


class AssetText(_Field):
    """A reference, or the asset itself, which only files may contain."""

    expected = "a reference such as azureml:name:version"

    def __init__(self, part: Part | None, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.part = part

    def _serialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return self.part._serialize(value) if self.part else value  # noqa: SLF001 (the part it is made of)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, str):
            return value
        if self.part is None:
            raise ValidationError("Not a valid reference.")
        return self.part.deserialize(value)


_ON_EVERY_FACE: dict[type, type[_Field]] = {words.Texts: TextTable, words.Version: VersionText}


def field_for(hint: Any, face: Face, part: Callable[[type[Entity]], Part], **keywords: Any) -> ma.Field[Any]:
    """
    The marshmallow field for a type, with the words in it.

    Args:
        hint: The attribute's type, e.g. `Milliseconds | None`.
        face: Which face it is for.
        part: Makes the field for a nested entity.
        keywords: Passed on to the field, e.g. `validate`.
    """
    kinds, marks = taken_apart(hint)
    for mark in marks:
        spelled = _spelled(mark, kinds, face, part, **keywords)
        if spelled:
            return spelled
    return _plain(kinds[0], face, part, **keywords)


def _spelled(
    mark: Any, kinds: list[Any], face: Face, part: Callable[[type[Entity]], Part], **keywords: Any
) -> ma.Field[Any] | None:
    """The field for a word; None where the word says nothing on this face."""
    wire = face is not Face.YAML
    if type(mark) in _ON_EVERY_FACE:
        return _ON_EVERY_FACE[type(mark)](**keywords)
    match mark:
        case words.Duration() if wire:
            return DurationText(mark, **keywords)
        case words.Choice():
            return ChoiceText(mark, face, **keywords)
        case words.CondaSpec():
            return CondaText(wire, **keywords)
        case words.Percentages():
            return TrafficTable(face, **keywords)
        case words.Wrapped() if wire:
            return WrappedTable(mark.key, **keywords)
        case words.Ids() if wire:
            return IdTable(get_args(kinds[0])[0], **keywords)
        case words.LocalPath() if not wire:
            return PathText(**keywords)
        case words.Asset():
            nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Entity)]
            return AssetText(part(nested[0]) if nested else None, **keywords)
    return None


def _plain(kind: Any, face: Face, part: Callable[[type[Entity]], Part], **keywords: Any) -> ma.Field[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict:
        inner = arguments[1]
        nulls = {"allow_none": True} if face is Face.RECORD else {}  # a service may say null for nothing
        values = field_for(inner, face, part, **nulls) if inner is not Any else None
        return Table(keys=Text(), values=values, **keywords)
    if origin is list:
        return Sequence(field_for(arguments[0], face, part), **keywords)
    if isinstance(kind, type) and issubclass(kind, Entity):
        nested = part(kind)
        return Part(nested.read, nested.write, **keywords)
    simple: dict[Any, type[_Field]] = {str: Text, int: Whole, float: Number, bool: Switch}
    return simple.get(kind, Anything)(**keywords)


def taken_apart(hint: Any) -> tuple[list[Any], list[Any]]:
    """The types and the words of a hint, without None; nested `Annotated` and unions are laid flat."""
    origin = get_origin(hint)
    if origin is Annotated:
        kinds, marks = taken_apart(hint.__origin__)
        return kinds, [*hint.__metadata__, *marks]
    if origin in (Union, UnionType):
        kinds, marks = [], []
        for each in get_args(hint):
            if each is not type(None):
                inner, words_of = taken_apart(each)
                kinds += inner
                marks += words_of
        return kinds, marks
    return [hint], []
