"""`load_online_endpoint` and its kin: entities from YAML files."""

from __future__ import annotations

import os
import warnings
from typing import Any, TypeVar

from modelport.entities import (
    Code,
    Data,
    Environment,
    Model,
    ModelPackage,
    OnlineDeployment,
    OnlineEndpoint,
    Workspace,
)
from modelport.entities.base import Entity
from modelport.schema import files
from modelport.schema.files import Overrides, Source

_E = TypeVar("_E", bound=Entity)
_Folder = str | os.PathLike[str] | None


def load_online_endpoint(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> OnlineEndpoint:
    """
    An endpoint from YAML: managed, or Kubernetes when the file has `compute`.

    Environment variables in values are left as they stand, and `$schema` is for editors.

    Args:
        source: A path, an open file, or None for nothing but `params_override`.
        relative_origin: Folder that relative paths are taken from, or a file in it; by default the file's own.
        params_override: Values to set over the file's, each `{"a.b[0]": value}`, in order.
        kwargs: `path`, which is Azure's old name for `source`.

    Raises:
        errors.ValidationException: Everything that is wrong with the file, each with its line.
    """
    return _load(OnlineEndpoint, source, relative_origin, params_override, kwargs)


def load_online_deployment(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> OnlineDeployment:
    """A deployment from YAML, of the `type` that the file says; otherwise as `load_online_endpoint`."""
    return _load(OnlineDeployment, source, relative_origin, params_override, kwargs)


def load_model(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> Model:
    """A model from YAML; otherwise as `load_online_endpoint`."""
    return _load(Model, source, relative_origin, params_override, kwargs)


def load_environment(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> Environment:
    """An environment from YAML; otherwise as `load_online_endpoint`."""
    return _load(Environment, source, relative_origin, params_override, kwargs)


def load_data(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> Data:
    """A data asset from YAML; otherwise as `load_online_endpoint`."""
    return _load(Data, source, relative_origin, params_override, kwargs)


def load_code(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> Code:
    """A code asset from YAML; otherwise as `load_online_endpoint`."""
    return _load(Code, source, relative_origin, params_override, kwargs)


def load_workspace(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> Workspace:
    """A workspace from YAML; otherwise as `load_online_endpoint`."""
    return _load(Workspace, source, relative_origin, params_override, kwargs)


def load_model_package(
    source: Source | None,
    *,
    relative_origin: _Folder = None,
    params_override: Overrides | None = None,
    **kwargs: Any,
) -> ModelPackage:
    """A model package from YAML; otherwise as `load_online_endpoint`."""
    return _load(ModelPackage, source, relative_origin, params_override, kwargs)


def _load(
    kind: type[_E], source: Source | None, origin: _Folder, overrides: Overrides | None, others: dict[str, Any]
) -> _E:
    if source is None and others.get("path") is not None:
        source = others.pop("path")
        warnings.warn("Say source, not path, to load functions: path is deprecated.", DeprecationWarning, stacklevel=3)
    strange = [name for name in others if name != "path"]
    if strange:
        raise TypeError(
            f"load functions take no keyword {strange[0]!r}: they take source, relative_origin and params_override."
        )
    return files.read(kind, source, relative_origin=origin, params_override=overrides)
