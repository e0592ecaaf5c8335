"""Clients come and go; endpoints, and what was begun, stay."""

import pickle
import signal
import subprocess
import sys

FIRST = """
import pickle, sys
from modelport import MLClient

home, backend, endpoint, green = pickle.load(sys.stdin.buffer)
client = MLClient.local(home=home, backend=backend)
client.online_endpoints.begin_create_or_update(endpoint).result()
poller = client.online_deployments.begin_create_or_update(green)
assert not poller.done()
print("begun", flush=True)
poller.result()
print("ended", flush=True)
"""


def test_another_client_finds_what_a_killed_one_had_begun(empty_site, until):
    site = empty_site
    green = site.deployment("green-1", 2, start=8)
    begun = pickle.dumps((str(site.home), site.backend, site.endpoint, green))
    first = subprocess.Popen([sys.executable, "-c", FIRST], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        first.stdin.write(begun)
        first.stdin.close()
        assert first.stdout.readline() == b"begun\n"
    finally:
        first.kill()
        assert first.wait(10) == -signal.SIGKILL
        rest = first.stdout.read()
        first.stdout.close()
    assert rest == b""
    (server,) = site.servers()

    deployments = site.client.online_deployments  # another client, which finds the first one's server
    assert set(site.servers()) == {server}
    assert [each.name for each in site.client.online_endpoints.list()] == ["tides"]
    assert deployments.get("green", endpoint_name="tides").provisioning_state in {"Creating", "Updating"}
    until(lambda: deployments.get("green", endpoint_name="tides").provisioning_state == "Succeeded", "green is there")
    site.route(green=100)
    answer = site.client.online_endpoints.invoke("tides", input_data={"n": 5})
    assert answer.json()["model"] == "green-1"
    assert len(site.processes()) == 4
