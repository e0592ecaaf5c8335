"""
Azure ML's online endpoints everywhere.

Nothing is imported until a name is used (PEP 562): `import modelport` costs no more
than this file, and a client loads only what it calls.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelport.client import MLClient
    from modelport.operations.loading import (
        load_code,
        load_data,
        load_environment,
        load_model,
        load_model_package,
        load_online_deployment,
        load_online_endpoint,
        load_workspace,
    )

__version__ = "0.1.0"

_PUBLIC = {
    "MLClient": "modelport.client",
    "load_code": "modelport.operations.loading",
    "load_data": "modelport.operations.loading",
    "load_environment": "modelport.operations.loading",
    "load_model": "modelport.operations.loading",
    "load_model_package": "modelport.operations.loading",
    "load_online_deployment": "modelport.operations.loading",
    "load_online_endpoint": "modelport.operations.loading",
    "load_workspace": "modelport.operations.loading",
}

__all__ = [
    "MLClient",
    "load_code",
    "load_data",
    "load_environment",
    "load_model",
    "load_model_package",
    "load_online_deployment",
    "load_online_endpoint",
    "load_workspace",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'modelport' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
