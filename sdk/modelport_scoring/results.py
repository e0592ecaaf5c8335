"""
What run() returned, as JSON, where Python's json cannot hold it.

Azure answers 500 to a result with an array of numpy in it. Here it is converted, and
only then: what json can hold is written by it, byte for byte as in Azure, and this is
asked for nothing. Bytes and objects that say nothing of themselves stay an error.

A large array is written by orjson, thirty times as fast, and put where it belongs.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import secrets
import sys
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from importlib import import_module
from itertools import zip_longest
from pathlib import PurePath
from typing import Any

from modelport_scoring.annotations import is_model, is_table

LARGE = 500
"""Elements of an array from which on orjson, which is loaded at the first one, is worth it."""


BYTES = (bytes, bytearray, memoryview)
"""No JSON, whatever `tolist` some of them have: what their bytes mean is the script's to say."""


def _encoder() -> Callable[[Any], str]:
    """
    Return what json.dumps() does, without making an encoder each time, which costs twice as much as a small result.

    An object that contains itself is a RecursionError then, where json keeps a list of what it is in and says so.
    """
    plain = json.JSONEncoder()
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # PyPy has none
        return plain.encode
    options = (None, plain.default, json.encoder.encode_basestring_ascii, None, ": ", ", ", False, False, True)
    encode = make(*options)
    return lambda result: "".join(encode(result, 0))


_encode = _encoder()


def by_json(result: Any) -> bytes:
    """Return a result as Azure writes it; raises what json does on what it cannot hold."""
    return _encode({} if result is None else result).encode()


def by_orjson(result: Any) -> bytes:
    """
    Return the same as orjson writes it, for a script that has loaded it, where that means the same.

    orjson writes `null` for a NaN: what has one in it is written by json. Types that both know, but not in the
    same way, are left to json too.
    """
    orjson = sys.modules["orjson"]
    only_plain = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    try:
        body: bytes = orjson.dumps({} if result is None else result, option=only_plain)
    except Exception:  # noqa: BLE001  # whatever the user's objects raise: json has its turn
        return by_json(result)
    return by_json(result) if b"null" in body else body


def by_any(result: Any) -> bytes:
    """Return what json can hold as it writes it, and the rest converted; raises what json does on what has no JSON."""
    try:
        return by_json(result)
    except TypeError:
        return converted(result)


def converted(result: Any) -> bytes:
    """
    Return a result that json could not write.

    Raises:
        TypeError: It has something in it that has no JSON.
    """
    try:
        return _spliced(result, lambda value: value)
    except TypeError as error:
        if not str(error).startswith("keys must be"):  # of those json asks nobody
            raise
        return _spliced(result, _with_plain_keys)


def _spliced(result: Any, prepared: Callable[[Any], Any]) -> bytes:
    """Return the result with large arrays written apart, each where json has put a mark."""
    arrays: list[bytes] = []
    mark = secrets.token_hex(16)

    def other(value: Any) -> Any:
        text = _large_array(value)
        if text is None:
            return prepared(_plain(value))
        arrays.append(text)
        return mark

    body = json.dumps(prepared(result), default=other).encode()
    if not arrays:
        return body
    parts = body.split(f'"{mark}"'.encode())  # in the order in which json met them
    return b"".join(part for pair in zip_longest(parts, arrays, fillvalue=b"") for part in pair)


def _large_array(value: Any) -> bytes | None:
    """Return the JSON of a large array; None where orjson would say something else than json, or nothing."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not numpy.ndarray or value.size < LARGE or value.dtype.kind not in "fiub":
        return None
    if value.dtype.kind == "f":
        if value.dtype.itemsize > 8 or not numpy.isfinite(value).all():  # json has words for NaN
            return None
        value = value.astype(numpy.float64, copy=False)  # what json would write: Python has no others
    orjson = import_module("orjson")
    text: bytes = orjson.dumps(numpy.ascontiguousarray(value), option=orjson.OPT_SERIALIZE_NUMPY)
    return text


def _plain(value: Any) -> Any:
    """Return a value that json does not know as one that it knows, at least at its top."""
    for kind, convert in KINDS:
        if isinstance(value, kind):
            return convert(value)
    kind = type(value)
    if is_model(kind):
        return (
            value.model_dump(mode="json", by_alias=True) if hasattr(kind, "model_dump") else value.dict(by_alias=True)
        )
    if dataclasses.is_dataclass(kind):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(kind)}
    if hasattr(kind, "__struct_config__"):
        return sys.modules["msgspec"].to_builtins(value, enc_hook=_plain)
    if hasattr(kind, "__attrs_attrs__"):
        return {each.name: getattr(value, each.name) for each in kind.__attrs_attrs__}
    if is_table(kind):
        return _rows(value)
    if kind.__name__ == "NAType":  # pandas.NA
        return None
    if callable(getattr(kind, "tolist", None)) and kind not in BYTES:  # numpy, pandas.Series, torch, array.array
        return _items(value)
    raise TypeError(f"Object of type {kind.__name__} is not JSON serializable")


def _items(value: Any) -> Any:
    """Return the elements of an array, or what a scalar of one is."""
    dtype = getattr(value, "dtype", None)
    if type(value).__module__ == "numpy" and dtype is not None:
        if dtype.kind in "mM":  # of nanoseconds numpy makes numbers
            value = value.astype(f"{dtype.kind}8[us]")
        elif dtype.kind == "f" and dtype.itemsize > 8:  # Python has none as long
            value = value.astype(float)
    return value.tolist()


def _rows(table: Any) -> list[dict[str, Any]]:
    """Return one object for each row, as MLflow's server does; what is missing is null."""
    frame = table.astype(object).where(table.notna(), None)
    return frame.set_axis([str(each) for each in table.columns], axis=1).to_dict(orient="records")  # type: ignore[no-any-return]


def _moment(value: dt.datetime) -> str | None:
    return value.isoformat() if value == value else None  # noqa: PLR0124  # pandas.NaT is one, and equals nothing


def _duration(value: dt.timedelta) -> str | None:
    """Return ISO 8601, e.g. `PT90.5S`."""
    if value != value:  # noqa: PLR0124  # pandas.NaT
        return None
    sign, value = ("-", -value) if value < dt.timedelta() else ("", value)
    seconds = f"{value.days * 86400 + value.seconds}.{value.microseconds:06}".rstrip("0").rstrip(".")
    return f"{sign}PT{seconds}S"


KINDS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (dt.datetime, _moment),
    (dt.date, dt.date.isoformat),
    (dt.time, dt.time.isoformat),
    (dt.timedelta, _duration),
    (uuid.UUID, str),
    (decimal.Decimal, str),
    (enum.Enum, lambda value: value.value),
    (PurePath, str),
    (AbstractSet, list),
    (deque, list),
    (Mapping, dict),
)
"""Types of the standard library → what makes JSON of them; the first that fits counts."""


def _with_plain_keys(value: Any) -> Any:
    """Return a document whose keys json knows: it asks nobody about those."""
    if isinstance(value, dict):
        return {_key(key): _with_plain_keys(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_plain_keys(each) for each in value]
    return value


def _key(key: Any) -> Any:
    return key if key is None or isinstance(key, (str, int, float)) else _plain(key)
