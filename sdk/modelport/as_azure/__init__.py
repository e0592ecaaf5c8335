"""
Code that was written for `azure.ai.ml`, run unchanged.

    python -m modelport.as_azure --backend process script.py     # or -m module, or -c code
    %load_ext modelport.as_azure                                 # in a notebook, before its imports

Within such a program `import azure.ai.ml` is Modelport, whether azure-ai-ml is installed or not; every other
`azure.*` package is itself. `MODELPORT_BACKEND` says where things run; unset, that is Azure, as the code says.
Programs that such a program starts are not changed. Importing this package does nothing: `install` does.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from modelport.as_azure import modules


def install() -> None:
    """
    Let `azure.ai.ml` mean Modelport in this process; twice is once.

    Raises:
        ImportError: azure-ai-ml itself is imported already.
    """
    modules.install()


def uninstall() -> None:
    """Undo `install`. What was imported meanwhile stays what it is."""
    modules.uninstall()


def load_ipython_extension(_shell: Any) -> None:
    """`%load_ext modelport.as_azure`; says where clients of this notebook will work, since nothing else shows it."""
    install()
    backend = os.environ.get("MODELPORT_BACKEND") or "azure"
    where = (
        "in Azure (set MODELPORT_BACKEND=process for this machine)" if backend.lower() == "azure" else f"on {backend}"
    )
    sys.stdout.write(f"azure.ai.ml is Modelport now; MLClient works {where}.\n")


def unload_ipython_extension(_shell: Any) -> None:
    """`%unload_ext modelport.as_azure`."""
    uninstall()


__all__ = ["install", "load_ipython_extension", "uninstall", "unload_ipython_extension"]
