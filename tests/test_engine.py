"""What Docker's engine says, told as one sentence: met for real, where a machine can bring it about."""

import contextlib
import os
import socket
import subprocess
import sys

import pytest
from docker.errors import APIError

from modelport import engine, errors

BASE = "modelport-test/base:bookworm"


def test_a_port_that_is_taken_is_named(docker_engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made = docker_engine.containers.create(BASE, ["sleep", "60"], ports={"80/tcp": ("127.0.0.1", port)})
        try:
            with (
                pytest.raises(errors.DeploymentFailed, match=rf"^Replica 'x': .*{port} is taken by another program"),
                engine.told("Replica 'x'"),
            ):
                made.start()
        finally:
            made.remove(force=True)


def test_an_image_that_is_nowhere_is_named(docker_engine):
    with (
        pytest.raises(errors.ImageBuildFailure, match=r"^Image 'modelport-test/nowhere:1' is not there"),
        engine.told("Image 'modelport-test/nowhere:1'"),
    ):
        docker_engine.images.get("modelport-test/nowhere:1")


def test_what_cannot_be_an_images_name_is_told_so(docker_engine):
    with (
        pytest.raises(errors.ImageBuildFailure, match=r"^Image 'No Such:1': that is no name of an image .*Correct it"),
        engine.told("Image 'No Such:1'"),
    ):
        docker_engine.images.get("No Such:1")


def test_a_full_disk_is_told_with_the_remedy():
    said = APIError("500", explanation="failed to register layer: write /usr/lib/x: no space left on device")
    error = engine.meant(said, "Image 'x'")
    assert isinstance(error, errors.ImageBuildFailure)
    assert str(error).startswith("Image 'x': the disk that Docker uses is full. Make room, with `modelport prune`")


def test_whoever_may_not_use_the_engine_is_told_so(docker_engine, tmp_path):
    if os.getuid():
        pytest.skip("Another user takes root.")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        (tmp_path / "s").chmod(0o600)
        for folder in (tmp_path, *tmp_path.parents[:3]):
            folder.chmod(folder.stat().st_mode | 0o011)
        code = (
            "import os; from modelport import engine\n"
            "os.setuid(1001)\n"
            "try:\n    engine.must_listen(os.environ['DOCKER_HOST'])\n"
            "except Exception as error:\n    print(type(error).__name__, error)\n"
        )
        environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/s", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DockerEngineNotAvailableError Docker's engine does not answer")
    assert "add yourself to the group 'docker'" in done.stdout


def test_what_is_not_known_is_told_in_the_engines_own_words():
    error = engine.meant(APIError("500", explanation="the moon is full."), "Replica 'x'")
    assert str(error) == "Replica 'x': Docker's engine says: the moon is full."
    assert type(error) is errors.DeploymentFailed


@pytest.mark.parametrize("said", ["tcp://docker.example.com:2376", "ssh://me@example.com", "tcp://10.0.0.7:2375"])
def test_an_engine_elsewhere_is_refused_and_one_on_loopback_is_not(monkeypatch, said):
    monkeypatch.setenv("DOCKER_HOST", said)
    with pytest.raises(errors.DockerEngineNotAvailableError, match="on another machine"):
        engine.connect()
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(errors.DockerEngineNotAvailableError, match=r"does not answer at 'tcp://127.0.0.1:9'"):
        engine.connect()
