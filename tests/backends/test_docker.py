"""The contract of backends, kept by containers; and what only containers have."""

import shutil
import tempfile
from pathlib import Path

import pytest
from tests.contracts.backend import BackendContract

from modelport import engine
from modelport.backends.docker import workspace_mark


class TestContainers(BackendContract):
    name = "docker"

    @pytest.fixture
    def runtime(self, scoring_image):
        return {"image": scoring_image, "python": "/usr/bin/python3"}

    @pytest.fixture
    def options(self, engine_client):
        self.client = engine_client
        folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        yield {"folder": folder / "run", "logs": folder / "logs"}
        left = self.containers({"folder": folder / "run"})
        for each in left:
            each.remove(force=True)
        networks = engine_client.networks.list(filters=self.ours({"folder": folder / "run"}))
        for each in networks:
            each.remove()
        shutil.rmtree(folder)
        assert (left, networks) == ([], [])

    @staticmethod
    def ours(options):
        return {"label": f"{engine.WORKSPACE}={workspace_mark(options['folder'])}"}

    def containers(self, options, **filters):
        return self.client.containers.list(all=True, filters={**self.ours(options), **filters})

    def container(self, replica, options):
        (found,) = [each for each in self.containers(options) if each.labels["modelport.replica"] == replica.id]
        return found

    def kill(self, replica, options):
        self.container(replica, options).kill()

    def freeze(self, replica, options):
        self.container(replica, options).pause()

    def thaw(self, replica, options):
        self.container(replica, options).unpause()

    def running(self, options):
        return len(self.containers(options, status="running")) + len(self.containers(options, status="paused"))
