"""
YAML text to plain values, with the place where each of them stands.

Files come from people, and from people's programs. What they may cost is bounded
(characters, values after aliases are followed, depth), no tag makes an object, and
what YAML would pass over in silence (a key that stands twice, a key that is no
text) is kept as a problem with its line, to be told with all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn

import attrs
import yaml

from modelport.errors import ValidationException

MOST_CHARACTERS = 4_000_000
MOST_VALUES = 100_000
DEEPEST = 50
_TOO_DEEP = f"has more than {DEEPEST} mappings and lists inside each other; no entity has so many"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = yaml.constructor.SafeConstructor()
_TAG = "tag:yaml.org,2002:"
_IMPLICIT = {
    first: [(tag.removeprefix(_TAG), pattern.match) for tag, pattern in several]
    for first, several in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_COLLECTIONS = {f"{_TAG}map", f"{_TAG}seq", "!"}
_LONGEST_NUMBER = 400
_USUAL_CHARACTERS = 16_384
_UNREADABLE = (ValueError, IndexError, KeyError, OverflowError)
_ENDS = frozenset({yaml.MappingEndEvent, yaml.SequenceEndEvent})
_VALUES = frozenset({yaml.ScalarEvent, yaml.AliasEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent})


@attrs.define(eq=False)
class Node:
    """A value in a file."""

    line: int
    """Counted from 1."""

    column: int
    """Counted from 1."""

    value: Any = None
    """Of a scalar: what YAML reads."""

    raw: str | None = None
    """Of a scalar without quotes: what the file says."""

    parts: dict[str, Entry] | list[Node] | None = None
    """Of a mapping or a list: what is in it."""

    size: int = 1
    """How many values it is, aliases followed."""

    depth: int = 0
    """How many mappings and lists are inside each other in it, aliases followed."""

    def plain(self) -> Any:
        """The value, of new objects only, so that an alias shares nothing with its anchor."""
        if isinstance(self.parts, dict):
            return {key: entry.node.plain() for key, entry in self.parts.items()}
        if isinstance(self.parts, list):
            return [each.plain() for each in self.parts]
        return self.value


@attrs.frozen(eq=False)
class Entry:
    """A key of a mapping with its value; `used` is the line of the merge key that brought it."""

    line: int
    column: int
    node: Node
    used: int | None = None


@attrs.frozen
class Slip:
    """What is wrong with the YAML itself, where one can read on."""

    line: int
    column: int
    place: str
    message: str


@attrs.frozen
class Where:
    """Where a field stands: the nearest place that the file has, and the value when it is the field's own."""

    line: int
    column: int
    used: int | None = None
    node: Node | None = None


@attrs.define
class Document:
    """One document of a file."""

    root: Node
    slips: list[Slip] = attrs.field(factory=list)

    def where(self, place: str) -> Where:
        """Where `a.b.0.c` stands. Keys may have dots themselves."""
        node, steps = self.root, place.split(".") if place else []
        found = Where(node.line, node.column)
        while steps:
            if isinstance(node.parts, list):
                if not steps[0].isdecimal() or int(steps[0]) >= len(node.parts):
                    return found
                node, taken = node.parts[int(steps[0])], 1
                found = Where(node.line, node.column, found.used)
            else:
                key = next(
                    (n for n in range(len(steps), 0, -1) if ".".join(steps[:n]) in (node.parts or {})),
                    0,
                )
                if not key:
                    return found
                assert node.parts is not None
                entry, taken = node.parts[".".join(steps[:key])], key
                used = entry.used or (entry.line if entry.node.line < entry.line else found.used)
                node, found = entry.node, Where(entry.line, entry.column, used if entry.used else found.used)
                if node.line < entry.line:  # an alias: what is in it stands further up
                    found = attrs.evolve(found, used=used)
            steps = steps[taken:]
        return attrs.evolve(found, node=node)


def read(text: str, name: str) -> list[Document]:
    """
    The documents of YAML text; those that are empty are left out.

    Args:
        text: The YAML.
        name: What it is called, for messages.

    Raises:
        errors.ValidationException: It is not YAML, or more than this takes.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValidationException(f"{name} is too large: it has more than {MOST_CHARACTERS:,} characters.")
    builder = _Builder(name)
    try:
        for event in yaml.parse(text.removeprefix("\ufeff"), Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text, name) from error
    except (yaml.YAMLError, UnicodeError) as error:
        said = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ValidationException(f"{name} is not YAML: {said}") from error
    return builder.documents


def usual(text: str) -> dict[str, Any] | None:
    """
    The mapping that a text contains, read in half the time of `read`; None for a text that has anything unusual.

    That is whatever `read` could tell of, and what it needs care for: great length or depth, several documents,
    anchors, tags, merges, escapes, keys that are no text or stand twice. What this returns, `read` returns as well.
    """
    if len(text) > _USUAL_CHARACTERS or "\\" in text:
        return None
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        try:
            found = _usual(iter(loader.get_event, None))
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeError, *_UNREADABLE):
        return None
    return found[0] if len(found) == 1 and isinstance(found[0], dict) else None


def _usual(events: Iterator[Any]) -> list[Any]:
    """The documents of a text. It runs for nearly every file, so it takes few steps for each event."""
    found: list[Any] = []
    parts: Any = found
    outer: list[Any] = []
    key: str | None = None
    for event in events:
        kind = type(event)
        if kind in _ENDS:
            parts = outer.pop()
        elif kind in _VALUES:
            value = _usual_value(event)
            if type(parts) is list:
                parts.append(value)
            elif key is not None:
                parts[key], key = value, None
            elif type(value) is str and value != "<<" and value not in parts:
                key = value
            else:
                raise ValueError(value)
            if kind is not yaml.ScalarEvent:
                if len(outer) >= DEEPEST:
                    raise ValueError(value)
                outer.append(parts)
                parts = value
    return found


def _usual_value(event: Any) -> Any:
    if event.anchor or event.tag is not None:
        raise ValueError(event)
    kind = type(event)
    if kind is not yaml.ScalarEvent:
        return {} if kind is yaml.MappingStartEvent else []
    plain = _resolved(event.value) if event.implicit[0] else None
    return _READ[plain](event.value) if plain else event.value


def _not_yaml(error: yaml.MarkedYAMLError, text: str, name: str) -> ValidationException:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    context = f" ({error.context})" if error.context and error.problem else ""
    at_fault = text.split("\n")[line - 1 : line]
    problem = error.problem or error.context
    if "nesting depth" in str(problem):  # PyYAML's own limit, which it may meet before it has told us of any
        problem, context = _TOO_DEEP, ""
    tab = " Indent with spaces: YAML takes no tabs." if "".join(at_fault)[column - 1 :].startswith("\t") else ""
    message = f"{name} is not YAML: line {line}, column {column}: {problem}{context}.{tab}"
    details = [{"code": "InvalidYaml", "target": None, "message": message, "line": line, "column": column}]
    return ValidationException(message, details=details)


def value(text: str, name: str) -> Any:
    """
    The one value of YAML text that a service sent: what people would be told of is passed over.

    Raises:
        errors.ValidationException: It is not YAML, or more than this takes.
    """
    documents = read(text, name)
    return documents[0].root.plain() if documents else None


@attrs.define
class _Open:
    """A mapping or a list whose end was not seen yet."""

    node: Node
    anchor: str | None
    key: Node | None = None
    merged: list[tuple[int, Node]] = attrs.field(factory=list)


class _Builder:
    """Nodes from the parser's events. It does not recurse: the depth of a file is not the depth of the stack."""

    def __init__(self, name: str) -> None:
        self.documents: list[Document] = []
        self._name = name
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._slips: list[Slip] = []
        self._count = 0

    def take(self, event: Any) -> None:
        """Go on by one event."""
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._add(self._anchored(event.anchor, self._scalar(event)))
        elif kind is yaml.AliasEvent:
            self._add(self._alias(event))
        elif kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
            self._begin(event, {} if kind is yaml.MappingStartEvent else [])
        elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
            self._end()
        elif kind is yaml.DocumentStartEvent:
            self._anchors, self._slips = {}, []

    def _begin(self, event: Any, parts: Any) -> None:
        node = Node(event.start_mark.line + 1, event.start_mark.column + 1, parts=parts)
        if event.tag is not None and event.tag not in _COLLECTIONS:
            self._slip(node, _strange_tag(event.tag))
        if len(self._open) >= DEEPEST:
            self._too_deep(node)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(node, event.anchor))

    def _end(self) -> None:
        ended = self._open.pop()
        node = ended.node
        if isinstance(node.parts, dict):
            for line, merged in ended.merged:
                assert isinstance(merged.parts, dict)
                self._spend(node, len(merged.parts))
                for key, entry in merged.parts.items():
                    node.parts.setdefault(key, attrs.evolve(entry, used=line))
            inner = [entry.node for entry in node.parts.values()]
        else:
            inner = node.parts or []
        node.size = 1 + sum(each.size for each in inner)
        node.depth = 1 + max((each.depth for each in inner), default=0)
        if node.size > MOST_VALUES:
            self._too_many(node)
        if node.depth > DEEPEST:
            self._too_deep(node)
        self._add(self._anchored(ended.anchor, node))

    def _add(self, node: Node) -> None:
        self._spend(node, 1)
        if not self._open:
            if node.parts is not None or node.value is not None:
                self.documents.append(Document(node, self._slips))
            return
        top = self._open[-1]
        parts = top.node.parts
        if isinstance(parts, list):
            parts.append(node)
        elif top.key is None:
            top.key = node
        else:
            key, top.key = top.key, None
            self._enter(top, key, node)

    def _enter(self, top: _Open, key: Node, node: Node) -> None:
        assert isinstance(top.node.parts, dict)
        if key.parts is not None:
            self._slip(key, "A key is text, not a mapping or a list.")
            return
        if key.raw == "<<":
            self._merge(top, key, node)
            return
        name = key.value if isinstance(key.value, str) else str(key.raw)
        if not isinstance(key.value, str):
            self._slip(key, f"The key {name!r} is read by YAML as {said(key.value)}, not as text: quote it.", name)
        elif name in top.node.parts:
            first = top.node.parts[name].line
            self._slip(key, f"It stands here a second time; line {first} has it too.", name)
        top.node.parts[name] = Entry(key.line, key.column, node)

    def _merge(self, top: _Open, key: Node, node: Node) -> None:
        several = node.parts if isinstance(node.parts, list) else [node]
        for each in several:
            if isinstance(each.parts, dict):
                top.merged.append((key.line, each))
            else:
                self._slip(key, "'<<' takes a mapping, or a list of mappings.", "<<")

    def _alias(self, event: Any) -> Node:
        here = Node(event.start_mark.line + 1, event.start_mark.column + 1)
        if event.anchor not in self._anchors:
            self._refuse(here, f"is not YAML: '*{event.anchor}' refers to an anchor that does not stand before it")
        node = self._anchors[event.anchor]
        if node is None:
            self._refuse(here, f"has no end: '*{event.anchor}' stands inside its own anchor")
        return node

    def _anchored(self, anchor: str | None, node: Node) -> Node:
        if anchor:
            self._anchors[anchor] = node
        return node

    def _scalar(self, event: Any) -> Node:
        mark, text, tag = event.start_mark, event.value, event.tag
        node = Node(mark.line + 1, mark.column + 1, text, text if event.implicit[0] else None)
        if "\0" in text:
            self._slip(node, "The text has a NUL character, which no name and no path can have.")
            node.value = text.replace("\0", "")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            self._slip(node, "The text has half a character (a lone surrogate).")
            node.value = text.encode("utf-8", "replace").decode()
        if tag is None or tag == "!":
            kind = _resolved(text) if event.implicit[0] else None
        else:
            kind = tag.removeprefix(_TAG)
            if kind not in _READ:
                self._slip(node, _strange_tag(tag))
                kind = None
        if kind:
            try:
                node.value = _READ[kind](text)
            except _UNREADABLE:
                self._slip(node, f"{text[:40]!r} is no {kind} that a request can carry. Quote it if text is meant.")
        return node

    def _spend(self, node: Node, count: int) -> None:
        self._count += count
        if self._count > MOST_VALUES:
            self._too_many(node)

    def _too_many(self, node: Node) -> NoReturn:
        self._refuse(node, f"has more than {MOST_VALUES:,} values, aliases followed; no entity has so many")

    def _too_deep(self, node: Node) -> NoReturn:
        self._refuse(node, _TOO_DEEP)

    def _slip(self, node: Node, message: str, name: str | None = None) -> None:
        if len(self._slips) < MOST_VALUES // 100:
            self._slips.append(Slip(node.line, node.column, self._place(name), message))

    def _place(self, name: str | None) -> str:
        steps = []
        for each in self._open:
            if isinstance(each.node.parts, list):
                steps.append(str(len(each.node.parts)))
            elif each.key is not None:
                steps.append(str(each.key.raw or each.key.value))
        return ".".join([*steps, name] if name else steps)

    def _refuse(self, node: Node, fault: str) -> NoReturn:
        message = f"{self._name} {fault} (line {node.line})."
        details = [{"code": "InvalidYaml", "target": None, "message": message, "line": node.line}]
        raise ValidationException(message, details=details)


def said(read: Any) -> str:
    """What YAML read, as people write it."""
    if read is None or isinstance(read, bool):
        return {None: "nothing", True: "true", False: "false"}[read]
    return f"the number {read!r}" if isinstance(read, (int, float)) else repr(read)


def _resolved(text: str) -> str | None:
    """What a scalar without quotes is read as; None for text. Dates are text: no request can carry anything else."""
    for kind, match in _IMPLICIT.get(text[:1], ()):
        if match(text):
            return kind if kind in _READ else None
    return None


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(text)
    if text.isascii() and text.isdecimal() and text[0] != "0":
        return int(text)
    return int(_SCALARS.construct_yaml_int(yaml.ScalarNode(f"{_TAG}int", text)))


def _number(text: str) -> float:
    number = float(_SCALARS.construct_yaml_float(yaml.ScalarNode(f"{_TAG}float", text)))
    if len(text) > _LONGEST_NUMBER or not math.isfinite(number):
        raise ValueError(text)
    return number


def _truth(text: str) -> bool:
    return bool(_SCALARS.bool_values[text.lower()])


_READ: dict[str, Any] = {"null": lambda _: None, "bool": _truth, "int": _whole, "float": _number, "str": str}


def _strange_tag(tag: str) -> str:
    short = tag.replace(_TAG, "!!")
    return f"The tag {short!r} means nothing here: a file has text, numbers, true and false, lists and mappings."
