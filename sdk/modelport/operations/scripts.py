"""
What can be read in a scoring script without running it.

Only what is certain from its text counts as an error. What a script imports and which
files of the model it opens are guesses: code can change `sys.path` or build names.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from operator import itemgetter
from pathlib import Path

from attrs import Factory, define, frozen

_MODEL_DIR = "AZUREML_MODEL_DIR"
_OPTIONAL = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@frozen
class Fault:
    """Something that is wrong with a script: a sentence, and the line where, counted from 1."""

    message: str
    line: int | None = None


@define
class Imports:
    """What a script and the modules beside it import from elsewhere."""

    outside: dict[str, str] = Factory(dict)
    """Full module names, each with `file, line n` where it is first imported."""
    broken: dict[str, Fault] = Factory(dict)
    """Modules beside the script that Python cannot read."""
    open: bool = False
    """Whether the script changes `sys.path`: then nothing can be said of what it finds."""


def parsed(path: Path) -> ast.Module | Fault:
    """The tree of a Python file, or why there is none."""
    try:
        return ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        return Fault(f"It cannot be read: {error.strerror}.")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Fault(f"{getattr(error, 'msg', None) or error}.", getattr(error, "lineno", None))


def faults(tree: ast.Module, *, azure: bool = False) -> Iterator[Fault]:
    """
    What keeps a scoring script from serving, in Azure if it goes there: only our own server awaits.

    Source: Azure's inference server asks for `init` and `run`, calls `init()`, and refuses `*args` in `run`.
    """
    names = set(_names(tree))
    for function in ("init", "run"):
        if function not in names and "*" not in names:
            yield Fault(f"has no {function}() function, which Azure's contract asks for.")
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.decorator_list:
            continue
        given = node.args
        needed = len(given.posonlyargs) + len(given.args) - len(given.defaults)
        if node.name == "init" and (needed or any(each is None for each in given.kw_defaults)):
            yield Fault("calls for arguments in init(), which is called without any.", node.lineno)
        if node.name == "run" and given.vararg:
            yield Fault(f"has *{given.vararg.arg} in run(), which Azure's inference server refuses.", node.lineno)
        if azure and isinstance(node, ast.AsyncFunctionDef) and node.name in ("init", "run"):
            yield Fault(f"has an async {node.name}(), which Azure's inference server does not await.", node.lineno)


def imports(script: Path, tree: ast.Module, folder: Path) -> Imports:
    """
    What a script imports from outside its folder, through the modules of the folder that it imports.

    Imports that may fail (`try: … except ImportError`), or that only type checkers see, do not count.
    """
    found = Imports()
    roots = tuple(dict.fromkeys((folder, script.parent)))
    waiting: list[tuple[Path, ast.Module]] = [(script, tree)]
    seen = {script}
    beside = cache(lambda name: _beside(name, roots))
    while waiting:
        file, module = waiting.pop()
        found.open = found.open or _changes_path(module)
        for name, line, sure in sorted(_imported(module, file, folder), key=itemgetter(1)):
            inside = beside(name)
            if inside is None and sure:
                found.outside.setdefault(name, f"{_shown(file, folder)}, line {line}")
            for each in (inside or frozenset()) - seen:
                seen.add(each)
                read = parsed(each)
                if isinstance(read, Fault):
                    found.broken[_shown(each, folder)] = read
                else:
                    waiting.append((each, read))
    library = {*sys.stdlib_module_names, "distutils", "imp", "asyncore", "asynchat", "smtpd"}
    found.outside = {name: where for name, where in found.outside.items() if name.partition(".")[0] not in library}
    return found


def model_paths(tree: ast.Module) -> Iterator[tuple[tuple[str, ...], int]]:
    """
    The paths below `AZUREML_MODEL_DIR` that a script names, as steps, each with its line.

    `os.path.join(os.environ["AZUREML_MODEL_DIR"], "net", name)` names `("net",)`: what stands in quotes up to the
    first thing that does not.
    """
    bases = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _is_model_dir(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    inner: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.Call) and _ends(node.func, "join") and node.args and _is_model_dir(node.args[0], bases):
            steps = _static(node.args[1:])
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts: list[ast.expr] = []
            left: ast.expr = node
            while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Div):
                inner.add(id(left))
                parts.insert(0, left.right)
                left = left.left
            steps = _static(parts) if _is_model_dir(left, bases) else ()
        else:
            continue
        if steps and ".." not in steps:
            yield steps, node.lineno


def _names(tree: ast.Module) -> Iterator[str]:
    """Names that a module may have in the end; `*` when only running it can tell."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for each in node.names:
                yield (each.asname or each.name).split(".")[0]


def _imported(tree: ast.Module, file: Path, folder: Path) -> Iterator[tuple[str, int, bool]]:
    """Full names of modules that a module imports, with the line, and whether it is one and no name in a module."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((each.name, node.lineno, True) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, file, folder)
            if base:
                yield base, node.lineno, not node.level
            for each in node.names if base is not None else ():
                yield f"{base}.{each.name}".lstrip("."), node.lineno, False
        elif isinstance(node, ast.Try) and any(map(_catches_imports, node.handlers)):
            waiting += [*node.orelse, *node.finalbody]
            continue
        elif isinstance(node, ast.If) and _ends(node.test, "TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)


def _base(node: ast.ImportFrom, file: Path, folder: Path) -> str | None:
    """The module that a `from … import` starts at; None above the folder."""
    if not node.level:
        return node.module
    try:
        steps = file.parent.relative_to(folder).parts
    except ValueError:
        return None
    kept = steps[: len(steps) - node.level + 1]
    if node.level > len(steps) + 1:
        return None
    return ".".join((*kept, *([node.module] if node.module else [])))


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_ends(kind, name) for kind in kinds for name in _OPTIONAL)


def _beside(name: str, roots: tuple[Path, ...]) -> frozenset[Path] | None:
    """The files that importing `name` from the folder reads; None when it is not from there."""
    steps = name.split(".")
    for root in roots:
        if not ((root / f"{steps[0]}.py").is_file() or (root / steps[0]).is_dir()):
            continue
        places = [root.joinpath(*steps[: count + 1]) for count in range(len(steps))]
        files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
        return frozenset(file for file in files if file.is_file())
    return None


def _changes_path(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "path"
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
        for node in ast.walk(tree)
    )


def _is_model_dir(node: ast.expr, bases: set[str]) -> bool:
    """Whether an expression is the model's folder: the variable itself, or a name or `Path` that it was given to."""
    if isinstance(node, ast.Name):
        return node.id in bases
    if isinstance(node, ast.Subscript):
        return _ends(node.value, "environ") and _says(node.slice, _MODEL_DIR)
    if isinstance(node, ast.Call) and node.args:
        if _ends(node.func, "getenv") or (_ends(node.func, "get") and isinstance(node.func, ast.Attribute)):
            return _says(node.args[0], _MODEL_DIR)
        return _ends(node.func, "Path") and len(node.args) == 1 and _is_model_dir(node.args[0], bases)
    return False


def _static(parts: list[ast.expr]) -> tuple[str, ...]:
    """The steps that stand in quotes, up to the first that does not."""
    steps: list[str] = []
    for part in parts:
        if not (isinstance(part, ast.Constant) and isinstance(part.value, str)):
            break
        steps += [step for step in part.value.replace("\\", "/").split("/") if step not in ("", ".")]
    return tuple(steps)


def _says(node: ast.expr, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text


def _ends(node: ast.expr, name: str) -> bool:
    """Whether an expression is `name`, or something's `.name`."""
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def _shown(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)
