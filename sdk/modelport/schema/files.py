"""
YAML files to entities and back.

A file's problems are all told at once, each with its line, because people fix a
file in one go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml

from modelport.entities.base import Entity
from modelport.errors import ValidationException
from modelport.schema import documents, faces, kinds
from modelport.schema.fields import Face, relative_to, shown, written_to

_E = TypeVar("_E", bound=Entity)
_Detail = dict[str, Any]
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_USUAL_BYTES = 65_536
_MOST_TOLD = 50
_LONGEST_TOLD = 600
_MOST_COUNTED = 6
_HIGHEST_INDEX = 1000
_OVERRIDE_STEP = re.compile(r"((?:\\.|[^.\[\\])+)|\[(\d+)\]")
_FILES = (".yml", ".yaml", ".json")

Source = str | os.PathLike[str] | IO[str] | IO[bytes]
Overrides = Sequence[Mapping[str, Any]]


class _Plain(_Dumper):  # type: ignore[misc] # (which of the two classes it is, the machine decides)
    """What stands twice is written twice: people who read a file know no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        """No value is written as a reference to another one."""
        return True


def read(
    kind: type[_E],
    source: Source | None,
    *,
    relative_origin: str | os.PathLike[str] | None = None,
    params_override: Overrides | None = None,
) -> _E:
    """
    The entity that a YAML file describes.

    Args:
        kind: Its class; where that has variants, the file says which.
        source: A path, an open file, or None for nothing but `params_override`.
        relative_origin: Folder that relative paths are taken from, or a file in it; by default the file's own.
        params_override: Values to set over the file's, each `{"a.b[0]": value}`, in order.

    Raises:
        errors.ValidationException: Everything that is wrong with the file, each with its line.
    """
    if source is None:
        return entity(kind, documents.Document(documents.Node(1, 1, parts={})), None, relative_origin, params_override)
    text, name = _text(source)
    usual = None if params_override else documents.usual(text)
    if usual is not None:
        with suppress(ValidationException):  # what is wrong with it is told below, with its lines
            return _made(kind, usual, name, relative_origin)
    found = documents.read(text, _named(name))
    if len(found) > 1:
        raise ValidationException(_several(found, name, kind))
    _refuse_other_than_mapping(found[0] if found else None, name)
    return entity(kind, found[0], name, relative_origin, params_override)


def read_all(source: Source) -> list[tuple[str | None, documents.Document]]:
    """
    The documents of a file, or of the YAML files of a folder in the order of their names; conda files are left out.

    Returns:
        Each document with the name of its file.

    Raises:
        errors.ValidationException: One of them cannot be read or is not YAML, or there is none.
    """
    folder = isinstance(source, (str, os.PathLike)) and Path(source).is_dir()
    paths = [source]
    if folder:
        paths = [each for each in sorted(Path(source).iterdir()) if each.suffix in _FILES[:2] and each.is_file()]  # type: ignore[arg-type]
    read_in = []
    for path in paths:
        text, name = _text(path)
        for document in documents.read(text, _named(name)):
            if folder and isinstance(document.root.parts, dict) and kinds.is_conda(document.root.parts):
                continue
            read_in.append((name, document))
    if not read_in:
        _refuse_other_than_mapping(None, os.fspath(source) if isinstance(source, (str, os.PathLike)) else None)
    return read_in


def entity(
    kind: type[_E],
    document: documents.Document,
    name: str | None,
    relative_origin: str | os.PathLike[str] | None = None,
    params_override: Overrides | None = None,
) -> _E:
    """
    The entity that a document describes; `read` says what the arguments are.

    Raises:
        errors.ValidationException: Everything that is wrong with it, each with its line.
    """
    content = document.root.plain()
    placed, problems = _overridden(content, params_override or [])
    problems += [
        {"code": "InvalidYaml", "target": each.place, "message": each.message, "line": each.line, "column": each.column}
        for each in document.slips
    ]
    try:
        made = _made(kind, content, name, relative_origin)
    except ValidationException as error:
        found = error.details or [{"code": error.code, "target": error.target, "message": error.message}]
        found += _further(kind, content, found)
        located = [_located(each, document, placed) for each in found]
        slips = {(each["line"], each["target"]) for each in problems}
        problems += [each for each in located if (each["line"], each["target"]) not in slips]
        raise _told(problems, name, _mistaken(kind, content)) from None  # it says all that `error` does
    if problems:
        raise _told(problems, name, None)
    return made


def _made(
    kind: type[_E], content: dict[str, Any], name: str | None, relative_origin: str | os.PathLike[str] | None
) -> _E:
    with relative_to(_origin(relative_origin, name)):
        made = faces.load(kind, content, Face.YAML)
    made.validate()
    return made


def parse(text: str, name: str | None = None) -> dict[str, Any]:
    """
    The mapping that YAML text contains.

    Raises:
        errors.ValidationException: It is not YAML, is empty, or is not a mapping.
    """
    found = documents.read(text, _named(name))
    _refuse_other_than_mapping(found[0] if found else None, name)
    if len(found) > 1:
        raise ValidationException(f"{_named(name)} has {len(found)} documents; one is expected.")
    slips = [{"code": "InvalidYaml", "target": each.place, "message": each.message, "line": each.line}
             for each in found[0].slips]  # fmt: skip
    if slips:
        raise _told(slips, name, None)
    content: dict[str, Any] = found[0].root.plain()
    return content


def read_mapping(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    The mapping that a YAML file contains, such as a conda file.

    Raises:
        errors.ValidationException: It cannot be read, is not YAML, is empty, or is not a mapping.
    """
    text, name = _text(path)
    return parse(text, name)


def write(entity: Entity, dest: str | os.PathLike[str] | IO[str] | None) -> dict[str, Any]:
    """
    The entity as a document for files; also written to `dest`, a path or an open file, as YAML.

    Local paths are written relative to the file's folder where they are in it, so that the folder can be moved.

    Raises:
        errors.ValidationException: The file cannot be written, or a value is of a type that YAML has not.
    """
    if dest is None:
        return faces.dump(entity, Face.YAML)
    name = os.fspath(dest) if isinstance(dest, (str, os.PathLike)) else getattr(dest, "name", None)
    folder = Path(name).resolve().parent if isinstance(name, str) else None
    with written_to(folder):
        document = faces.dump(entity, Face.YAML)
    try:
        text = yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
        if isinstance(dest, (str, os.PathLike)):
            Path(dest).write_text(text, encoding="utf-8")
        else:
            dest.write(text)
    except yaml.YAMLError as error:
        raise ValidationException(f"{type(entity).__name__} has a value that no YAML file can have: {error}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValidationException(f"'{name}' cannot be written: {reason}.", target="dest") from error
    return document


def _text(source: Source) -> tuple[str, str | None]:
    """A file's text and its name. No more is read than a file may have."""
    name: str | None = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        if isinstance(source, (str, os.PathLike)):
            with Path(source).open("rb") as stream:
                content: str | bytes = _limited(stream)
        else:
            name = getattr(source, "name", None)
            name = name if isinstance(name, str) else None
            content = source.read(4 * documents.MOST_CHARACTERS)
        return (content.decode("utf-8") if isinstance(content, bytes) else content), name
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValidationException(f"{_named(name)} cannot be read: {reason}.", target="source") from error
    except UnicodeDecodeError as error:
        raise ValidationException(f"{_named(name)} is not UTF-8 text: {error}.", target="source") from error
    except ValueError as error:  # a closed file, a path with a NUL
        raise ValidationException(f"{_named(name)} cannot be read: {error}.", target="source") from error


def _limited(stream: IO[bytes]) -> bytes:
    """What a file contains, up to the most; to reserve memory for that first costs more than to read most files."""
    content = stream.read(_USUAL_BYTES)
    return content + stream.read(4 * documents.MOST_CHARACTERS) if len(content) == _USUAL_BYTES else content


def _named(name: str | None) -> str:
    return f"'{name}'" if name else "The YAML"


def _origin(said: str | os.PathLike[str] | None, name: str | None) -> Path:
    """The folder that relative paths are taken from. Azure takes the folder of a file that is named as the origin."""
    path = Path(said) if said else Path(name).parent if name else Path.cwd()
    return (path.parent if said and (path.suffix in _FILES or path.is_file()) else path).absolute()


def _refuse_other_than_mapping(document: documents.Document | None, name: str | None) -> None:
    if document is None:
        raise ValidationException(f"Target yaml file is empty: {_named(name)}.")
    if not isinstance(document.root.parts, dict):
        found = type(document.root.plain())
        raise ValidationException(f"{_named(name)}: Expect dict but get {found} after parsing yaml file.")


def _several(found: list[documents.Document], name: str | None, kind: type[Entity]) -> str:
    guesses = [kinds.of(each.root.plain()) for each in found[:_MOST_COUNTED]]
    told = ", ".join(each.name if each else "unknown" for each in guesses) + ", …" * (len(found) > _MOST_COUNTED)
    mine = kinds.of_entity(kind)
    takes = f"{mine.loader}() takes one" if mine else "one is expected"
    call = f"ml_client.apply({name!r})" if name else "ml_client.apply()"
    return f"{_named(name)} has {len(found)} documents ({told}), and {takes}. {call} takes them all."


def _overridden(content: dict[str, Any], overrides: Any) -> tuple[list[str], list[_Detail]]:
    """Set overrides; which places were set, and what is wrong with the overrides themselves."""
    placed, problems = [], []
    pairs: list[tuple[Any, Any]] = []
    for change in overrides if isinstance(overrides, (list, tuple)) else [overrides]:
        if isinstance(change, Mapping):
            pairs += change.items()
        else:
            problems.append(_wrong_override("", f"Expected a mapping of places to values, found {shown(change)}."))
    for place, value in pairs:
        steps = _steps(place)
        fault = _set(content, steps, deepcopy(value)) if steps else "It is not a place such as 'a.b' or 'a[0].b'."
        if fault:
            problems.append(_wrong_override(str(place), fault))
        else:
            placed.append(".".join(map(str, steps)))
    return placed, problems


def _wrong_override(place: str, message: str) -> _Detail:
    return {"code": "InvalidField", "target": place, "message": message, "line": None}


def _steps(place: Any) -> list[str | int]:
    """`a.b[0]` as its steps; a dot in a name has a backslash before it, as in Azure. Nothing for what is no place."""
    if not isinstance(place, str):
        return []
    found = [int(index) if index else re.sub(r"\\(.)", r"\1", name) for name, index in _OVERRIDE_STEP.findall(place)]
    plain = "".join(match.group(0) for match in _OVERRIDE_STEP.finditer(place))
    dots = place.count(".") - place.count("\\.")
    return found if len(plain) + dots == len(place) and "" not in re.split(r"(?<!\\)\.", place) else []


def _set(content: Any, steps: Sequence[str | int], value: Any) -> str | None:
    """Set a value, making the mappings and lists on the way. The fault as a sentence, when it cannot be set."""
    here: Any = content
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        key: Any = step
        if isinstance(here, list):
            if not str(step).isdecimal():
                return f"'{_spelled(steps[:number])}' is a list: {step!r} is no index in it."
            key = int(step)
            if key > _HIGHEST_INDEX:
                return f"The index {key} is too high."
            here.extend([None] * (key + 1 - len(here)))
        elif isinstance(here, dict):
            key = str(step)
            here.setdefault(key, None)
        else:
            return f"'{_spelled(steps[:number])}' is {shown(here)}, which has no '{step}' in it."
        if last:
            here[key] = value
        elif here[key] is None:
            here[key] = [] if isinstance(steps[number + 1], int) else {}
        here = here[key]
    return None


def _spelled(steps: Sequence[str | int]) -> str:
    return ".".join(map(str, steps))


def _further(kind: type[Entity], content: dict[str, Any], found: list[_Detail]) -> list[_Detail]:
    """Problems between fields, which can be looked for when those that are wrong by themselves are left out."""
    wrong = [str(each["target"] or "") for each in found]
    rest = deepcopy(content)
    for place in wrong:
        _leave_out(rest, place.split("."))
    try:
        problems = list(faces.load(kind, rest, Face.YAML).problems())
    except ValidationException:
        return []
    return [
        {"code": "InvalidField", "target": each.field, "message": each.message}
        for each in problems
        if not any(f"{each.field}.".startswith(f"{place}.") or f"{place}.".startswith(f"{each.field}.")
                   for place in wrong)
    ]  # fmt: skip


def _leave_out(content: Any, steps: Sequence[str]) -> None:
    for number, step in enumerate(steps):
        rest = ".".join(steps[number:])
        if isinstance(content, dict) and rest in content:
            del content[rest]
            return
        inner = content.get(step) if isinstance(content, dict) else None
        if isinstance(content, list) and step.isdecimal() and int(step) < len(content):
            if number == len(steps) - 1:
                content[int(step)] = None
            inner = content[int(step)]
        content = inner


def _located(problem: _Detail, document: documents.Document, placed: Sequence[str]) -> _Detail:
    """A problem with its line, and with what YAML made of the file's words where that is a surprise."""
    target = str(problem["target"] or "")
    if any(f"{target}.".startswith(f"{place}.") for place in placed):
        return {**problem, "line": None}
    where = document.where(target)
    message = str(problem["message"])
    node = where.node
    if node and node.raw is not None and not isinstance(node.value, str | None):
        read = str(node.value).lower()
        if read != node.raw.lower():
            message += (
                f" The file says {node.raw}, which YAML reads as {documents.said(node.value)}: quote it for text."
            )
    if where.used:
        message += f" (Used in line {where.used}.)"
    return {**problem, "message": message, "line": where.line, "column": where.column}


def _mistaken(kind: type[Entity], content: dict[str, Any]) -> str | None:
    """A sentence for a file that describes something else than was asked for."""
    mine, found = kinds.of_entity(kind), kinds.of(content)
    if mine and kinds.is_conda(content) and kind is not mine.entity:
        return None
    if mine and found and found is not mine:
        return f"This describes a{'n' if found.name[0] in 'aeiou' else ''} {found.name}: {found.loader}() reads it."
    if kinds.is_conda(content):
        return "This is a conda file: name it as conda_file in an environment, which load_environment() reads."
    return None


def _told(problems: list[_Detail], name: str | None, first: str | None) -> ValidationException:
    """One error for all problems, in the file's order."""
    details = sorted(problems, key=lambda each: (each["line"] is None, each["line"] or 0))
    lines = [first] if first else []
    for each in details[:_MOST_TOLD]:
        each["message"], each["target"] = _short(each["message"]), _short(each["target"])
        where = "params_override" if each["line"] is None else f"line {each['line']}"
        lines.append(": ".join(part for part in (where, each["target"], each["message"]) if part))
    if len(details) > _MOST_TOLD:
        lines.append(f"and {len(details) - _MOST_TOLD:,} more.")
    message = f"{name or 'The YAML'}:\n  " + "\n  ".join(lines)
    return ValidationException(message, target=details[0]["target"], details=details[:_MOST_TOLD])


def _short(text: str | None) -> str | None:
    """Both ends of a text that is too long for a message."""
    half = _LONGEST_TOLD // 2
    return text if text is None or len(text) <= _LONGEST_TOLD else f"{text[:half]} … {text[-half:]}"
