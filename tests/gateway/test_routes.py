"""Rules are read from the top: the first that holds decides."""

import pytest

from modelport.gateway.routes import ANY, Deployment, Endpoint, Forward, Refuse, rules

READY = Deployment(addresses=("/run/a.sock",), timeout=5)


def tides(**changes):
    return Endpoint(**{"name": "tides", "keys": ("k",), "deployments": {"blue": READY, "green": READY}, **changes})


def test_the_key_is_asked_for_before_anything_else():
    first = rules(tides(traffic={"blue": 100}))[0]
    assert first.without_keys == ("k",)
    assert first.answer.status == 401


def test_a_deployment_without_traffic_can_be_named():
    named = {rule.deployment: rule.answer for rule in rules(tides(traffic={"blue": 100})) if rule.deployment}
    assert named["green"] == Forward(deployment="green")
    assert isinstance(named[ANY], Refuse)


def test_a_split_is_running_totals_of_which_the_last_is_open():
    split = [rule for rule in rules(tides(traffic={"blue": 90, "green": 10})) if rule.deployment is None][2:]
    assert [(rule.answer.deployment, rule.below) for rule in split] == [("blue", 0.9), ("green", None)]


def test_shares_are_relative_to_their_sum():
    (blue, _green) = rules(tides(traffic={"blue": 1, "green": 3}))[-2:]
    assert blue.below == 0.25


def test_zero_traffic_is_not_sent():
    last = rules(tides(traffic={"blue": 100, "green": 0}))[-1]
    assert last.answer.deployment == "blue"
    assert last.below is None


@pytest.mark.parametrize("traffic", [{}, {"blue": 0}, {"gone": 100}])
def test_no_live_traffic_is_404(traffic):
    last = rules(tides(traffic=traffic))[-1]
    assert last.answer.status == 404
    assert "Set its traffic" in last.answer.message


def test_only_requests_that_name_nobody_are_mirrored():
    found = rules(tides(traffic={"blue": 100}, mirror={"green": 20}))
    mirrored = [rule for rule in found if isinstance(rule.answer, Forward) and rule.answer.mirror]
    assert [rule.deployment for rule in mirrored] == [None]


def test_the_last_rule_holds_for_every_request():
    last = rules(tides(traffic={"blue": 50, "green": 50}))[-1]
    assert (last.without_keys, last.elsewhere, last.deployment, last.below) == (None, None, None, None)


OWN = Deployment(addresses=("10.0.0.2:8501",), timeout=5, scoring="/v1/models/tide:predict")


def test_a_server_of_ones_own_scores_at_its_own_path_and_is_reached_at_all_others():
    named = [rule for rule in rules(tides(deployments={"blue": OWN})) if rule.deployment == "blue"]
    assert [(rule.scores, rule.answer.path) for rule in named] == [(True, "/v1/models/tide:predict"), (None, None)]
    assert not any(rule.elsewhere for rule in rules(tides(deployments={"blue": OWN})))


def test_beside_one_scripts_still_serve_their_own_paths_only():
    found = rules(tides(deployments={"blue": READY, "own": OWN}, traffic={"blue": 50, "own": 50}))
    blue = [(rule.elsewhere, type(rule.answer)) for rule in found if rule.deployment == "blue"]
    assert blue == [(True, Refuse), (None, Forward)]
    split = [(rule.below, rule.elsewhere, rule.scores) for rule in found if rule.deployment is None][1:]
    assert split == [(0.5, True, None), (0.5, None, None), (None, None, True), (None, None, None)]


def test_where_all_are_scripts_other_paths_are_refused_once():
    assert [rule.elsewhere for rule in rules(tides(traffic={"blue": 100}))].count(True) == 1
