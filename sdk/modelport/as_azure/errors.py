"""
`except azure.core.exceptions.ResourceNotFoundError` catches Modelport's.

Python asks a class's bases, and nothing else, whether a handler fits. So, in a process that runs a script of Azure's,
Modelport's classes get Azure's of the same name as further bases, once such a script has imported them.
"""

from __future__ import annotations

from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from modelport.errors import ModelportError

_before: dict[type[ModelportError], tuple[type, ...]] = {}


class _Here:
    """Stands between ours and Azure's: ours are whole when made, and Azure's constructors would take them apart."""

    inner_exception = exc_type = exc_value = exc_traceback = continuation_token = model = None

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)  # type: ignore[arg-type]
        self.exc_msg = message


class Errors(Loader):
    """Loads `azure.core.exceptions` as it is, and then lets ours be theirs."""

    def __init__(self, loader: Any) -> None:
        """`loader` is the module's own."""
        self._loader = loader

    @classmethod
    def around(cls, found: ModuleSpec | None) -> ModuleSpec | None:
        """The spec of the module, with this loader around its own."""
        if found is not None and found.loader is not None:
            found.loader = cls(found.loader)
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As its own loader does."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """As its own loader does."""
        self._loader.exec_module(module)
        unite(module)


def unite(core: ModuleType) -> None:
    """Give Modelport's errors the classes of `azure.core.exceptions` as bases; twice is once."""
    if _before:
        return
    for kind in _tree(ModelportError):
        top = kind.__base__ is ModelportError
        theirs = getattr(core, kind.__name__, core.AzureError if top else None)
        if theirs is not None:
            _before[kind] = kind.__bases__
            kind.__bases__ = (*kind.__bases__, _Here, theirs) if top else (*kind.__bases__, theirs)


def part() -> None:
    """Undo `unite`."""
    while _before:
        kind, bases = _before.popitem()
        kind.__bases__ = bases


def _tree(kind: type[ModelportError]) -> list[type[ModelportError]]:
    """All below `kind`, parents first."""
    return [each for child in kind.__subclasses__() for each in (child, *_tree(child))]
