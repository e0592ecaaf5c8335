"""Azure's names for a `logging.json`, where Azure's package is not there; one that is goes first."""

from modelport_scoring.logs import Formatter as AMLLogFormatter
from modelport_scoring.logs import Probes as RootAccessFilter

__all__ = ["AMLLogFormatter", "RootAccessFilter"]
