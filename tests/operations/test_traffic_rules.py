"""Traffic: absent keeps, `{}` clears, and what a notebook's reader runs again harms nobody."""

import json

import pytest
import requests

from modelport.entities import ManagedOnlineEndpoint
from modelport.errors import ScoringError, ValidationException


@pytest.fixture
def put(tides):
    return lambda **values: tides.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="tides", **values)
    ).result(60)


@pytest.fixture
def both(tides, sources, put):
    """`tides` with all traffic at `blue`, and a copy of a tenth for `green`."""
    for name in ("blue", "green"):
        tides.online_deployments.begin_create_or_update(sources.deployment(name)).result(60)
    put(traffic={"blue": 100}, mirror_traffic={"green": 10})
    return tides


def _who(client):
    return json.loads(client.online_endpoints.invoke("tides", input_data=1))["who"]


def test_running_a_notebooks_first_cell_again_unroutes_nothing(both, put):
    after = put(tags={"run": "2"})
    assert (after.traffic, after.mirror_traffic) == ({"blue": 100}, {"green": 10})
    assert _who(both) == "blue"


def test_what_is_said_replaces_and_what_is_not_stays(both, put):
    after = put(traffic={"blue": 100}, mirror_traffic={})
    assert (after.traffic, after.mirror_traffic) == ({"blue": 100}, {})
    after = put(traffic={"green": 100})
    assert (after.traffic, after.mirror_traffic) == ({"green": 100}, {})
    assert _who(both) == "green"


def test_an_empty_mapping_clears(both, put):
    assert put(traffic={}, mirror_traffic={}).traffic == {}
    with pytest.raises(ScoringError) as caught:
        _who(both)
    assert caught.value.status_code == 404


def test_get_names_deployments_without_traffic(both):
    assert both.online_endpoints.get("tides").traffic == {"blue": 100, "green": 0}


def test_list_does_not(both):
    (listed,) = both.online_endpoints.list()
    assert listed.traffic == {"blue": 100}


def test_get_change_put_changes_only_that(both):
    endpoint = both.online_endpoints.get("tides")
    endpoint.tags["seen"] = "yes"
    both.online_endpoints.begin_create_or_update(endpoint).result(60)
    after = both.online_endpoints.get("tides")
    assert (after.traffic, after.mirror_traffic) == ({"blue": 100, "green": 0}, {"green": 10})
    assert after.tags == {"seen": "yes"}


def test_names_are_lower_case_wherever_they_stand(both, put):
    assert put(traffic={"GREEN": 100}, mirror_traffic={}).traffic == {"green": 100}
    assert both.online_endpoints.get("TIDES").name == "tides"
    assert json.loads(both.online_endpoints.invoke("Tides", input_data=1))["who"] == "green"


def test_rules_that_were_kept_count_too(both, put):
    with pytest.raises(ValidationException, match="'green'"):
        put(traffic={"green": 100})
    assert both.online_endpoints.get("tides").traffic == {"blue": 100, "green": 0}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"traffic": {"blue": 90}}, "90"),
        ({"traffic": {"blue": 90, "green": 20}}, "110"),
        ({"traffic": {"blue": -100, "green": 200}}, "negative"),
        ({"traffic": {"blue": 100, "teal": 0}, "mirror_traffic": {"teal": 5}}, "mirror_traffic names 'teal'"),
        ({"traffic": {"teal": 100}, "mirror_traffic": {}}, "traffic names 'teal'.*has blue, green"),
        ({"mirror_traffic": {"green": 51}}, "50"),
        ({"traffic": {"blue": 50, "green": 50}, "mirror_traffic": {"green": 5}}, "green"),
        ({"mirror_traffic": {"green": 5, "blue": 5}}, "One deployment"),
    ],
)
def test_rules_that_cannot_be_are_refused_and_change_nothing(live, rules, said):
    with pytest.raises(ValidationException, match=said):
        live.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides", **rules))
    after = live.online_endpoints.get("tides")
    assert (after.traffic, after.mirror_traffic) == ({"blue": 100, "green": 0}, {})
    assert after.provisioning_state == "Succeeded"
    assert _who(live) == "blue"


@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_a_regenerated_key_is_refused_at_once_and_the_other_goes_on(live, which):
    other = {"primary": "secondary", "secondary": "primary"}[which]
    operations = live.online_endpoints
    uri, before = operations.get("tides").scoring_uri, operations.get_keys("tides")
    assert json.loads(operations.invoke("tides", input_data=1))["who"] == "blue"
    operations.begin_regenerate_keys("tides", key_type=which).result(60)
    after = operations.get_keys("tides")

    def status(key):
        return requests.post(uri, data="1", headers={"Authorization": f"Bearer {key}"}, timeout=10).status_code

    assert status(getattr(before, f"{which}_key")) == 401
    assert status(getattr(after, f"{which}_key")) == 200
    assert getattr(before, f"{other}_key") == getattr(after, f"{other}_key")
    assert status(getattr(after, f"{other}_key")) == 200
    assert json.loads(operations.invoke("tides", input_data=1))["who"] == "blue"


def test_another_clients_new_key_is_found_by_itself(live, wire_client):
    assert json.loads(live.online_endpoints.invoke("tides", input_data=1))["who"] == "blue"
    wire_client.online_endpoints.begin_regenerate_keys("tides").result(60)
    assert json.loads(live.online_endpoints.invoke("tides", input_data=1))["who"] == "blue"


def test_a_key_type_that_is_neither_is_refused(live):
    with pytest.raises(ValidationException, match="Key type must be 'primary' or 'secondary'"):
        live.online_endpoints.begin_regenerate_keys("tides", key_type="tertiary")
