"""
The user's code: loading it, calling it, and saying what is wrong with it.

Source: azureml-inference-server-http for what a script may look like, and Azure's
provisioning error codes for the names of its faults.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

MODULE = "entry_module"
"""The name under which a script is imported. Azure's: a pickle may hold it."""


class ScriptError(Exception):
    """
    The script cannot be served.

    Attributes:
        code: Azure's word for it, e.g. `UserScriptInitFailed`.
        log: The traceback from the script's first frame on; empty where there is none.
    """

    def __init__(self, code: str, message: str, log: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.log = log

    def write(self, path: Path) -> None:
        """Write `{"code", "message", "log"}` to the path, whole or not at all."""
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(json.dumps({"code": self.code, "message": self.message, "log": self.log}), encoding="utf-8")
        draft.replace(path)


class Script:
    """A loaded script; `init()` has not been called yet."""

    def __init__(self, app_root: Path, entry_script: str) -> None:
        self._root = str(app_root)
        self._name = entry_script
        self._path = str(app_root / entry_script)
        module = self._load()
        self._init: Callable[[], Any] = self._function(module, "init")
        run = self._function(module, "run")
        self.run = self._adapted(run)

    def init(self) -> None:
        """
        Run the user's `init`.

        Raises:
            ScriptError: Whatever came out of it.
        """
        try:
            self._init()
        except BaseException as error:
            raise self._error("UserScriptInitFailed", "init()", error) from error

    def traceback_of(self, error: BaseException) -> str:
        """Return the error's traceback from the script's first frame on."""
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename != self._path:
            frames = frames.tb_next
        return "".join(traceback.format_exception(type(error), error, frames))

    def _load(self) -> ModuleType:
        if not Path(self._path).is_file():
            raise ScriptError("UserScriptImportError", f"The scoring script {self._name} is not in {self._root}.")
        spec = importlib.util.spec_from_file_location(MODULE, self._path)
        if spec is None or spec.loader is None:
            raise ScriptError("UserScriptImportError", f"The scoring script {self._name} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[MODULE] = module  # dataclasses and pickle look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            raise self._error("UserScriptImportError", f"Importing {self._name}", error) from error
        return module

    def _function(self, module: ModuleType, name: str) -> Callable[..., Any]:
        function = getattr(module, name, None)
        if not callable(function):
            raise ScriptError("UserScriptFunctionNotFound", f"{self._name} has no {name}() function.")
        return function  # type: ignore[no-any-return]  # the user's: anything that can be called

    def _adapted(self, run: Callable[..., Any]) -> Callable[[str, Callable[[], dict[str, str]]], Any]:
        """Return run() as a function of the data and of a way to get the request's headers."""
        parameters = inspect.signature(run).parameters
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if any(parameter.kind not in kinds for parameter in parameters.values()):
            message = f"run() in {self._name} must not have positional-only parameters, *args or **kwargs."
            raise ScriptError("UserScriptFunctionNotFound", message)
        name = next((name for name in parameters if name != "request_headers"), None)
        if name is None:
            raise ScriptError(
                "UserScriptFunctionNotFound", f"run() in {self._name} must take a parameter for the data."
            )
        if "request_headers" in parameters:
            return lambda data, headers: run(**{name: data, "request_headers": headers()})
        return lambda data, _: run(**{name: data})

    def _error(self, code: str, doing: str, error: BaseException) -> ScriptError:
        """Return the error as one sentence: what was done, what came out, and the last line of the user's in it."""
        if isinstance(error, SystemExit):
            fault = f"called sys.exit({'' if error.code is None else repr(error.code)})"
        else:
            text = error.msg if isinstance(error, SyntaxError) else str(error)
            fault = f"raised {type(error).__name__}" + (f": {text.strip()}" if text.strip() else "")
        return ScriptError(code, f"{doing} {fault.rstrip('.')}{self._place(error)}.", self.traceback_of(error))

    def _place(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError) and error.filename:
            return f" ({self._below_root(error.filename)}, line {error.lineno})"
        frames = traceback.extract_tb(error.__traceback__)
        for frame in reversed(frames):
            if frame.filename == self._path or frame.filename.startswith(self._root + os.sep):
                return f" ({self._below_root(frame.filename)}, line {frame.lineno})"
        return ""

    def _below_root(self, path: str) -> str:
        return os.path.relpath(path, self._root) if path.startswith(self._root + os.sep) else path
