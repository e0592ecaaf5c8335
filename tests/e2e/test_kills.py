"""What a kill costs under a load of 200 requests a second, and that everything is managed again after it."""

import json
import time

import pytest

BACK = 5.0
"""Seconds within which a killed Envoy must serve again beside the load; alone it takes less than one."""


def was_inside(each, kill):
    """Whether a request was on its way when something was killed."""
    return each.sent <= kill.after and each.done >= kill.before


def check_lost(site, load, *kills):
    """Nothing failed but what was inside a killed replica, and callers were told so."""
    load.stop()
    runs = site.runs()
    for each in load.failures():
        (kill,) = [kill for kill in kills if was_inside(each, kill)] or pytest.fail(f"nothing explains {each}")
        assert each.status == 502, each
        assert {pid for _, pid in runs.get(each.n, [])} <= {kill.pid}, each
    load.check_counts()


def kill_a_replica(site):
    """Kill one of blue's; which were there before, and when it was."""
    before = site.replicas()
    return set(before), site.kill(before[min(before)])


def comes_back(site, load, before, until):
    """Wait until blue has two replicas again, and the new one answers."""
    fresh = until(lambda: len(now := set(site.replicas())) == 2 and now - before, "the replica is started again")
    until(lambda: fresh & {each.pid for each in load.seen()[-100:]}, "the new replica answers")


def is_managed(site, load, until):
    """What only a living server does: bring back a replica, deploy, change traffic. Returns what it killed."""
    before, kill = kill_a_replica(site)
    comes_back(site, load, before, until)
    site.deploy("green-1", 1)
    changed = site.route(green=100)
    load.more(100)
    assert {each.model for each in load.seen() if each.sent > changed} == {"green-1"}
    site.route(blue=100)
    return kill


def test_a_killed_replica_loses_only_what_was_inside_it(site, until):
    with site.load() as load:
        load.more(200)
        before, kill = kill_a_replica(site)
        comes_back(site, load, before, until)
        load.more(500)
    check_lost(site, load, kill)


def test_a_killed_envoy_is_back_on_its_port(site, until):
    address, replicas = site.address(), set(site.replicas())
    (old,) = site.envoys().values()
    with site.load() as load:
        load.more(200)
        kill = site.kill(old)
        until(site.envoys, "Envoy is started again")
        load.more(700)
    late = max(each.sent - each.scheduled for each in load.seen())  # what this machine itself was late by
    for each in load.failures():
        assert each.done >= kill.before, each
        assert each.scheduled <= kill.before + BACK + late, each
    assert len(site.envoys()) == 1
    assert (site.address(), set(site.replicas())) == (address, replicas)
    load.check_counts()


def test_a_killed_server_costs_nothing_and_its_successor_manages_everything(site, until):
    address, runs = site.address(), set(site.processes())
    (old,) = site.servers().values()
    with site.load() as load:
        load.more(200)
        site.kill(old)
        load.more(300)
        said = json.loads(site.modelport("status", "--json"))
        assert (said["up"], set(said["left_running"])) == (False, runs - {old.pid})
        site.up()
        assert len(site.servers()) == 1
        load.more(300)
        assert set(site.processes()) - set(site.servers()) == runs - {old.pid}  # the same ones, and nothing twice
        assert site.address() == address
        assert load.failures() == []
        kill = is_managed(site, load, until)
    check_lost(site, load, kill)


def test_an_update_goes_on_when_the_server_that_began_it_was_killed(site, until):
    old, (server,) = set(site.replicas()), site.servers().values()
    with site.load() as load:
        load.more(100)
        site.client.online_deployments.begin_create_or_update(site.deployment("blue-2", 2))
        until(lambda: set(site.replicas()) - old, "a replica of the new version")
        site.kill(server)
        load.more(200)
        site.up()
        deployments = site.client.online_deployments
        until(lambda: deployments.get("blue", endpoint_name="tides").provisioning_state == "Succeeded", "the update")
        updated = time.monotonic()
        load.more(200)
    assert load.failures() == []
    assert {each.model for each in load.seen() if each.sent > updated} == {"blue-2"}
    assert len(site.replicas()) == 2
    assert not set(site.replicas()) & old
    load.check_counts()


def test_while_nobody_manages_the_other_replica_serves_on(site, until):
    (old,) = site.servers().values()
    with site.load() as load:
        load.more(200)
        site.kill(old)
        before, kill = kill_a_replica(site)
        load.more(500)
        assert set(site.replicas()) < before
        site.up()
        comes_back(site, load, before, until)
        load.more(300)
    check_lost(site, load, kill)
    assert set(site.replicas()) & before


def test_an_envoy_that_dies_while_nobody_manages_comes_back_with_the_server(site, until):
    address = site.address()
    (server,), (envoy,) = site.servers().values(), site.envoys().values()
    replicas = set(site.replicas())
    site.kill(server)
    site.kill(envoy)
    site.up()
    assert len(site.envoys()) == 1
    assert (site.address(), set(site.replicas())) == (address, replicas)
    with site.load() as load:
        load.more(100)
    assert load.failures() == []


def test_a_terminated_server_hands_over_without_a_failure(site, until):
    runs = set(site.processes())
    (old,) = site.servers().values()
    with site.load() as load:
        load.more(200)
        old.terminate()
        site.up()  # at once: it waits for the old one to let go
        assert old.pid not in site.servers()
        load.more(300)
        assert set(site.processes()) - set(site.servers()) == runs - {old.pid}
        assert load.failures() == []
        kill = is_managed(site, load, until)
    check_lost(site, load, kill)


def test_a_client_that_comes_while_the_server_ends_gets_its_successor(empty_site, until):
    empty_site.create()
    (old,) = empty_site.servers().values()
    old.terminate()
    until(lambda: not (empty_site.home / "server.json").exists(), "the server takes its address back")
    empty_site.another_client()
    assert [each.name for each in empty_site.client.online_endpoints.list()] == ["tides"]
    (new,) = empty_site.servers()
    assert new != old.pid


def test_down_leaves_no_process_and_up_brings_the_endpoints_back(site, ended):
    address, before = site.address(), site.processes()
    assert len(before) == 4
    site.modelport("down")
    assert site.processes() == {}
    assert all(ended(process) for process in before.values())
    assert json.loads(site.modelport("status", "--json"))["up"] is False
    site.up()
    assert site.address() == address
    assert len(site.processes()) == 4
    assert site.client.online_endpoints.invoke("tides", input_data={"n": 1}).deployment == "blue"
    with site.load() as load:
        load.more(200)
    assert load.failures() == []


def test_down_ends_what_a_killed_server_left(site):
    (old,) = site.servers().values()
    site.kill(old)
    site.modelport("down")
    assert site.processes() == {}
