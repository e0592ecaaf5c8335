"""Results that json cannot hold, and those that it can, which stay as they are in Azure."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import types
import uuid

import attrs
import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest

from modelport_scoring.results import LARGE, by_json, by_orjson, converted


class Season(enum.Enum):
    WET = "wet"


@dataclasses.dataclass
class Tide:
    depth: object


@attrs.define
class Ship:
    cargo: object


class Buoy(msgspec.Struct, rename="camel"):
    light_color: object


class Model(pydantic.BaseModel):
    depth: int = pydantic.Field(alias="d")
    at: dt.date


TABLE = pd.DataFrame(
    {"a": [1, 2], "b": [0.5, None], "c": ["x", None], "d": [pd.Timestamp("2026-01-31"), pd.NaT], 5: [True, False]}
)

CONVERTED = [
    (np.array([[1, 2]]), "[[1, 2]]"),
    (np.array([np.nan, 1]), "[NaN, 1.0]"),
    (np.float32(0.1), "0.10000000149011612"),
    (np.int64(3), "3"),
    (np.bool_(True), "true"),
    (np.array(["2026-01-31T00:00:01"], "M8[ns]"), '["2026-01-31T00:00:01"]'),
    (np.datetime64("2026-01-31"), '"2026-01-31T00:00:00"'),
    (np.array(["NaT"], "M8[ns]"), "[null]"),
    (np.timedelta64(5, "s"), '"PT5S"'),
    (np.longdouble(0.5), "0.5"),
    (
        TABLE,
        (
            '[{"a": 1, "b": 0.5, "c": "x", "d": "2026-01-31T00:00:00", "5": true}, '
            '{"a": 2, "b": null, "c": null, "d": null, "5": false}]'
        ),
    ),
    (pd.Series([1, 2]), "[1, 2]"),
    (pd.Index(["a"]), '["a"]'),
    (pd.NaT, "null"),
    (pd.NA, "null"),
    (dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone.utc), '"2026-01-31T12:00:00+00:00"'),
    (dt.date(2026, 1, 31), '"2026-01-31"'),
    (dt.time(12), '"12:00:00"'),
    (dt.timedelta(days=1, milliseconds=5), '"PT86400.005S"'),
    (dt.timedelta(seconds=-10), '"-PT10S"'),
    (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    (decimal.Decimal("1.10"), '"1.10"'),
    (Season.WET, '"wet"'),
    (pathlib.Path("a/b"), '"a/b"'),
    ({1}, "[1]"),
    ({"a": 1}.keys(), '["a"]'),
    (collections.deque([1]), "[1]"),
    (types.MappingProxyType({"a": 1}), '{"a": 1}'),
    (array.array("d", [1]), "[1.0]"),
    (Tide(np.array([1])), '{"depth": [1]}'),
    (Ship(Season.WET), '{"cargo": "wet"}'),
    (Buoy(np.array([1])), '{"lightColor": [1]}'),
    (Model(d=1, at="2026-01-31"), '{"d": 1, "at": "2026-01-31"}'),
    ({np.int64(1): {dt.date(2026, 1, 31): Tide({Season.WET: 1})}}, '{"1": {"2026-01-31": {"depth": {"wet": 1}}}}'),
]


@pytest.mark.parametrize(("result", "text"), CONVERTED, ids=[str(text)[:40] for _, text in CONVERTED])
def test_what_json_cannot_hold_is_converted(result, text):
    with pytest.raises(TypeError):
        by_json(result)
    assert converted(result).decode() == text
    assert converted([result, {"in": result}]).decode() == f'[{text}, {{"in": {text}}}]'


@pytest.mark.parametrize(
    "result", [b"x", bytearray(b"x"), memoryview(b"x"), object(), 1j, {(1, 2): 3}, iter([1]), np.array([b"x"])]
)
def test_what_means_nothing_in_json_is_no_result(result):
    with pytest.raises(TypeError, match="is not JSON serializable"):
        converted([result])


MANY = np.random.default_rng(5).random(LARGE)


@pytest.mark.parametrize(
    "values",
    [
        MANY,
        MANY.reshape(2, -1).T,
        MANY.astype(np.float32),
        MANY.astype(np.float16),
        MANY.astype(">f8"),
        MANY.astype(np.longdouble),
        MANY < 0.5,
        np.arange(LARGE, dtype=np.uint8),
        np.arange(LARGE) * 10**15,
        np.where(MANY < 0.5, np.nan, MANY),
        np.where(MANY < 0.5, -np.inf, MANY),
    ],
    ids=lambda values: f"{values.dtype}",
)
def test_a_large_array_means_what_a_small_one_does(values):
    result = {"first": values, "second": [float("nan"), values, "é"], "third": np.int64(3)}
    lists = values.astype(float).tolist() if values.dtype == np.longdouble else values.tolist()
    expected = {"first": lists, "second": [float("nan"), lists, "é"], "third": 3}
    assert repr(json.loads(converted(result))) == repr(expected)


PLAIN = [None, "é\ud800", 1e300, 10**30, -0.0, [float("nan")], {1: 2, None: 3}, {"a": [True, None]}, (1, "a"), ""]


@pytest.mark.parametrize("result", PLAIN, ids=ascii)
def test_orjson_is_used_only_where_it_means_the_same(result):
    assert repr(json.loads(by_orjson(result))) == repr(json.loads(by_json(result)))
    assert by_json(result) == json.dumps({} if result is None else result).encode()


SCRIPT = """
import numpy as np
def init(): pass
def run(data{annotation}):
    if "bytes" in data: return b"xx"
    if "nan" in data: return [float("nan")]
    return {{"data": np.arange(3)}}
"""


def test_a_script_returns_an_array(serve):
    for annotation in ("", ": dict"):
        served = serve(SCRIPT.format(annotation=annotation))
        answer = served.score({})
        assert (answer.status, answer.body) == (200, b'{"data": [0, 1, 2]}')
        assert "x-ms-run-fn-exec-ms" in answer.headers
        assert served.score({"bytes": 1}).status == 500
        assert served.score({"nan": 1}).body == b"[NaN]"


def test_results_can_be_those_of_azure_exactly(serve):
    served = serve(SCRIPT.format(annotation=": dict"), MODELPORT_EXACT_RESULTS="true")
    answer = served.score({})
    assert answer.status == 500
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert served.score({"nan": 1}).body == b"[NaN]"
