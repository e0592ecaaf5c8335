"""
The server of Modelport in a container itself: its gateway reaches the replicas all the same.

It is given the engine's socket and this machine's folders under their own paths, as whoever runs it so must.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from tests.e2e.conftest import BASE, wait_until

import modelport
from modelport import engine
from modelport.backends.docker import workspace_mark
from modelport.testing import environments_folder

STORY = """
import sys
from modelport import MLClient
from modelport.entities import CodeConfiguration, Environment, ManagedOnlineDeployment, ManagedOnlineEndpoint
home, code, image = sys.argv[1:]
client = MLClient.local(backend="docker", home=home, show_progress=False)
client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
blue = ManagedOnlineDeployment(
    name="blue", endpoint_name="tides", code_configuration=CodeConfiguration(code, "score.py"),
    environment=Environment(image=image), instance_count=2,
)
client.online_deployments.begin_create_or_update(blue).result(240)
kept = ManagedOnlineDeployment(
    name="kept", endpoint_name="tides", code_configuration=CodeConfiguration(code, "score.py"),
    environment=Environment(image=image), egress_public_network_access="disabled",
)
client.online_deployments.begin_create_or_update(kept).result(240)
for name in ("blue", "kept"):
    print(name, client.online_endpoints.invoke("tides", deployment_name=name, input_data=7), flush=True)
"""


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    (made / "home").mkdir()
    environments_folder().mkdir(parents=True, exist_ok=True)
    (made / "home" / "environments").symlink_to(environments_folder())
    (made / "code").mkdir()
    (made / "code" / "score.py").write_text("def init():\n    pass\ndef run(raw):\n    return 2 * int(raw)\n")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_the_gateway_in_a_container_reaches_the_replicas(docker_engine, folder):
    # The interpreter, its packages and this checkout, as they are here.
    shared = {sys.base_prefix, sys.prefix, str(Path(modelport.__file__).parent.parent), str(environments_folder())}
    volumes = {each: {"bind": each, "mode": "rw"} for each in (*shared, str(folder), "/var/run/docker.sock")}
    home = folder / "home"
    server = docker_engine.containers.run(
        BASE,
        [sys.executable, "-c", STORY, str(home), str(folder / "code"), BASE],
        detach=True,
        volumes=volumes,
        environment={"HOME": os.environ.get("HOME", "/root"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    label = {"label": f"{engine.WORKSPACE}={workspace_mark(home / 'run' / 'r')}"}
    try:
        wait_until(lambda: server.reload() or server.status == "exited", "the story ends", 240)
        said = server.logs().decode()
        assert said.splitlines()[-2:] == ["blue 14", "kept 14"], said
        assert len(docker_engine.containers.list(filters=label)) == 3
    finally:
        server.remove(force=True)
        for each in docker_engine.containers.list(all=True, filters=label):
            each.remove(force=True)
        for each in docker_engine.networks.list(filters=label):
            each.remove()
