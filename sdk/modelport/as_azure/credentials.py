"""
azure-identity's credentials where nobody logs in.

On a backend of Modelport's own, an Azure credential is made and never asked. So the credentials of a script are
stand-ins, made without msal and without a look at the machine's logins; everything else in azure-identity is itself.
"""

from __future__ import annotations

import os
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any, NoReturn

from modelport.errors import ClientAuthenticationError


class Unasked:
    """A credential that takes what the real one takes, and has no token to give."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def get_token(self, *_scopes: str, **_: Any) -> NoReturn:
        """
        Refuse.

        Raises:
            errors.ClientAuthenticationError: Always.
        """
        raise ClientAuthenticationError(
            f"{type(self).__name__} was asked for a token and has none: MODELPORT_BACKEND is "
            f"'{os.environ.get('MODELPORT_BACKEND')}', so nobody is logged in to Azure. Unset it to reach Azure."
        )

    get_token_info = get_token

    def close(self) -> None:
        """There is nothing to close."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Identity(ModuleType):
    """`azure.identity`: credentials that are never asked, and what else the real one has."""

    def __getattr__(self, name: str) -> Any:
        if name.endswith("Credential") and not name.startswith("_"):
            value: Any = type(name, (Unasked,), {"__module__": self.__name__})
        elif name.startswith("__") and name != "__all__":
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        else:
            value = getattr(self.__spec__.loader.real(), name)  # type: ignore[union-attr]
        self.__dict__[name] = value
        return value


class Credentials(Loader):
    """Makes the stand-in for `azure.identity`."""

    def __init__(self, found: ModuleSpec) -> None:
        """`found` is where the real one is."""
        self._found = found
        self._real: ModuleType | None = None

    @classmethod
    def before(cls, found: ModuleSpec | None) -> ModuleSpec | None:
        """The spec of the stand-in, given that of the real one: submodules are the real ones."""
        if found is None:
            return None
        spec = ModuleSpec(found.name, cls(found), origin=found.origin, is_package=True)
        spec.submodule_search_locations = found.submodule_search_locations
        return spec

    def real(self) -> ModuleType:
        """The module itself, loaded when first asked for; its own submodules ask while it loads."""
        if self._real is None:
            self._real = module_from_spec(self._found)
            if self._found.loader:
                self._found.loader.exec_module(self._real)
        return self._real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The stand-in."""
        return _Identity(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""
