"""
A control plane in this process: the server without the socket.

Tests and `modelport.testing` use it. Documents pass through JSON, so that what works
here works over a wire.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from attrs import evolve

from modelport.arm import ids
from modelport.arm.messages import Part, Request, Response
from modelport.controlplane.workspace import LocalWorkspace
from modelport.errors import ClientAuthenticationError
from modelport.transports.base import Transport, no_registry
from modelport.transports.options import Options

BASE_URL = "local://modelport"
"""What URLs that the control plane gives out start with."""


class LocalTransport:
    """Requests by a function call."""

    def __init__(self, folder: Path, *, backend: str = "process", environments: Path | None = None) -> None:
        """
        Open the workspace in `folder`; see `controlplane.workspace.LocalWorkspace`.

        Raises:
            errors.LocalServerError: It cannot be opened.
        """
        self.workspace, self.options = ids.LOCAL_WORKSPACE, Options()
        self._folder, self._environments = folder, environments
        self._docker: LocalTransport | None = None
        self._making = threading.Lock()
        self.opened = LocalWorkspace(folder, backend=backend, environments=environments)

    def send(self, request: Request) -> Response:
        """The control plane's answer."""
        split = urlsplit(request.path)
        query = {**dict(parse_qsl(split.query)), **request.query}
        body = json.loads(json.dumps(request.body))
        asked = evolve(request, path=split.path, query=query, body=body, base_url=BASE_URL)
        answer = self.opened.app.handle(asked)
        return evolve(answer, body=json.loads(json.dumps(answer.body)), content=_content(answer.content))

    def scoring_token(self) -> Any:
        """None of Microsoft Entra's."""
        raise ClientAuthenticationError("A Microsoft Entra token is wanted: make the MLClient with a credential.")

    def registry(self, name: str) -> Transport:
        """None: a workspace on this machine shares with nobody."""
        raise no_registry(name)

    def docker(self) -> LocalTransport:
        """The workspace itself, when its replicas are containers; otherwise one in its folder, in this process too."""
        with self._making:
            if self.opened.backend == "docker":
                return self
            if self._docker is None:
                self._docker = LocalTransport(
                    self._folder / "docker", backend="docker", environments=self._environments
                )
            return self._docker

    def close(self, *, stop: bool = True) -> None:
        """End the workspace's processes; `stop=False` leaves them running, as a server that dies does."""
        try:
            if self._docker is not None:
                self._docker.close(stop=stop)
        finally:
            self.opened.close(stop=stop)


def _content(said: bytes | Path | Part | None) -> bytes | Path | None:
    """A part of a file as its bytes, anything else as it is."""
    if not isinstance(said, Part):
        return said
    with said.path.open("rb") as file:
        file.seek(said.start)
        return file.read(said.size)
