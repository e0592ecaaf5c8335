"""The whole rollout under a load of 200 requests a second: no request fails, and every one is accounted for."""

REQUESTS = 500
"""In each phase, at least."""


def test_no_request_fails_during_the_whole_story(site, expected):
    with site.load() as load:
        with load.phase("deploy green"):
            site.deploy("green-1", 1)
        with load.phase("mirror 30% to green") as mirroring:
            mirroring.settled = site.route(blue=100, mirror={"green": 30})
        with load.phase("10% to green") as tenth:
            tenth.settled = site.route(blue=90, green=10)
            load.more(2000)
        with load.phase("100% to green") as whole:
            whole.settled = site.route(green=100)
        with load.phase("scale blue, which is idle, 2 to 1"):
            site.deploy("blue-1", 1, busy=0.002)
        with load.phase("scale green, which is busy, 1 to 3"):
            site.deploy("green-1", 3)
        with load.phase("scale green 3 to 2"):
            site.deploy("green-1", 2)
        with load.phase("update green's code") as updating:
            site.deploy("green-2", 2)
        with load.phase("delete blue"):
            site.client.online_deployments.begin_delete("blue", endpoint_name="tides").result(60)
    assert load.failures() == []
    assert {name: len(load.of(phase)) for name, phase in load.phases.items() if len(load.of(phase)) < REQUESTS} == {}
    copied = load.check_counts(mirror="green-1")

    def models(since, phase):
        return [each.model for each in load.of(phase) if each.sent > since]

    # The mirror: a copy of some requests, and all answers are blue's.
    assert {each.deployment for each in load.of(mirroring)} == {"blue"}
    mirrored = [each.n for each in load.of(mirroring) if each.sent > mirroring.settled]
    assert len(copied.intersection(mirrored)) in expected(len(mirrored), 30)
    during = {each.n for each in load.seen() if mirroring.begin <= each.done and each.sent <= tenth.settled}
    assert copied <= during
    # The split: from the moment at which it was said to be there.
    split = models(tenth.settled, tenth)[:2000]
    assert len(split) == 2000
    assert split.count("green-1") in expected(2000, 10)
    # All to one; then to its new code alone.
    assert set(models(whole.settled, whole)) == {"green-1"}
    assert set(models(updating.done, updating)) == {"green-2"}
    assert set(models(0.0, load.phases["delete blue"])) == {"green-2"}
    assert site.replicas("blue") == {}
    assert len(site.replicas("green")) == 2


def test_the_bound_is_exact(expected):
    # Half a millionth is between 2**-20 and 2**-21: of 20 throws of a coin any count may come, of 21 neither 0 nor 21.
    assert expected(20, 50) == range(21)
    assert expected(21, 50) == range(1, 21)
