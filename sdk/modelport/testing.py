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
from modelport.errors import LocalServerError, ModelportError


def environments_folder() -> Path:
    """
    The cache of environments that tests share: `MODELPORT_TEST_ENVIRONMENTS`, else one in the user's cache folder.

    Environments are addressed by their content, so sharing them couples no tests.
    """
    said = os.environ.get("MODELPORT_TEST_ENVIRONMENTS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(said) if said else cache / "modelport" / "test-environments"


_PREFIX = "modelport-test-"


def _sweep() -> None:
    """End what test runs have left that were killed, and so could not clean up: their folders name their process."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if not pid.isdigit() or _lives(int(pid)) or left.stat().st_uid != os.getuid():
            continue
        if all(_end(folder) for folder in (left, left / "docker") if folder.is_dir()):
            shutil.rmtree(left, ignore_errors=True)


def _end(folder: Path) -> bool:
    """End what runs for a workspace, unless another run is at it, whose folder it is then."""
    backend = import_module("modelport.transports.launch").backend_of(folder)
    try:
        import_module("modelport.transports.local").LocalTransport(folder, backend=backend).close(stop=True)
    except LocalServerError:
        return False
    except (ModelportError, OSError):
        pass  # as an engine that is gone: there is nothing to end
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def workspace(
    folder: Path | None = None, *, environments: Path | None = None, backend: str = "process"
) -> Iterator[MLClient]:
    """
    A client with a workspace of its own in this process; all its processes and containers end with the block.

    Args:
        folder: Where; a temporary folder, removed in the end, when it is None.
        backend: What runs replicas: `process`, or `docker`.
        environments: The cache of environments; by default the one that tests share.
    """
    _sweep()
    made = None if folder else tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
    try:
        transport = import_module("modelport.transports.local").LocalTransport(
            Path(folder or made or ""), backend=backend, environments=environments or environments_folder()
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


@pytest.fixture
def ml_client_docker() -> Iterator[MLClient]:
    """As `ml_client`, with containers of this machine's Docker for replicas."""
    with workspace(backend="docker") as client:
        yield client


@pytest.fixture(scope="session")
def ml_client_session() -> Iterator[MLClient]:
    """As `ml_client`, one for the whole session: for tests that only read from an endpoint that is costly to make."""
    with workspace() as client:
        yield client
