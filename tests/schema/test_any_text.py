"""Whatever a file contains: an entity, or a `ValidationException` with a sentence, in bounded time and memory."""

import io
import itertools
import time
import tracemalloc
from functools import partial

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport import load_data, load_environment, load_model, load_online_deployment, load_online_endpoint
from modelport.entities import Entity
from modelport.errors import ValidationException
from modelport.operations import apply
from modelport.schema import documents, faces, files, kinds
from modelport.schema.faces import Face

LOADERS = (load_online_endpoint, load_online_deployment, load_model, load_environment, load_data)


def _names(entity):
    for attribute, spec, hint in entity.fields():
        yield attribute.name
        yield from spec.aka
        for part in _parts(hint):
            yield from _names(part)


def _parts(hint):
    for each in getattr(hint, "__args__", ()):
        if isinstance(each, type) and issubclass(each, Entity):
            yield each
        else:
            yield from _parts(each)


NAMES = sorted({name for kind in kinds.KINDS for each in kind.schemas.values() for name in _names(each)})
WORDS = [
    "key",
    "managed",
    "kubernetes",
    "default",
    "target_utilization",
    "mlflow_model",
    "uri_file",
    "azureml:m:1",
    "on",
]
ODD = [
    "~",
    "1.10",
    "1:30",
    "2026-11-22",
    "0x1F",
    "1e999",
    ".inf",
    "-.nan",
    "!!binary aGk=",
    "!!set {a}",
    "*a",
    "&a x",
    "''",
]
SCALARS = (
    st.sampled_from(WORDS)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
    | st.binary(max_size=4)
    | st.dates()
)
KEYS = st.sampled_from([*NAMES, "name", "type", "endpoint_name", "path", "image", "traffic"]) | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=8)
LINES = st.lists(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "  ", "    ", "\t", "- ", "? ", "<<: ", "---\n", "{", "[", "&a ", "!x "]),
        st.sampled_from([*NAMES, "on", "1", "~", "[a]"]),
        st.sampled_from([": ", ":", ": &a ", ": *a ", "", ": >\n  ", ": [", ": {", ": |2 "]),
        st.sampled_from([*ODD, *WORDS]) | st.text(max_size=8),
    ),
    max_size=8,
).map("\n".join)


def reads(text, load):
    """What a loader made of a text: an entity, which has the same document again, or a refusal with a sentence."""
    try:
        read = load(io.StringIO(text) if isinstance(text, str) else io.BytesIO(text))
    except ValidationException as error:
        read = error
    if isinstance(read, Entity):
        document = faces.dump(read, Face.YAML)
        assert faces.load(type(read), document, Face.YAML) == read
    else:
        assert 10 < len(read.message) < 60_000
        assert all(detail["message"] for detail in read.details)
    return read


@pytest.mark.parametrize("load", LOADERS)
@settings(max_examples=70)
@given(document=DOCUMENTS)
def test_documents_of_our_fields_with_any_values(load, document):
    reads(yaml.safe_dump(document, allow_unicode=True), load)


@pytest.mark.parametrize("load", LOADERS[:3])
@settings(max_examples=70)
@given(text=LINES | st.text(max_size=60) | st.binary(max_size=40))
def test_lines_that_look_like_yaml_and_any_text_and_bytes(load, text):
    reads(text, load)


@given(st.lists(st.dictionaries(st.text(max_size=8) | st.integers(), VALUES, max_size=2), max_size=3))
def test_overrides_of_any_places_and_values(overrides):
    text = "name: blue\nendpoint_name: tides\n"
    reads(text, partial(load_online_deployment, params_override=overrides))


@settings(max_examples=70)
@given(st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_several_documents_of_any_kind(several):
    text = yaml.safe_dump_all(several, allow_unicode=True)
    said, wrong = apply.read(io.StringIO(text))
    assert said or wrong
    assert all(isinstance(each.entity, Entity) for each in said)
    assert all(each.message for each in wrong)


def laughs(levels):
    """Aliases of aliases of aliases."""
    rows = [f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 9) + "]" for level in range(1, levels)]
    return "\n  ".join(["name: tides\ntags:", "a0: &a0 [x]", *rows])


MERGES = "name: tides\ntags:\n  a0: &a0 {" + ", ".join(f"k{n}: {n}" for n in range(3000)) + "}\n" + "".join(
    f"  b{n}: {{<<: [{', '.join(['*a0'] * 30)}]}}\n" for n in range(30)
)  # fmt: skip
HUGE = {
    "aliases of aliases": (laughs(30), "has more than 100,000 values, aliases followed"),
    "merges of merges": (MERGES, "has more than 100,000 values, aliases followed"),
    "many values": ("name: tides\ntags: {list: [" + "1, " * 101_000 + "]}\n", "has more than 100,000 values"),
    "many keys": ("".join(f"key{n}: 1\n" for n in range(30_000)), "29,970 more unknown fields"),
    "many anchors": ("name: tides\ntags:\n" + "".join(f"  k{n}: &a{n} x\n" for n in range(20_000)), None),
    "a long text": ("name: tides\ndescription: " + "x" * 3_000_000 + "\n", None),
    "a long number": ("name: tides\ntags: {n: " + "9" * 1_000_000 + "}\n", "is no int that a request can carry"),
    "a long float": ("name: tides\ntags: {n: 1." + "9" * 1_000_000 + "}\n", "is no float that a request can carry"),
    "a long key": ("x" * 1_000_000 + ": 1\n", "is not YAML|Unknown field"),
    "a long quoted key": ("? '" + "x" * 1_000_000 + "'\n: 1\n", "Unknown field"),
    "deep lists": ("name: " + "[" * 200_000, "has more than 50 mappings and lists inside each other"),
    "deep mappings": ("name: " + "{a: " * 200_000, "has more than 50 mappings and lists inside each other"),
    "deep blocks": ("- " * 100_000 + "x", "has more than 50 mappings and lists inside each other"),
    "deep keys": ("? " * 100_000 + "x", "has more than 50 mappings and lists inside each other"),
    "deep aliases": (
        "a: &a0 [x]\n" + "".join(f"k{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 20_000)),
        "has more than 50 mappings and lists inside each other",
    ),
    "too large": ("#" * 5_000_000, "is too large: it has more than 4,000,000 characters"),
    "many documents": (
        "---\nname: x\n" * 2_000,
        "has 2000 documents (unknown, unknown, unknown, unknown, unknown, unknown, …)",
    ),
    "a long list of refused words": ("name: tides\nauth_mode: [" + "x, " * 50_000 + "]\n", "is not one of"),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_file_costs_little(name):
    text, sentence = HUGE[name]
    tracemalloc.start()
    began = time.monotonic()
    try:
        read = reads(text, load_online_endpoint)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 60  # under tracing, on a busy machine; a bomb would never end
    assert peak < 200_000_000
    if sentence is None:
        assert read.name == "tides"
        return
    assert any(part in read.message for part in sentence.split("|")), read.message[:300]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: &a [*a]", "has no end: '*a' stands inside its own anchor (line 1)."),
        ("&a name: tides\ntags: &b\n  x: *b\n", "has no end: '*b' stands inside its own anchor (line 3)."),
        ("tags: &a\n  <<: *a\n", "has no end: '*a' stands inside its own anchor (line 2)."),
        ("name: *nowhere", "is not YAML: '*nowhere' refers to an anchor that does not stand before it (line 1)."),
        ("---\na: &a x\n---\nname: *a\n", "'*a' refers to an anchor that does not stand before it (line 4)."),
        ("name: tides\n\tauth_mode: key\n", "Indent with spaces: YAML takes no tabs."),
        ("name: ti\0des\n", "is not YAML"),
        ('name: "ti\\0des"\n', "line 1: name: The text has a NUL character"),
        (
            "name: tides\ndescription: !!python/object/apply:os.system [x]\n",
            "The tag '!!python/object/apply:os.system'",
        ),
        ("name: tides\ntags: !!omap [a: 1]\n", "line 2: tags: The tag '!!omap' means nothing here"),
        ("name: tides\ntags: {a: !mine x}\n", "line 2: tags.a: The tag '!mine' means nothing here"),
        ("name: tides\ntags: {a: !!binary aGk=}\n", "line 2: tags.a: The tag '!!binary' means nothing here"),
        ("name: tides\ntags: {a: !!int x}\n", "line 2: tags.a: 'x' is no int that a request can carry."),
        ("name: tides\ntags: {a: .inf}\n", "line 2: tags.a: '.inf' is no float that a request can carry."),
        ("name: tides\ntags: {a: 0x_}\n", "line 2: tags.a: '0x_' is no int that a request can carry."),
        ("name: tides\nname: again\n", "line 2: name: It stands here a second time; line 1 has it too."),
        ("name: tides\ntags:\n  a: 1\n  'a': 2\n", "line 4: tags.a: It stands here a second time; line 3 has it too."),
        ("name: tides\non: push\n", "line 2: on: The key 'on' is read by YAML as true, not as text: quote it."),
        ("name: tides\n? [a]\n: x\n", "line 2: A key is text, not a mapping or a list."),
        ("name: tides\ntags: {<<: x}\n", "line 2: tags.<<: '<<' takes a mapping, or a list of mappings."),
        ("name: tides\ntags: [1, {b: .nan}]\n", "line 2: tags.1.b: '.nan' is no float"),
    ],
)
def test_what_yaml_would_pass_over_or_never_end_with_is_told(text, sentence):
    assert sentence in reads(text, load_online_endpoint).message


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfen\0a\0m\0e\0", "is not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01" + bytes(range(256)), "is not UTF-8 text"),
        (b"PK\x03\x04", "is not YAML"),
        (b"name: \xed\xa0\x80\n", "is not UTF-8 text"),
    ],
)
def test_files_that_are_no_text(content, sentence, tmp_path):
    path = tmp_path / "x.yml"
    path.write_bytes(content)
    with pytest.raises(ValidationException, match=sentence):
        load_model(path)


@pytest.mark.parametrize("said", ["a", "x" * 5000, "../" * 3000])
def test_a_path_that_leads_nowhere_is_read_or_told(said, tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    read = reads(f"name: m\npath: {tmp_path}/{said}\n", load_model)
    assert isinstance(read, Entity) or "path: " in read.message


def test_streams_that_cannot_be_read(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text("name: tides\n")
    closed = path.open()
    closed.close()
    with pytest.raises(ValidationException, match=r"x\.yml' cannot be read: I/O operation on closed file"):
        load_online_endpoint(closed)
    with path.open("a") as stream, pytest.raises(ValidationException, match=r"x\.yml' cannot be read"):
        load_online_endpoint(stream)
    with pytest.raises(ValidationException, match="cannot be read: embedded null byte"):
        load_online_endpoint("x\0.yml")
    with pytest.raises(ValidationException, match="is too large"):
        load_online_endpoint("/dev/zero")


def test_aliases_share_nothing():
    endpoint = load_online_endpoint(io.StringIO("name: tides\ntags: {a: &a {x: [1]}, b: *a}\nproperties: {c: *a}\n"))
    endpoint.tags["a"]["x"].append(2)
    assert (endpoint.tags["b"], endpoint.properties["c"]) == ({"x": [1]}, {"x": [1]})


def test_merges_say_what_stands_there_first():
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b], y: 3}\nd: {y: 4, <<: *b}\n"
    mine, theirs = files.parse(text), yaml.safe_load(text)
    assert mine == theirs
    assert mine["c"] == {"x": 1, "y": 3, "z": 2}


@settings(max_examples=300)
@given(VALUES)
def test_what_yaml_writes_is_read_as_yaml_reads_it(value):
    text = yaml.safe_dump({"value": value}, allow_unicode=True)
    (document,) = documents.read(text, "It")
    if not document.slips and not any(mark in text for mark in ("-", ":00")):  # dates are text here
        assert document.root.plain() == yaml.safe_load(text)


def test_every_pair_of_fields_has_its_place():
    text = "".join(f"{a}:\n  {b}: 1\n" for a, b in itertools.pairwise(NAMES))
    (document,) = documents.read(text, "It")
    for number, (a, b) in enumerate(itertools.pairwise(NAMES)):
        assert document.where(a).line == 2 * number + 1
        assert (document.where(f"{a}.{b}").line, document.where(f"{a}.{b}").column) == (2 * number + 2, 3)
        assert document.where(f"{a}.absent").line == 2 * number + 1
