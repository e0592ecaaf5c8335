"""
A script, a module or a piece of code, run as Python itself runs it, with `azure.ai.ml` meaning Modelport.

`sys.argv`, `sys.path[0]`, `__main__`, exit codes and tracebacks are what `python script.py` would have made them:
a program should not be able to tell, nor its user.
"""

from __future__ import annotations

import argparse
import builtins
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any
from zipfile import is_zipfile

from modelport.as_azure import modules

_OURS = (str(Path(__file__).parent) + os.sep, "<frozen runpy>", str(runpy.__file__), "<frozen importlib")
_GLOBALS = {"__builtins__": builtins}
_Hook = Callable[[type[BaseException], BaseException, Any], Any]


def main(arguments: Sequence[str]) -> None:
    """What the command does; `arguments` are those behind its own name."""
    parser = _parser()
    said = parser.parse_args(arguments)
    if said.backend:
        os.environ["MODELPORT_BACKEND"] = said.backend
    modules.install()
    sys.excepthook = _without_us(sys.excepthook)
    if said.module:
        _module(said.module)
    elif said.code:
        _code(said.code)
    elif said.script:
        if not Path(said.script[0]).exists():
            parser.error(f"can't open file '{said.script[0]}': there is no such file.")
        _script(said.script)
    else:
        parser.error("name a script, or give -m module or -c code.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m modelport.as_azure",
        usage="%(prog)s [--backend process|docker|URL] (script.py | -m module | -c code) [argument …]",
        description="Run code that was written for azure.ai.ml on Modelport, unchanged.",
        allow_abbrev=False,
    )
    where = "where it runs, as MODELPORT_BACKEND says it; by default what that says, else Azure, as the code says"
    parser.add_argument("--backend", metavar="WHERE", help=where)
    rest: dict[str, Any] = {"nargs": argparse.REMAINDER, "default": []}
    parser.add_argument("-m", dest="module", help="a module to run as a script, and its arguments", **rest)
    parser.add_argument("-c", dest="code", help="code to run, and its arguments", **rest)
    parser.add_argument("script", help="a script to run, and its arguments", **rest)
    return parser


def _script(command: list[str]) -> None:
    sys.argv = command
    path = Path(command[0])
    if path.is_file() and not is_zipfile(path):
        _first_on_path(str(path.resolve().parent))
        loader = SourceFileLoader("__main__", os.path.abspath(path))  # noqa: PTH100 (as written, links and all)
        _run(loader.source_to_code(loader.get_data(loader.path), loader.path), __file__=loader.path, __loader__=loader)
    else:
        del sys.path[0]
        runpy.run_path(command[0], _GLOBALS, run_name="__main__")


def _module(command: list[str]) -> None:
    sys.argv = command
    _first_on_path(str(Path.cwd()))
    runpy.run_module(command[0], _GLOBALS, run_name="__main__", alter_sys=True)


def _code(command: list[str]) -> None:
    sys.argv = ["-c", *command[1:]]
    _first_on_path("")
    _run(compile(command[0], "<string>", "exec"))


def _run(code: CodeType, **names: Any) -> None:
    """As Python's `__main__`, and for good: threads and `atexit` need it after its end. (`runpy` takes it away.)"""
    program = sys.modules["__main__"] = ModuleType("__main__")
    program.__dict__.update(_GLOBALS, **names)
    exec(code, program.__dict__)  # noqa: S102 (what Python does)


def _first_on_path(folder: str) -> None:
    """In the place of the folder that `python -m` put there; with `python -P` there is none."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder


def _without_us(hook: _Hook) -> _Hook:
    """The hook, told of a traceback that begins in the script."""

    def shown(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        trace = error.__traceback__ = _theirs(trace)
        return hook(kind, error, trace)

    return shown


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    if trace is None:
        return None
    rest = _theirs(trace.tb_next)
    if trace.tb_frame.f_code.co_filename.startswith(_OURS):
        return rest
    return TracebackType(rest, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
