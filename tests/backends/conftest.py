import pytest

from modelport.builds.base import Wanted
from modelport.builds.image import ImageBuilder
from modelport.testing import environments_folder

pytest.register_assert_rewrite("tests.contracts.backend")


@pytest.fixture(scope="session")
def built_image(docker_engine):
    """What a deployment without packages of its own runs in."""
    builder = ImageBuilder(environments_folder() / "images")
    yield builder.build(Wanted(image="modelport-test/base:bookworm"), lambda _: None)
    builder.close()
