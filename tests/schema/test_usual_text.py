"""The quick reader of usual files agrees with the careful one in everything that it does not leave to it."""

import io
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schema.test_any_text import DOCUMENTS, LINES, LOADERS, VALUES
from tests.schema.test_faces import entity_of

from modelport import entities
from modelport.errors import ValidationException
from modelport.schema import documents, faces
from modelport.schema.faces import Face

SAMPLES = sorted((Path(__file__).parents[2] / "samples").rglob("*.y*ml"))
LOADS = {
    entities.ManagedOnlineDeployment: LOADERS[1],
    entities.KubernetesOnlineEndpoint: LOADERS[0],
    entities.Environment: LOADERS[3],
}
WORDS = [
    "yes", "No", "TRUE", "off", "y", "N", "~", "null", "NULL", "0", "00", "0x1F", "0b11", "0o7", "017", "1_000",
    "190:20", "1.", ".5", "1e3", "1.0e+3", "-1", "+1", ".inf", "-.INF", ".nan", "=", "<<", "2026-11-22", "1e999",
    "-0", "-0.0", "Null", "nULL",
]  # fmt: skip


def careful(text):
    """The mapping that the careful reader finds in a text without a fault, else None."""
    try:
        found = documents.read(text, "It")
    except ValidationException:
        return None
    if len(found) != 1 or found[0].slips or not isinstance(found[0].root.parts, dict):
        return None
    return found[0].root.plain()


def agree(text):
    """Whether the quick reader read the text; the careful one then says the same, down to types and order."""
    quick = documents.usual(text)
    assert quick is None or repr(quick) == repr(careful(text))
    return quick is not None


def loaded(load, text):
    try:
        return load(io.StringIO(text))
    except ValidationException as error:
        return error.message, error.details


@settings(max_examples=400)
@given(LINES | st.text(max_size=60) | st.lists(DOCUMENTS, max_size=2).map(yaml.safe_dump_all))
def test_any_text(text):
    agree(text)


@settings(max_examples=200)
@given(DOCUMENTS, st.booleans(), st.booleans())
def test_documents_in_either_style(document, flow, unicode):
    agree(yaml.safe_dump(document, default_flow_style=flow, allow_unicode=unicode))


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["name", "tags", "a b", "ключ"]), VALUES, min_size=1))
def test_what_is_usual_is_read_quickly(document):
    text = yaml.safe_dump(document, allow_unicode=True)
    taken = agree(text)
    unusual = any(mark in text for mark in ("\\", "!", "&", "*", "<<", "?"))
    assert taken or unusual or careful(text) is None


@pytest.mark.parametrize("word", WORDS)
def test_words_that_are_no_text(word):
    agree(f"value: {word}\nlist: [{word}, '{word}']\n")
    agree(f"{word}: value\n")


EDGES = [
    "a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "1: a\n", "'1': a\n", "on: a\n", "? [a]\n: b\n", "? {a: b}\n: c\n",
    "a: &x 1\n", "a: &x 1\nb: *x\n", "<<: {a: 1}\n", "'<<': a\n", "a: !!str 1\n", "a: !x 1\n", "a: ! 1\n",
    "a: !!map {}\n", "--- !x\na: 1\n", "a: 1\n---\nb: 2\n", "---\n---\na: 1\n", "a: 1\n---\n", "a: 1\n...\n", "[a]\n",
    "a\n", "", "# a\n", "{}\n", "a:\n", 'a: "\\0"\n', 'a: "\\ud800"\n', "\ufeffa: 1\n", "%YAML 1.1\n---\na: 1\n",
    "a: [1, {b: [2, c: d]}]\n", "a: {b}\n", "a: [\n", "\ta: 1\n", "a: " + "[" * 49 + "]" * 49,
    "a: " + "[" * 50 + "]" * 50, "a: " + "9" * 401, "x" * 20_000 + ": 1\n", "a: " + "x" * 20_000, "? a\n",
    "a: |\n  b\n", "a: >-\n  b\n  c\n", "a: 'b''c'\n", "a: b # c\n", "a: \ud800\n", "a: \0\n", "é: \u2028\n",
]  # fmt: skip


@pytest.mark.parametrize("text", EDGES)
def test_edges(text):
    agree(text)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: "/".join(path.parts[-2:]))
def test_samples_are_usual(path):
    assert agree(path.read_text())


@pytest.mark.parametrize("kind", LOADS)
@settings(max_examples=60)
@given(data=st.data())
def test_entities_are_the_same_by_either_reader(kind, data):
    text = yaml.safe_dump(faces.dump(data.draw(entity_of(kind, Face.YAML)), Face.YAML), allow_unicode=True)
    assert loaded(LOADS[kind], text) == loaded(LOADS[kind], f"{text}\n# \\ \n")


@pytest.mark.parametrize("load", LOADERS)
@settings(max_examples=60)
@given(document=DOCUMENTS)
def test_refusals_are_the_same_by_either_reader(load, document):
    text = yaml.safe_dump(document, allow_unicode=True)
    assert loaded(load, text) == loaded(load, f"{text}\n# \\ \n")


@pytest.mark.parametrize(("text", "line"), [("name: blue\nendpoint_name: tides\nmodle: m\n", 3), ("name: [1]\n", 1)])
def test_what_is_wrong_has_its_line(text, line):
    assert documents.usual(text) is not None
    with pytest.raises(ValidationException) as refused:
        LOADERS[1](io.StringIO(text))
    assert refused.value.details[0]["line"] == line
