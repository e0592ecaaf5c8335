"""`load_online_endpoint` and its kin: entities from YAML files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import IO, Any, TypeVar

from modelport.entities import Environment, Model, OnlineDeployment, OnlineEndpoint
from modelport.entities.base import Entity
from modelport.schema import files

_E = TypeVar("_E", bound=Entity)
_Source = str | os.PathLike[str] | IO[str]
_Overrides = Sequence[Mapping[str, Any]] | None
_Folder = str | os.PathLike[str] | None


def load_online_endpoint(
    source: _Source, *, relative_origin: _Folder = None, params_override: _Overrides = None
) -> OnlineEndpoint:
    """
    An endpoint from YAML: managed, or Kubernetes when the file has `compute`.

    Args:
        source: A path, or an open text file.
        relative_origin: Folder that relative paths are taken from; by default the file's own.
        params_override: Values to set over the file's, each `{"a.b": value}`.

    Raises:
        errors.ValidationException: Everything that is wrong with the file, each with its line.
    """
    return _load(OnlineEndpoint, source, relative_origin, params_override)


def load_online_deployment(
    source: _Source, *, relative_origin: _Folder = None, params_override: _Overrides = None
) -> OnlineDeployment:
    """A deployment from YAML, of the `type` that the file says; otherwise as `load_online_endpoint`."""
    return _load(OnlineDeployment, source, relative_origin, params_override)


def load_model(source: _Source, *, relative_origin: _Folder = None, params_override: _Overrides = None) -> Model:
    """A model from YAML; otherwise as `load_online_endpoint`."""
    return _load(Model, source, relative_origin, params_override)


def load_environment(
    source: _Source, *, relative_origin: _Folder = None, params_override: _Overrides = None
) -> Environment:
    """An environment from YAML; otherwise as `load_online_endpoint`."""
    return _load(Environment, source, relative_origin, params_override)


def _load(kind: type[_E], source: _Source, origin: _Folder, overrides: _Overrides) -> _E:
    return files.read(kind, source, relative_origin=origin, params_override=overrides)
