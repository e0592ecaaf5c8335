"""Desired and actual, into steps: every branch."""

import json

import attrs
import pytest

from modelport.backends.base import Probe, Revision, Route, Routes, revision_from
from modelport.builds.base import Built
from modelport.controlplane import plan
from modelport.controlplane.plan import Await, Parts, Remove, Run, Serve
from modelport.entities import (
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    OnlineRequestSettings,
    ProbeSettings,
)
from modelport.entities.base import filled

HAVE = Revision(
    id="tides-blue-1",
    endpoint="tides",
    deployment="blue",
    instances=2,
    environment="k",
    python="/p",
    app_root="/a",
    entry_script="s.py",
)
BUILT = Built(key="k", python="/p")
PARTS = Parts(app_root="/a", model_dir="/m", model="waves/3")
WANT = attrs.evolve(HAVE, id="tides-blue-2")


def test_the_first_revision_is_run_awaited_and_served():
    assert plan.plan(WANT, None) == [Run(WANT), Await(WANT), Serve(WANT)]


def test_what_agrees_needs_nothing():
    assert plan.plan(WANT, HAVE) == []


@pytest.mark.parametrize("change", [{"instances": 5}, {"instances": 0}, {"request_timeout": 1.0}])
def test_counts_and_time_limits_change_in_place(change):
    kept = attrs.evolve(HAVE, **change)
    assert plan.plan(attrs.evolve(WANT, **change), HAVE) == [Run(kept), Await(kept), Serve(kept)]


@pytest.mark.parametrize(
    "change",
    [
        {"python": "/q"},
        {"app_root": "/b"},
        {"entry_script": "t.py"},
        {"model_dir": "/m"},
        {"environment_variables": {"A": "1"}},
        {"max_concurrent_requests": 2},
        {"liveness": Probe(period=1)},
        {"readiness": Probe(period=1)},
        {"app_root": "/b", "instances": 3},
    ],
)
def test_anything_else_replaces_the_replicas_and_the_old_ones_go_last(change):
    want = attrs.evolve(WANT, **change)
    assert plan.plan(want, HAVE) == [Run(want), Await(want), Serve(want), Remove(HAVE.id)]


def test_a_revision_survives_being_written_down():
    assert revision_from(json.loads(json.dumps(attrs.asdict(HAVE)))) == HAVE
    whole = attrs.evolve(
        HAVE, routes=Routes(**dict.fromkeys(("liveness", "readiness", "scoring"), Route(port=1, path="/")))
    )
    assert revision_from(json.loads(json.dumps(attrs.asdict(whole)))) == whole


def test_of_an_older_version_the_environment_is_known_by_its_folder():
    older = attrs.asdict(attrs.evolve(HAVE, python="/home/ada/environments/0f3c/bin/python"))
    del older["environment"], older["image"], older["routes"]
    assert revision_from(older).environment == "0f3c"


def _deployment(**values):
    code = CodeConfiguration(code="code", scoring_script="score.py")
    return ManagedOnlineDeployment(name="blue", endpoint_name="tides", **{"code_configuration": code, **values})


def test_a_revision_says_what_the_deployment_says():
    deployment = _deployment(
        instance_count=3,
        environment_variables={"A": 1},
        request_settings=OnlineRequestSettings(request_timeout_ms=750, max_concurrent_requests_per_instance=4),
        readiness_probe=ProbeSettings(initial_delay=1, period=2, timeout=3, success_threshold=4, failure_threshold=5),
    )
    made = plan.revision(filled(deployment), identifier="x", built=BUILT, parts=PARTS)
    assert (made.instances, made.environment_variables, made.model_dir) == (3, {"A": "1"}, "/m")
    assert (made.request_timeout, made.max_concurrent_requests) == (0.75, 4)
    assert made.readiness == Probe(initial_delay=1, period=2, timeout=3, success_threshold=4, failure_threshold=5)
    assert made.liveness == Probe()


def test_a_mirror_that_scores_at_another_path_is_told():
    endpoint = ManagedOnlineEndpoint(name="tides", traffic={"blue": 100, "green": 0}, mirror_traffic={"own": 10})
    paths = {"blue": "/score", "green": "/score", "own": "/v1/predict"}
    (said,) = plan.mirror_notes(endpoint, paths)
    assert "Copies for 'own' keep the path that the request has for 'blue', '/score'" in said
    assert plan.mirror_notes(endpoint, {**paths, "own": "/score"}) == []
    assert plan.mirror_notes(endpoint, {}) == []


def test_azures_defaults_are_filled_in():
    made = plan.revision(filled(_deployment()), identifier="x", built=BUILT, parts=Parts(app_root="/a"))
    assert (made.instances, made.request_timeout, made.max_concurrent_requests) == (1, 5.0, 1)


def test_what_is_recorded_and_not_acted_on_is_said():
    environment = Environment(image="mcr/x", conda_file={"dependencies": []})
    said = plan.notes(_deployment(instance_type="Standard_DS3_v2", model_mount_path="/m"), environment, "process")
    assert len(said) == 3
    assert said[0].startswith("Image 'mcr/x' is recorded, not used")
    assert "Standard_DS3_v2" in said[1]
    assert "model_mount_path" in said[2]
    assert plan.notes(_deployment(), None, "process") == []
