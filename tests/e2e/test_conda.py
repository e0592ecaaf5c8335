"""A deployment whose environment comes from a conda channel, on its whole way."""

import pytest
from tests.builds.channel import add_channels, shared

from modelport.entities import Environment
from modelport.testing import environments_folder


@pytest.fixture
def channel():
    return shared(environments_folder().with_name("test-channels"), add_channels) / "main"


def test_a_script_runs_with_conda_packages_and_pip_packages(tides, sources, channel, monkeypatch, tmp_path):
    monkeypatch.setenv("RATTLER_CACHE_DIR", str(tmp_path / "rattler"))
    script = (
        "import sys, idna, yaml\n"
        "def init(): pass\n"
        "def run(said): return [yaml.__with_libyaml__, idna.__version__, yaml.safe_load(said)]\n"
    )
    conda_file = {
        "channels": [channel.as_uri()],
        "dependencies": ["python", "pyyaml", {"pip": ["idna==3.10"]}],
    }
    deployment = sources.deployment(script=script, environment=Environment(image="any", conda_file=conda_file))
    tides.online_deployments.begin_create_or_update(deployment).result(120)
    answer = tides.online_endpoints.invoke("tides", input_data="[1, {a: 2}]", deployment_name="blue")
    assert answer.json() == [True, "3.10", [1, {"a": 2}]]
