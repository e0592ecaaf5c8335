"""An answer that comes in pieces, as a user deploys and calls it."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

SCRIPT = """
import asyncio
from pathlib import Path


def init():
    pass


async def run(data):
    yield {"n": 0}
    while not Path(__file__).with_name("go").exists():
        await asyncio.sleep(0.01)
    yield {"n": 1}
"""


@pytest.mark.parametrize("empty_site", ["process"], indirect=True)
def test_a_script_streams_to_the_endpoint_s_callers_and_invoke_reads_it_whole(empty_site):
    site = empty_site
    site.create()
    deployment = site.deployment("blue-1", 1)
    code = site.home / "code" / "blue-1"
    (code / "score.py").write_text(SCRIPT)
    site.client.online_deployments.begin_create_or_update(deployment).result(120)
    site.route(blue=100)
    uri, key = site.address()
    url = urlsplit(uri)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    connection.request("POST", url.path, b"1", {"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    assert json.loads(answer.readline()) == {"n": 0}
    served = [path.parent for path in site.runtime.parent.rglob("score.py")] + [code]
    for folder in served:
        (folder / "go").touch()
    assert json.loads(answer.readline()) == {"n": 1}
    connection.close()
    request = site.home / "request.json"
    request.write_text("1")
    assert site.client.online_endpoints.invoke("tides", request_file=str(request)) == '{"n": 0}\n{"n": 1}\n'
