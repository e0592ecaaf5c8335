"""A plan says what would change and what that does; doing it does just that."""

import re

import pytest

from modelport.entities import (
    CodeConfiguration,
    Environment,
    IdentityConfiguration,
    KubernetesOnlineEndpoint,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineRequestSettings,
    ProbeSettings,
)
from modelport.entities.base import changed
from modelport.errors import ModelportError, ResourceNotFoundError, UnsupportedByBackend, ValidationException

_ROUTE = {"port": 5001, "path": "/"}
_ROUTES = {"liveness_route": _ROUTE, "readiness_route": _ROUTE, "scoring_route": _ROUTE}


@pytest.fixture
def sent(live, monkeypatch):
    """The requests that are no questions, of what is done in the test."""
    transport = live._service.transport
    seen = []

    def send(request, plain=transport.send):
        seen.append((request.method, request.path))
        return plain(request)

    monkeypatch.setattr(transport, "send", send)
    return lambda: [each for each in seen if each[0] not in ("GET", "HEAD")]


@pytest.fixture
def blue(tides, sources, tmp_path):
    """What makes the same `blue` again, with other values; it serves one request after another."""
    (tmp_path / "model.bin").write_bytes(b"weights")
    code = CodeConfiguration(code=sources.code(), scoring_script="score.py")

    def again(**values):
        values.setdefault("code_configuration", code)
        values.setdefault("model", Model(path=str(tmp_path / "model.bin")))
        values.setdefault("environment", Environment(image="any/image", conda_file={"dependencies": ["python"]}))
        return sources.deployment(**values)

    tides.online_deployments.begin_create_or_update(again()).result(120)
    return again


def _changes(plan):
    return {each.field: (each.before, each.after, each.effect) for each in plan.changes}


# Endpoints


def test_what_is_as_it_should_be_needs_nothing(live, sent):
    plan = live.plan(live.online_endpoints.get("tides"))
    assert not plan
    assert str(plan) == repr(plan) == "Endpoint 'tides': nothing to do."
    assert plan.effect is None
    assert not live.plan(live.online_deployments.get("blue", "tides"))
    assert sent() == []


def test_a_new_endpoint_is_created(live, sent):
    plan = live.plan(ManagedOnlineEndpoint(name="harbour"))
    assert (plan.exists, plan.effect, bool(plan)) == (False, "create", True)
    assert str(plan).startswith("Endpoint 'harbour' would be created.")
    assert sent() == []
    with pytest.raises(ResourceNotFoundError):
        live.online_endpoints.get("harbour")


def test_traffic_is_told_as_shares_and_tags_as_they_are(live, sent):
    endpoint = ManagedOnlineEndpoint(name="tides", tags={"team": "pilots"}, traffic={"green": 100})
    plan = live.plan(endpoint)
    assert _changes(plan) == {
        "tags.team": ("harbour", "pilots", "in place"),
        "traffic": ({"blue": 100}, {"green": 100}, "in place"),
    }
    assert [(each.deployment, each.before, each.after) for each in plan.traffic] == [
        ("blue", 100, 0),
        ("green", 0, 100),
    ]
    assert "traffic of blue: 100% → 0%" in str(plan)
    assert "blue would get no traffic any more" in str(plan)
    assert sent() == []


def test_traffic_that_is_not_said_stays_and_an_empty_one_clears(live):
    assert not live.plan(ManagedOnlineEndpoint(name="tides", tags={"team": "harbour"}))
    plan = live.plan(ManagedOnlineEndpoint(name="tides", tags={"team": "harbour"}, traffic={}))
    assert _changes(plan) == {"traffic": ({"blue": 100}, {}, "in place")}
    assert "answered with 404" in str(plan)


@pytest.mark.parametrize(
    ("rules", "field", "why"),
    [
        ({"traffic": {"teal": 100}}, "traffic", "'teal' is not a deployment"),
        ({"mirror_traffic": {"teal": 5}}, "mirror_traffic", "'teal' is not a deployment"),
        ({"mirror_traffic": {"blue": 5}}, "mirror_traffic", "live or mirrored"),
    ],
)
def test_what_the_service_refuses_is_told_as_refused(live, rules, field, why):
    endpoint = ManagedOnlineEndpoint(name="tides", tags={"team": "harbour"}, **rules)
    plan = live.plan(endpoint)
    assert plan.effect == "refused"
    assert [why in each.note for each in plan.changes if each.field == field and each.effect == "refused"] == [True]
    with pytest.raises(ValidationException):
        live.online_endpoints.begin_create_or_update(endpoint)


def test_an_endpoint_stays_of_its_kind(live):
    plan = live.plan(KubernetesOnlineEndpoint(name="tides", compute="azureml:harbour"))
    assert _changes(plan)["kind"] == ("managed", "kubernetes", "refused")


def test_what_is_not_valid_is_no_plan(live, sources, tmp_path):
    with pytest.raises(ValidationException, match="sum to 0 or 100"):
        live.plan(ManagedOnlineEndpoint(name="tides", traffic={"blue": 90}))
    with pytest.raises(ValidationException, match="does not exist"):
        live.plan(sources.deployment(model=Model(path=str(tmp_path / "missing"))))
    with pytest.raises(TypeError, match=r"plan\(\) takes an endpoint"):
        live.plan("tides")


# Deployments


def test_a_new_deployment_is_created_and_gets_no_traffic(live, sources, sent, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    script = "def init(): pass\ndef run(raw): return 'teal'\n"
    plan = live.plan(sources.deployment("teal", script=script, model=Model(path=str(tmp_path / "model.bin"))))
    assert plan.effect == "create"
    assert "It gets no traffic until" in str(plan)
    assert {"code", "model"} <= set(plan.sends)
    assert any("2 files" in each for each in plan.sends)
    assert sent() == []
    assert [each.name for each in live.online_deployments.list("tides")] == ["blue", "green"]


@pytest.mark.parametrize(
    ("values", "field", "why"),
    [
        ({"endpoint": "nobody"}, "endpoint_name", "Endpoint 'nobody' does not exist: create it first."),
        ({"model": "azureml:nothing:1"}, "model", "does not have it"),
        ({"environment": "azureml:nothing:1"}, "environment", "does not have it"),
        ({"model": "azureml://registries/harbour/models/net/versions/1"}, "model", "does not have it"),
        ({"code_configuration": None}, "code_configuration", "a model without a script"),
        ({"environment": Environment(image="any", inference_config=_ROUTES)}, "environment.inference_config", "own"),
        (
            {"environment": Environment(image="any", conda_file={"dependencies": ["python", "numpy==="]})},
            "environment.conda_file",
            "'numpy===' is not a conda package",
        ),
    ],
)
def test_a_deployment_that_the_service_refuses_is_told_as_refused(live, sources, values, field, why):
    deployment = sources.deployment("teal", **values)
    plan = live.plan(deployment)
    assert plan.effect == "refused"
    assert [why in each.note for each in plan.changes if each.field == field and each.effect == "refused"] == [True]
    with pytest.raises(ModelportError):
        live.online_deployments.begin_create_or_update(deployment)


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (KubernetesOnlineEndpoint(name="harbour", compute="azureml:cluster"), "compute"),
        (ManagedOnlineEndpoint(name="harbour", auth_mode="aad_token"), "auth_mode"),
        (ManagedOnlineEndpoint(name="tides", auth_mode="aad_token"), "auth_mode"),
    ],
)
def test_an_endpoint_that_only_azure_can_have_is_told_as_refused(live, endpoint, field):
    plan = live.plan(endpoint)
    assert [each.effect for each in plan.changes if each.field == field] == ["refused"]
    with pytest.raises(UnsupportedByBackend):
        live.online_endpoints.begin_create_or_update(endpoint)


@pytest.mark.parametrize(
    ("field", "values", "effect"),
    [
        ("description", {"description": "of Dover"}, "in place"),
        ("tags.a", {"tags": {"a": "b"}}, "in place"),
        ("instance_type", {"instance_type": "Standard_DS3_v2"}, "in place"),
        ("app_insights_enabled", {"app_insights_enabled": True}, "in place"),
        (
            "request_settings.request_timeout_ms",
            {"request_settings": OnlineRequestSettings(request_timeout_ms=7000)},
            "in place",
        ),
        (
            "environment",
            {"environment": Environment(image="another/image", conda_file={"dependencies": ["python"]})},
            "in place",
        ),
        ("instance_count", {"instance_count": 2}, "scale"),
        ("environment_variables.MORE", {"environment_variables": {"MORE": "1"}}, "restart"),
        (
            "request_settings.max_concurrent_requests_per_instance",
            {
                "request_settings": OnlineRequestSettings(
                    request_timeout_ms=60_000, max_concurrent_requests_per_instance=2
                )
            },
            "restart",
        ),
        (
            "readiness_probe.period",
            {"readiness_probe": ProbeSettings(initial_delay=2, period=2, failure_threshold=58)},
            "restart",
        ),
    ],
)
def test_what_is_planned_is_what_is_done(tides, blue, sources, field, values, effect):
    deployment = blue(**values)
    plan = tides.plan(deployment)
    assert {each.field: each.effect for each in plan.changes} == {field: effect}
    assert plan.effect == effect
    before = sources.alive()
    tides.online_deployments.begin_create_or_update(deployment).result(120)
    after = sources.alive()
    assert len(after) == (deployment.instance_count or 1)
    assert {"in place": after == before, "scale": before < after, "restart": not before & after}[effect]
    assert not tides.plan(deployment)


def test_files_count_by_their_content(tides, blue, sources, tmp_path):
    assert not tides.plan(blue())
    same = CodeConfiguration(code=sources.code(), scoring_script="score.py")
    assert not tides.plan(blue(code_configuration=same)), "equal files elsewhere are the same code"
    other = CodeConfiguration(code=sources.code(more="pass"), scoring_script="score.py")
    plan = tides.plan(blue(code_configuration=other))
    assert {each.field: each.effect for each in plan.changes} == {"code_configuration.code": "restart"}
    assert re.search(
        r"code_configuration\.code: codes/\w{8}…/versions/1 → codes/\w{8}…/versions/1  \[restart\]", str(plan)
    )
    assert "code" in plan.sends
    (tmp_path / "model.bin").write_bytes(b"other weights")
    changed = blue()
    plan = tides.plan(changed)
    assert {each.field: each.effect for each in plan.changes} == {"model": "restart"}
    before = sources.alive()
    tides.online_deployments.begin_create_or_update(changed).result(120)
    assert not before & sources.alive()
    assert not tides.plan(changed)


def test_a_change_that_failed_is_tried_again(tides, blue, sources):
    broken = CodeConfiguration(code=sources.code("import nowhere_at_all\ndef init(): 0\ndef run(x): 0\n"))
    broken.scoring_script = "score.py"
    with pytest.raises(Exception, match="nowhere_at_all"):
        tides.online_deployments.begin_create_or_update(blue(code_configuration=broken)).result(120)
    plan = tides.plan(blue(code_configuration=broken))
    assert _changes(plan) == {"provisioning_state": ("Failed", "Succeeded", "restart")}


# Assets


def test_an_asset_gets_its_version_told(live, sent, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    plan = live.plan(Model(name="moon", path=str(tmp_path / "model.bin")))
    assert (plan.effect, plan.about) == ("create", "Model 'moon' version '1'")
    assert sent() == []


def test_an_asset_that_is_there_needs_nothing(ml_client, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    model = Model(name="moon", version="1", path=str(tmp_path / "model.bin"))
    ml_client.models.create_or_update(model)
    assert not ml_client.plan(model)
    assert ml_client.plan(changed(model, version=None)).about == "Model 'moon' version '2'"
    described = ml_client.plan(changed(model, description="pale"))
    assert _changes(described) == {"description": (None, "pale", "in place")}
    environment = Environment(name="sea", image="any/image")
    ml_client.environments.create_or_update(environment)
    assert not ml_client.plan(environment)
    (tmp_path / "model.bin").write_bytes(b"other weights")
    with pytest.raises(ValidationException, match="versions never change"):
        ml_client.plan(model)


# How it is shown


def test_a_notebook_shows_a_table_and_nothing_that_could_be_markup(live):
    plan = live.plan(ManagedOnlineEndpoint(name="tides", tags={"team": "<b>"}, traffic={"green": 100}))
    shown = plan._repr_html_()
    assert "<table>" in shown
    assert "&lt;b&gt;" in shown
    assert "traffic of green: 0% → 100%" in shown
    assert "<table>" not in live.plan(live.online_deployments.get("blue", "tides"))._repr_html_()


# In Azure, where more of a deployment counts


@pytest.fixture
def azure(azure_client, azure_stub, tmp_path):
    """A client of the stub with `tides` and its `teal`; what it was asked since, beside questions, is `asked()`."""
    client = azure_client()
    client.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text("def init(): pass\ndef run(raw): return 1\n")
    (tmp_path / "net.bin").write_bytes(b"weights")

    def teal(**values):
        said = {
            "model": Model(path=str(tmp_path / "net.bin")),
            "environment": Environment(image="registry.example.test/py-inference:3"),
            "code_configuration": CodeConfiguration(code=str(tmp_path / "code"), scoring_script="score.py"),
            "instance_type": "Standard_DS3_v2",
            "instance_count": 2,
        }
        return ManagedOnlineDeployment(name="teal", endpoint_name="tides", **{**said, **values})

    client.begin_create_or_update(teal()).result(60)
    before = len(azure_stub.seen)
    client.asked = lambda: [each for each in azure_stub.seen[before:] if each.method not in ("GET", "HEAD")]
    return client, teal


def test_azure_is_only_asked(azure):
    client, teal = azure
    plan = client.plan(teal())
    assert not plan, str(plan)
    assert client.plan(teal(instance_count=3)).effect == "scale"
    assert client.asked() == []


def test_in_azure_more_needs_new_replicas_and_quota_counts(azure, tmp_path):
    client, teal = azure
    plan = client.plan(teal(instance_type="Standard_F4s_v2", instance_count=10))
    assert {each.field: each.effect for each in plan.changes} == {"instance_type": "restart", "instance_count": "scale"}
    assert (plan.quota.before, plan.quota.after) == (None, 48), "another size counts by itself"
    plan = client.plan(teal(instance_count=10))
    assert "quota 48 cores of Standard_DS3_v2 (now 12): a fifth more" in str(plan)
    plan = client.plan(teal(instance_type="Standard_NC24ads_A100_v4"))
    assert "quota 48 cores of Standard_NC24ads_A100_v4" in str(plan)
    assert "a fifth more" not in str(plan), "of this size nothing is held back"
    settings = OnlineRequestSettings(request_timeout_ms=7000)
    assert client.plan(teal(request_settings=settings)).effect == "restart"
    (tmp_path / "code" / "score.py").write_text("def init(): pass\ndef run(raw): return 2\n")
    plan = client.plan(teal())
    assert [(each.field, each.effect) for each in plan.changes] == [("code_configuration.code", "restart")]
    assert "unknown" in str(client.plan(teal(instance_type="Standard_X1")).quota)
    assert client.asked() == []


def test_azure_refuses_another_identity(azure):
    client, _ = azure
    plan = client.plan(ManagedOnlineEndpoint(name="tides", identity=IdentityConfiguration(type="none")))
    assert [(each.field, each.effect) for each in plan.changes] == [("identity.type", "refused")]
    assert "cannot change" in str(plan)
