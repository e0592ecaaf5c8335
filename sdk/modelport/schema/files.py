"""
YAML files to entities and back.

A file's problems are all told at once, each with its line, because people fix a
file in one go. The lines are only looked up when there is something to tell.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml

from modelport.entities.base import Entity
from modelport.errors import ValidationException
from modelport.schema import faces
from modelport.schema.fields import Face, relative_to

_E = TypeVar("_E", bound=Entity)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Source = str | os.PathLike[str] | IO[str]


def read(
    kind: type[_E],
    source: Source,
    *,
    relative_origin: str | os.PathLike[str] | None = None,
    params_override: Sequence[Mapping[str, Any]] | None = None,
) -> _E:
    """
    The entity that a YAML file describes.

    Args:
        kind: Its class; where that has variants, the file says which.
        source: A path, or an open text file.
        relative_origin: Folder that relative paths are taken from; by default the file's own.
        params_override: Values to set over the file's, each `{"a.b": value}`, in order.

    Raises:
        errors.ValidationException: Everything that is wrong with the file, each with its line.
    """
    text, name = _text(source)
    document = parse(text, name)
    for change in params_override or []:
        for place, value in change.items():
            _override(document, place, value)
    origin = Path(relative_origin) if relative_origin else Path(name).parent if name else Path.cwd()
    try:
        with relative_to(origin.resolve()):
            entity = faces.load(kind, document, Face.YAML)
        entity.validate()
    except ValidationException as error:
        raise _located(error, text, name) from error
    return entity


def parse(text: str, name: str | None = None) -> dict[str, Any]:
    """
    The mapping that YAML text contains.

    Raises:
        errors.ValidationException: It is not YAML, is empty, or is not a mapping.
    """
    where = f"'{name}'" if name else "The YAML"
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        said = str(error).replace('in "<unicode string>", ', "")
        raise ValidationException(f"{where} is not YAML: {said}") from error
    if document is None:
        raise ValidationException(f"Target yaml file is empty: {where}.")
    if not isinstance(document, dict):
        raise ValidationException(f"{where}: Expect dict but get {type(document)} after parsing yaml file.")
    return document


def read_mapping(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    The mapping that a YAML file contains, such as a conda file.

    Raises:
        errors.ValidationException: It cannot be read, is not YAML, is empty, or is not a mapping.
    """
    text, name = _text(path)
    return parse(text, name)


def write(entity: Entity, path: str | os.PathLike[str] | None) -> dict[str, Any]:
    """The entity as a document for files; also written to `path` as YAML when that is given."""
    document = faces.dump(entity, Face.YAML)
    if path is not None:
        text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        Path(path).write_text(text, encoding="utf-8")
    return document


def _text(source: Source) -> tuple[str, str | None]:
    if not isinstance(source, (str, os.PathLike)):
        return source.read(), getattr(source, "name", None)
    try:
        return Path(source).read_text(encoding="utf-8"), os.fspath(source)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValidationException(f"'{os.fspath(source)}' cannot be read: {reason}.", target="source") from error
    except UnicodeDecodeError as error:
        raise ValidationException(f"'{os.fspath(source)}' is not UTF-8 text: {error}.", target="source") from error


def _override(document: dict[str, Any], place: str, value: Any) -> None:
    *outer, last = place.split(".")
    for key in outer:
        inner = document.get(key)
        document[key] = document = inner if isinstance(inner, dict) else {}
    document[last] = value


def _located(error: ValidationException, text: str, name: str | None) -> ValidationException:
    """The same error with the file's name, and each problem's line."""
    root = yaml.compose(text, Loader=_Loader)
    found = error.details or [{"code": error.code, "target": error.target, "message": error.message}]
    details = [{**each, "line": _line(root, str(each["target"] or "").split("."))} for each in found]
    details.sort(key=itemgetter("line"))
    told = "\n  ".join(f"line {each['line']}: {each['target']}: {each['message']}" for each in details)
    return ValidationException(f"{name or 'The YAML'}:\n  {told}", target=details[0]["target"], details=details)


def _line(node: Any, place: Sequence[str]) -> int:
    """The line of the deepest key of `place` that the file has, counted from 1."""
    line = node.start_mark.line + 1 if node else 1
    for step in place:
        if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
            node = node.value[int(step)]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((key, value) for key, value in pairs if key.value == step), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
