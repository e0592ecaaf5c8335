"""Azure's import, for scripts whose environment does not have Azure's package; one that it has goes first."""

from modelport_scoring.raw import AMLResponse

__all__ = ["AMLResponse"]
