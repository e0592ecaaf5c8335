"""Documents, and the order in which Envoy gets them."""

import json

import attrs

from modelport.gateway import envoy
from modelport.gateway.routes import Deployment, Endpoint


def tides(traffic, **addresses):
    deployments = {name: Deployment(addresses=tuple(paths), timeout=5) for name, paths in addresses.items()}
    return envoy.documents([Endpoint(name="tides", keys=("akey",), traffic=traffic, deployments=deployments)])


def names(clusters):
    return [cluster["name"] for cluster in clusters]


BLUE = tides({"blue": 100}, blue=["/a"])
BOTH = tides({"blue": 90, "green": 10}, blue=["/a"], green=["/b"])


def test_what_comes_comes_before_the_routes():
    (first, clusters), (second, _) = envoy.steps(BLUE, BOTH)
    assert (first, second) == (envoy.CLUSTERS, envoy.ROUTES)
    assert names(clusters) == ["tides.blue", "tides.green"]


def test_what_goes_goes_after_the_routes():
    (first, _), (second, clusters) = envoy.steps(BOTH, BLUE)
    assert (first, second) == (envoy.ROUTES, envoy.CLUSTERS)
    assert names(clusters) == ["tides.blue"]


def test_coming_and_going_at_once_keeps_both_until_the_routes_have_changed():
    green = tides({"green": 100}, green=["/b"])
    (_, both), (second, _), (_, clusters) = envoy.steps(BLUE, green)
    assert names(both) == ["tides.blue", "tides.green"]
    assert second == envoy.ROUTES
    assert names(clusters) == ["tides.green"]


def test_new_addresses_change_the_clusters_alone():
    moved = tides({"blue": 100}, blue=["/a", "/b"])
    assert [name for name, _ in envoy.steps(BLUE, moved)] == [envoy.CLUSTERS]


def test_new_weights_change_the_routes_alone():
    assert [name for name, _ in envoy.steps(BOTH, tides({"blue": 100}, blue=["/a"], green=["/b"]))] == [envoy.ROUTES]


def test_the_order_of_endpoints_and_addresses_does_not_matter():
    one = Endpoint(name="one", keys=(), deployments={"d": Deployment(addresses=("/a", "/b"), timeout=5)})
    two = attrs.evolve(one, name="two")
    turned = attrs.evolve(one, deployments={"d": Deployment(addresses=("/b", "/a"), timeout=5)})
    assert envoy.steps(envoy.documents([one, two]), envoy.documents([two, turned])) == []


def test_keys_are_in_the_routes_alone(tmp_path):
    assert "akey" in json.dumps(BLUE[envoy.ROUTES])
    assert "akey" not in json.dumps([BLUE[envoy.CLUSTERS], envoy.bootstrap(tmp_path, 1)])


def test_idle_connections_are_closed_before_a_replica_closes_them():
    (cluster,) = BLUE[envoy.CLUSTERS]
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert float(options["common_http_protocol_options"]["idle_timeout"][:-1]) < 30


def test_addresses_may_be_of_the_network():
    (cluster,) = tides({"blue": 100}, blue=["10.0.0.7:5001"])[envoy.CLUSTERS]
    (host,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert host["endpoint"]["address"] == {"socket_address": {"address": "10.0.0.7", "port_value": 5001}}
