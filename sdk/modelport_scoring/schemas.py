"""
What a script says about its input and output with inference-schema's decorators.

The package is the user's, and is asked only where the script has loaded it. Its
decorators convert the arguments when run() is called; one that does not fit fails
there, before the script's own code, and is the caller's fault.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

VERSIONS = ("2.0", "3.0", "3.1")
"""Of the OpenAPI specification, as inference-schema names them."""

CONVERSION, DECORATORS = "_deserialize_input_argument", "inference_schema.schema_decorators"
"""The function in whose frames a conversion fails, and its module. Seen in inference-schema 1.8, the last release."""

MOST_CHARACTERS = 300
"""Of a reason or a sample in a message."""

Run = Callable[..., Any]


def is_decorated(run: Run) -> bool:
    """Whether run() has a schema."""
    package = _package()
    return package is not None and bool(package.is_schema_decorated(run))


def input_schema(run: Run) -> dict[str, Any]:
    """Return the schema of what run() takes, `{"type": …, "properties": {name: schema}, "example": {name: sample}}`."""
    return dict(_package().get_input_schema(run))


def output_schema(run: Run) -> dict[str, Any]:
    """Return the schema of what run() returns; one that says nothing where it is not declared."""
    return dict(_package().get_output_schema(run))


def versions(run: Run) -> tuple[str, ...]:
    """Return the versions of OpenAPI that can hold the schema: 2.0 has no arrays of several types."""
    return tuple(_package().get_supported_versions(run))


def misfit(run: Run, failure: BaseException) -> str | None:
    """
    Return what is wrong with the request, when the failure of a decorated run() is one of converting its arguments.

    The sentence names the argument, the shape that is expected, and a sample of it.
    """
    own_code = getattr(inspect.unwrap(run), "__code__", None)
    frames = failure.__traceback__
    while frames is not None:
        frame = frames.tb_frame
        if frame.f_code is own_code:
            return None  # the script's own work, even where it calls something else that is decorated
        if frame.f_code.co_name == CONVERSION and frame.f_globals.get("__name__") == DECORATORS:
            return _sentence(run, frame.f_locals, failure)
        frames = frames.tb_next
    return None


def _package() -> Any:
    return sys.modules.get("inference_schema.schema_util")


def _sentence(run: Run, told: Mapping[str, Any], failure: BaseException) -> str:
    name = told.get("param_name", "")
    schema = input_schema(run)
    reason = _shortened(str(failure).strip().rstrip(".") or type(failure).__name__)
    sample = _shortened(json.dumps(schema.get("example", {}).get(name)))
    wanted = _wanted(getattr(told.get("param_type"), "sample_input", None), schema.get("properties", {}).get(name, {}))
    return f"The value of the {name!r} parameter does not fit: {reason}. Expected is {wanted}, such as {sample}."


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} …"


def _wanted(sample: Any, schema: Mapping[str, Any]) -> str:
    """Return a phrase for what a sample stands for: its number of rows is free, the rest is not."""
    if hasattr(sample, "columns"):
        return f"a table ({schema.get('format', 'pandas.DataFrame')}) with the columns {', '.join(map(str, sample))}"
    shape = getattr(sample, "shape", None)
    if shape:
        return f"an array of {sample.dtype} of the shape ({', '.join(['*', *map(str, shape[1:])])})"
    return f"a value of the type {schema.get('type', 'object')}"
