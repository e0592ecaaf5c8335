"""YAML files: what they may say, and what is said about those that are wrong."""

import io
import os
from pathlib import Path

import pytest

from modelport import load_environment, load_model, load_online_deployment, load_online_endpoint
from modelport.entities import (
    CodeConfiguration,
    Environment,
    KubernetesOnlineDeployment,
    KubernetesOnlineEndpoint,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)
from modelport.errors import ValidationException
from modelport.schema import files

BLUE = "name: blue\nendpoint_name: tides\n"
LOADERS = [load_online_endpoint, load_online_deployment, load_model, load_environment]


def refused(load, text, **keywords):
    """The problems of a file: (line, field, sentence) each."""
    with pytest.raises(ValidationException) as caught:
        load(io.StringIO(text), **keywords)
    for detail in caught.value.details:
        assert f"line {detail['line']}: {detail['target']}: {detail['message']}" in caught.value.message
    return [(detail["line"], detail["target"], detail["message"]) for detail in caught.value.details]


@pytest.fixture
def write(tmp_path):
    def file(text, name="entity.yml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return file


@pytest.mark.parametrize(
    ("load", "text", "problem"),
    [
        (load_online_endpoint, "name: tides\nauth_mod: key\n", (2, "auth_mod", "Did you mean 'auth_mode'?")),
        (
            load_online_endpoint,
            "name: tides\nmirror_trafic: {}\n",
            (2, "mirror_trafic", "Did you mean 'mirror_traffic"),
        ),
        (load_online_deployment, BLUE + "instance_cuont: 2\n", (3, "instance_cuont", "Did you mean 'instance_count'?")),
        (
            load_online_deployment,
            BLUE + "request_settings:\n  request_timeout: 1\n",
            (4, "request_settings.request_timeout", "Did you mean 'request_timeout_ms'?"),
        ),
        (load_model, "name: m\npaht: x\npath: y\n", (2, "paht", "Did you mean 'path'?")),
        (load_environment, "name: e\nimage: i\nconda: x\n", (3, "conda", "Did you mean 'conda_file'?")),
        (load_online_endpoint, "name: tides\nzzz: 1\n", (2, "zzz", "Unknown field.")),
    ],
)
def test_a_typo_is_told_with_its_line_and_the_nearest_field(load, text, problem):
    ((line, target, message),) = refused(load, text)
    assert (line, target) == problem[:2]
    assert message.startswith("Unknown field.")
    assert problem[2] in message


def test_everything_that_is_wrong_is_told_at_once_in_the_files_order():
    text = (
        "name: x\n"  # too short; no endpoint_name at all
        "instance_count: lots\n"
        "liveness_probe:\n"
        "  period: 0\n"
        "  time_out: 3\n"
        "data_collector:\n"
        "  collections:\n"
        "    request:\n"
        "      enabled: perhaps\n"
        "scale_settings:\n"
        "  type: defalt\n"
    )
    problems = refused(load_online_deployment, text)
    assert [(line, target) for line, target, _ in problems] == [
        (1, "name"),
        (1, "endpoint_name"),
        (2, "instance_count"),
        (4, "liveness_probe.period"),
        (5, "liveness_probe.time_out"),
        (9, "data_collector.collections.request.enabled"),
        (11, "scale_settings.type"),
    ]


@pytest.mark.parametrize(
    ("load", "text", "field"),
    [
        (load_online_endpoint, "auth_mode: key\n", "name"),
        (load_online_deployment, "name: blue\n", "endpoint_name"),
        (load_online_deployment, BLUE + "code_configuration: {code: ./x}\n", "code_configuration.scoring_script"),
        (load_environment, "name: e\nbuild: {dockerfile_path: D}\n", "build.path"),
    ],
)
def test_what_is_required_is_missed(load, text, field):
    assert [(target, message) for _, target, message in refused(load, text)] == [(field, "Missing; it is required.")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("instance_count: three", "Expected a whole number, found 'three'."),
        ("instance_count: 1.5", "Expected a whole number, found 1.5."),
        ("instance_count: true", "Expected a whole number, found True."),
        ("instance_count: -1", "'instance_count' must be >= 0: -1"),
        ("instance_type: 5", "Expected text, found 5."),
        ("tags: [a]", "Expected a mapping, found ['a']."),
        ("tags: text", "Expected a mapping, found 'text'."),
        ("app_insights_enabled: perhaps", "Expected true or false, found 'perhaps'."),
        ("request_settings: 5", "Expected a mapping, found 5."),
        ("model: 5", "Expected a mapping, found 5."),
        ("model: [a]", "Expected a mapping, found ['a']."),
        ("egress_public_network_access: off", "'off' is not one of enabled, disabled."),
        ("environment_variables: {1: a}", "The key '1' is read by YAML as the number 1, not as text: quote it."),
    ],
)
def test_a_value_of_another_type_is_told_as_expected_and_found(line, expected):
    if line.endswith(": off"):
        line = line.replace(": off", ": 'off'")
    ((number, _target, message),) = refused(load_online_deployment, BLUE + line + "\n")
    assert (number, message) == (3, expected)


def test_a_lists_problem_has_the_entrys_line():
    text = (
        "name: tides\nidentity:\n  type: user_assigned\n  user_assigned_identities:\n"
        "    - resource_id: /a\n    - resource: /b\n"
    )
    ((line, target, _),) = refused(load_online_endpoint, text)
    assert (line, target) == (6, "identity.user_assigned_identities.1.resource")


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Target yaml file is empty"),
        ("# only a comment\n", "Target yaml file is empty"),
        ("- a\n- b\n", "Expect dict but get <class 'list'> after parsing yaml file"),
        ("text", "Expect dict but get <class 'str'> after parsing yaml file"),
        ("a: [", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("name: &a *b", "is not YAML"),
        ("name: !!python/object:os.system x", "The tag '!!python/object:os.system' means nothing here"),
    ],
)
def test_what_is_no_mapping_is_refused(load, text, sentence, write):
    with pytest.raises(ValidationException, match=sentence) as caught:
        load(write(text))
    assert "entity.yml" in caught.value.message


@pytest.mark.parametrize("load", LOADERS)
def test_a_file_that_cannot_be_read_is_named(load, tmp_path):
    with pytest.raises(ValidationException, match=r"absent.yml' cannot be read: No such file"):
        load(tmp_path / "absent.yml")
    with pytest.raises(ValidationException, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "bytes.yml").write_bytes(b"name: \xff\n")
    with pytest.raises(ValidationException, match="is not UTF-8 text"):
        load(tmp_path / "bytes.yml")


def test_relative_paths_are_the_files_own(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    text = BLUE + (
        "model: {path: ../models/net}\n"
        "code_configuration: {code: src, scoring_script: score.py}\n"
        "environment: {image: i, conda_file: ./deps.yml}\n"
    )
    deployment = load_online_deployment(write(text, "deep/entity.yml"))
    assert deployment.model.path == str(tmp_path / "models/net")
    assert deployment.code_configuration == CodeConfiguration(str(tmp_path / "deep/src"), "score.py")
    assert deployment.environment.conda_file == str(tmp_path / "deep/deps.yml")


def test_relative_paths_may_have_another_origin(write, tmp_path, monkeypatch):
    path = write("name: m\npath: net\n")
    assert load_model(path, relative_origin="/srv").path == "/srv/net"
    monkeypatch.chdir(tmp_path)
    assert load_model(io.StringIO("name: m\npath: net\n")).path == str(tmp_path / "net")
    assert load_model("entity.yml").path == str(tmp_path / "net")
    with path.open() as stream:
        assert load_model(stream).path == str(tmp_path / "net")


def test_relative_paths_are_not_touched_after_loading(write):
    load_model(write("name: m\npath: net\n"))
    assert files.faces.load(Model, {"path": "net"}, files.Face.YAML).path == "net"


@pytest.mark.parametrize(
    "uri",
    [
        "azureml:net:7",
        "azureml:net@latest",
        "azureml://registries/azureml/models/net/versions/7",
        "azureml://datastores/d/paths/p",
        "runs:/1/model",
        "https://host.test/net",
        "/subscriptions/s/resourceGroups/g/providers/p/workspaces/w/models/net/versions/7",
    ],
)
def test_uris_are_left_as_they_are(uri, write):
    assert load_model(write(f"name: m\npath: {uri}\n")).path == uri
    text = BLUE + f"model: {uri}\ncode_configuration:\n  code: {uri}\n  scoring_script: s.py\nenvironment: {uri}\n"
    deployment = load_online_deployment(write(text))
    assert (deployment.model, deployment.environment, deployment.code_configuration.code) == (uri, uri, uri)


def test_an_absolute_path_and_a_home_with_a_space_are_paths(write, tmp_path):
    assert load_model(write("name: m\npath: /srv/net\n")).path == "/srv/net"
    assert load_model(write("name: m\npath: 'my net'\n")).path == str(tmp_path / "my net")


def test_overrides_are_set_over_the_file_in_order(write):
    path = write(BLUE + "instance_count: 1\nrequest_settings: {max_queue_wait_ms: 5}\n")
    deployment = load_online_deployment(
        path,
        params_override=[
            {"instance_count": 2, "request_settings.request_timeout_ms": 9000},
            {"instance_count": 3},
            {"tags.owner": "ada"},
            {"liveness_probe.period": 7},
        ],
    )
    assert deployment.instance_count == 3
    assert deployment.request_settings.request_timeout_ms == 9000
    assert deployment.request_settings.max_queue_wait_ms == 5
    assert deployment.tags == {"owner": "ada"}
    assert deployment.liveness_probe.period == 7
    assert load_online_deployment(path, params_override=[{"tags": {}}]).instance_count == 1


def test_an_override_that_is_wrong_is_told_too(write):
    with pytest.raises(
        ValidationException, match="params_override: instance_count: Expected a whole number, found 'x'"
    ):
        load_online_deployment(write(BLUE), params_override=[{"instance_count": "x"}])
    with pytest.raises(ValidationException, match="Did you mean 'instance_count'"):
        load_online_deployment(write(BLUE), params_override=[{"instance_cont": 1}])
    with pytest.raises(ValidationException) as caught:
        load_online_deployment(write(BLUE + "tags: text\nzzz: 1\n"), params_override=[{"instance_count": "x"}])
    assert [detail["line"] for detail in caught.value.details] == [3, 4, None]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("model.path", "'model' is 'azureml:net:1', which has no 'path' in it."),
        ("tags.list.a", "'tags.list' is a list: 'a' is no index in it."),
        ("tags.list[100000]", "The index 100000 is too high."),
        ("", "It is not a place such as 'a.b' or 'a[0].b'."),
        ("a..b", "It is not a place such as 'a.b' or 'a[0].b'."),
        ("a[x]", "It is not a place such as 'a.b' or 'a[0].b'."),
        (5, "It is not a place such as 'a.b' or 'a[0].b'."),
    ],
)
def test_an_override_of_a_place_that_cannot_be_is_told(place, sentence, write):
    path = write(BLUE + "model: azureml:net:1\ntags: {list: [1]}\n")
    with pytest.raises(ValidationException) as caught:
        load_online_deployment(path, params_override=[{place: 1}, {"instance_cuont": 1}])
    assert f"params_override: {place}: {sentence}".replace(": : ", ": ") in caught.value.message
    assert "Did you mean 'instance_count'?" in caught.value.message


def test_overrides_take_indexes_and_names_with_dots_as_azure_does(write):
    path = write("name: tides\ntags: {list: [{b: 1}, {b: 2}]}\n")
    overrides = [
        {"tags.list[0].b": 9}, {"tags.list.1.b": 8}, {"tags.x\\.y": 7}, {"tags.new[1]": 6}, {"tags.a[0].b": 5},
    ]  # fmt: skip
    endpoint = load_online_endpoint(path, params_override=overrides)
    assert endpoint.tags == {"list": [{"b": 9}, {"b": 8}], "x.y": 7, "new": [None, 6], "a": [{"b": 5}]}
    with pytest.raises(ValidationException, match="params_override: Expected a mapping of places to values, found 'x'"):
        load_online_endpoint(path, params_override=["x"])


def test_overrides_alone_are_enough_and_are_not_changed():
    tags = {"a": {"b": 1}}
    overrides = [{"name": "tides"}, {"tags": tags}, {"tags.a.b": 2}]
    assert load_online_endpoint(None, params_override=overrides).tags == {"a": {"b": 2}}
    assert tags == {"a": {"b": 1}}
    with pytest.raises(ValidationException, match="line 1: name: Missing"):
        load_online_endpoint(None)


def test_a_conda_file_is_a_path_or_stands_inline(write, tmp_path):
    inline = load_environment(write("name: e\nimage: i\nconda_file:\n  dependencies: [python=3.11]\n"))
    assert inline.conda_file == {"dependencies": ["python=3.11"]}
    assert load_environment(write("name: e\nimage: i\nconda_file: c.yml\n")).conda_file == str(tmp_path / "c.yml")
    ((line, target, message),) = refused(load_environment, "name: e\nimage: i\nconda_file: [a]\n")
    assert (line, target, message) == (3, "conda_file", "Expected a path or a mapping, found ['a'].")


@pytest.mark.parametrize("key", ["channels", "dependencies"])
def test_a_conda_file_in_an_environments_place_is_known(key):
    ((_, target, message),) = refused(load_environment, f"name: e\nimage: i\n{key}: []\n")
    assert (target, message) == (key, "Unknown field. That belongs into a conda file: name it in conda_file.")


def test_anchors_aliases_and_merge_keys_work(write):
    deployment = load_online_deployment(
        write(
            BLUE + "liveness_probe: &probe\n  period: 7\n  timeout: 2\n"
            "readiness_probe:\n  <<: *probe\n  timeout: 3\nmodel: &net azureml:net:1\nenvironment: *net\n"
        )
    )
    assert (deployment.readiness_probe.period, deployment.readiness_probe.timeout) == (7, 3)
    assert deployment.environment == "azureml:net:1"


def test_a_problem_behind_a_merge_key_has_a_line():
    text = BLUE + "liveness_probe: &probe\n  perod: 7\nreadiness_probe:\n  <<: *probe\n"
    assert [(line, target) for line, target, _ in refused(load_online_deployment, text)] == [
        (4, "liveness_probe.perod"),
        (4, "readiness_probe.perod"),
    ]
    assert refused(load_online_deployment, text)[1][2].endswith("(Used in line 6.)")
    text = BLUE + "liveness_probe: &probe\n  period: x\nreadiness_probe: *probe\n"
    assert refused(load_online_deployment, text)[1] == (
        4, "readiness_probe.period", "Expected a whole number, found 'x'. (Used in line 5.)",
    )  # fmt: skip


def test_a_version_may_be_written_as_a_number(write):
    assert load_model(write("name: m\nversion: 3\npath: x\n")).version == "3"
    assert load_environment(write("name: e\nversion: 12\nimage: i\n")).version == "12"
    deployment = load_online_deployment(write(BLUE + "model: {name: m, version: 3, path: x}\n"))
    assert deployment.model.version == "3"
    ((line, target, message),) = refused(load_model, "name: m\nversion: 1.10\npath: x\n")
    assert (line, target) == (2, "version")
    assert message == (
        "Asset version must be a string, not 1.1: write it in quotes. "
        "The file says 1.10, which YAML reads as the number 1.1: quote it for text."
    )


@pytest.mark.parametrize("load", LOADERS)
def test_the_schemas_address_and_what_a_tool_printed_are_passed_over(load, write):
    common = "$schema: https://host.test/x.json\nid: /x\ncreation_context: {created_by: me}\nname: tides\n"
    more = {load_online_deployment: "endpoint_name: tides\n", load_model: "path: x\n", load_environment: "image: i\n"}
    assert load(write(common + more.get(load, "scoring_uri: https://x\nprovisioning_state: Succeeded\n"))).id is None


def test_an_empty_value_says_nothing(write):
    deployment = load_online_deployment(write(BLUE + "tags:\ninstance_count:\nrequest_settings:\n"))
    assert deployment == ManagedOnlineDeployment(name="blue", endpoint_name="tides")


@pytest.mark.parametrize(
    ("said", "kind"),
    [("managed", ManagedOnlineDeployment), ("kubernetes", KubernetesOnlineDeployment), ("Kubernetes", None)],
)
def test_the_type_picks_the_deployments_class(said, kind, write):
    assert type(load_online_deployment(write(BLUE + f"type: {said}\n"))) is (kind or KubernetesOnlineDeployment)


def test_an_unknown_type_is_told_with_the_nearest():
    ((line, target, message),) = refused(load_online_deployment, BLUE + "type: kubernets\n")
    assert (line, target) == (3, "type")
    assert message == "'kubernets' is not one of managed, kubernetes. Did you mean 'kubernetes'?"


def test_a_compute_makes_an_endpoint_of_the_cluster(write):
    assert type(load_online_endpoint(write("name: tides\ncompute: azureml:k8s\n"))) is KubernetesOnlineEndpoint
    assert type(load_online_endpoint(write("name: tides\n"))) is ManagedOnlineEndpoint


def test_rules_across_fields_have_their_lines():
    text = "name: tides\ntraffic:\n  blue: 90\nmirror_traffic:\n  green: 60\n"
    problems = refused(load_online_endpoint, text)
    assert [(line, target) for line, target, _ in problems] == [(2, "traffic"), (4, "mirror_traffic")]
    ((line, target, _),) = refused(load_online_deployment, BLUE + "environment:\n  image: i\n  build: {path: x}\n")
    assert (line, target) == (5, "environment.build")


def test_gpus_are_spelled_as_the_cluster_does(write):
    text = BLUE + "type: kubernetes\nresources:\n  limits:\n    nvidia.com/gpu: '1'\n"
    deployment = load_online_deployment(write(text))
    assert deployment.resources.limits.gpu == "1"


def test_a_dumped_file_is_short_and_reads_as_an_equal_entity(tmp_path):
    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name="tides",
        model=Model(path="/srv/net"),
        environment=Environment(image="i", conda_file={"dependencies": ["python=3.11"]}),
        code_path="/srv/code",
        scoring_script="score.py",
        tags={"größe": "groß"},
        provisioning_state="Succeeded",
    )
    path = tmp_path / "blue.yml"
    document = deployment.dump(path)
    assert load_online_deployment(path) == deployment
    assert files.read_mapping(path) == document
    assert document["type"] == "managed"
    assert document["code_configuration"] == {"code": "/srv/code", "scoring_script": "score.py"}
    assert not {"provisioning_state", "id", "location", "code_path", "instance_count"} & set(document)
    assert "größe: groß" in path.read_text(encoding="utf-8")


def test_a_dump_to_a_path_of_any_kind(tmp_path):
    endpoint = ManagedOnlineEndpoint(name="tides", traffic={"blue": 100})
    for path in (tmp_path / "a.yml", str(tmp_path / "b.yml")):
        endpoint.dump(path)
        assert load_online_endpoint(path) == endpoint
        assert load_online_endpoint(os.fspath(path)) == endpoint
    assert Path(tmp_path / "a.yml").read_text() == (tmp_path / "b.yml").read_text()
    assert endpoint.dump()["traffic"] == {"blue": 100}


def test_a_file_of_another_kind_is_known_and_its_loader_named():
    endpoint, deployment = "name: tides\nauth_mode: key\ntraffic: {}\n", BLUE + "instance_type: x\nmodel: azureml:m:1\n"
    wrong = [
        (load_online_endpoint, deployment, "This describes a deployment: load_online_deployment() reads it."),
        (load_online_deployment, endpoint, "This describes an endpoint: load_online_endpoint() reads it."),
        (load_model, "name: e\nimage: i\n", "This describes an environment: load_environment() reads it."),
        (load_environment, "name: m\ntype: mlflow_model\npath: x\n", "This describes a model: load_model() reads it."),
        (load_model, "type: mltable\npath: x\n", "This describes a data asset: load_data() reads it."),
        (load_environment, "name: c\ndependencies: [python]\n", "This is a conda file: name it as conda_file"),
        (
            load_online_endpoint,
            "$schema: https://x/latest/kubernetesOnlineDeployment.schema.json\nname: blue\n",
            None,
        ),
    ]
    for load, text, sentence in wrong:
        if sentence is None:
            assert load(io.StringIO(text)).name == "blue"
            continue
        with pytest.raises(ValidationException) as caught:
            load(io.StringIO(text))
        assert caught.value.message.splitlines()[1].strip().startswith(sentence)


def test_several_documents_are_not_one(write):
    path = write(BLUE + "---\nname: tides\nauth_mode: key\n---\nname: x\n")
    with pytest.raises(ValidationException) as caught:
        load_online_endpoint(path)
    assert caught.value.message == (
        f"'{path}' has 3 documents (deployment, endpoint, unknown), and load_online_endpoint() takes one. "
        f"ml_client.apply('{path}') takes them all."
    )
    assert load_online_deployment(write(f"---\n{BLUE}---\n# nothing more\n")).name == "blue"


def test_rules_between_fields_are_told_with_the_problems_of_fields():
    text = "name: tides\ntraffic: {blue: 90}\nmirror_traffic: {green: 60}\nauth_mod: key\n"
    assert [(line, target) for line, target, _ in refused(load_online_endpoint, text)] == [
        (2, "traffic"), (3, "mirror_traffic"), (4, "auth_mod"),
    ]  # fmt: skip
    assert len(refused(load_online_endpoint, "name: tides\ntraffic: {blue: x, green: 10}\n")) == 1


def test_the_same_field_in_two_spellings_is_refused():
    text = BLUE + "type: kubernetes\nresources:\n  limits:\n    gpu: '1'\n    nvidia.com/gpu: '2'\n"
    ((line, _, message),) = refused(load_online_deployment, text)
    assert (line, message) == (7, "The same field as 'gpu': say it once.")


def test_what_yaml_made_of_the_files_words_is_said():
    told = {target: message for _, target, message in refused(load_online_deployment, BLUE + (
        "egress_public_network_access: off\ninstance_type: 1_000\non: 1\ninstance_count: 1:30.5\n"
    ))}  # fmt: skip
    assert "The file says off, which YAML reads as false: quote it for text." in told["egress_public_network_access"]
    assert "The file says 1_000, which YAML reads as the number 1000: quote it for text." in told["instance_type"]
    assert told["on"] == "The key 'on' is read by YAML as true, not as text: quote it."
    assert "The file says 1:30.5, which YAML reads as the number 90.5" in told["instance_count"]


def test_dates_are_text(write):
    deployment = load_online_deployment(write(BLUE + "description: 2026-11-22\ntags: {made: 2026-11-22T10:00:00Z}\n"))
    assert (deployment.description, deployment.tags) == ("2026-11-22", {"made": "2026-11-22T10:00:00Z"})


def test_environment_variables_in_values_are_left_alone(write, monkeypatch):
    monkeypatch.setenv("WHERE", "/srv")
    assert load_model(write("name: $WHERE\npath: x\ndescription: ${WHERE} ~\n")).description == "${WHERE} ~"


def test_a_file_may_begin_with_a_mark_and_have_other_line_ends(tmp_path):
    path = tmp_path / "bom.yml"
    path.write_bytes(b"\xef\xbb\xbfname: tides\r\ntags:\r\n  a: b\r\nauth_mod: key\r\n")
    with pytest.raises(ValidationException) as caught:
        load_online_endpoint(path)
    assert [(each["line"], each["column"], each["target"]) for each in caught.value.details] == [(4, 1, "auth_mod")]
    with path.open("rb") as stream, pytest.raises(ValidationException, match="line 4: auth_mod"):
        load_online_endpoint(stream)


def test_a_long_value_and_many_problems_are_told_shortly():
    text = BLUE + "instance_count: " + "x" * 100_000 + "\n" + "".join(f"strange{n}: 1\n" for n in range(5000))
    with pytest.raises(ValidationException) as caught:
        load_online_deployment(io.StringIO(text))
    assert len(caught.value.message) < 10_000
    assert "4,970 more unknown fields" in caught.value.message


def test_the_old_name_of_the_source_is_taken_and_other_keywords_are_not(write):
    path = write("name: tides\n")
    with pytest.warns(DeprecationWarning, match="Say source, not path"):
        assert load_online_endpoint(None, path=path).name == "tides"
    with pytest.raises(TypeError, match="load functions take no keyword 'override'"):
        load_online_endpoint(path, override=[])


def test_an_origin_may_be_a_file_as_in_azure(write):
    path = write("name: m\npath: net\n")
    assert load_model(path, relative_origin="/srv/models/model.yml").path == "/srv/models/net"
    assert load_model(path, relative_origin="/srv/models/").path == "/srv/models/net"


def test_a_dump_names_paths_beside_it_relatively_and_the_folder_can_be_moved(tmp_path, monkeypatch):
    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name="tides",
        model=Model(path=tmp_path / "a" / "net"),
        environment=Environment(image="i", conda_file=str(tmp_path / "a" / "conda.yml")),
        code_path="/srv/code",
        scoring_script="score.py",
    )
    (tmp_path / "a").mkdir()
    document = deployment.dump(tmp_path / "a" / "blue.yml")
    assert load_online_deployment(tmp_path / "a" / "blue.yml") == deployment
    assert (document["model"]["path"], document["environment"]["conda_file"]) == ("net", "conda.yml")
    assert document["code_configuration"]["code"] == "/srv/code"
    (tmp_path / "a").rename(tmp_path / "b")
    assert load_online_deployment(tmp_path / "b" / "blue.yml").model.path == str(tmp_path / "b" / "net")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").mkdir()
    assert Model(name="m", path="b/net").dump("c/m.yml")["path"] == "../b/net"
    assert load_model("c/m.yml").path == str(tmp_path / "b" / "net")


def test_a_dump_has_no_anchors_and_goes_into_open_files(tmp_path):
    shared = {"a": [1]}
    endpoint = ManagedOnlineEndpoint(name="tides", tags={"x": shared, "y": shared})
    stream = io.StringIO()
    endpoint.dump(dest=stream)
    assert "&" not in stream.getvalue()
    assert load_online_endpoint(io.StringIO(stream.getvalue())) == endpoint
    with pytest.raises(ValidationException, match=r"absent/x\.yml' cannot be written: No such file"):
        endpoint.dump(tmp_path / "absent" / "x.yml")
    with pytest.raises(ValidationException, match="has a value that no YAML file can have"):
        ManagedOnlineEndpoint(name="tides", tags={"x": object()}).dump(tmp_path / "x.yml")
