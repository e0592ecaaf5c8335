"""
A workspace on this machine, put together: state, backend, gateway and builder.

The only place that knows which of each a local workspace has.
"""

from __future__ import annotations

import os
import shutil
import uuid
from importlib import import_module
from pathlib import Path

from modelport.backends import open_backend
from modelport.builds.base import Builder
from modelport.builds.prefix import PrefixBuilder
from modelport.controlplane.app import App
from modelport.controlplane.home import Home, open_home
from modelport.controlplane.jobs import serving
from modelport.controlplane.store import Store
from modelport.errors import LocalServerError
from modelport.gateway.runner import Gateway

MOST_BYTES = 20 * 10**9
"""What the cache of environments may hold beside those in use; each has a few hundred megabytes."""


REPLICAS = "r"
"""The folder of a backend, in a workspace's folder for what runs."""


class LocalWorkspace:
    """A control plane with everything below it, in this process."""

    def __init__(self, folder: Path, *, backend: str = "process", environments: Path | None = None) -> None:
        """
        Open the workspace in `folder` and bring it to life.

        Args:
            folder: Made when it is not there.
            backend: Name of what runs replicas.
            environments: Another place for the cache of environments, to share it.

        Raises:
            errors.LocalServerError: The folder or the gateway's port cannot be used, or another process has them; or
                it is the folder of a workspace with another backend.
            errors.DockerEngineNotAvailableError: Docker's engine does not answer.
            errors.UnsupportedByBackend: This version has no such backend.
        """
        self.backend = backend
        self.home = open_home(folder, environments)
        self.home.must_have(backend)
        runs = open_backend(backend, folder=self.home.runtime / REPLICAS, logs=self.home.logs / "replicas")
        self.home.keep_backend(backend)
        self.gateway = Gateway(self.home.runtime / "g", _kept_port(self.home))
        try:
            cache = environments or self.home.environments
            # Of a cache that others share, nobody here knows what they serve from.
            shared = environments is not None or cache.is_symlink()
            most_bytes = None if shared else MOST_BYTES
            self.app = App(self.home, runs, self.gateway, _builder(backend, cache), most_bytes=most_bytes)
        except BaseException:
            runs.close()
            raise
        try:
            self.app.start()
        except BaseException:
            self.app.close()
            raise
        _keep_port(self.home, self.gateway.port)

    def close(self, *, stop: bool) -> None:
        """Let go of the workspace; with `stop`, end its replicas and the gateway. Endpoints are remembered."""
        self.app.close(stop=stop)
        if stop:
            shutil.rmtree(self.home.runtime, ignore_errors=True)  # sockets and records of what ended


def prune(folder: Path, backend: str) -> list[str]:
    """
    Remove what was built in the workspace in `folder` and is not served from; returns the keys.

    Its server may be up, and build. A cache that is shared with others stays as it is: nobody here knows what they
    serve from.

    Raises:
        errors.LocalServerError: A newer Modelport wrote the state.
        errors.DockerEngineNotAvailableError: There are images, and Docker's engine does not answer.
    """
    home = open_home(folder)
    if home.environments.is_symlink():
        return []
    store = Store(home.state, lambda: uuid.uuid4().hex)
    try:
        with store.reading() as transaction:
            keep = {each.environment for each in serving(transaction)}
    finally:
        store.close()
    return _builder(backend, home.environments).prune(keep, None)


def _builder(backend: str, cache: Path) -> Builder:
    """What builds for a backend; a builder of images has the folders of the other one beside it."""
    prefixes = PrefixBuilder(cache)
    if backend != "docker":
        return prefixes
    images = import_module("modelport.builds.image").ImageBuilder
    made: Builder = images(cache / "images", prefixes=prefixes)
    return made


def _kept_port(home: Home) -> int | None:
    """The port that the user names, else the one that the gateway had last; None when it had none."""
    said = os.environ.get("MODELPORT_GATEWAY_PORT")
    if said:
        if not said.isdigit() or not 0 < int(said) < 65536:
            raise LocalServerError(
                f"MODELPORT_GATEWAY_PORT is '{said}', which is not a port: give a number up to 65535."
            )
        return int(said)
    try:
        return int((home.folder / "gateway.port").read_text())
    except (OSError, ValueError):
        return None


def _keep_port(home: Home, port: int) -> None:
    path = home.folder / "gateway.port"
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(str(port))
    part.replace(path)
