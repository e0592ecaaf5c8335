"""Documents to entities and back. What the rest of the house uses of this floor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, TypeVar, cast

from marshmallow import ValidationError

from modelport.entities.base import Entity, Problem, refusal
from modelport.schema import build
from modelport.schema.fields import Face

_E = TypeVar("_E", bound=Entity)


def load(kind: type[_E], document: Any, face: Face) -> _E:
    """
    The entity that `document` describes.

    Args:
        kind: Its class; where that has variants, the document says which.
        document: A JSON-like mapping in the shape of `face`.
        face: Whose shape it is.

    Raises:
        errors.ValidationException: With one detail for each problem: its field's path and a sentence.
    """
    try:
        return cast("_E", build.read(kind, document if face is Face.YAML else deepcopy(document), face))
    except ValidationError as error:
        raise refusal([Problem(*each) for each in _flat(error.messages)]) from error


def dump(entity: Entity, face: Face) -> dict[str, Any]:
    """The document of `entity`: only what was said, and for `RECORD` what the server decided."""
    return build.write(entity, face)


def _flat(messages: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            step = place if key == "_schema" else f"{place}.{key}" if place else str(key)
            yield from _flat(inner, step)
    elif isinstance(messages, list):
        for inner in messages:
            yield from _flat(inner, place)
    else:
        yield place, str(messages)


__all__ = ["Face", "dump", "load"]
