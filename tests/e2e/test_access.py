"""Who gets in, and to whom: as the gateway decides, over HTTP."""

import json
import urllib.error
import urllib.request

import pytest


def post(url, key=None, deployment=None):
    """Status, the deployment that the answer names, and the answer."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    if deployment is not None:
        headers["azureml-model-deployment"] = deployment
    request = urllib.request.Request(url, b'{"n": 7}', headers)
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers["azureml-model-deployment"], json.load(answer)


@pytest.fixture(scope="module")
def doors(module_site):
    """A site with `blue`, which has all of the traffic, and `green`, which has none; its URL and both keys."""
    module_site.create()
    module_site.deploy("blue-1", 1)
    module_site.deploy("green-1", 1)
    module_site.route(blue=100)
    keys = module_site.client.online_endpoints.get_keys("tides")
    return module_site.address()[0], keys.primary_key, keys.secondary_key


@pytest.mark.parametrize("which", [1, 2])
def test_either_key_opens(doors, which):
    status, deployment, answer = post(doors[0], doors[which])
    assert (status, deployment, answer["model"]) == (200, "blue", "blue-1")


@pytest.mark.parametrize("name", ["blue", "green"])
def test_the_header_reaches_the_named_deployment_whatever_its_traffic(doors, name):
    for _ in range(10):
        status, deployment, answer = post(doors[0], doors[1], name)
        assert (status, deployment, answer["model"]) == (200, name, f"{name}-1")


def test_an_unknown_deployment_is_404(doors):
    status, _, answer = post(doors[0], doors[1], "red")
    assert status == 404
    assert "'red'" in answer["error"]["message"]


@pytest.mark.parametrize("key", [None, "", "wrong", "blue"])
@pytest.mark.parametrize("name", [None, "blue", "red"])
def test_without_the_right_key_it_is_401_before_anything_else(doors, key, name):
    status, _, answer = post(doors[0], key, name)
    assert status == 401
    assert "Bearer" in answer["error"]["message"]
    assert post(doors[0] + "/nowhere", key, name)[0] == 401


def test_an_endpoint_that_is_not_there_is_404(doors):
    assert post(doors[0].replace("tides", "waves"), doors[1])[0] == 404


def test_an_endpoint_without_traffic_is_404_and_its_deployments_are_reached_by_name(doors, module_site):
    module_site.route(blue=0, green=0)
    assert post(doors[0], doors[1])[0] == 404
    assert post(doors[0], doors[1], "green")[0] == 200
    module_site.route(blue=100)
    assert post(doors[0], doors[1])[0] == 200
