"""What a caller gets, from the gateway or through it."""

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def tides(gateway, endpoint, replica):
    """Blue gets all the traffic, green none; `idle` has no ready replica."""
    blue, green = replica("blue"), replica("green")
    gateway.apply([endpoint(blue=[blue], green=[green], idle=[], traffic={"blue": 100})])
    gateway.blue, gateway.green = blue, green
    gateway.uri = gateway.scoring_uri("tides")
    return gateway


@pytest.mark.parametrize("key", ["key-1", "key-2"])
def test_each_key_opens(tides, call, key):
    answer = call(tides.uri, b"data", key=key)
    assert (answer.status, answer.body) == (200, b"blue:data")


@pytest.mark.parametrize("key", [None, "", "key-3", "key-1x", "xkey-1", "KEY-1", "key.1"])
def test_no_key_or_a_wrong_one_is_401(tides, call, key):
    answer = call(tides.uri, key=key)
    assert (answer.status, answer.error["code"]) == (401, "AuthenticationFailed")
    assert "tides" in answer.error["message"]
    assert tides.blue.calls == []


@pytest.mark.parametrize("said", ["key-1", "Basic key-1", "Bearer key-1, Bearer key-2", "Bearer"])
def test_a_key_without_its_scheme_is_401(tides, call, said):
    assert call(tides.uri, key=None, Authorization=said).status == 401


def test_the_scheme_is_bearer_in_any_case(tides, call):
    assert call(tides.uri, key=None, Authorization="bearer key-1").status == 200


def test_401_comes_before_any_404(tides, call):
    assert call(tides.uri, key="wrong", azureml_model_deployment="nobody").status == 401
    assert call(tides.uri + "/nothing-here", key="wrong").status == 401


def test_an_endpoint_without_keys_lets_nobody_in(gateway, endpoint, replica, call):
    gateway.apply([endpoint(keys=(), blue=[replica("blue")], traffic={"blue": 100})])
    assert call(gateway.scoring_uri("tides"), key="").status == 401
    assert call(gateway.scoring_uri("tides"), key="key-1").status == 401


def test_keys_of_one_endpoint_do_not_open_another(gateway, endpoint, replica, call):
    blue = replica("blue")
    gateway.apply(
        [
            endpoint(blue=[blue], traffic={"blue": 100}),
            endpoint(name="winds", keys=("other",), blue=[blue], traffic={"blue": 100}),
        ]
    )
    assert call(gateway.scoring_uri("winds"), key="key-1").status == 401
    assert call(gateway.scoring_uri("winds"), key="other").status == 200


def test_the_key_never_reaches_a_replica(tides, call):
    call(tides.uri)
    (seen,) = tides.blue.calls
    assert "authorization" not in seen["headers"]
    assert not [name for name in seen["headers"] if name.startswith("x-envoy")]


def test_a_replica_sees_its_own_path_and_the_query(tides, call):
    call(f"{tides.uri}?a=1&b=x%20y", b"", method="GET")
    assert [(seen["method"], seen["path"]) for seen in tides.blue.calls] == [("GET", "/score?a=1&b=x%20y")]


def test_health_and_description_are_served_behind_the_key(tides, call):
    health = tides.uri.removesuffix("score")
    for uri, path in ((health, "/"), (tides.openapi_uri("tides"), "/swagger.json")):
        assert call(uri, method="GET", key=None).status == 401
        assert call(uri, method="GET").status == 200
        assert tides.blue.calls[-1]["path"] == path


@pytest.mark.parametrize("path", ["scores", "score/", "score/../score", "metrics", "%73core", "/score"])
def test_other_paths_are_404(tides, call, path):
    answer = call(tides.uri.removesuffix("score") + path)
    assert (answer.status, answer.error["code"]) == (404, "ResourceNotFound")
    assert tides.blue.calls == []


@pytest.mark.parametrize("path", ["/", "/score", "/api/v1/endpoint/winds/score", "/api/v1/endpoint/tidesx/score"])
def test_an_unknown_endpoint_is_404(tides, call, path):
    answer = call(f"http://127.0.0.1:{tides.port}{path}")
    assert (answer.status, answer.error["code"]) == (404, "ResourceNotFound")


@pytest.mark.parametrize("said", ["green", "GREEN", "Green"])
def test_the_header_reaches_a_deployment_without_traffic(tides, call, said):
    answer = call(tides.uri, b"data", azureml_model_deployment=said)
    assert answer.body == b"green:data"
    assert answer.headers["azureml-model-deployment"] == "green"


def test_the_answer_says_who_answered(tides, call):
    answer = call(tides.uri)
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert answer.headers["server"] == "modelport"
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


@pytest.mark.parametrize("said", ["purple", 'no "one" \\ 100%', "blu", "blue2"])
def test_an_unknown_deployment_is_404_and_named(tides, call, said):
    answer = call(tides.uri, azureml_model_deployment=said)
    assert answer.status == 404
    assert f"'{said}'" in answer.error["message"]


def test_no_live_traffic_is_404(gateway, endpoint, replica, call):
    gateway.apply([endpoint(blue=[replica("blue")], traffic={"blue": 0})])
    answer = call(gateway.scoring_uri("tides"))
    assert (answer.status, answer.error["code"]) == (404, "ResourceNotFound")
    assert "traffic" in answer.error["message"]


def test_nothing_ready_is_503_with_retry_after(tides, call):
    answer = call(tides.uri, azureml_model_deployment="idle")
    assert (answer.status, answer.error["code"]) == (503, "ResourceNotReady")
    assert answer.headers["retry-after"] == "1"
    assert "'idle' of endpoint 'tides'" in answer.error["message"]


def test_only_dead_replicas_are_503_with_retry_after(gateway, endpoint, folder, call):
    gateway.apply([endpoint(blue=[str(folder / "gone.sock")], traffic={"blue": 100})])
    answer = call(gateway.scoring_uri("tides"))
    assert (answer.status, answer.error["code"]) == (503, "ResourceNotReady")
    assert answer.headers["retry-after"] == "1"


def test_each_deployment_has_its_own_time_limit(gateway, endpoint, replica, call):
    gateway.apply(
        [
            endpoint(
                blue=[replica("blue")],
                green=[replica("green")],
                traffic={"blue": 100},
                timeout={"blue": 0.2, "green": 30},
            )
        ]
    )
    uri = gateway.scoring_uri("tides")
    begin = time.monotonic()
    late = call(uri, b"sleep 5")
    assert time.monotonic() - begin < 4
    assert (late.status, late.error["code"]) == (408, "ServiceRequestTimeout")
    assert "'blue' of endpoint 'tides' did not answer within 0.2 s" in late.error["message"]
    assert call(uri, b"sleep 0.7", azureml_model_deployment="green").status == 200


def test_time_limits_hold_where_traffic_is_split(gateway, endpoint, replica, call):
    gateway.apply(
        [
            endpoint(
                blue=[replica("blue")],
                green=[replica("green")],
                traffic={"blue": 50, "green": 50},
                timeout={"blue": 0.05, "green": 60},
            )
        ]
    )
    with ThreadPoolExecutor(30) as clients:
        answers = list(clients.map(lambda _: call(gateway.scoring_uri("tides"), b"sleep 1"), range(30)))
    by_deployment = {(answer.headers["azureml-model-deployment"], answer.status) for answer in answers}
    assert by_deployment == {("blue", 408), ("green", 200)}


def test_callers_cannot_set_envoys_limits(gateway, endpoint, replica, call):
    blue = replica("blue")
    gateway.apply([endpoint(blue=[blue], traffic={"blue": 100}, timeout=0.2)])
    options = {"x_envoy_upstream_rq_timeout_ms": "5000", "x_envoy_retry_on": "5xx,reset", "x_envoy_max_retries": "3"}
    assert call(gateway.scoring_uri("tides"), b"sleep 0.5", **options).status == 408
    gateway.apply([endpoint(blue=[blue], traffic={"blue": 100}, timeout=30)])
    assert call(gateway.scoring_uri("tides"), b"die", **options).status == 502
    assert len(blue.calls) == 2


def test_a_request_that_was_sent_is_never_sent_again(gateway, endpoint, replica, call):
    one, two = replica("one"), replica("two")
    gateway.apply([endpoint(blue=[one, two], traffic={"blue": 100})])
    answer = call(gateway.scoring_uri("tides"), b"die")
    assert (answer.status, answer.error["code"]) == (502, "ServiceRequestError")
    assert "retry-after" not in answer.headers
    assert len(one.calls) + len(two.calls) == 1


def test_large_bodies_pass_both_ways(tides, call):
    body = b"y" * 20_000_000
    assert call(tides.uri, body).body == b"blue:" + body


def test_answers_stream(tides):
    connection = http.client.HTTPConnection("127.0.0.1", tides.port, timeout=10)
    connection.request("POST", "/api/v1/endpoint/tides/score", b"stream", {"Authorization": "Bearer key-1"})
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    tides.blue.go_on.set()
    assert response.read() == b"last\n"
    connection.close()


def test_an_id_that_the_caller_gave_is_kept(tides, call):
    call(tides.uri, x_request_id="mine")
    assert tides.blue.calls[-1]["headers"]["x-request-id"] == "mine"


def test_many_requests_wait_inside_one_replica(tides, call):
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(call(tides.uri, b"sleep 0.3").status)) for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 60


def test_keys_may_be_long(gateway, endpoint, replica, call):
    keys = ("k" * 200, "l" * 200)
    gateway.apply([endpoint(keys=keys, traffic={"blue": 100}, blue=[replica("blue")])])
    uri = gateway.scoring_uri("tides")
    assert [call(uri, key=key).status for key in keys] == [200, 200]


def test_a_server_of_ones_own_is_reached_at_all_its_paths_and_a_script_at_its_few(gateway, endpoint, replica, call):
    blue, own = replica("blue"), replica("own")
    scoring = {"own": "/v1/models/tide:predict"}
    gateway.apply([endpoint(blue=[blue], own=[own], scoring=scoring, traffic={"blue": 100})])
    uri = gateway.scoring_uri("tides")
    base = uri.removesuffix("/score")
    assert call(f"{uri}?a=1", azureml_model_deployment="own").status == 200
    assert call(f"{base}/v2/health/ready", method="GET", azureml_model_deployment="own").status == 200
    assert [each["path"] for each in own.calls] == ["/v1/models/tide:predict?a=1", "/v2/health/ready"]
    assert call(f"{base}/v2/health/ready", method="GET").status == 404
    assert call(uri).status == 200
    assert [each["path"] for each in blue.calls] == ["/score"]
    gateway.apply([endpoint(blue=[blue], own=[own], scoring=scoring, traffic={"own": 100}, mirror={"blue": 100})])
    assert call(uri).body == b"own:hello"
    assert call(f"{base}/anything/else").body == b"own:hello"
