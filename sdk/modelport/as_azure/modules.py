"""
What stands in for `azure.ai.ml` and its submodules.

A finder at the front of `sys.meta_path` answers for those names, and for no others, with modules that look each
name up in Modelport when it is asked for: nothing is loaded that a script does not use. A name that Modelport does
not have fails there and then with a sentence, not later with a riddle.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

from modelport import __version__
from modelport.as_azure.credentials import Credentials
from modelport.as_azure.errors import Errors, part, unite
from modelport.as_azure.places import HOMES, PRIVATE, TOP, public
from modelport.client import not_here

_VERSION = f"1.35.2+modelport.{__version__}"
"""The azure-ai-ml whose behaviour this follows, for scripts that compare versions."""


class _Stand(ModuleType):
    """A module of Azure's, whose names are Modelport's."""

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return sorted(_names(self.__name__))
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        if name in ("VERSION", "__version__"):
            return _VERSION
        home = _names(self.__name__).get(name)
        if home is None:
            raise AttributeError(_sorry(self.__name__, name), name=name)
        value = self.__dict__[name] = getattr(import_module(home), name)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*_names(self.__name__), *self.__dict__})


class _Stands(Loader):
    """Makes them."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Stand(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Finder(MetaPathFinder):
    """Answers for `azure.ai.ml`, and has a hand in the two other modules that such scripts meet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == TOP or fullname.startswith(f"{TOP}."):
            return self._ours(fullname)
        if fullname == "azure.ai":  # a namespace, which is there only when another azure-ai package is
            return PathFinder.find_spec(fullname, path) or spec_from_loader(fullname, _Plain(), is_package=True)
        if fullname == "azure.core.exceptions":
            return Errors.around(PathFinder.find_spec(fullname, path))
        if fullname == "azure.identity" and os.environ.get("MODELPORT_BACKEND", "").strip() not in ("", "azure"):
            return Credentials.before(PathFinder.find_spec(fullname, path))
        return None

    def _ours(self, fullname: str) -> ModuleSpec | None:
        above, _, last = fullname.rpartition(".")
        if fullname in HOMES or fullname in PRIVATE:
            return spec_from_loader(fullname, _Stands(), origin="Modelport", is_package=True)
        raise ImportError(_sorry(above, last), name=fullname)


class _Plain(Loader):
    """Makes a module with nothing in it."""

    def create_module(self, _spec: ModuleSpec) -> None:
        """Python's own."""

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


_finder = _Finder()


def install() -> None:
    """
    Put the finder in its place; see `modelport.as_azure.install`.

    Raises:
        ImportError: azure-ai-ml itself is imported already.
    """
    there = sys.modules.get(TOP)
    if there is not None and not isinstance(there, _Stand):
        file = getattr(there, "__file__", None)
        raise ImportError(
            f"azure.ai.ml is imported already, from '{file}': load modelport.as_azure before anything imports it. "
            "In a notebook: restart the kernel, then %load_ext modelport.as_azure.",
            name=TOP,
        )
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    core = sys.modules.get("azure.core.exceptions")
    if core is not None:
        unite(core)


def uninstall() -> None:
    """Take the finder away, and the modules that stand in for others."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if isinstance(getattr(spec, "loader", None), (_Stands, _Plain, Credentials)):
            del sys.modules[name]
            above, _, last = name.rpartition(".")
            vars(sys.modules.get(above, module)).pop(last, None)
    part()


def _names(module: str) -> dict[str, str]:
    """What a stand-in for `module` has: each name, and the module of Modelport that has it."""
    homes = HOMES[public(module)] + (HOMES[TOP] if module in PRIVATE else ())
    found: dict[str, str] = {}
    for home in homes:
        there = import_module(home)
        for name in getattr(there, "__all__", None) or dir(there):
            if not name.startswith("_") and (home.count(".") < 2 or name.endswith("Operations")):
                found.setdefault(name, home)
    return found


def _sorry(module: str, name: str) -> str:
    return not_here(module, name, _names(module))
