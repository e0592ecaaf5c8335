"""JSON Schema for editors: made from the declarations, kept in `sdk/schemas/`, in agreement with the loader."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from tests.schema.test_faces import entity_of

from modelport.entities import (
    Environment,
    KubernetesOnlineDeployment,
    KubernetesOnlineEndpoint,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
)
from modelport.errors import ValidationException
from modelport.schema import documents, editors, faces, files, kinds
from modelport.schema.faces import Face

HOUSE = Path(__file__).parents[2]
SCHEMAS = editors.schemas()
KINDS = {name: entity for kind in kinds.KINDS for name, entity in kind.schemas.items()}
FILES = [path for path in sorted((HOUSE / "samples").rglob("*.y*ml")) if "dependencies" not in path.read_text()]
BLUE = {"name": "blue", "endpoint_name": "tides"}
OF = {
    "managedOnlineEndpoint": {"name": "tides"},
    "kubernetesOnlineEndpoint": {"name": "tides", "compute": "azureml:k8s"},
    "managedOnlineDeployment": BLUE,
    "kubernetesOnlineDeployment": {**BLUE, "type": "kubernetes"},
    "model": {"name": "net", "path": "net.bin"},
    "environment": {"name": "env", "image": "any"},
    "data": {"name": "rows", "path": "rows.csv", "type": "uri_file"},
}


def faults(name, document):
    """What a schema says against a document."""
    return [error.message for error in jsonschema.Draft7Validator(SCHEMAS[name]).iter_errors(document)]


def refused(name, document):
    kind = next(each.entity for each in kinds.KINDS if name in each.schemas)
    try:
        faces.load(kind, document, Face.YAML).validate()
    except ValidationException:
        return True
    return False


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_kept_in_the_repository_is_up_to_date(name):
    jsonschema.Draft7Validator.check_schema(SCHEMAS[name])
    kept = HOUSE / "sdk" / "schemas" / f"{name}.schema.json"
    remedy = "run `modelport schema --output sdk/schemas`"
    assert json.loads(kept.read_text()) == SCHEMAS[name], remedy


def test_no_schema_is_kept_of_a_kind_that_is_none():
    assert {path.name for path in (HOUSE / "sdk" / "schemas").iterdir()} == {f"{name}.schema.json" for name in SCHEMAS}


def test_a_schema_needs_no_network():
    for text in map(json.dumps, SCHEMAS.values()):
        addresses = {each.partition('"')[0] for each in text.split('"http')[1:]}
        assert addresses == {"://json-schema.org/draft-07/schema#"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_every_sample_names_its_schema_and_agrees_with_it(path):
    for document in documents.read(path.read_text(), path.name):
        content = document.root.plain()
        named = (path.parent / content["$schema"]).resolve()
        assert named.parent == HOUSE / "sdk" / "schemas"
        name = named.name.removesuffix(".schema.json")
        assert faults(name, content) == []
        assert faults("apply", content) == []
        if name != "apply":
            files.entity(KINDS[name], document, str(path))


def test_there_are_samples():
    assert FILES


@pytest.mark.parametrize("name", OF)
def test_the_least_document_of_each_kind_is_taken(name):
    assert faults(name, OF[name]) == []
    assert faults("apply", OF[name]) == []
    assert not refused(name, OF[name])


@pytest.mark.parametrize("name", OF)
def test_a_typo_in_any_field_is_refused_as_the_loader_refuses_it(name):
    for field in SCHEMAS[name]["properties"]:
        document = {**OF[name], f"{field}x": "value"}
        assert refused(name, document)
        assert faults(name, document)
        assert faults("apply", document) or name in ("model", "data")  # both have the same fields


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("managedOnlineEndpoint", {"name": "x"}),
        ("managedOnlineEndpoint", {"name": "9tides"}),
        ("managedOnlineEndpoint", {"auth_mode": "password"}),
        ("managedOnlineEndpoint", {"tags": ["a"]}),
        ("managedOnlineEndpoint", {"traffic": {"blue": "all"}}),
        ("managedOnlineEndpoint", {"identity": {"type": "mine"}}),
        ("managedOnlineDeployment", {"instance_count": "three"}),
        ("managedOnlineDeployment", {"instance_count": -1}),
        ("managedOnlineDeployment", {"request_settings": {"request_timeout": 1}}),
        ("managedOnlineDeployment", {"request_settings": {"request_timeout_ms": 300_001}}),
        ("managedOnlineDeployment", {"liveness_probe": {"period": 0}}),
        ("managedOnlineDeployment", {"code_configuration": {"code": "src"}}),
        ("managedOnlineDeployment", {"environment": {"build": {}}}),
        ("managedOnlineDeployment", {"model": 5}),
        ("managedOnlineDeployment", {"data_collector": {"collections": {"a": {"enabled": "perhaps"}}}}),
        ("managedOnlineDeployment", {"data_collector": {"collections": {}, "sampling_rate": 2}}),
        ("managedOnlineDeployment", {"scale_settings": {"type": "default", "min_instances": 1}}),
        ("managedOnlineDeployment", {"type": "kubernets"}),
        ("kubernetesOnlineDeployment", {"resources": {"limits": {"gpu": 1}}}),
        ("kubernetesOnlineDeployment", {"scale_settings": {"type": "target_utilization", "min": 1}}),
        ("model", {"type": "onnx"}),
        ("environment", {"os_type": "plan9"}),
        ("data", {"type": "table"}),
    ],
)
def test_what_the_loader_refuses_of_a_field_the_schema_refuses(name, change):
    document = {**OF[name], **change}
    assert refused(name, document)
    assert faults(name, document)


def test_spellings_and_empty_values_that_the_loader_takes_are_taken():
    taken = {
        "kubernetesOnlineDeployment": {"resources": {"limits": {"nvidia.com/gpu": "1"}}, "tags": None},
        "managedOnlineDeployment": {
            "id": "/x", "provisioning_state": "Succeeded",
            "data_collector": {"collections": {"a": {"enabled": True}, "b": {"enabled": "True"}}},
            "scale_settings": {"type": "default"}, "request_settings": None,
        },
        "managedOnlineEndpoint": {"auth_mode": "AMLToken", "traffic": {}, "scoring_uri": "x", "$schema": "y"},
        "model": {"version": 3, "tags": {"a": 1}},
        "environment": {"conda_file": {"dependencies": ["python"]}},
    }  # fmt: skip
    for name, more in taken.items():
        assert faults(name, {**OF[name], **more}) == []
        assert not refused(name, {**OF[name], **more})


@pytest.mark.parametrize("name", KINDS)
def test_whatever_an_entity_writes_agrees_with_its_schema(name):
    @given(entity_of(KINDS[name], Face.YAML))
    def walk(entity):
        document = yaml.safe_load(yaml.safe_dump(entity.dump()))
        shares = [*(document.get("traffic") or {}).values(), *(document.get("mirror_traffic") or {}).values()]
        if all(0 <= share <= 100 for share in shares):
            assert faults(name, document) == []

    walk()


def test_fields_are_described_by_the_strings_beneath_them():
    told = editors.docstrings(KubernetesOnlineDeployment)
    assert told["instance_count"] == "How many replicas."
    assert told["resources"] == "What each instance gets at least, and at most."
    for kind in (ManagedOnlineEndpoint, KubernetesOnlineEndpoint, ManagedOnlineDeployment, Environment):
        undescribed = {attribute.name for attribute, _, _ in kind.fields()} - editors.docstrings(kind).keys()
        assert undescribed == set()


def test_the_schema_for_several_documents_knows_the_kind_by_its_fields():
    assert any("instance_cont" in each for each in faults("apply", {**BLUE, "instance_cont": 1}))
    assert any("auth_mod" in each for each in faults("apply", {"name": "tides", "traffic": {}, "auth_mod": 1}))
