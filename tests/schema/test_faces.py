"""Every entity class through its three faces; a new field is walked by existing."""

import json
import types
import typing
from copy import deepcopy
from functools import partial

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelport import entities
from modelport.entities import Entity, words
from modelport.entities.assets import Artifact
from modelport.entities.base import filled
from modelport.errors import ValidationException
from modelport.schema import build, faces, files
from modelport.schema.faces import Face

KINDS = sorted(
    (
        kind
        for kind in vars(entities).values()
        if isinstance(kind, type) and issubclass(kind, Entity) and (kind.variant or not kind.variants)
    ),
    key=lambda kind: kind.__name__,
)
KINDS.remove(Entity)

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
KEYS = TEXT.filter(bool)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), TEXT)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=3
)
NAMES = st.from_regex(r"[a-z][-a-z0-9]{1,8}[a-z0-9]", fullmatch=True)
PLACES = st.sampled_from(["/srv/modell", "azureml:tides:3", "azureml://datastores/d/paths/p", "https://host.test/x"])
NUMBERS = {int: st.integers(0, 180_000) | st.integers(0, 100), float: st.floats(0, 1)}


def _passes(spec, attribute):
    def check(value):
        try:
            spec.check(None, attribute, value)
        except ValueError:
            return False
        return True

    return check


def _apart(hint):
    """The types and the words in a hint."""
    if typing.get_origin(hint) is typing.Annotated:
        kinds, marks = _apart(hint.__origin__)
        return kinds, [*hint.__metadata__, *marks]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [_apart(each) for each in typing.get_args(hint) if each is not type(None)]
        return [kind for kinds, _ in parts for kind in kinds], [mark for _, marks in parts for mark in marks]
    return [hint], []


SPELLED = {
    words.Version: st.integers(1, 99).map(str),
    words.CondaSpec: st.dictionaries(KEYS, JSON, max_size=2),
    words.Texts: st.dictionaries(KEYS, TEXT, max_size=2),
    words.Percentages: st.dictionaries(NAMES, st.integers(0, 100), max_size=3),
    words.Wrapped: st.dictionaries(KEYS, st.dictionaries(KEYS, JSON, max_size=2), max_size=2),
}


def _identified(kind, ids):
    return [kind(resource_id=each) for each in ids]


def values(hint, face):
    """Values of a type with the words in it."""
    kinds, marks = _apart(hint)
    for mark in marks:
        match mark:
            case words.Choice():
                return st.sampled_from(sorted(mark.wire))
            case words.Version() | words.CondaSpec() | words.Texts() | words.Percentages() | words.Wrapped():
                return SPELLED[type(mark)]
            case words.Ids() if face is not Face.YAML:
                ids = typing.get_args(kinds[0])[0]
                return st.lists(KEYS, unique=True, max_size=2).map(partial(_identified, ids))
            case words.Asset() if face is Face.YAML and len(kinds) > 1:
                return PLACES | entity_of(kinds[1], face)
            case words.Asset() | words.LocalPath():
                return PLACES
    return plain(kinds[0], face)


def plain(kind, face):
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(KEYS, JSON if arguments[1] is typing.Any else values(arguments[1], face), max_size=2)
    if typing.get_origin(kind) is list:
        return st.lists(values(arguments[0], face), max_size=2)
    if isinstance(kind, type) and issubclass(kind, Entity):
        return entity_of(kind, face)
    return {str: TEXT, bool: st.booleans(), **NUMBERS}[kind]


def entity_of(kind, face):
    """Entities of a class, with every field that the face has."""
    if kind.variants and not kind.variant:
        return st.one_of([entity_of(each, face) for each in kind.kinds().values()])
    said = {}
    for attribute, spec, hint in kind.fields():
        if face is Face.YAML and (not spec.file or spec.owned):
            continue
        if face is not Face.YAML and (spec.wire is None or (spec.owned and face is Face.REQUEST)):
            continue
        strategy = values(hint, face)
        if spec.check:
            choices = getattr(spec.check, "options", None)
            fallback = NAMES if str in _apart(hint)[0] else strategy
            strategy = st.sampled_from(choices) if choices else fallback.filter(_passes(spec, attribute))
        optional = type(None) in typing.get_args(hint) and not spec.required and attribute.default is None
        if spec.identity:
            strategy, optional = NAMES if attribute.name != "version" else st.just("3"), False
        said[attribute.name] = st.none() | strategy if optional else strategy
    return st.builds(kind, **said)


def document(entity, face):
    """What travels: the document after it was JSON."""
    return json.loads(json.dumps(faces.dump(entity, face)))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def test_a_request_that_was_stored_and_read_is_the_same_request(kind):
    @given(entity_of(kind, Face.REQUEST))
    def walk(entity):
        sent = document(entity, Face.REQUEST)
        stored = document(faces.load(kind, sent, Face.REQUEST), Face.RECORD)
        assert document(faces.load(kind, stored, Face.RECORD), Face.REQUEST) == sent

    walk()


def test_a_record_that_was_read_and_stored_is_the_same_record(kind):
    @given(entity_of(kind, Face.RECORD))
    def walk(entity):
        record = document(entity, Face.RECORD)
        assert document(faces.load(kind, record, Face.RECORD), Face.RECORD) == record

    walk()


def test_what_a_record_does_not_say_is_none_where_it_may_be(kind):
    least = {"id": "/x/onlineEndpoints/tides/deployments/blue/models/m/environments/m/codes/m/versions/1"}
    entity = faces.load(kind, least, Face.RECORD)
    for attribute, spec, hint in kind.fields():
        if (
            type(None) in typing.get_args(hint)
            and not spec.identity
            and spec.wire is not None
            and attribute.name != "id"
        ):
            assert getattr(entity, attribute.name) is None


def test_a_file_that_was_written_reads_as_an_equal_entity(kind, tmp_path):
    @given(entity_of(kind, Face.YAML))
    def walk(entity):
        path = tmp_path / "entity.yml"
        entity.dump(path)
        again = faces.load(kind, files.read_mapping(path) if path.read_text() != "{}\n" else {}, Face.YAML)
        assert again == entity
        assert again.dump() == entity.dump()

    walk()


def test_wire_fields_that_nobody_knows_survive(kind):
    places = sorted({(kind.home,) if kind.home else (), ()})

    @given(entity_of(kind, Face.RECORD), st.sampled_from(places), JSON)
    def walk(entity, place, news):
        record = document(entity, Face.RECORD)
        target = record
        for step in place:
            target = target.setdefault(step, {})
        target["brandNew"] = news
        again = document(faces.load(kind, deepcopy(record), Face.RECORD), Face.REQUEST)
        for step in place:
            again = again[step]
        assert again["brandNew"] == news

    walk()


def _all(kind=Entity):
    for each in kind.__subclasses__():
        yield each
        yield from _all(each)


def test_every_entity_that_there_is_is_walked():
    ours = {each for each in _all() if each.__module__.startswith("modelport.") and attrs.has(each)}
    bases = {each for each in ours if each.variants and not each.variant} | {Artifact}
    walked = {each.__name__ for each in (*KINDS, *bases)}
    assert {each.__name__ for each in ours} <= walked


def _without(document, place):
    """A copy of a document without what is at a place, and without the objects that this leaves empty."""
    rest = deepcopy(document)
    build._take(rest, place)
    for depth in range(len(place) - 1, 0, -1):
        inner = rest
        for step in place[:depth]:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if inner == {}:
            build._take(rest, place[:depth])
    return rest


def _sent(kind):
    """The fields that a client can change, each with its place in the wire document."""
    for attribute, spec, _ in kind.fields():
        if not (spec.owned or spec.identity or spec.wire is None):
            yield attribute, build._place(kind, attribute.name, spec)


def test_one_changed_field_changes_its_place_in_the_request_and_nothing_else(kind):
    @settings(max_examples=8, suppress_health_check=list(HealthCheck))
    @given(entity_of(kind, Face.RECORD), entity_of(kind, Face.REQUEST), SCALARS)
    def walk(entity, other, news):
        record = document(entity, Face.RECORD)
        (record.setdefault(kind.home, {}) if kind.home else record)["brandNew"] = news
        record["alsoNew"] = {"a": [news]}
        entity = faces.load(kind, record, Face.RECORD)
        before = document(entity, Face.REQUEST)
        for attribute, place in _sent(kind):
            kept = getattr(entity, attribute.name)
            setattr(entity, attribute.name, getattr(other, attribute.name))
            after = document(entity, Face.REQUEST)
            assert _without(after, place) == _without(before, place)
            assert (after[kind.home] if kind.home else after)["brandNew"] == news
            assert after["alsoNew"] == {"a": [news]}
            stored = document(faces.load(kind, after, Face.REQUEST), Face.RECORD)
            assert document(faces.load(kind, stored, Face.RECORD), Face.REQUEST) == after
            setattr(entity, attribute.name, kept)
        assert document(entity, Face.REQUEST) == before

    walk()


def test_what_the_service_decides_is_never_sent(kind):
    owned = [build._place(kind, attribute.name, spec) for attribute, spec, _ in kind.fields() if spec.owned]

    @given(entity_of(kind, Face.RECORD))
    def walk(entity):
        sent = document(faces.load(kind, document(entity, Face.RECORD), Face.RECORD), Face.REQUEST)
        for place in owned:
            assert build._take(deepcopy(sent), place) is None

    walk()


def test_the_services_defaults_fill_what_was_not_said_and_nothing_else(kind):
    @given(entity_of(kind, Face.REQUEST))
    def walk(entity):
        full = filled(entity)
        for attribute, spec, _ in kind.fields():
            before, after = getattr(entity, attribute.name), getattr(full, attribute.name)
            if spec.service is not None:
                assert after is not None
            if before is not None and not isinstance(before, Entity):
                assert after == before
        assert filled(full) == full

    walk()


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "PT0S"), (1, "PT0.001S"), (500, "PT0.5S"), (750, "PT0.75S"), (1500, "PT1.5S"), (45_000, "PT45S"),
        (60_000, "PT1M"), (90_000, "PT1M30S"), (180_000, "PT3M"), (3_600_000, "PT1H"),
    ],
)  # fmt: skip
def test_milliseconds_are_iso_8601_on_the_wire_and_lose_nothing(milliseconds, text):
    settings = entities.OnlineRequestSettings(max_queue_wait_ms=milliseconds)
    assert faces.dump(settings, Face.REQUEST) == {"maxQueueWait": text}
    assert faces.load(entities.OnlineRequestSettings, {"maxQueueWait": text}, Face.RECORD) == settings


@given(st.integers(0, 10**9))
def test_any_duration_comes_back_as_it_was(milliseconds):
    settings = entities.OnlineRequestSettings(max_queue_wait_ms=milliseconds)
    assert faces.load(type(settings), faces.dump(settings, Face.REQUEST), Face.RECORD) == settings


@pytest.mark.parametrize("text", ["P1D", "PT24H", "PT1440M", "P0DT86400.000S"])
def test_a_day_may_be_said_in_many_ways(text):
    read = faces.load(entities.ProbeSettings, {"period": text}, Face.RECORD)
    assert read.period == 86_400


@pytest.mark.parametrize("text", ["", "P", "PT", "5", 5, "P1Y", "1:00", None, [], "PT5s"])
def test_what_is_no_duration_is_refused_or_not_said(text):
    if text is None:
        assert faces.load(entities.ProbeSettings, {"period": None}, Face.RECORD).period is None
        return
    with pytest.raises(ValidationException, match=r"period: Expected a duration such as PT0\.75S, found"):
        faces.load(entities.ProbeSettings, {"period": text}, Face.RECORD)


def test_zero_traffic_is_not_sent_but_stored():
    endpoint = entities.ManagedOnlineEndpoint(name="tides", traffic={"blue": 100, "green": 0})
    assert faces.dump(endpoint, Face.REQUEST)["properties"]["traffic"] == {"blue": 100}
    assert faces.dump(endpoint, Face.RECORD)["properties"]["traffic"] == {"blue": 100, "green": 0}


def test_empty_traffic_clears_and_no_traffic_is_not_sent():
    silent = faces.dump(entities.ManagedOnlineEndpoint(name="tides"), Face.REQUEST)
    assert "traffic" not in silent["properties"]
    cleared = faces.dump(entities.ManagedOnlineEndpoint(name="tides", traffic={}), Face.REQUEST)
    assert cleared["properties"]["traffic"] == {}


def test_a_document_of_another_shape_is_refused_with_a_sentence():
    for strange in ([], "text", 5, None):
        with pytest.raises(ValidationException, match="Expected a mapping, found"):
            faces.load(entities.OnlineDeployment, strange, Face.REQUEST)


def test_reading_never_changes_the_document():
    record = {"properties": {"authMode": "Key", "news": {"a": [1]}, "traffic": {"blue": 100}}, "sku": {"name": "x"}}
    kept = deepcopy(record)
    endpoint = faces.load(entities.OnlineEndpoint, record, Face.RECORD)
    endpoint.traffic["blue"] = 0
    faces.dump(endpoint, Face.REQUEST)["properties"]["news"]["a"].append(2)
    assert record == kept
    assert faces.dump(endpoint, Face.REQUEST)["properties"]["news"] == {"a": [1]}


def test_a_conda_file_that_is_no_text_is_refused():
    with pytest.raises(ValidationException, match="Expected a conda file as YAML text, found 7"):
        faces.load(entities.Environment, {"properties": {"image": "any", "condaFile": 7}}, Face.REQUEST)


@pytest.mark.parametrize("face", [Face.REQUEST, Face.RECORD])
@pytest.mark.parametrize("properties", [5, [1], "tides"])
def test_properties_that_are_no_mapping_are_refused(face, properties):
    with pytest.raises(ValidationException, match="properties: Expected a mapping, found"):
        faces.load(entities.OnlineEndpoint, {"properties": properties}, face)
