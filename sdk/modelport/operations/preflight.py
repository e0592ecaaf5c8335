"""
What can be said of a deployment before anything is sent or started.

Azure's client uploads first and complains after; here every local problem is found
first, and all of them are told at once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from modelport.entities import CodeConfiguration, Environment, Model, OnlineDeployment
from modelport.entities.base import Problem, refusal
from modelport.schema.fields import is_uri

_SKIP = "Pass skip_script_validation=True to deploy it all the same."


def check(deployment: OnlineDeployment, *, skip_script_validation: bool = False) -> None:
    """
    Look at everything that a deployment names on this machine.

    Raises:
        errors.ValidationException: With one detail for each problem.
    """
    problems = list(deployment.problems())
    problems += _code(deployment.code_configuration, skip_script_validation)
    if isinstance(deployment.model, Model):
        problems += _missing("model.path", "model", deployment.model.path)
    if isinstance(deployment.environment, Environment):
        problems += environment_problems(deployment.environment, "environment.")
    if problems:
        raise refusal(problems, f"Deployment '{deployment.name}' of '{deployment.endpoint_name}'")


def environment_problems(environment: Environment, prefix: str = "") -> Iterator[Problem]:
    """Files that an environment names and that are not there."""
    if isinstance(environment.conda_file, str):
        yield from _missing(f"{prefix}conda_file", "conda file", environment.conda_file)
    if environment.build:
        yield from _missing(f"{prefix}build.path", "build context", environment.build.path)


def _missing(field: str, what: str, path: str | None) -> Iterator[Problem]:
    if path and not is_uri(path) and not Path(path).exists():
        yield Problem(field, f"The {what} '{path}' does not exist (looked in '{Path.cwd()}').")


def _code(configuration: CodeConfiguration | None, skip: bool) -> Iterator[Problem]:
    if configuration is None or not configuration.code or is_uri(configuration.code):
        return
    folder = Path(configuration.code)
    if not folder.is_dir():
        what = "is a file: name its folder" if folder.exists() else f"does not exist (looked in '{Path.cwd()}')"
        yield Problem("code_configuration.code", f"The code folder '{folder}' {what}.")
        return
    script = folder / (configuration.scoring_script or "")
    if not configuration.scoring_script:
        return
    if not script.is_file():
        there = ", ".join(sorted(each.name for each in folder.iterdir())) or "nothing"
        message = f"'{configuration.scoring_script}' is not in '{folder}', which has {there}."
        yield Problem("code_configuration.scoring_script", message)
    elif not skip:
        yield from _script(script)


def _script(script: Path) -> Iterator[Problem]:
    """A scoring script that Python cannot read, or that has no `init` or `run`."""
    field = "code_configuration.scoring_script"
    try:
        tree = ast.parse(script.read_bytes(), str(script))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        reason = getattr(error, "msg", None) or str(error)
        yield Problem(field, f"'{script}', line {line}: {reason}. {_SKIP}")
        return
    names = set(_names(tree))
    for function in ("init", "run"):
        if function not in names and "*" not in names:
            yield Problem(field, f"'{script}' has no {function}() function, which Azure's contract asks for. {_SKIP}")


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
