"""
What run()'s annotations say: whether its body is text, as in Azure, and what its parameters are.

A script that Azure can run is never read in another way than there, unless its
annotation says that it wants something else than the text that Azure gives.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from modelport_scoring.marks import Json

MODULE = "entry_module"
"""The name under which a script is imported. Azure's: a pickle may hold it."""

Run = Callable[..., Any]
Parameters = Sequence[inspect.Parameter]

ABSENT = inspect.Parameter.empty
TEXTS = (ABSENT, str, "str", Any, "Any", "typing.Any", object, "object")
"""Annotations, as they are written, that Azure's text fits."""

UNIONS = (Union, getattr(types, "UnionType", Union))


class Unusable(Exception):  # noqa: N818  # the script's fault, told as a ScriptError
    """An annotation that no request can be made into; the message is the reason."""


def is_text(parameters: Parameters) -> bool:
    """
    Whether the first parameter is given the body as text, as in Azure.

    Where others without a default stand beside it Azure could not call run(), and where it must be named its author
    wants names: then the body is an object with the arguments.
    """
    first, *others = parameters
    said = first.annotation
    if (said.strip("'\"") if isinstance(said, str) else said) not in TEXTS:
        return False
    if all(each.annotation is ABSENT for each in parameters):
        return True
    named = first.kind is inspect.Parameter.KEYWORD_ONLY
    return not others or (not named and all(each.default is not ABSENT for each in others))


def item_parameter(run: Run, parameter: inspect.Parameter) -> inspect.Parameter:
    """
    Return the parameter of a batched run() as it would be for one request: `list[Item]` becomes `Item`.

    Raises:
        Unusable: The annotation is none of a list.
    """
    if parameter.annotation is ABSENT:
        return parameter
    kind = resolved(parameter.annotation, run)
    if (get_origin(kind) or kind) not in (list, Sequence):
        raise Unusable(
            f"take a list of inputs, as it is decorated with @batched: {parameter.name!r} is annotated as "
            f"{shown(parameter.annotation)}, not as list[…]"
        )
    return parameter.replace(annotation=get_args(kind)[0] if get_args(kind) else ABSENT)


def resolved(annotation: Any, run: Run) -> Any:
    """
    Return the type that an annotation of run() means, names in quotes looked up where run() was written.

    Raises:
        Unusable: There is no such name, or this Python has no such type.
    """
    if annotation is ABSENT:
        return Any
    function = inspect.unwrap(run)
    where = getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, where, include_extras=True)["it"]
    except Exception as error:
        raise Unusable(f"{type(error).__name__}: {error}") from error


def shown(annotation: Any) -> str:
    """Return the type as the script spells it, or nearly."""
    if get_origin(annotation) is Annotated:
        return "Json" if annotation == Json else shown(get_args(annotation)[0])
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace(f"{MODULE}.", "")


def signature(run: Run) -> str:
    """Return run() as its script writes it, without what it returns."""
    parameters = inspect.signature(run).parameters.values()
    return f"run({', '.join(_written(each) for each in parameters)})"


def parts(annotation: Any, seen: list[Any] | None = None) -> Iterator[Any]:
    """Yield all that a type is made of: itself, its arguments, and the types of its fields."""
    seen = [] if seen is None else seen
    if any(annotation is each for each in seen):
        return
    seen.append(annotation)
    yield annotation
    origin = get_origin(annotation)
    kind = origin or annotation
    if hasattr(annotation, "__supertype__"):  # a NewType
        yield from parts(annotation.__supertype__, seen)
    if origin is Annotated:
        yield from parts(get_args(annotation)[0], seen)
    elif origin is not Literal and getattr(kind, "__module__", "") != "numpy":  # whose arguments are no types of values
        for each in get_args(annotation):
            yield from parts(each, seen)
    if (is_record(kind) and not is_model(kind)) or is_named_tuple(kind):
        for each in field_types(kind).values():
            yield from parts(each, seen)


def field_types(kind: Any) -> dict[str, Any]:
    """
    Return the types of a class's fields.

    Raises:
        Unusable: One of them cannot be resolved.
    """
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception as error:
        raise Unusable(f"{kind.__name__} has a field of an unknown type: {error}") from error


def is_record(kind: Any) -> bool:
    """Whether JSON writes the class as an object with one key for each field."""
    if not isinstance(kind, type):
        return False
    if hasattr(kind, "__struct_config__"):
        return not kind.__struct_config__.array_like
    return (
        dataclasses.is_dataclass(kind)
        or any(hasattr(kind, name) for name in ("__attrs_attrs__", "__total__"))  # attrs; a TypedDict
        or is_model(kind)
    )


def is_model(kind: Any) -> bool:
    """Whether the class is a model of pydantic, of either version."""
    return isinstance(kind, type) and any(
        f"{base.__module__.partition('.')[0]}.{base.__name__}" == "pydantic.BaseModel" for base in kind.__mro__
    )


def is_named_tuple(kind: Any) -> bool:
    """Whether the class is a NamedTuple."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_table(kind: Any) -> bool:
    """Whether the class is a DataFrame of pandas."""
    return getattr(kind, "__name__", "") == "DataFrame" and kind.__module__.partition(".")[0] == "pandas"


def takes_object(annotation: Any) -> bool:
    """Whether a JSON object can be a value of the type: then a body that is one is the value itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return takes_object(get_args(annotation)[0])
    if origin in UNIONS:
        return any(takes_object(each) for each in get_args(annotation))
    if hasattr(annotation, "__supertype__"):
        return takes_object(annotation.__supertype__)
    kind = origin or annotation
    if kind in (Any, object) or is_record(kind) or is_table(kind):
        return True
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _written(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.annotation is not ABSENT:
        text += f": {shown(parameter.annotation)}"
    return text if parameter.default is ABSENT else f"{text} = {parameter.default!r}"
