"""The table of environments where images are needed: each is built, and serves behind the gateway, or says why not."""

import pytest
from tests.builds.channel import add_channels, shared
from tests.builds.shapes import SHAPES

from modelport import errors
from modelport.entities import (
    BuildContext,
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
)
from modelport.schema import files
from modelport.testing import environments_folder, workspace

BASE = "modelport-test/base:bookworm"
IMAGES = [each for each in SHAPES if each.build == "image"]
NAMED = {"ids": lambda shape: shape.name}


@pytest.fixture(scope="module")
def client(docker_engine):
    with workspace(backend="docker") as made:
        made.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
        yield made


@pytest.fixture
def deployment(tmp_path):
    channels = shared(environments_folder().with_name("test-channels"), add_channels)
    places = {name: (channels / name).as_uri() for name in ("main", "extra")}

    def make(shape):
        conda = None
        if shape.file:
            (tmp_path / "conda.yml").write_text(shape.text(**places))
            conda = files.read_mapping(tmp_path / "conda.yml")
        build = None
        if shape.dockerfile:
            (tmp_path / "context").mkdir()
            (tmp_path / "context" / "Dockerfile").write_text(shape.dockerfile.replace("{base}", BASE))
            build = BuildContext(path=str(tmp_path / "context"))
        image = None if build else shape.image.replace("{base}", BASE)
        (tmp_path / "code").mkdir()
        serves = shape.serves or "1"
        (tmp_path / "code" / "score.py").write_text(f"def init(): pass\ndef run(data): return {serves}\n")
        return ManagedOnlineDeployment(
            name="shape",
            endpoint_name="tides",
            environment=Environment(image=image, build=build, conda_file=conda),
            code_configuration=CodeConfiguration(str(tmp_path / "code"), "score.py"),
        )

    return make


@pytest.mark.parametrize("shape", [each for each in IMAGES if not each.fails], **NAMED)
def test_a_shape_becomes_an_image_and_serves(client, deployment, shape):
    client.online_deployments.begin_create_or_update(deployment(shape)).result(240)
    assert client.online_endpoints.invoke("tides", deployment_name="shape", input_data={}).json() == shape.gives
    client.online_deployments.begin_delete("shape", "tides").result(60)


@pytest.mark.parametrize("shape", [each for each in IMAGES if each.fails], **NAMED)
def test_a_shape_that_becomes_no_image_names_what_is_at_fault(client, deployment, shape):
    with pytest.raises(errors.ImageBuildFailure) as caught:
        client.online_deployments.begin_create_or_update(deployment(shape)).result(240)
    assert [words for words in shape.fails if words not in caught.value.message] == []
    client.online_deployments.begin_delete("shape", "tides").result(60)
