"""The commands where there are two workspaces: one of processes, one of containers."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

STORY = textwrap.dedent("""
    import sys
    from modelport import MLClient
    from modelport.entities import CodeConfiguration, Environment, ManagedOnlineDeployment
    code, image = sys.argv[1:]
    client = MLClient.local(show_progress=False)
    for name in ("blue", "green"):
        wanted = ManagedOnlineDeployment(
            name=name, endpoint_name="tides", code_configuration=CodeConfiguration(code, "score.py"),
            environment=Environment(image=image, conda_file={"dependencies": [{"pip": ["idna==3.10"]}]}),
        )
        client.online_deployments.begin_create_or_update(wanted, local=True)
    print(client.online_endpoints.invoke("tides", deployment_name="blue", input_data=1, local=True))
""")


@pytest.fixture
def deployed(home, docker_engine, tmp_path):
    """Two deployments in Docker, made by a client of processes."""
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(raw): return 'high'\n")
    command = [sys.executable, "-c", STORY, str(tmp_path), "modelport-test/base:bookworm"]
    try:
        done = subprocess.run(command, env=home.environ, capture_output=True, text=True, check=False, timeout=240)
        assert (done.returncode, done.stdout) == (0, '"high"\n'), done.stderr
        yield home
    finally:
        home.run("down")
        home.run("prune")


def made_by(home, docker_engine):
    """Ids of the images that were made for a home."""
    found = docker_engine.api.images(filters={"label": "modelport.folder"})
    return sorted(each["Id"] for each in found if each["Labels"]["modelport.folder"].startswith(str(home.folder)))


def test_status_down_up_and_prune_are_about_both_workspaces(deployed, docker_engine, until):
    labels = {"label": [f"modelport.home={deployed.folder / 'docker' / 'run' / 'r'}"]}
    said = json.loads(deployed.run("status", "--json").stdout)
    assert (said["backend"], said["endpoints"]) == ("process", [])
    assert (said["docker"]["backend"], [each["name"] for each in said["docker"]["endpoints"]]) == ("docker", ["tides"])
    assert len(docker_engine.containers.list(filters=labels)) == 2
    images = made_by(deployed, docker_engine)
    assert images
    deployed.run("prune")  # whatever homes that are gone have left
    assert made_by(deployed, docker_engine) == images, "what is served from stays"
    assert deployed.run("down").stdout == "Modelport is down.\n"
    assert docker_engine.containers.list(all=True, filters=labels) == []
    assert docker_engine.networks.list(filters=labels) == []
    said = json.loads(deployed.run("status", "--json").stdout)
    assert (said["up"], said["docker"]["up"]) == (False, False)
    assert deployed.run("status").stdout == "Modelport is not up.\nModelport in Docker is not up.\n"
    assert deployed.run("up").stdout.count(" is up") == 2, "as `down` ends both"
    assert len(docker_engine.containers.list(filters=labels)) == 2, "endpoints were remembered"
    server = json.loads(deployed.run("status", "--json").stdout)["docker"]["pid"]
    os.kill(server, signal.SIGKILL)
    until(lambda: "its server died" in deployed.run("status").stdout.lower())
    assert "run `modelport up --backend docker` to manage them again" in deployed.run("status").stdout
    assert deployed.run("up", "--backend", "docker").stdout.count(" is up") == 1
    assert deployed.run("down").stdout == "Modelport is down.\n"
