"""
The user's code: loading it, calling it, and saying what is wrong with it.

Source: azureml-inference-server-http for what a script may look like, and Azure's
provisioning error codes for the names of its faults.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from modelport_scoring import inputs, loops, marks, schemas
from modelport_scoring.annotations import ABSENT, MODULE, Unusable, is_text, item_parameter, signature

log = logging.getLogger(__name__)


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
    """
    A loaded script; `init()` has not been called yet.

    Attributes:
        input: How a request becomes a call of run().
        init_seconds: How long init() took.
        seconds: The same, and what it took to load the script.
        loop: Where run() runs, when it is asynchronous; None when it is not.
        batching: What `@batched` said, if it did.
        concurrency: What `@concurrent` said, if it did.
    """

    init_seconds = seconds = 0.0

    def __init__(self, app_root: Path, entry_script: str, *, typed: bool = True) -> None:
        """Load the script; its annotations are not heeded unless `typed`."""
        self._began = time.perf_counter()
        self._heeds_annotations = typed
        self._root = str(app_root)
        self._name = entry_script
        self._path = str(app_root / entry_script)
        module = self._load()
        self._init: Callable[[], Any] = self._function(module, "init")
        # Azure's designer wraps a script in one of its own, whose run() only passes on what it is given.
        wrapped = getattr(module, "driver_module", None)
        owner = wrapped if isinstance(wrapped, ModuleType) and hasattr(wrapped, "run") else module
        self._run = self._function(owner, "run")
        self._decorated = schemas.is_decorated(self._run)
        self.batching = marks.batching_of(self._run)
        self.concurrency = marks.concurrency_of(self._run)
        self.loop = loops.Loop() if loops.is_asynchronous(self._run) else None
        self.input = self._in_flask(self._chosen_input())

    def init(self) -> None:
        """
        Run the user's `init`: on the loop, where run() is asynchronous, so that what it opens there can be used there.

        Raises:
            ScriptError: Whatever came out of it.
        """
        started = time.perf_counter()
        try:
            loops.call(self._init, self.loop)
        except BaseException as error:
            raise self._error("UserScriptInitFailed", "init()", error) from error
        self.init_seconds = time.perf_counter() - started
        self.seconds = time.perf_counter() - self._began

    @property
    def schemas(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Schemas of what run() takes and returns; None where it declares none."""
        return (schemas.input_schema(self._run), schemas.output_schema(self._run)) if self._decorated else None

    @property
    def schema_versions(self) -> tuple[str, ...]:
        """Versions of OpenAPI that can hold `schemas`."""
        return schemas.versions(self._run) if self._decorated else schemas.VERSIONS

    def misfit(self, error: BaseException) -> str | None:
        """Return what is wrong with the request, when run() failed because its arguments do not fit the schema."""
        return schemas.misfit(self._run, error) if self._decorated else None

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

    def _chosen_input(self) -> inputs.Text:
        """Return what calls run(), by its parameters and decorators."""
        parameters = inspect.signature(self._run).parameters
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if any(parameter.kind not in kinds for parameter in parameters.values()):
            self._refuse_run("not have positional-only parameters, *args or **kwargs")
        data = [parameter for name, parameter in parameters.items() if name != "request_headers"]
        if not data:
            self._refuse_run("take a parameter for the data")
        raw = inputs.is_raw()
        if raw and self._decorated:
            self._refuse_run("be decorated with @rawhttp or with @input_schema, not with both")
        with_headers = "request_headers" in parameters
        if self.batching is not None:
            self._check_batched(len(parameters))
        if not (raw or self._decorated) and self._heeds_annotations:
            try:
                data = [item_parameter(self._run, data[0])] if self.batching else data
            except Unusable as unusable:
                self._refuse_run(str(unusable))
            if not is_text(data):
                return self._typed_input(data, with_headers=with_headers)
            if any(each.annotation is not ABSENT for each in data[1:]):
                log.info("%s: the body is text, as in Azure. With run(*, …) it is an object.", signature(self._run))
        chosen = inputs.Raw if raw else inputs.Arguments if self._decorated else inputs.Text
        return chosen(self._run, data, with_headers=with_headers)

    def _in_flask(self, chosen: inputs.Text) -> inputs.Text:
        """Return what calls run() where Flask's `request` is known, if the script can have asked for it."""
        if "flask" not in sys.modules or self.loop is not None:
            return chosen
        flask_context = import_module(f"{__package__}.flask_context")
        return flask_context.InFlask(chosen) if flask_context.is_used_below(self._root + os.sep) else chosen

    def _typed_input(self, parameters: list[inspect.Parameter], *, with_headers: bool) -> inputs.Text:
        """Return what calls a run() whose annotations want more than text."""
        typed = import_module(f"{__package__}.typed")  # and the parsers with it
        try:
            chosen: inputs.Text = typed.chosen(self._run, parameters, with_headers=with_headers)
        except Unusable as unusable:
            raise ScriptError("UserScriptFunctionNotFound", f"run() in {self._name}: {unusable}") from unusable
        log.info("%s: the body is %s.", signature(self._run), chosen.told)
        return chosen

    def _check_batched(self, parameters: int) -> None:
        if self.loop is not None or inspect.isgeneratorfunction(inspect.unwrap(self._run)):
            self._refuse_run("not be asynchronous, and not yield, as it is decorated with @batched")
        if self._decorated:
            self._refuse_run("be decorated with @batched or with @input_schema, not with both")
        if parameters != 1:
            self._refuse_run("take one parameter, the list of inputs, as it is decorated with @batched")

    def _refuse_run(self, rule: str) -> NoReturn:
        raise ScriptError("UserScriptFunctionNotFound", f"run() in {self._name} must {rule}.")

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
