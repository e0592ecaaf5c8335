import shutil
from pathlib import Path

import docker
import pytest

import modelport_scoring

pytest.register_assert_rewrite("tests.contracts.backend")
BASE = "modelport-test/base:bookworm"


@pytest.fixture(scope="session")
def engine_client():
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def scoring_image(engine_client, tmp_path_factory):
    """Id of an image with the scoring server in the image's own Python."""
    folder = tmp_path_factory.mktemp("image")
    shutil.copytree(
        Path(modelport_scoring.__file__).parent,
        folder / "modelport_scoring",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (folder / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY modelport_scoring/requirements.txt /tmp/requirements.txt\n"
        "RUN pip install -q -r /tmp/requirements.txt\n"
        "COPY modelport_scoring /usr/lib/python3/dist-packages/modelport_scoring\n"
    )
    image, _ = engine_client.images.build(path=str(folder), rm=True)
    return image.id
