"""What entities take, refuse, and tell."""

from pathlib import Path

import attrs
import pytest

from modelport import entities
from modelport.entities import (
    CodeConfiguration,
    DataAsset,
    DataCollector,
    DeploymentCollection,
    EndpointAadToken,
    EndpointAuthKeys,
    EndpointAuthToken,
    Entity,
    Environment,
    IdentityConfiguration,
    KubernetesOnlineDeployment,
    KubernetesOnlineEndpoint,
    ManagedIdentityConfiguration,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineDeployment,
    OnlineEndpoint,
    OnlineRequestSettings,
    ProbeSettings,
    TargetUtilizationScaleSettings,
)
from modelport.entities.base import changed, field
from modelport.errors import ValidationException

KINDS = [each for each in vars(entities).values() if isinstance(each, type) and issubclass(each, Entity)]


def blue(**values):
    return ManagedOnlineDeployment(**{"name": "blue", "endpoint_name": "tides", **values})


def told(entity):
    """The problems of an entity: their fields and sentences."""
    with pytest.raises(ValidationException) as caught:
        entity.validate()
    for detail in caught.value.details:
        assert detail["message"] in caught.value.message
    return [(detail["target"], detail["message"]) for detail in caught.value.details]


@pytest.mark.parametrize("name", ["abc", "A-1", "tides", "a" * 32, "x--y", "Z9z"])
def test_names_that_azure_takes_are_taken_and_lower_cased(name):
    assert ManagedOnlineEndpoint(name=name).name == name.lower()
    assert blue(name=name).name == name.lower()


@pytest.mark.parametrize("name", ["", "a", "ab", "a" * 33])
def test_a_name_of_another_length_is_refused(name):
    with pytest.raises(ValidationException, match="at least 3 and at most 32 characters") as caught:
        ManagedOnlineEndpoint(name=name)
    assert caught.value.target == "name"
    with pytest.raises(ValidationException, match="The name for a deployment"):
        blue(name=name)


@pytest.mark.parametrize(
    "name", ["1tides", "-tides", "tides-", "ti_des", "ti des", "tidés", "ti.des", "tides\n", "a/b"]
)
def test_a_name_with_other_signs_is_refused(name):
    with pytest.raises(ValidationException, match="must start with an upper- or lowercase letter"):
        ManagedOnlineEndpoint(name=name)


def test_a_name_is_text():
    with pytest.raises(ValidationException, match=r"ManagedOnlineEndpoint\.name: A name is text, not 5\."):
        ManagedOnlineEndpoint(name=5)


def test_checks_run_on_assignment_too():
    endpoint, deployment = ManagedOnlineEndpoint(name="tides"), blue()
    endpoint.name = "Harbour"
    assert endpoint.name == "harbour"
    with pytest.raises(ValidationException, match="at least 3"):
        endpoint.name = "x"
    with pytest.raises(ValidationException, match=r"ManagedOnlineDeployment\.instance_count: .*must be >= 0: -1"):
        deployment.instance_count = -1
    with pytest.raises(ValidationException, match=r"auth_mode: 'kye' is not one of.*Did you mean 'key'"):
        endpoint.auth_mode = "kye"
    assert (endpoint.name, deployment.instance_count, endpoint.auth_mode) == ("harbour", None, "key")


def test_a_number_that_is_text_is_refused_by_its_name():
    with pytest.raises(ValidationException, match=r"instance_count: Expected a number, found '3'\."):
        blue(instance_count="3")


@pytest.mark.parametrize("traffic", [None, {}, {"a": 0}, {"a": 100}, {"a": 90, "b": 10}, {"a": 0, "b": 100, "c": 0}])
def test_traffic_of_nothing_or_everything_is_valid(traffic):
    ManagedOnlineEndpoint(name="tides", traffic=traffic).validate()


@pytest.mark.parametrize(
    ("traffic", "sentence"),
    [
        ({"a": 90}, "must sum to 0 or 100, not 90 (a 90)"),
        ({"a": 60, "b": 60}, "must sum to 0 or 100, not 120 (a 60, b 60)"),
        ({"a": -10, "b": 110}, "'a' has -10%; a share cannot be negative"),
        ({"a": 33.5, "b": 66.5}, "'a' has 33.5; write a whole percentage"),
        ({"a": True, "b": 99}, "'a' has True; write a whole percentage"),
        ({"a": "100"}, "'a' has '100'; write a whole percentage"),
        ({"a": None}, "'a' has None; write a whole percentage"),
    ],
)
def test_other_traffic_is_refused(traffic, sentence):
    problems = told(ManagedOnlineEndpoint(name="tides", traffic=traffic))
    assert any(place == "traffic" and sentence in message for place, message in problems)


@pytest.mark.parametrize(
    ("mirror", "sentence"),
    [
        ({"b": 51}, "'b' has 51%; at most 50% can be mirrored"),
        ({"b": 10, "c": 10}, "One deployment can be mirrored, not 2: b, c"),
        ({"A": 10}, "'a' has live traffic; a deployment is live or mirrored, not both"),
        ({"b": -1}, "'b' has -1%; a share cannot be negative"),
        ({"b": "10"}, "'b' has '10'; write a whole percentage"),
    ],
)
def test_a_mirror_that_the_service_would_refuse_is_refused(mirror, sentence):
    problems = told(ManagedOnlineEndpoint(name="tides", traffic={"a": 100}, mirror_traffic=mirror))
    assert any(place == "mirror_traffic" and sentence in message for place, message in problems)


def test_half_of_the_traffic_may_be_mirrored():
    ManagedOnlineEndpoint(name="tides", traffic={"a": 100, "b": 0}, mirror_traffic={"b": 50, "c": 0}).validate()


def test_everything_that_is_wrong_is_told_at_once():
    problems = told(
        blue(
            endpoint_name=None,
            scale_settings=TargetUtilizationScaleSettings(min_instances=3, max_instances=2),
            environment=Environment(version="1"),
            request_settings=OnlineRequestSettings(request_timeout_ms=200_000),
        )
    )
    assert [place for place, _ in problems] == [
        "endpoint_name",
        "scale_settings",
        "request_settings.request_timeout_ms",
        "environment.name",
        "environment.image",
        "scale_settings.min_instances",
    ]


def test_traffic_names_are_lower_cased():
    endpoint = ManagedOnlineEndpoint(name="tides", traffic={"Blue": 100}, mirror_traffic={"GREEN": 5})
    assert (endpoint.traffic, endpoint.mirror_traffic) == ({"blue": 100}, {"green": 5})
    endpoint.traffic = {"Green": 100}
    assert endpoint.traffic == {"green": 100}
    with pytest.raises(ValidationException, match="traffic: Expected deployment names with percentages, found 5"):
        endpoint.traffic = 5


@pytest.mark.parametrize(
    ("said", "meant"),
    [("key", "key"), ("Key", "key"), ("AMLToken", "aml_token"), ("aml_token", "aml_token"), ("aad-token", "aad_token")],
)
def test_a_choice_may_be_said_in_either_spelling(said, meant):
    assert ManagedOnlineEndpoint(name="tides", auth_mode=said).auth_mode == meant


@pytest.mark.parametrize(("said", "meant"), [(True, "true"), (False, "false"), ("True", "true"), ("disabled", "false")])
def test_a_collection_is_enabled_by_a_word_or_a_boolean(said, meant):
    assert DeploymentCollection(enabled=said).enabled == meant


@pytest.mark.parametrize("said", ["SystemAssigned", "system_assigned", "SYSTEM_ASSIGNED"])
def test_an_identity_may_be_said_in_either_spelling(said):
    assert IdentityConfiguration(type=said).type == "system_assigned"


def test_an_identity_of_the_users_names_one():
    assert told(IdentityConfiguration(type="user_assigned"))[0][0] == "user_assigned_identities"
    two = [ManagedIdentityConfiguration(resource_id="/a"), ManagedIdentityConfiguration(resource_id="/b")]
    assert "takes one identity" in told(IdentityConfiguration(type="user_assigned", user_assigned_identities=two))[0][1]


def test_the_shorthand_for_code_becomes_the_configuration():
    deployment = blue(code_path="src", scoring_script="score.py")
    assert deployment.code_configuration == CodeConfiguration("src", "score.py")
    assert (deployment.code_path, deployment.scoring_script) == (None, None)
    deployment.validate()


def test_the_shorthand_beside_the_configuration_is_refused():
    deployment = blue(code_path="src", code_configuration=CodeConfiguration("src", "score.py"))
    assert told(deployment) == [
        (
            "code_configuration",
            "code_path and scoring_script are not allowed if code_configuration is provided.",
        )
    ]


def test_an_empty_scoring_script_is_refused():
    problems = told(blue(code_configuration=CodeConfiguration("src", "")))
    assert problems == [("code_configuration.scoring_script", "Scoring script can't be empty.")]


def test_two_settings_may_be_given_by_position():
    code, limits = CodeConfiguration("code", "score.py"), OnlineRequestSettings(2, 3000, 100)
    assert (code.code, code.scoring_script) == ("code", "score.py")
    assert (limits.request_timeout_ms, limits.max_concurrent_requests_per_instance) == (3000, 2)
    assert limits.max_queue_wait_ms == 100


@pytest.mark.parametrize("kind", [OnlineEndpoint, OnlineDeployment])
def test_what_is_neither_managed_nor_kubernetes_cannot_be_made(kind):
    with pytest.raises(TypeError, match=rf"make a Managed{kind.__name__} or a Kubernetes{kind.__name__}"):
        kind(name="tides")


def test_a_managed_deployment_keeps_its_number_of_instances():
    problems = told(blue(scale_settings=TargetUtilizationScaleSettings()))
    assert problems == [("scale_settings", "ManagedOnlineEndpoint supports DefaultScaleSettings only.")]
    KubernetesOnlineDeployment(
        name="blue", endpoint_name="tides", scale_settings=TargetUtilizationScaleSettings(min_instances=1)
    ).validate()


def test_a_cluster_takes_longer_requests_than_a_managed_endpoint():
    limits = OnlineRequestSettings(request_timeout_ms=300_000)
    KubernetesOnlineDeployment(name="blue", endpoint_name="tides", request_settings=limits).validate()
    assert told(blue(request_settings=limits))[0][0] == "request_settings.request_timeout_ms"
    with pytest.raises(ValidationException, match="request_timeout_ms"):
        OnlineRequestSettings(request_timeout_ms=300_001)


@pytest.mark.parametrize("name", ["period", "timeout", "success_threshold", "failure_threshold"])
def test_probes_are_asked_at_least_once(name):
    ProbeSettings(**{name: 1})
    with pytest.raises(ValidationException, match=name):
        ProbeSettings(**{name: 0})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "Docker image or Dockerfile is required for environments."),
        (
            {"image": "i", "build": entities.BuildContext(path="x")},
            "Docker image or Dockerfile should be provided not both.",
        ),
        ({"image": "i", "version": "1"}, "If version is specified, name must be specified also."),
    ],
)
def test_an_environment_is_an_image_or_a_build_context(values, sentence):
    assert sentence in [message for _, message in told(Environment(**values))]


def test_a_model_is_its_files():
    assert told(Model(name="net")) == [("path", "Model 'net' has no path: name its file or folder.")]
    assert told(Model()) == [("path", "Model '(anonymous)' has no path: name its file or folder.")]


@pytest.mark.parametrize("kind", [Model, Environment, DataAsset])
def test_a_version_is_text_and_may_be_given_as_a_number(kind):
    assert kind(name="x", version=3).version == "3"
    assert kind(name="x", version="03").version == "03"
    for other in (1.5, True, [1]):
        with pytest.raises(ValidationException, match="Asset version must be a string"):
            kind(name="x", version=other)


def test_a_collector_takes_five_collections():
    collections = {f"c{number}": DeploymentCollection() for number in range(6)}
    assert "6 collections; Azure takes at most 5" in told(DataCollector(collections=collections))[0][1]
    with pytest.raises(ValidationException, match="sampling_rate"):
        DataCollector(sampling_rate=1.5)
    with pytest.raises(ValidationException, match="rolling_rate"):
        DataCollector(rolling_rate="year")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_the_service_decides_cannot_be_assigned(kind):
    owned = [attribute.name for attribute, spec, _ in kind.fields() if spec.owned]
    if not owned:
        return
    names = {"name": "tides"} if "name" in {each.name for each in attrs.fields(kind)} else {}
    if kind.variants and not kind.variant:
        return
    entity = kind(**names)
    for name in owned:
        with pytest.raises(AttributeError, match=rf"{name} is what the server says; it cannot be assigned"):
            setattr(entity, name, "other")


def test_entities_are_equal_by_what_they_say():
    said = {"name": "tides", "traffic": {"blue": 100}, "tags": {"a": "b"}}
    one, two = ManagedOnlineEndpoint(**said), ManagedOnlineEndpoint(**said, scoring_uri="https://x", id="/y")
    assert one == two
    assert one != ManagedOnlineEndpoint(**{**said, "traffic": {}})
    assert one != KubernetesOnlineEndpoint(**said)
    assert blue(model=Model(path="x")) == blue(model=Model(path="x"))


def test_a_changed_copy_leaves_the_first_and_keeps_what_is_unknown():
    one = ManagedOnlineEndpoint(name="tides", scoring_uri="https://x")
    one._unknown = {"properties": {"news": 1}}
    two = changed(one, description="other", provisioning_state="Updating")
    assert (one.description, two.description, two.provisioning_state) == (None, "other", "Updating")
    assert (two.scoring_uri, two._unknown) == ("https://x", one._unknown)


@pytest.mark.parametrize(
    "secret",
    [
        EndpointAuthKeys(primary_key="s3cret", secondary_key="s3cret2"),
        EndpointAuthToken(access_token="s3cret", expiry_time_utc=1),
        EndpointAadToken(access_token="s3cret", expiry_time_utc=1),
    ],
    ids=lambda secret: type(secret).__name__,
)
def test_keys_and_tokens_are_never_shown(secret):
    for text in (repr(secret), str(secret), f"{secret}", repr([secret])):
        assert "s3cret" not in text
        assert type(secret).__name__ in text


def test_a_field_that_does_not_exist_is_a_type_error():
    with pytest.raises(TypeError, match="instance_cuont"):
        blue(instance_cuont=3)
    with pytest.raises(AttributeError):
        blue().instance_cuont = 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_documented_and_declared_once(kind):
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert ast.get_docstring(tree)
    for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Call):
            assert isinstance(following, ast.Expr), f"{kind.__name__}.{statement.target.id} has no string beneath it"


def test_a_new_kind_is_one_declaration():
    @attrs.define(kw_only=True)
    class Buoy(Entity):
        """A thing of a test."""

        home = "properties"

        sea_depth: int | None = field(check=attrs.validators.ge(0))
        """Metres."""

    assert Buoy(sea_depth=3).dump() == {"sea_depth": 3}
    with pytest.raises(ValidationException, match="sea_depth"):
        Buoy(sea_depth=-1)


def test_paths_may_be_path_objects():
    model = Model(path=Path("model.joblib"))
    assert model.path == "model.joblib"
    assert CodeConfiguration(code=Path("code"), scoring_script="score.py").code == "code"
    assert Environment(image="any", conda_file=Path("conda.yml")).conda_file == "conda.yml"
