"""
Values of types that JSON and the converter know nothing of: numpy's arrays, pandas' tables, paths.

The packages are the user's, and are asked only where the script has loaded them:
who has an annotation of theirs has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import PurePath
from typing import Any, get_args, get_origin

from modelport_scoring.annotations import is_table

Make = Callable[[Any], Any]

NUMBERS = {"type": "number"}
ARRAY = {
    "type": "array",
    "items": {"anyOf": [NUMBERS, {"type": "array", "items": {}}]},
    "description": "An array of numpy: nested arrays of numbers, as many in each.",
    "examples": [[[1.0, 2.0]], [1.0, 2.0], [[[1.0, 2.0]]]],
}
TABLE = {
    "anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "object"}],
    "description": "A table of pandas: an array of rows, an object of columns, or an object with columns and data.",
    "examples": [[{"column": 1.0}]],
}


@cache
def maker(kind: Any) -> Make | None:
    """Return what makes a value of this type of a parsed document, or raises ValueError; None where nothing does."""
    if kind is object:
        return _itself
    made = get_origin(kind) or kind
    if not isinstance(made, type):
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and made is numpy.ndarray:
        return partial(_array, numpy, *_element_and_dimensions(numpy, kind))
    if numpy is not None and issubclass(made, numpy.generic):
        return made
    if issubclass(made, PurePath):
        return made
    return _table if is_table(made) else None


def schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a type that `maker` knows."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray:
        return ARRAY
    if is_table(kind):
        return TABLE
    if issubclass(kind, PurePath):
        return {"type": "string", "format": "path"}
    return {"description": "Anything."} if kind is object else NUMBERS


def _itself(value: Any) -> Any:
    return value


def _element_and_dimensions(numpy: Any, kind: Any) -> tuple[Any, int | None]:
    """Return what `ndarray[tuple[int, int], dtype[float64]]` says: its elements' type and its number of dimensions."""
    shape, dtype = get_args(kind) or (Any, Any)
    sizes = get_args(shape)
    element = (get_args(dtype) or (None,))[0]
    concrete = element in numpy.sctypeDict.values()  # not `floating`, nor `Any`
    return element if concrete else None, len(sizes) if sizes and Ellipsis not in sizes else None


def _array(numpy: Any, element: Any, dimensions: int | None, value: Any) -> Any:
    if not isinstance(value, list):
        raise TypeError(f"Expected `array`, got `{type(value).__name__}`")
    try:
        array = numpy.asarray(value, dtype=element)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    if array.dtype == object:
        raise ValueError("Expected nested arrays of numbers, as many in each, got other values among them")
    if dimensions not in (None, array.ndim):
        raise ValueError(f"Expected an array of {dimensions} dimensions, got {array.ndim}")
    return array


def _table(value: Any) -> Any:
    """Make a table of rows, of columns, or of what `to_json(orient="split")` writes; each may stand under one name."""
    if isinstance(value, dict) and len(value) == 1:
        (inner,) = value.values()
        if _is_split(inner) or (isinstance(inner, list) and inner and isinstance(inner[0], dict)):
            value = inner
    if not isinstance(value, (list, dict)):
        raise TypeError(f"Expected `array` or `object`, got `{type(value).__name__}`")
    frame = sys.modules["pandas"].DataFrame
    try:
        if isinstance(value, dict) and _is_split(value):
            return frame(value["data"], columns=value["columns"], index=value.get("index"))
        if isinstance(value, dict) and not any(isinstance(each, (list, dict)) for each in value.values()):
            return frame([value])
        return frame(value)
    except Exception as error:  # noqa: BLE001  # of many kinds, and none but the document is at fault
        raise ValueError(str(error) or type(error).__name__) from None


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and {"columns", "data"} <= set(value) <= {"columns", "data", "index"}
