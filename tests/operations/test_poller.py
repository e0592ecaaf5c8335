"""Waiting for what takes time."""

import os
import pty
import re
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from modelport.arm import lro
from modelport.arm.ids import LOCAL_WORKSPACE
from modelport.arm.messages import Response
from modelport.entities import ManagedOnlineEndpoint
from modelport.errors import (
    DeploymentFailed,
    HttpResponseError,
    OperationCanceled,
    PollingTimeoutError,
    ResourceNotFoundError,
    ServiceRequestError,
    UserScriptInitFailed,
)
from modelport.operations.poller import LROPoller, follow_operation

SLOW = "import time\ndef init(): time.sleep(0.8)\ndef run(raw): return 1\n"


def test_a_poller_waits_and_gives_what_was_made(tides, sources):
    poller = tides.online_deployments.begin_create_or_update(sources.deployment(script=SLOW))
    called = threading.Event()
    poller.add_done_callback(lambda each: called.set() if each is poller else None)
    assert (poller.status(), poller.done()) == ("InProgress", False)
    with pytest.raises(PollingTimeoutError, match=r"Deployment 'blue' of 'tides': not ended within 0\.1 s"):
        poller.result(0.1)
    poller.wait(0.01)
    assert not poller.done()
    made = poller.result(60)
    assert (made.name, made.provisioning_state) == ("blue", "Succeeded")
    assert (poller.status(), poller.done()) == ("Succeeded", True)
    assert called.wait(10)
    assert poller.result() is made


def test_a_failures_cause_is_the_exception_every_time(tides, sources):
    broken = "def init(): raise ValueError('no tide tables')\ndef run(raw): return 1\n"
    poller = tides.online_deployments.begin_create_or_update(sources.deployment(script=broken))
    for _ in range(2):
        with pytest.raises(UserScriptInitFailed, match="no tide tables"):
            poller.result(60)
    assert poller.status() == "Failed"
    poller.wait(0)


def test_every_begin_gives_a_poller(ml_client, sources):
    endpoints, deployments = ml_client.online_endpoints, ml_client.online_deployments
    pollers = [ml_client.begin_create_or_update(ManagedOnlineEndpoint(name="tides"))]
    pollers[0].result(60)
    pollers.append(endpoints.begin_regenerate_keys("tides"))
    pollers.append(ml_client.begin_create_or_update(sources.deployment()))
    pollers[-1].result(60)
    pollers.append(deployments.begin_delete("blue", "tides"))
    pollers.append(deployments.begin_delete("nobody", "tides"))
    pollers[-2].result(60)
    pollers.append(endpoints.begin_delete("tides"))
    pollers.append(endpoints.begin_delete("nobody"))
    assert all(isinstance(each, LROPoller) for each in pollers)
    assert [each.result(60) for each in pollers[3:]] == [None] * 4
    assert {each.status() for each in pollers} == {"Succeeded"}


class Service:
    """Answers polls as they were written down, and counts them."""

    workspace = LOCAL_WORKSPACE

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def send(self, request):
        self.asked.append((request.path, time.monotonic()))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _followed(service, way, resource=None):
    follow = lro.Follow(way, "https://azure.example/operations/1", resource)
    return LROPoller(follow_operation(service, follow, lambda document: document, "Endpoint 'x'"), "Endpoint 'x'")


def test_a_location_is_followed_until_it_is_done():
    service = Service(Response(202), Response(202), Response(204))
    assert _followed(service, "location").result(10) is None
    assert [path for path, _ in service.asked] == ["https://azure.example/operations/1"] * 3


def test_a_resources_own_state_is_followed():
    creating, done = ({"properties": {"provisioningState": state}} for state in ("Creating", "Succeeded"))
    service = Service(Response(200, creating), Response(200, done))
    assert _followed(service, "resource", "/subscriptions/x").result(10) == done


def test_a_resource_that_failed_at_once_is_an_error():
    failed = Response(201, {"properties": {"provisioningState": "Failed"}})
    follow = lro.start(failed, "/subscriptions/x")
    poller = LROPoller(follow_operation(Service(failed), follow, lambda document: document, "Endpoint 'x'"), "x")
    with pytest.raises(DeploymentFailed, match="Endpoint 'x' ended as Failed"):
        poller.result(10)


def test_an_operation_that_was_canceled_says_so():
    service = Service(Response(200, {"status": "Canceled"}))
    poller = _followed(service, "operation")
    with pytest.raises(OperationCanceled, match="Endpoint 'x' was canceled"):
        poller.result(10)
    assert poller.status() == "Canceled"


def test_an_operation_that_failed_without_a_word_is_told_in_ours():
    with pytest.raises(HttpResponseError, match=r"Endpoint 'x' ended as Failed.*did not say why"):
        _followed(Service(Response(200, {"status": "Failed"})), "operation").result(10)


def test_a_failure_in_azures_words_is_ours_where_we_have_one():
    error = {"code": "ResourceNotFound", "message": "The model is gone."}
    with pytest.raises(ResourceNotFoundError, match="The model is gone"):
        _followed(Service(Response(200, {"status": "Failed", "error": error})), "operation").result(10)


def test_a_server_that_asks_for_a_pause_gets_no_more_than_that():
    service = Service(
        *[Response(200, {"status": "InProgress"}, {"x-ms-retry-after-ms": "10"})] * 20,
        Response(200, {"status": "Succeeded"}),
    )
    _followed(service, "operation").result(10)
    times = [moment for _, moment in service.asked]
    assert times[-1] - times[0] < 2


def test_pauses_grow_when_nobody_asks_for_one():
    service = Service(*[Response(200, {"status": "InProgress"})] * 6, Response(200, {"status": "Succeeded"}))
    _followed(service, "operation").result(10)
    times = [moment for _, moment in service.asked]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[-1] > pauses[0]


def test_a_service_that_is_away_for_too_long_is_given_up(caplog):
    class Away(Service):
        def send(self, request):
            super().send(request)
            raise ServiceRequestError("no answer came: Connection refused.")

    service = Away(Response(200))
    follow = lro.Follow("operation", "https://azure.example/operations/1", None)
    run = follow_operation(service, follow, lambda document: document, "Endpoint 'x'", patience=0.3)
    poller = LROPoller(run, "Endpoint 'x'")
    with pytest.raises(ServiceRequestError, match="Connection refused"):
        poller.result(20)
    assert len(service.asked) > 3
    assert len([each for each in caplog.records if "Asking again for up to" in each.message]) == 1


@pytest.mark.parametrize("said", [Response(403, {"error": {"code": "X", "message": "No."}}), Response(404)])
def test_an_answer_that_says_no_ends_it(said):
    with pytest.raises(HttpResponseError):
        _followed(Service(Response(200, {"status": "InProgress"}), said), "operation").result(10)


def test_a_location_that_fails_for_good_is_believed():
    """A 500 with an error of Azure's own is the operation's, not the connection's."""
    failed = Response(500, {"error": {"code": "InternalServerError", "message": "The disk is full."}})
    with pytest.raises(DeploymentFailed, match="The disk is full"):
        _followed(Service(Response(202), failed), "location").result(10)


def test_a_terminal_is_told_while_somebody_waits_and_nothing_is_left_on_it():
    script = (
        "import threading\n"
        "from modelport.operations.poller import LROPoller\n"
        "from modelport.arm.lro import Look\n"
        "def follow(poller):\n"
        "    poller._saw(Look('InProgress', ended=False, progress='Step 2/5 : RUN make ' + 300 * '.'))\n"
        "    threading.Event().wait(5)\n"
        "poller = LROPoller(follow, 'Endpoint tides', show_progress=True)\n"
        "poller.result(20)\n"
        "assert poller.progress() == ''\n"
    )
    master, slave = pty.openpty()
    done = subprocess.run([sys.executable, "-c", script], stderr=slave, stdout=subprocess.PIPE, timeout=60, check=True)
    os.close(slave)
    shown = os.read(master, 10_000).decode()
    os.close(master)
    assert re.search(r"\rEndpoint tides: InProgress, \d s  Step 2/5 : RUN make \.\.\.", shown)
    assert len(shown.split("\r")[1]) <= 80 + len("\x1b[K"), "one line"
    assert shown.endswith("\r\x1b[K")
    assert done.stdout == b""


def test_nothing_but_a_terminal_is_told(capfd):
    LROPoller(lambda _: threading.Event().wait(1.1), "x", show_progress=True).result(20)
    assert capfd.readouterr() == ("", "")


def test_callbacks_are_called_once_each_also_after_the_end_and_after_one_that_raises(caplog):
    called, go = [], threading.Event()

    def follow(_poller):
        go.wait(10)

    poller = LROPoller(follow, "x")
    dropped, raising = (lambda _: called.append("dropped")), (lambda _: 1 / 0)
    for callback in (raising, dropped, lambda _: called.append("first")):
        poller.add_done_callback(callback)
    poller.remove_done_callback(dropped)
    go.set()
    poller.result(10)
    poller.add_done_callback(lambda _: called.append("late"))
    deadline = time.monotonic() + 10
    while len(called) < 2:
        assert time.monotonic() < deadline
    assert sorted(called) == ["first", "late"]
    assert "A callback for the end of x raised" in caplog.text
