"""
azure-identity's credentials, at one place with the rest of Modelport.

    from modelport.identity import DefaultAzureCredential

A door and nothing more: azure-identity is loaded when one of its names is used
(PEP 562), because a client for this machine never asks it anything.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in import_module("azure.identity").__all__:
        raise AttributeError(f"module 'modelport.identity' has no attribute '{name}': azure-identity has none either.")
    value = globals()[name] = getattr(import_module("azure.identity"), name)
    return value


def __dir__() -> list[str]:
    return sorted(import_module("azure.identity").__all__)
