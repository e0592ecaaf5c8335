"""The seam: whatever carries requests to a control plane and brings answers back."""

from __future__ import annotations

from typing import Protocol

from modelport.arm.ids import WorkspaceId
from modelport.arm.messages import Request, Response


class Transport(Protocol):
    """What every transport does. All methods may be called from any thread."""

    workspace: WorkspaceId

    def send(self, request: Request) -> Response:
        """
        The answer to a request, whatever its status.

        Raises:
            errors.ServiceRequestError: No answer came.
        """

    def close(self) -> None:
        """Let go of what the transport holds."""
