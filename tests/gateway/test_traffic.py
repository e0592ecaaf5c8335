"""Shares, copies, and changes under load."""

import math
import threading
import time
from collections import Counter

import pytest


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def tail(count, total, share):
    """Probability of `count` or something farther from its expectation on the same side, out of `total`."""

    def probability(k):
        ways = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        return math.exp(ways + k * math.log(share) + (total - k) * math.log(1 - share))

    farther = range(count + 1) if count < total * share else range(count, total + 1)
    return sum(map(probability, farther))


def test_requests_split_as_told(gateway, endpoint, replica, call):
    replicas = {name: replica(name) for name in ("blue", "green", "grey")}
    gateway.apply(
        [endpoint(**{name: [one] for name, one in replicas.items()}, traffic={"blue": 70, "green": 20, "grey": 10})]
    )
    named = Counter(call(gateway.scoring_uri("tides")).headers["azureml-model-deployment"] for _ in range(1000))
    assert {name: len(one.calls) for name, one in replicas.items()} == named
    for name, share in (("blue", 0.7), ("green", 0.2), ("grey", 0.1)):
        assert tail(named[name], 1000, share) > 1e-6


def test_copies_reach_the_mirror_and_never_the_caller(gateway, endpoint, replica, call):
    blue, green = replica("blue"), replica("green")
    gateway.apply([endpoint(blue=[blue], green=[green], traffic={"blue": 100}, mirror={"green": 30})])
    uri = gateway.scoring_uri("tides")
    assert {call(uri, f"{n}".encode()).body for n in range(500)} == {f"blue:{n}".encode() for n in range(500)}
    wait_until(lambda: gateway.stats("tides", "green")["active"] == 0)
    assert len(blue.calls) == 500
    assert tail(len(green.calls), 500, 0.3) > 1e-6
    assert {seen["body"] for seen in green.calls} <= {seen["body"] for seen in blue.calls}
    assert {seen["path"] for seen in green.calls} == {"/score"}
    assert not [seen for seen in green.calls if "authorization" in seen["headers"]]


def test_requests_that_name_a_deployment_are_not_mirrored(gateway, endpoint, replica, call):
    blue, green = replica("blue"), replica("green")
    gateway.apply([endpoint(blue=[blue], green=[green], traffic={"blue": 100}, mirror={"green": 100})])
    for _ in range(20):
        call(gateway.scoring_uri("tides"), azureml_model_deployment="blue")
    assert gateway.stats("tides", "green")["total"] == 0


def test_a_slow_or_dead_mirror_does_not_touch_the_caller(gateway, endpoint, replica, folder, call):
    blue, green = replica("blue"), replica("green")
    uri = gateway.scoring_uri("tides")
    for mirror in ([], [str(folder / "gone.sock")]):
        gateway.apply([endpoint(blue=[blue], green=mirror, traffic={"blue": 100}, mirror={"green": 100})])
        assert [call(uri).status for _ in range(20)] == [200] * 20
    gateway.apply([endpoint(blue=[blue], green=[green], traffic={"blue": 100}, mirror={"green": 100}, timeout=6)])
    green.stall = 5
    begin = time.monotonic()
    assert call(uri).status == 200
    assert time.monotonic() - begin < 4
    wait_until(lambda: green.calls)


def test_replicas_share_the_requests(gateway, endpoint, replica, load):
    one, two = replica("one"), replica("two")
    gateway.apply([endpoint(blue=[one, two], traffic={"blue": 100})])
    with load(gateway.scoring_uri("tides")) as callers:
        callers.wait_for(200)
    assert callers.failed == []
    assert min(len(one.calls), len(two.calls)) > 40


def test_a_hundred_flips_fail_nothing_and_hold_at_once(gateway, endpoint, replica, load, call):
    blue, green = replica("blue"), replica("green")
    uri = gateway.scoring_uri("tides")
    gateway.apply([endpoint(blue=[blue], green=[green], traffic={"blue": 100})])
    with load(uri) as callers:
        for flip in range(100):
            name = ("green", "blue")[flip % 2]
            gateway.apply([endpoint(blue=[blue], green=[green], traffic={name: 100})])
            assert call(uri).headers["azureml-model-deployment"] == name
        callers.wait_for(20)
    assert callers.failed == []
    assert callers.answered > 100


def test_replicas_come_and_go_under_load_and_get_nothing_once_gone(gateway, endpoint, replica, load):
    replicas = [replica(f"r{number}") for number in range(3)]
    gateway.apply([endpoint(blue=replicas, traffic={"blue": 100})])
    with load(gateway.scoring_uri("tides")) as callers:
        for turn in range(45):
            gone = replicas[turn % 3]
            gateway.apply([endpoint(blue=[one for one in replicas if one is not gone], traffic={"blue": 100})])
            applied = time.monotonic()
            callers.wait_for(8)
            assert [seen["body"] for seen in gone.calls if callers.begun[seen["body"]] > applied] == []
            gone.calls.clear()
    assert callers.failed == []


def test_endpoints_and_deployments_come_and_go_under_load(gateway, endpoint, replica, load):
    blue, green = replica("blue"), replica("green")
    plain = endpoint(blue=[blue], traffic={"blue": 100})
    more = endpoint(blue=[blue], green=[green], traffic={"blue": 50, "green": 50})
    gateway.apply([plain])
    with load(gateway.scoring_uri("tides")) as callers:
        for _ in range(15):
            gateway.apply([more, endpoint(name="winds", blue=[blue], traffic={"blue": 100})])
            callers.wait_for(4)
            gateway.apply([plain])
    assert callers.failed == []
    assert green.calls


@pytest.mark.parametrize("left", ["another replica", "no replica", "no deployment", "no endpoint"])
def test_a_request_inside_finishes_when_its_replica_leaves(gateway, endpoint, replica, call, left):
    one, two = replica("one"), replica("two")
    gateway.apply([endpoint(blue=[one], traffic={"blue": 100})])
    uri = gateway.scoring_uri("tides")
    answers = []
    inside = threading.Thread(target=lambda: answers.append(call(uri, b"sleep 0.5")))
    inside.start()
    wait_until(lambda: one.calls)
    gateway.apply(
        {
            "another replica": [endpoint(blue=[two], traffic={"blue": 100})],
            "no replica": [endpoint(blue=[], traffic={"blue": 100})],
            "no deployment": [endpoint()],
            "no endpoint": [],
        }[left]
    )
    assert gateway.stats("tides", "blue")["active"] == 1
    assert call(uri).status == {"another replica": 200, "no replica": 503}.get(left, 404)
    inside.join()
    assert [answer.body for answer in answers] == [b"one:sleep 0.5"]
    assert len(one.calls) == 1
    wait_until(lambda: gateway.stats("tides", "blue")["active"] == 0)


def test_a_killed_replica_loses_only_the_requests_inside_it(gateway, endpoint, replica, replica_process, load):
    process, address = replica_process("doomed")
    other = replica("other")
    gateway.apply([endpoint(blue=[address, other], traffic={"blue": 100})])
    with load(gateway.scoring_uri("tides"), callers=6, body="sleep 0.01") as callers:
        callers.wait_for(100)
        process.kill()
        process.wait()
        callers.wait_for(300)
    assert len(callers.failed) <= 6
    assert {status for status, _ in callers.failed} <= {502, None}  # None: it had begun to answer


def test_a_dead_replica_beside_a_living_one_fails_nothing(gateway, endpoint, replica, folder, load):
    living = replica("living")
    gateway.apply([endpoint(blue=[living, str(folder / "gone.sock")], traffic={"blue": 100})])
    with load(gateway.scoring_uri("tides")) as callers:
        callers.wait_for(300)
    assert callers.failed == []
    assert len(living.calls) == callers.answered


def test_statistics_count_requests(gateway, endpoint, replica, call):
    blue = replica("blue")
    gateway.apply([endpoint(blue=[blue], green=[], traffic={"blue": 100})])
    for _ in range(7):
        call(gateway.scoring_uri("tides"))
    assert gateway.stats("tides", "blue") == {"total": 7, "active": 0}
    assert gateway.stats("tides", "green") == {"total": 0, "active": 0}
    assert gateway.stats("nobody", "at-home") == {"total": 0, "active": 0}
