"""
What kinds of documents there are, and how a file says which it is.

Azure's files name their kind by the address of a schema, of which only the last part
counts: `…/managedOnlineDeployment.schema.json`. A file without one is known by fields
that no other kind has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Any

from attrs import frozen

from modelport import entities
from modelport.entities.base import Entity
from modelport.errors import ValidationException

_CONDA = frozenset({"channels", "dependencies"})
_ALIKE, _LONGEST, _MOST_GUESSED = 0.8, 40, 30
_ENDING = ".schema.json"


@frozen
class Kind:
    """A kind of document."""

    name: str
    """As sentences say it: `deployment`."""

    entity: type[Entity]
    """What it describes."""

    loader: str
    """The function that reads it."""

    schemas: Mapping[str, type[Entity]]
    """Names of its schemas, and the class that each is for."""


KINDS = (
    Kind(
        "endpoint",
        entities.OnlineEndpoint,
        "load_online_endpoint",
        {
            "managedOnlineEndpoint": entities.ManagedOnlineEndpoint,
            "kubernetesOnlineEndpoint": entities.KubernetesOnlineEndpoint,
        },
    ),
    Kind(
        "deployment",
        entities.OnlineDeployment,
        "load_online_deployment",
        {
            "managedOnlineDeployment": entities.ManagedOnlineDeployment,
            "kubernetesOnlineDeployment": entities.KubernetesOnlineDeployment,
        },
    ),
    Kind("model", entities.Model, "load_model", {"model": entities.Model}),
    Kind("environment", entities.Environment, "load_environment", {"environment": entities.Environment}),
    Kind("data asset", entities.Data, "load_data", {"data": entities.Data}),
)


def of(document: Any) -> Kind | None:
    """The kind that a document is of, by its `$schema`, else by its fields; None when neither tells."""
    if not isinstance(document, Mapping):
        return None
    return _by_schema(document.get("$schema")) or _by_fields(document)


def of_entity(entity: type[Entity]) -> Kind | None:
    """The kind whose documents describe this class."""
    return next((each for each in KINDS if issubclass(entity, each.entity)), None)


def told(document: Any) -> Kind:
    """
    The kind that a document is of.

    Raises:
        errors.ValidationException: Neither its `$schema` nor its fields tell.
    """
    found = of(document)
    if found is None:
        names = ", ".join(name for each in KINDS for name in each.schemas)
        raise ValidationException(
            "It does not tell what it describes: add $schema with the name of its schema, such as "
            f"'schemas/managedOnlineDeployment{_ENDING}' (there are: {names}).",
            target="$schema",
        )
    return found


def is_conda(document: Any) -> bool:
    """Whether it is a conda file."""
    return isinstance(document, Mapping) and bool(_CONDA & set(document)) and of(document) is None


def _by_schema(address: Any) -> Kind | None:
    if not isinstance(address, str):
        return None
    name = address.replace("\\", "/").rpartition("/")[2].lower().removesuffix(_ENDING)
    return next((kind for kind in KINDS if name in {each.lower() for each in kind.schemas}), None)


def _by_fields(document: Mapping[str, Any]) -> Kind | None:
    found = _most(set(document))
    if found or "path" not in document:
        return found or _most({_meant(key) for key in islice(document, _MOST_GUESSED)})
    return _by_type(document.get("type"))


def _most(names: set[str]) -> Kind | None:
    """The kind that most of the names tell of; None when none does, or two do."""
    scores = [len(names & fields) for fields in telling()]
    best = max(scores)
    return KINDS[scores.index(best)] if best and scores.count(best) == 1 else None


def _meant(key: str) -> str:
    """The telling field that a misspelt one stands for."""
    known = [name for fields in telling() for name in fields]
    close = get_close_matches(key, known, n=1, cutoff=_ALIKE) if len(key) <= _LONGEST else []
    return close[0] if close else key


def _by_type(said: Any) -> Kind | None:
    """Models and data have the same fields; what their `type` may be differs."""
    for kind in KINDS:
        for attribute, spec, _ in kind.entity.fields():
            if attribute.name == "type" and said in getattr(spec.check, "options", ()):
                return kind
    return None


@cache
def telling() -> tuple[frozenset[str], ...]:
    """Of each kind: the fields that no other kind has."""
    names = [frozenset(_names(kind)) for kind in KINDS]
    return tuple(mine - frozenset().union(*(others for others in names if others is not mine)) for mine in names)


def _names(kind: Kind) -> Iterator[str]:
    for each in {kind.entity, *kind.schemas.values()}:
        for attribute, spec, _ in each.fields():
            if spec.file and not spec.owned:
                yield from (attribute.name, *spec.aka)
