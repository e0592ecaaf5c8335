"""
The pytest plugin: real endpoints in a test, and nothing left behind.

    def test_my_model(ml_client):
        ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result()

Installing Modelport is enough; nothing need be imported. The control plane runs in
the test's process, its replicas and its gateway are real.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from modelport.client import MLClient


def environments_folder() -> Path:
    """
    The cache of environments that tests share: `MODELPORT_TEST_ENVIRONMENTS`, else one in the user's cache folder.

    Environments are addressed by their content, so sharing them couples no tests.
    """
    said = os.environ.get("MODELPORT_TEST_ENVIRONMENTS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(said) if said else cache / "modelport" / "test-environments"


@contextmanager
def workspace(folder: Path | None = None, *, environments: Path | None = None) -> Iterator[MLClient]:
    """
    A client with a workspace of its own in this process; all its processes end with the block.

    Args:
        folder: Where; a temporary folder, removed in the end, when it is None.
        environments: The cache of environments; by default the one that tests share.
    """
    made = None if folder else tempfile.mkdtemp(prefix="modelport-")
    try:
        transport = import_module("modelport.transports.local").LocalTransport(
            Path(folder or made or ""), environments=environments or environments_folder()
        )
        try:
            yield MLClient._over(transport)  # noqa: SLF001 (the client's own floor)
        finally:
            transport.close(stop=True)
    finally:
        if made:
            shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def ml_client() -> Iterator[MLClient]:
    """A client with a private workspace in this process; nothing is left behind."""
    with workspace() as client:
        yield client


@pytest.fixture(scope="session")
def ml_client_session() -> Iterator[MLClient]:
    """As `ml_client`, one for the whole session: for tests that only read from an endpoint that is costly to make."""
    with workspace() as client:
        yield client
