"""Scripts whose annotations say what run() is given: what they get, what they refuse, and what it costs the others."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import json
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict, Union

import attrs
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import pytest

from modelport_scoring import Json, inputs, typed
from modelport_scoring.annotations import Unusable, is_text, signature


class Season(enum.Enum):
    WET = "wet"
    DRY = "dry"


@dataclasses.dataclass
class Tide:
    depth: float
    season: Season = Season.WET
    before: Tide | None = None

    def __post_init__(self):
        if self.depth < 0:
            raise ValueError("a depth is not negative")


class Port(TypedDict):
    name: str


class Point(NamedTuple):
    x: float
    y: float = 0.0


@attrs.define
class Ship:
    name: str


class Buoy(msgspec.Struct):
    name: str


class Model(pydantic.BaseModel):
    depth: Annotated[float, pydantic.Field(gt=0)]
    names: list[str] = []


Metres = NewType("Metres", float)


def reader(*kinds, defaults=(), **options):
    """What calls a `run(data, other, …)` whose parameters are annotated so."""
    names = ("data", "other", "third")[: len(kinds)]
    function = {1: lambda data: data, 2: lambda data, other: (data, other)}[len(kinds)]
    function.__annotations__ = dict(zip(names, kinds, strict=True))
    function.__defaults__ = defaults or None
    function.__name__ = "run"
    return typed.chosen(function, list(inspect.signature(function).parameters.values()), with_headers=False)


def given(read, body):
    data = read.of_body({}, body if isinstance(body, bytes) else body.encode())
    return read.call(data, dict)


def asked(read, query):
    return read.call(read.of_query({"QUERY_STRING": query}), dict)


def refusal(read, body):
    with pytest.raises(inputs.Refusal) as caught:
        given(read, body)
    assert caught.value.status == 400
    return caught.value.message


FITS = [
    (bytes, b"\xff\x00", b"\xff\x00"),
    (bytes, "", b""),
    (dict, '{"a": [1]}', {"a": [1]}),
    (dict[str, Any], "{}", {}),
    (Json, "[1, null]", [1, None]),
    (Json, '"a"', "a"),
    (list, "[1]", [1]),
    (list, '{"data": [1]}', [1]),
    (list[list[float]], "[[1, 2.5]]", [[1.0, 2.5]]),
    (list[list[float]], '{"data": [[1]], "unknown": 1}', [[1.0]]),
    (dict[str, float], '{"data": 1}', {"data": 1.0}),
    (int, "5", 5),
    (int, ' \n{"data": 5}', 5),
    (bool, "true", True),
    (int | None, "null", None),
    (int | None, '{"data": null}', None),
    (Union[int, str], '"a"', "a"),
    (int | str, "5", 5),
    (Literal["a", "b"], '"b"', "b"),
    (Metres, "2", 2.0),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (set[int], "[1, 1]", {1}),
    (Season, '"dry"', Season.DRY),
    (dt.datetime, '"2026-01-31T12:00:00Z"', dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone.utc)),
    (dt.date, '"2026-01-31"', dt.date(2026, 1, 31)),
    (dt.timedelta, '"PT90S"', dt.timedelta(seconds=90)),
    (uuid.UUID, f'"{uuid.UUID(int=7)}"', uuid.UUID(int=7)),
    (decimal.Decimal, '"1.10"', decimal.Decimal("1.10")),
    (pathlib.Path, '"a/b"', pathlib.Path("a/b")),
    (Tide, '{"depth": 1, "season": "dry", "before": {"depth": 2}}', Tide(1.0, Season.DRY, Tide(2.0))),
    (Tide | None, '{"depth": 1}', Tide(1.0)),
    (list[Tide], '[{"depth": 1}]', [Tide(1.0)]),
    (Port, '{"name": "Brest"}', {"name": "Brest"}),
    (Point, '{"x": 1}', Point(1.0)),
    (Point, "[1, 2]", Point(1.0, 2.0)),
    (Ship, '{"name": "Ark"}', Ship("Ark")),
    (Buoy, '{"name": "B1"}', Buoy("B1")),
    (Annotated[int, msgspec.Meta(gt=1)], "2", 2),
    (Annotated[int, pydantic.Field(gt=1)], "2", 2),
    (Model, '{"depth": "1.5"}', Model(depth=1.5)),
    (list[Model], '{"data": [{"depth": 1}]}', [Model(depth=1)]),
    (Union[Model, int], "3", 3),
    (dict[str, object], '{"a": [1]}', {"a": [1]}),
]


@pytest.mark.parametrize(("kind", "body", "value"), FITS, ids=[f"{k}-{b}" for k, b, _ in FITS])
def test_run_is_given_what_its_annotation_names(kind, body, value):
    result = given(reader(kind), body)
    assert result == value
    assert type(result) is type(value)


MISFITS = [
    (dict, "[1]", "Expected `object`, got `array`"),
    (dict, "null", "Expected `object`, got `null`"),
    (dict, '{"a": ', "It is not JSON: Expecting value: line 1 column 7 (char 6)"),
    (dict, "", "It is empty"),
    (dict, b"\xff", "It is not JSON: 'utf-8' codec can't decode byte 0xff in position 0"),
    (Json, "[" * 200_000, "It is not JSON that can be read: it is nested too deeply"),
    (list, '{"a": 1}', "Object missing required field `data`"),
    (list[list[float]], '{"data": [[1, 2], [3, "x"]]}', "Expected `float`, got `str` - at `$.data[1][1]`"),
    (list[list[float]], '[[1, "x"]]', "Expected `float`, got `str` - at `$[0][1]`"),
    (list[list[float]], "[[1, NaN, null]]", "Expected `float`, got `null` - at `$[0][2]`"),
    (int, '"\\ud800"', "'utf-8' codec can't encode character"),
    (int, '"5"', "Expected `int`, got `str`"),
    (Season, '"warm"', "Invalid enum value 'warm'"),
    (Annotated[int, msgspec.Meta(gt=1)], "1", "Expected `int` >= 2"),
    (Tide, '{"depth": -1}', "a depth is not negative"),
    (Tide, '{"depth": 1, "before": {}}', "Object missing required field `depth` - at `$.before`"),
    (Point, '{"x": "a"}', "Expected `float`, got `str` - at `$.x`"),
    (Model, '{"depth": 0, "names": [1]}', "Input should be greater than 0 - at `$.depth`; Input should be a valid "),
    (list[Model], '{"data": [{"depth": 1}, {}]}', "Field required - at `$.data[1].depth`"),
    (np.ndarray, '{"data": [[1], [1, 2]]}', "setting an array element with a sequence"),
    (np.ndarray, "[[1, {}]]", "Expected nested arrays of numbers, as many in each, got other values among them"),
    (np.ndarray, '{"data": 5}', "Expected `array`, got `int` - at `$.data`"),
    (pd.DataFrame, "5", "Expected `array` or `object`, got `int`"),
    (pd.DataFrame, '{"columns": [{}, []], "data": {"a": []}}', "{}"),
    (pd.DataFrame, '{"a": [1], "b": [1, 2]}', "All arrays must be of the same length"),
]


@pytest.mark.parametrize(("kind", "body", "reason"), MISFITS, ids=[f"{k}-{str(b)[:30]}" for k, b, _ in MISFITS])
def test_what_does_not_fit_is_refused_with_the_place_the_reason_and_an_example(kind, body, reason):
    read = reader(kind)
    message = refusal(read, body)
    start, end = f"The request does not fit {signature(read._run)}: {reason}", ". An example of what does: "
    assert message.startswith(start)
    example = message.partition(end)[2].removesuffix(".")
    given(read, example)


def test_where_no_example_is_found_the_page_is_named():
    assert refusal(reader(np.ndarray[tuple[int], np.dtype[np.int64]]), "[[1]]").endswith(
        ": Expected an array of 1 dimensions, got 2. /swagger.json says what does."
    )


def test_the_whole_sentence():
    assert refusal(reader(list[list[float]]), '[["x"]]') == (
        "The request does not fit run(data: list[list[float]]): Expected `float`, got `str` - at `$[0][0]`. "
        'An example of what does: {"data": [[1.0]]}.'
    )


def test_nan_is_read_as_in_azure_though_it_is_no_json():
    for kind in (dict, dict[str, list[float]], dict[str, object]):
        assert str(given(reader(kind), '{"a": [NaN, -Infinity]}')) == "{'a': [nan, -inf]}"
    assert str(given(reader(Model), '{"depth": Infinity}')) == "depth=inf names=[]"
    assert str(given(reader(float, Model), '{"data": NaN, "other": {"depth": 1}}')[0]) == "nan"


ARRAYS = [
    (np.ndarray, '{"data": [[1, 2]]}', np.array([[1, 2]])),
    (np.ndarray, "[1.5, NaN]", np.array([1.5, np.nan])),
    (npt.NDArray[np.float32], "[1, null]", np.array([1, np.nan], dtype=np.float32)),
    (np.ndarray | None, "[true]", np.array([True])),
    (np.ndarray[tuple[int, int], np.dtype[np.int64]], "[[1]]", np.array([[1]])),
]


@pytest.mark.parametrize(("kind", "body", "value"), ARRAYS)
def test_an_array_is_made_of_nested_lists(kind, body, value):
    result = given(reader(kind), body)
    assert result.dtype == value.dtype
    np.testing.assert_array_equal(result, value)


TABLES = [
    '[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]',
    '{"a": [1, 2], "b": ["x", "y"]}',
    '{"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}',
    '{"data": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}',
    '{"data": {"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [2, "y"]]}}',
]


@pytest.mark.parametrize("body", TABLES)
def test_a_table_is_made_of_rows_columns_or_both_apart(body):
    pd.testing.assert_frame_equal(
        given(reader(pd.DataFrame), body), pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), check_index_type=False
    )


def test_an_object_of_plain_values_is_a_table_of_one_row():
    pd.testing.assert_frame_equal(given(reader(pd.DataFrame), '{"a": 1}'), pd.DataFrame({"a": [1]}))


def test_several_parameters_are_keys_of_an_object():
    read = reader(Model, dt.date, defaults=(dt.date(2026, 1, 31),))
    assert given(read, '{"data": {"depth": 1}, "x": 1}') == (Model(depth=1), dt.date(2026, 1, 31))
    assert given(read, '{"other": "2027-01-01", "data": {"depth": 1}}') == (Model(depth=1), dt.date(2027, 1, 1))
    assert "Input should be greater than 0 - at `$.data.depth`" in refusal(read, '{"data": {"depth": 0}}')
    assert "Object missing required field `data`" in refusal(read, '{"other": "2027-01-01"}')
    assert "Expected `object`, got `array`" in refusal(read, "[]")
    shared = [1]
    assert given(reader(int, list, defaults=(shared,)), '{"data": 1}')[1] is shared


QUERIES = [
    (int, "data=5", 5),
    (str, "data=5", "5"),
    (bool, "data=true", True),
    (list[int], "data=1&data=2", [1, 2]),
    (list[int], "data=1", [1]),
    (list[int], "data=[1,2]", [1, 2]),
    (dt.date, "data=2026-01-31", dt.date(2026, 1, 31)),
    (Tide, "depth=2&season=dry", Tide(2.0, Season.DRY)),
    (Port, "name=5", {"name": "5"}),
    (Model, "depth=2", Model(depth=2)),
    (dict, "a=1&a=x&b=%C3%BC", {"a": [1, "x"], "b": "ü"}),
    (bytes, "a=1", b'{"a": 1}'),
]


@pytest.mark.parametrize(("kind", "query", "value"), QUERIES)
def test_a_query_is_read_leniently(kind, query, value):
    assert asked(reader(kind), query) == value


def test_a_query_that_does_not_fit_is_refused():
    with pytest.raises(inputs.Refusal, match=r"Expected `int`, got `str` - at `\$.data`"):
        asked(reader(int), "data=x")
    with pytest.raises(inputs.Refusal, match="Object missing required field `data`"):
        asked(reader(int), "other=1")


TEXTS = {
    "data": True,
    "data: str": True,
    "data: 'str'": True,
    "data: 'typing.Any'": True,
    "data: Any": True,
    "data: object": True,
    "data: str, threshold: float = 0.5": True,
    "data, model=None": True,
    "*, data: str": True,
    "data, mode": True,
    "*, data: str, threshold: float = 0.5": False,
    "data: str, threshold: float": False,
    "data, threshold: float": False,
    "data: dict": False,
    "data: 'dict'": False,
    "data: bytes": False,
}


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize(("parameters", "text"), TEXTS.items())
def test_who_can_do_with_text_gets_it_as_in_azure(parameters, text, future):
    scope = {"Any": Any}
    exec(compile(f"{future}def run({parameters}): pass", "score.py", "exec", dont_inherit=True), scope)
    assert is_text(list(inspect.signature(scope["run"]).parameters.values())) is text


UNUSABLE = [
    (complex, "'data' is annotated as complex, which a request cannot be made into: JSON has nothing for complex."),
    (Iterator[int], "JSON has nothing for Iterator"),
    (Callable, "JSON has nothing for Callable"),
    (pd.Series, "JSON has nothing for Series"),
    (list[pd.Series], "JSON has nothing for Series"),
    (Union[np.ndarray, int], "Type unions containing a custom type"),
    ("Nowhere", "'data' is annotated as Nowhere, which a request cannot be made into: NameError"),
    ("int |", "SyntaxError"),
    (5, "Type '5' is not supported"),
    (Union[Model, np.ndarray], "Unable to generate pydantic-core schema"),
]


@pytest.mark.parametrize(("kind", "reason"), UNUSABLE)
def test_an_annotation_that_nothing_can_be_made_into_is_refused(kind, reason):
    with pytest.raises(Unusable) as caught:
        reader(kind)
    assert reason in str(caught.value)
    assert "set MODELPORT_TYPED=false to be given the body as text" in str(caught.value)


LOADED = """
import sys
def init(): pass
def run({parameters}): return sorted({{"orjson", "msgspec", "pydantic", "werkzeug"}} & set(sys.modules))
"""


def test_the_parsers_are_loaded_only_for_scripts_that_ask(serve):
    served = serve(LOADED.format(parameters="data: str, other: int = 1"))
    assert json.loads(served.score({}).body) == []
    assert (
        "run(data: str, other: int = 1): the body is text, as in Azure. With run(*, …) it is an object." in served.log
    )
    served = serve(LOADED.format(parameters="data: dict"))
    assert json.loads(served.score({}).body) == ["msgspec", "orjson"]
    assert "run(data: dict): the body is JSON." in served.log


def test_a_script_is_served_by_its_annotations(serve):
    served = serve(
        """
        from __future__ import annotations
        from dataclasses import dataclass
        @dataclass
        class Tide:
            depth: float
        def init(): pass
        def run(tide: Tide, request_headers):
            if tide.depth > 9: raise ValueError("too deep")
            return {"depth": tide.depth, "who": request_headers["X-Who"]}
        """
    )
    answer = served.score({"depth": 2}, x_who="me", content_type="text/plain")
    assert (answer.status, json.loads(answer.body)) == (200, {"depth": 2.0, "who": "me"})
    answer = served.score({"depth": "2"}, x_who="me")
    assert answer.status == 400
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert json.loads(answer.body)["message"] == (
        "The request does not fit run(tide: Tide, request_headers): Expected `float`, got `str` - at `$.depth`. "
        'An example of what does: {"depth": 1.0}.'
    )
    answer = served.score({"depth": 10}, x_who="me")
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (500, "True")
    assert served.request("GET", "/score?depth=3", x_who="me").status == 200
    served.wait_for(lambda: "ValueError: too deep" in served.log)
    assert served.log.count("Traceback") == 1
    assert "run() was not called: The request does not fit" in served.log


def test_a_caller_cannot_write_lines_of_the_log(serve):
    served = serve(
        """
        from typing import Literal
        def init(): pass
        def run(data: Literal["a"]): pass
        """
    )
    assert served.score({"data": "b\n2026-01-31 E - forged"}).status == 400
    served.wait_for(lambda: "forged" in served.log)
    assert r"Invalid enum value 'b\n2026-01-31 E - forged'" in served.log


def test_a_script_that_parses_twice_is_told_so(serve):
    script = "import json\ndef init(): pass\ndef run(data: dict): return json.loads(data)\n"
    served = serve(script)
    assert served.score({"a": 1}).status == 500
    served.wait_for(lambda: "Remove the call, or the annotations, or set MODELPORT_TYPED=false." in served.log)
    assert json.loads(serve(script, MODELPORT_TYPED="false").score({"a": 1}).body) == {"a": 1}


def test_a_script_whose_annotation_is_of_no_use_is_not_served(start):
    script = "def init(): pass\ndef run(data: 'Nowhere'): return data\n"
    served = start(script)
    assert served.process.wait(timeout=20) == 3
    assert served.failure["message"].startswith("run() in score.py: 'data' is annotated as Nowhere, which a request")


def test_a_switch_that_is_neither_true_nor_false_is_refused_by_name(start):
    served = start("def init(): pass\ndef run(data): return data\n", MODELPORT_TYPED="maybe")
    assert served.process.wait(timeout=20) == 2
    assert "MODELPORT_TYPED is 'maybe': it must be true or false." in served.log
