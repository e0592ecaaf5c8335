"""Jobs in their order, and beside each other."""

import threading

from modelport.controlplane.lanes import Lanes


def test_a_lane_keeps_its_order():
    lanes, done = Lanes(), []
    for number in range(100):
        lanes.put("one", lambda number=number: done.append(number))
    assert lanes.wait_until_empty(10)
    assert done == list(range(100))


def test_lanes_do_not_wait_for_each_other():
    lanes, go, done = Lanes(), threading.Event(), threading.Event()
    lanes.put("slow", go.wait)
    lanes.put("quick", done.set)
    assert done.wait(10)
    assert not lanes.wait_until_empty(0)
    go.set()
    assert lanes.wait_until_empty(10)


def test_a_job_that_raises_stops_nobody(caplog):
    lanes, done = Lanes(), threading.Event()
    lanes.put("one", lambda: 1 / 0)
    lanes.put("one", done.set)
    assert done.wait(10)
    assert "A job of lane one raised" in caplog.text
