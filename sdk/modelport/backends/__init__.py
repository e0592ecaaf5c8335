"""
What runs replicas: one table of names, each loaded on first use.

A backend's third parties (psutil, docker, a Kubernetes client) are installed only
by those who use it, so nothing here is imported before its name is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from attrs import frozen

from modelport import errors
from modelport.backends.base import Backend

__all__ = ["BACKENDS", "open_backend"]


@frozen
class Entry:
    """Where a backend is, and what to install for it; no `path` for one that is still to come."""

    title: str
    path: str | None = None
    install: str = ""


BACKENDS = {
    "process": Entry("processes on this machine", "modelport.backends.process:ProcessBackend", "modelport[local]"),
    "docker": Entry("containers on this machine", "modelport.backends.docker:DockerBackend", "modelport[local]"),
    "kubernetes": Entry("a Kubernetes cluster"),
}


def open_backend(name: str, **options: Any) -> Backend:
    """
    The backend of that name; `options` are its constructor's.

    Raises:
        errors.UnsupportedByBackend: it is not part of this version yet.
        errors.ValidationException: there is none of that name, or what it needs is not installed.
    """
    entry = BACKENDS.get(name)
    if entry is None:
        raise errors.ValidationException(f"There is no backend '{name}'. Use one of: {', '.join(BACKENDS)}.")
    if entry.path is None:
        raise errors.UnsupportedByBackend(
            f"The backend '{name}' ({entry.title}) is not part of this version yet. Use the backend 'process'."
        )
    module, _, attribute = entry.path.partition(":")
    try:
        opened: Backend = getattr(importlib.import_module(module), attribute)(**options)
    except ModuleNotFoundError as error:
        raise errors.ValidationException(
            f"The backend '{name}' needs {error.name}, which is not installed. Run: pip install '{entry.install}'"
        ) from error
    return opened
