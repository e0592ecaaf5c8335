"""
What an entity is, and what each of its fields says about itself.

A field is declared once, on the attrs class. What this module collects (its name
on the wire, who decides it, what is valid) is all that `schema` needs to read and
write the entity as a file, as a request and as a stored record, so that the three
can never disagree.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import IO, Any, ClassVar, TypeVar, get_type_hints

import attrs
from attrs import frozen

from modelport.errors import ValidationException

_SPEC = "modelport"
_WIDTH = 100
_E = TypeVar("_E", bound="Entity")
_reading: ContextVar[bool] = ContextVar("reading", default=False)


@contextmanager
def as_answered() -> Iterator[None]:
    """
    Within it, entities take what they would refuse: a service that is newer than this may answer with any of it.

    A reader that refused a new word, or a limit that was raised, would make the whole answer unreadable.
    """
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


@frozen(kw_only=True)
class Spec:
    """What a field says beside its type. See `field` for the meaning of each."""

    wire: str | None = ""
    file: bool = True
    aka: tuple[str, ...] = ()
    identity: bool = False
    owned: bool = False
    required: bool = False
    service: Any = None
    check: Callable[[Any, Any, Any], Any] | None = None


@frozen
class Variants:
    """
    How documents tell the subclasses of an entity apart.

    `file` is the key that says it in files, `wire` the one on the wire (None: it is not sent);
    `marks` are file keys whose mere presence decides, as `compute` does for endpoints.
    """

    file: str | None
    wire: str | None
    default: str
    marks: Mapping[str, str] = attrs.field(factory=dict)


@frozen
class Problem:
    """One thing that is wrong with an entity: the field at fault and a sentence."""

    field: str
    message: str


def _checked(check: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], None]:
    def run(instance: Any, attribute: Any, value: Any) -> None:
        if value is None or _reading.get():
            return
        try:
            check(instance, attribute, value)
        except ValueError as error:
            raise _refusal(instance, attribute, error) from error
        except TypeError as error:  # a limit that the value cannot be compared with
            raise _refusal(instance, attribute, TypeError(f"Expected a number, found {value!r}.")) from error

    return run


def _converted(convert: Callable[[Any], Any]) -> Any:
    def run(value: Any, instance: Any, attribute: Any) -> Any:
        try:
            return None if value is None else convert(value)
        except (ValueError, TypeError, ValidationException) as error:
            if _reading.get():
                return value
            raise _refusal(instance, attribute, error) from error

    return attrs.Converter(run, takes_self=True, takes_field=True)


def _read_only(instance: Any, attribute: Any, _value: Any) -> Any:
    raise AttributeError(f"{type(instance).__name__}.{attribute.name} is what the server says; it cannot be assigned.")


def _refusal(instance: Any, attribute: Any, error: Exception) -> ValidationException:
    return ValidationException(f"{type(instance).__name__}.{attribute.name}: {error.args[0]}", target=attribute.name)


def field(
    default: Any = None,
    *,
    factory: Callable[[], Any] | None = None,
    wire: str | None = "",
    file: bool = True,
    aka: tuple[str, ...] = (),
    identity: bool = False,
    owned: bool = False,
    required: bool = False,
    service: Any = None,
    check: Callable[[Any, Any, Any], Any] | None = None,
    convert: Callable[[Any], Any] | None = None,
    eq: bool = True,
    show: bool | Callable[[Any], str] = True,
) -> Any:
    """
    Declare a field of an entity.

    Args:
        default: Value when nothing is said; None means *not said*, and is not sent.
        factory: Makes the default, where it is mutable.
        wire: Name on the wire: `""` is the camelCase of the attribute's name under the class's `home`, `"a.b"` a place
            below `home`, `"/sku.capacity"` a place from the document's root, None is not on the wire.
        file: Whether files may have it.
        aka: Other spellings that files may use.
        identity: It is part of the URL, not of the body.
        owned: The server decides it; clients never send it and it cannot be assigned.
        required: A file without it is refused.
        service: The value that the control plane fills in when the client said none; a class is made.
        check: An attrs validator, also run on assignment; None always passes.
        convert: Applied on construction and assignment; None stays None.
        eq: Whether it takes part in comparison.
        show: Whether `repr` and notebooks show it, or what they show of it.
    """
    keywords: dict[str, Any] = {"default": attrs.Factory(factory) if factory else default}
    if convert:
        keywords["converter"] = _converted(convert)
    if check:
        keywords["validator"] = _checked(check)
    if owned:
        keywords["on_setattr"] = _read_only
    spec = Spec(
        wire=wire, file=file, aka=aka, identity=identity, owned=owned, required=required, service=service, check=check
    )
    return attrs.field(**keywords, eq=eq, repr=show, metadata={_SPEC: spec})


def spec_of(attribute: attrs.Attribute[Any]) -> Spec:
    """What was declared about an attribute; the plainest spec for one that `field` did not make."""
    spec: Spec = attribute.metadata.get(_SPEC, _PLAIN)
    return spec


def hidden(value: Any) -> str:
    """What is shown of a secret: that it is there."""
    return "None" if value is None else "'***'"


def names_only(values: Any) -> str:
    """What is shown of a mapping whose values may be secrets."""
    if not isinstance(values, Mapping):
        return hidden(values)
    return "{" + ", ".join(f"{name!r}: '***'" for name in values) + "}"


@attrs.frozen(kw_only=True)
class SystemData:
    """Who made a resource and who changed it last, and when."""

    created_by: str | None = None
    """Who made it."""

    created_by_type: str | None = None
    """`User`, `Application`, `ManagedIdentity` or `Key`."""

    created_at: datetime | None = None
    """When."""

    last_modified_by: str | None = None
    """Who changed it last."""

    last_modified_by_type: str | None = None
    """As `created_by_type`."""

    last_modified_at: datetime | None = None
    """When."""


def _origin(said: Mapping[str, Any]) -> SystemData:
    return SystemData(
        created_by=said.get("createdBy"),
        created_by_type=said.get("createdByType"),
        created_at=_moment(said.get("createdAt")),
        last_modified_by=said.get("lastModifiedBy"),
        last_modified_by_type=said.get("lastModifiedByType"),
        last_modified_at=_moment(said.get("lastModifiedAt")),
    )


def _moment(text: Any) -> datetime | None:
    """A time as ARM writes it, `2026-11-22T13:42:26.1234567Z`; None for anything else."""
    if not isinstance(text, str):
        return None
    whole, point, rest = text.replace("Z", "+00:00").partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    try:
        return datetime.fromisoformat(f"{whole}.{rest[:digits][:6]:0<6}{rest[digits:]}" if point else whole)
    except ValueError:
        return None


Declared = tuple["attrs.Attribute[Any]", Spec, Any]
_PLAIN = Spec()


@attrs.define(kw_only=True)
class Entity:
    """The base of everything that people write, send and get back."""

    place: ClassVar[str | None] = None
    """
    Where it lives below the workspace, `onlineEndpoints/{name}`: its URL, id, route, storage key and parent in
    one line. None for a part of another entity. (Not `path`: that is a field of Azure's `Model`.)
    """

    home: ClassVar[str] = ""
    """The object of the wire document that holds its fields; empty for the document itself."""

    constants: ClassVar[Mapping[str, Any]] = {}
    """What a request always contains, by wire path; nothing in the entity says it."""

    variants: ClassVar[Variants | None] = None
    """How its subclasses are told apart; None when it has none."""

    variant: ClassVar[tuple[str, str] | None] = None
    """This subclass's name in files and on the wire."""

    _kinds: ClassVar[dict[str, type[Entity]]] = {}

    _unknown: dict[str, Any] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    """Wire fields that this version does not know. They are sent back as they came."""

    _etag: str | None = attrs.field(default=None, init=False, repr=False, eq=False)
    """The `ETag` header that it came with."""

    @classmethod
    def __attrs_init_subclass__(cls) -> None:
        """Let a base find its variants. attrs makes slotted classes twice; this sees the final one."""
        kind: Any = cls
        kind.__repr__ = Entity.__repr__
        if "variants" in cls.__dict__:
            cls._kinds = {}
        if cls.variant and "variant" in cls.__dict__:
            cls._kinds[cls.variant[0]] = cls

    @property
    def etag(self) -> str | None:
        """Which state of it this is, as `get` found it: what `if_match` takes. None when it was not got."""
        return self._etag

    @property
    def creation_context(self) -> SystemData | None:
        """Who made it and changed it last, and when; None before the service said so."""
        said = getattr(self, "system_data", None)
        return _origin(said) if said else None

    @classmethod
    def kinds(cls) -> Mapping[str, type[Entity]]:
        """The subclasses that documents can name, by their name in files."""
        return cls._kinds

    @classmethod
    def fields(cls) -> tuple[Declared, ...]:
        """Each declared field: its attribute, its spec, and its type with the words in `Annotated`."""
        kind: Any = cls
        return _declared(kind)

    def check(self) -> Iterator[Problem]:
        """Problems that no single field shows. Subclasses extend it; called before anything is sent."""
        yield from ()

    def problems(self) -> Iterator[Problem]:
        """All problems of this entity and of the entities in it, with the field's path."""
        yield from self.check()
        for attribute in attrs.fields(type(self)):
            value = getattr(self, attribute.name)
            if value is None or isinstance(value, str):  # nearly all; this runs for every entity that is sent
                continue
            several = dict(enumerate(value)) if isinstance(value, list) else value
            parts = several if isinstance(several, dict) else {"": value}
            for key, part in parts.items():
                if isinstance(part, Entity):
                    place = attribute.name if key == "" else f"{attribute.name}.{key}"
                    for problem in part.problems():
                        yield Problem(f"{place}.{problem.field}", problem.message)

    def validate(self) -> None:
        """
        Raise one error that names every problem.

        Raises:
            errors.ValidationException: With one detail for each problem.
        """
        found = list(self.problems())
        if found:
            raise refusal(found)

    def dump(
        self,
        dest: str | os.PathLike[str] | IO[str] | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
    ) -> dict[str, Any]:
        """
        The entity as it stands in a YAML file; also written there when `dest` is given.

        The one sanctioned hop from entity to schema (decision 8), made by name so that entities load no YAML.

        Args:
            dest: A path, or an open file. Local paths inside its folder are written relative to it.
            path: Azure's old name for `dest`.

        Returns:
            The document, snake_case keys, without what was not said and what the server decides.
        """
        written = path if dest is None else dest
        return import_module("modelport.schema.files").write(self, written)  # type: ignore[no-any-return]

    def shown(self) -> dict[str, str]:
        """What was said, by field, as `repr` shows it: neither defaults nor secrets."""
        told: dict[str, str] = {}
        for attribute in attrs.fields(type(self)):
            show: Any = attribute.repr
            value = getattr(self, attribute.name)
            if show and value is not None and value != {} and not _is_default(attribute, value):
                told[attribute.name] = show(value) if callable(show) else repr(value)
        return told

    def __repr__(self) -> str:
        name, told = type(self).__name__, [f"{name}={text}" for name, text in self.shown().items()]
        line = f"{name}({', '.join(told)})"
        if len(line) <= _WIDTH:
            return line
        return f"{name}(" + "".join(f"\n{each},".replace("\n", "\n    ") for each in told) + "\n)"

    def _repr_html_(self) -> str:
        """The entity as notebooks show it. As `dump`, a hop by name: who draws nothing loads nothing of it."""
        return import_module("modelport.entities.page").page(self)  # type: ignore[no-any-return]


def _is_default(attribute: attrs.Attribute[Any], value: Any) -> bool:
    default: Any = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    return bool(value == default)


@cache
def _declared(kind: type[Entity]) -> tuple[Declared, ...]:
    """What `Entity.fields` answers; reading the hints anew costs more than a document."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (attribute, spec_of(attribute), hints[attribute.name])
        for attribute in attrs.fields(kind)
        if _SPEC in attribute.metadata
    )


def path_text(value: Any) -> Any:
    """A `pathlib.Path` as text; anything else as it is."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def refusal(problems: list[Problem], about: str = "") -> ValidationException:
    """One error that tells every problem; `about` names the thing, where the fields do not."""
    details = [{"code": "InvalidField", "target": each.field, "message": each.message} for each in problems]
    told = " ".join(f"{each.field}: {each.message}" if each.field else each.message for each in problems)
    return ValidationException(f"{about}: {told}" if about else told, target=problems[0].field or None, details=details)


def nearest(name: str, names: Iterator[str] | list[str]) -> str:
    """` Did you mean 'x'?`, or nothing, for a name that is not among `names`."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def changed(entity: _E, **values: Any) -> _E:
    """A copy of `entity` with other values, those the server decides included; what is unknown goes along."""
    with as_answered():  # what came from a service, or through the constructor, is not judged again
        copy = attrs.evolve(entity, **values)
    copy._unknown, copy._etag = entity._unknown, entity._etag  # noqa: SLF001 (its own class's state)
    return copy


def filled(entity: _E) -> _E:
    """`entity` with the service's defaults where nothing was said, in its parts as well."""
    values: dict[str, Any] = {}
    for attribute in attrs.fields(type(entity)):
        value = now = getattr(entity, attribute.name)
        default = spec_of(attribute).service
        if value is None and default is not None:
            value = default() if callable(default) else default
        if isinstance(value, Entity):
            value = filled(value)
        if value is not now:
            values[attribute.name] = value
    return changed(entity, **values) if values else entity
