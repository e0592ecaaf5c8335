"""The table of shapes, row by row: the good ones are made or looked at, the bad ones name what is at fault."""

import json

import pytest
from attrs import evolve
from tests.builds.shapes import SHAPES
from tests.scoring.conftest import start  # noqa: F401 - a fixture

from modelport import errors
from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder
from modelport.schema import files

GOOD = [each for each in SHAPES if not each.fails]
NAMED = {"ids": lambda shape: shape.name}


class Solved(Exception):  # noqa: N818 - it is no error
    pass


def stop_when_solved(line):
    if line.startswith("Installing"):
        raise Solved


@pytest.fixture
def wanted(channels):
    def read(shape):
        text = shape.text(main=(channels / "main").as_uri(), extra=(channels / "extra").as_uri())
        return Wanted(conda=files.parse(text)) if text else Wanted()

    return read


def test_the_table_is_big_enough():
    assert len(GOOD) >= 40
    assert len(SHAPES) - len(GOOD) >= 18
    assert len({each.name for each in SHAPES}) == len(SHAPES)
    assert len([each for each in SHAPES if each.serves]) >= 8


@pytest.mark.parametrize("shape", [each for each in GOOD if each.build in ("none", "conda", "venv")], **NAMED)
def test_a_good_shape_passes_the_check(builder, wanted, shape):
    warnings = builder.check(wanted(shape))
    assert shape.warns in " ".join(warnings)
    assert bool(warnings) is bool(shape.warns)
    assert builder.key(wanted(shape)) == builder.key(evolve(wanted(shape)))


@pytest.mark.parametrize("shape", [each for each in GOOD if each.build == "conda" and not each.serves], **NAMED)
def test_a_shape_is_solved(builder, wanted, shape):
    with pytest.raises(Solved):
        builder.build(wanted(shape), stop_when_solved)
    assert len(list(builder._cache.glob("*.conda.yml"))) == 1


@pytest.mark.parametrize("shape", [each for each in GOOD if each.build in ("conda", "venv") and each.serves], **NAMED)
def test_a_shape_is_built_and_serves(tmp_path, wanted, shape, start):  # noqa: F811 - the fixture
    built = PrefixBuilder(tmp_path / "cache").build(wanted(shape), print)
    script = f"def init(): pass\ndef run(data): return {shape.serves}\n"
    answer = start(script, python=built.python).wait_until_ready().score({"data": 1})
    assert (answer.status, json.loads(answer.body)) == (200, shape.gives)


@pytest.mark.parametrize("shape", [each for each in SHAPES if each.fails and each.build == "none"], **NAMED)
def test_a_bad_shape_is_refused_with_the_line_at_fault(builder, wanted, shape):
    with pytest.raises(errors.ValidationException) as caught:
        builder.check(wanted(shape))
    assert [words for words in shape.fails if words not in caught.value.message] == []


@pytest.mark.parametrize("shape", [each for each in SHAPES if each.fails and each.build in ("conda", "venv")], **NAMED)
def test_a_shape_that_cannot_be_built_names_the_line_at_fault(builder, wanted, shape):
    builder.check(wanted(shape))
    with pytest.raises(errors.ImageBuildFailure) as caught:
        builder.build(wanted(shape), print)
    assert [words for words in shape.fails if words not in caught.value.message] == []
