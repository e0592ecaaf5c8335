"""The seam: whatever carries requests to a control plane and brings answers back."""

from __future__ import annotations

from typing import Any, Protocol

from modelport.arm.ids import WorkspaceId
from modelport.arm.messages import Request, Response
from modelport.errors import UnsupportedByBackend
from modelport.transports.options import Options


class Transport(Protocol):
    """What every transport does. All methods may be called from any thread."""

    workspace: WorkspaceId
    options: Options
    """How the client connects, to what is not the control plane too."""

    def send(self, request: Request) -> Response:
        """
        The answer to a request, whatever its status.

        Raises:
            errors.ServiceRequestError: No answer came.
        """

    def scoring_token(self) -> Any:
        """
        A token for endpoints whose `auth_mode` is `aad_token`, with `token` and `expires_on`.

        Raises:
            errors.ClientAuthenticationError: There is none to be had.
        """

    def registry(self, name: str) -> Transport:
        """
        What carries requests to a registry, with `arm.ids.RegistryId` for its workspace.

        Raises:
            errors.UnsupportedByBackend: There are none, as everywhere but in Azure.
            errors.ResourceNotFoundError: There is none of this name.
        """

    def docker(self) -> Transport:
        """
        What carries requests to this machine's Docker, where `local=True` deploys to.

        Raises:
            errors.DockerEngineNotAvailableError: Its engine does not answer.
            errors.UnsupportedByBackend: It is asked of a registry.
        """

    def close(self) -> None:
        """Let go of what the transport holds."""


def no_registry(name: str) -> UnsupportedByBackend:
    """What is raised where there are no registries."""
    return UnsupportedByBackend(
        f"Registry '{name}' is out of reach: registries are Azure's, and Modelport has none. Make an MLClient for "
        "Azure, or create the asset in the other workspace from its files.",
        target="registry_name",
    )
