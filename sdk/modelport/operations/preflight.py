"""
What can be said of a deployment before anything is sent or started.

Azure's client uploads first and complains after, and what a container lacks is told
twenty minutes later. Here every local problem is found first, in seconds and without
the service, and all of them are told at once. What is certain is an error; what only
looks wrong is a warning, and stops nothing.
"""

from __future__ import annotations

import html
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from modelport.arm import ids
from modelport.backends import refusals
from modelport.builds.conda import read as requirements
from modelport.entities import (
    CodeConfiguration,
    Environment,
    InferenceConfig,
    KubernetesOnlineDeployment,
    ManagedOnlineDeployment,
    Model,
    OnlineDeployment,
    OnlineEndpoint,
    ProbeSettings,
    sizes,
)
from modelport.entities.base import Problem, filled, refusal
from modelport.errors import ValidationException
from modelport.operations import distributions, scripts
from modelport.schema import files
from modelport.schema.fields import is_uri

logger = logging.getLogger(__name__)

SKIP = "Pass skip_script_validation=True to deploy it all the same."
"""The remedy for what is wrong with a script."""

_SCRIPT = "code_configuration.scoring_script"
_MOST_INSTANCES = 50
_MOST_TOGETHER = 62
_LARGEST_BODY = 100 << 20
_BANDWIDTH = 5 << 20
_RESERVED = ("AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT", "AZUREML_MODEL_DIR")
_SERVERS = {"azureml-inference-server-http", "azureml-defaults", "mlflow"}
_MOST_NAMED = 8
"""Files that a message lists."""


@frozen
class Finding:
    """One thing that is wrong, or looks so."""

    severity: Literal["error", "warning"]
    field: str
    """The field at fault, with its path: `environment.conda_file`."""
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (f"{self.severity}: {self.field}: {self.message}", self.remedy)))


@frozen
class Report:
    """What was found; `print` it, iterate over it, or ask whether it is `ok`."""

    about: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What would be refused, or fail for certain."""
        return tuple(each for each in self.findings if each.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What may be meant so."""
        return tuple(each for each in self.findings if each.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def raise_errors(self) -> None:
        """
        Raise one error that tells all of them.

        Raises:
            errors.ValidationException: With one detail for each.
        """
        if self.errors:
            problems = [
                Problem(each.field, " ".join(filter(None, (each.message, each.remedy)))) for each in self.errors
            ]
            raise refusal(problems, self.about)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.about}: nothing was found wrong."
        return "\n".join([f"{self.about}:", *(f"  {each}" for each in self.findings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{each.severity}</td><td><code>{html.escape(each.field)}</code></td>"
            f"<td>{html.escape(each.message)} {html.escape(each.remedy)}</td></tr>"
            for each in self.findings
        )
        return f"<b>{html.escape(self.about)}</b>: " + (
            f"<table>{rows}</table>" if rows else "nothing was found wrong."
        )


def check(deployment: OnlineDeployment, *, skip_script_validation: bool = False, azure: bool = False) -> None:
    """
    Look at everything that a deployment names on this machine; what only looks wrong is logged.

    Raises:
        errors.ValidationException: With one detail for each problem.
    """
    found = report(deployment, skip_script_validation=skip_script_validation, azure=azure)
    found.raise_errors()
    for each in found.warnings:
        logger.warning("%s: %s", found.about, " ".join(filter(None, (f"{each.field}: {each.message}", each.remedy))))


def report(
    entity: Any,
    *,
    request_file: str | os.PathLike[str] | None = None,
    skip_script_validation: bool = False,
    azure: bool = False,
    here: str = "",
) -> Report:
    """
    All that can be found wrong with a deployment, or an endpoint, offline.

    Args:
        entity: The deployment or endpoint that is to be created.
        request_file: A request like those that it will get, whose size is looked at.
        skip_script_validation: Do not look into the scoring script.
        azure: Whether it goes to Azure, where more is asked for than on this machine.
        here: The backend on this machine that is to serve it; what that cannot do counts too.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(entity, OnlineEndpoint):
        found = [Finding("error", each.field, each.message) for each in entity.problems()]
        found += _refusal(refusals.of_endpoint(entity)) if here else ()
        return Report(f"Endpoint '{entity.name}'", tuple(found))
    if not isinstance(entity, OnlineDeployment):
        said = f"{type(entity).__name__} ({entity!r:.80})"
        raise TypeError(f"preflight() takes an online deployment or an online endpoint, not {said}.")
    found = [Finding("error", each.field, each.message) for each in entity.problems()]
    found += _references(entity)
    found += _impossible(entity, here) if here else ()
    found += _limits(entity, azure)
    found += _probes(entity)
    found += _variables(entity)
    found += _files(entity, skip_script_validation, azure)
    if request_file is not None:
        found += _payload(entity, Path(request_file))
    return Report(f"Deployment '{entity.name}' of '{entity.endpoint_name}'", tuple(dict.fromkeys(found)))


def environment_problems(environment: Environment, prefix: str = "") -> Iterator[Problem]:
    """Files that an environment names and that are not there."""
    if isinstance(environment.conda_file, str):
        yield from _missing(f"{prefix}conda_file", "conda file", environment.conda_file)
    if environment.build:
        yield from _missing(f"{prefix}build.path", "build context", environment.build.path)


# What the service takes


def _references(deployment: OnlineDeployment) -> Iterator[Finding]:
    """References of which no version can be read, as no service could either."""
    for name, collection in (("model", "models"), ("environment", "environments")):
        said = getattr(deployment, name)
        if isinstance(said, str):
            try:
                ids.reference(said, collection, ids.LOCAL_WORKSPACE)
            except ValidationException as error:
                yield Finding("error", name, error.message)


def _impossible(deployment: OnlineDeployment, backend: str) -> Iterator[Finding]:
    """What a backend on this machine cannot do."""
    environment = deployment.environment if isinstance(deployment.environment, Environment) else None
    if deployment.code_configuration or not isinstance(deployment.environment, str):
        yield from _refusal(refusals.of_deployment(deployment, environment, backend))
    document = environment.conda_file if environment else None
    try:
        if isinstance(document, str) and not is_uri(document) and Path(document).is_file():
            document = files.read_mapping(document)
        if isinstance(document, dict):
            requirements(document)
    except ValidationException as error:
        yield Finding("error", "environment.conda_file", error.message)


def _refusal(error: ValidationException | None) -> Iterator[Finding]:
    if error:
        yield Finding("error", error.target or "", error.message)


def _limits(deployment: OnlineDeployment, azure: bool) -> Iterator[Finding]:
    """Source: Azure's limits of online endpoints."""
    count, kind = deployment.instance_count, deployment.instance_type
    if count and count > _MOST_INSTANCES and not isinstance(deployment, KubernetesOnlineDeployment):
        message = f"{count} instances are more than the {_MOST_INSTANCES} that Azure gives a deployment."
        yield Finding("warning", "instance_count", message, "Ask for a higher limit first.")
    if isinstance(deployment, KubernetesOnlineDeployment):
        together = len(deployment.name) + len(deployment.endpoint_name or "")
        if together > _MOST_TOGETHER:
            message = f"'{deployment.endpoint_name}' and '{deployment.name}' have {together} letters together."
            remedy = f"Kubernetes takes {_MOST_TOGETHER} for the names of an endpoint and its deployment: shorten one."
            yield Finding("error", "name", message, remedy)
    if azure and isinstance(deployment, ManagedOnlineDeployment):
        yield from _what_runs(deployment)
        if not kind:
            message = "No instance_type, which Azure's managed endpoints ask for."
            yield Finding("warning", "instance_type", message, "Standard_DS3_v2 is the smallest that Azure recommends.")
        elif kind.lower() in sizes.SMALL:
            message = f"Instance type {kind} may be too small for compute resources."
            yield Finding("warning", "instance_type", message, "Standard_DS3_v2 is the smallest that Azure recommends.")


def _what_runs(deployment: OnlineDeployment) -> Iterator[Finding]:
    """A model that brings no server of its own, and nothing that serves it."""
    model, environment = deployment.model, deployment.environment
    if isinstance(model, Model) and model.type != "custom_model":
        return
    if environment is None and isinstance(model, Model):
        message = "A custom model without an environment: nothing says what the script runs in."
        yield Finding("warning", "environment", message, "Give it an environment, or an MLflow model.")
    serves_itself = isinstance(environment, str) or (environment is not None and environment.inference_config)
    if deployment.code_configuration is None and isinstance(model, Model) and not serves_itself:
        message = "A custom model without a scoring script, in an environment without an inference_config."
        yield Finding("warning", "code_configuration", message, "Name the code folder and its scoring script.")


def _probes(deployment: OnlineDeployment) -> Iterator[Finding]:
    for name in ("liveness_probe", "readiness_probe"):
        said: ProbeSettings | None = getattr(deployment, name)
        if said is None:
            continue
        probe = filled(said)
        period, timeout = probe.period or 1, said.timeout or 0
        if timeout > period:
            message = f"timeout ({timeout} s) is longer than period ({period} s): the next question comes before."
            yield Finding("warning", f"{name}.timeout", message, "Make the period at least as long.")
        if name == "liveness_probe" and (probe.success_threshold or 1) > 1:
            message = f"success_threshold is {probe.success_threshold}; Kubernetes takes only 1 for liveness."
            yield Finding("warning", f"{name}.success_threshold", message, "Leave it out.")
        patience = (probe.initial_delay or 0) + period * (probe.failure_threshold or 1)
        if patience < 10 and deployment.model is not None:
            message = f"init() has {patience} s (initial_delay and failure_threshold periods) to load the model."
            yield Finding("warning", name, message, "Raise failure_threshold, unless it is that fast.")


def _variables(deployment: OnlineDeployment) -> Iterator[Finding]:
    for name, value in deployment.environment_variables.items():
        field = f"environment_variables.{name}"
        if name in _RESERVED and deployment.code_configuration:
            yield Finding("warning", field, "The service sets it itself; yours may not count.", "Choose another name.")
        if not isinstance(value, str):
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            message = f"{value!r} is no text, and Azure takes text only."
            yield Finding("warning", field, message, f"Write '{shown}', in quotes.")


def _payload(deployment: OnlineDeployment, file: Path) -> Iterator[Finding]:
    try:
        size = file.stat().st_size
    except OSError as error:
        yield Finding("error", "request_file", f"'{file}' cannot be read: {error.strerror}.")
        return
    settings = filled(deployment).request_settings
    seconds = (settings.request_timeout_ms or 0) / 1000 if settings else 0
    shown = f"{size / (1 << 20):,.0f} MB"
    if size > _LARGEST_BODY:
        message = f"'{file}' has {shown}; the inference server in Azure's images takes 100 MB (413)."
        yield Finding("warning", "request_file", message, "Send less at once, or the address of the data.")
    elif size > _BANDWIDTH * seconds > 0:
        message = (
            f"'{file}' has {shown}, which at Azure's 5 MB/s take longer than the request may, {seconds:g} s (408)."
        )
        yield Finding("warning", "request_file", message, "Raise request_settings.request_timeout_ms, or send less.")


# What it names on this machine


def _files(deployment: OnlineDeployment, skip: bool, azure: bool) -> Iterator[Finding]:
    model, environment = deployment.model, deployment.environment
    conda: dict[str, Any] | None = None
    if isinstance(environment, Environment):
        yield from (Finding("error", *_of(each)) for each in environment_problems(environment, "environment."))
        if environment.inference_config:
            yield from _routes(environment.inference_config, azure)
        conda = yield from _conda(environment)
        if conda is not None and azure:
            yield from _server(conda)
    if isinstance(model, Model):
        yield from _model(model, deployment)
    folder = _folder(deployment.code_configuration)
    if isinstance(folder, Problem):
        yield Finding("error", *_of(folder))
    elif folder is not None and not skip:
        yield from _code(deployment, folder, conda, azure)


def _of(problem: Problem) -> tuple[str, str]:
    return problem.field, problem.message


def _missing(field: str, what: str, path: str | None) -> Iterator[Problem]:
    if path and not is_uri(path) and not Path(path).exists():
        yield Problem(field, f"The {what} '{path}' does not exist (looked in '{Path.cwd()}').")


def _routes(config: InferenceConfig | Mapping[str, Any], azure: bool) -> Iterator[Finding]:
    """Azure's users write the routes as mappings as well."""
    severity: Literal["error", "warning"] = "error" if azure else "warning"
    for name in ("liveness_route", "readiness_route", "scoring_route"):
        route, field = _part(config, name), f"environment.inference_config.{name}"
        if route is None:
            yield Finding(severity, field, "Missing; Azure asks for all three.", "Name its port and its path.")
            continue
        port, path = _part(route, "port"), _part(route, "path")
        if isinstance(port, int) and not 1 <= port <= 65_535:
            yield Finding("error", f"{field}.port", f"{port} is no port: those are 1 to 65535.")
        if isinstance(path, str) and not path.startswith("/"):
            yield Finding("warning", f"{field}.path", f"'{path}' does not start with a slash.", f"Write '/{path}'.")


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name)


def _conda(environment: Environment) -> Any:
    """Yields what is wrong with the conda file; returns it when it can be read."""
    said, field = environment.conda_file, "environment.conda_file"
    if isinstance(said, str):
        if is_uri(said) or not Path(said).is_file():
            return None
        try:
            said = files.read_mapping(said)
        except ValidationException as error:
            yield Finding("error", field, error.message)
            return None
    if not isinstance(said, dict):
        return None
    wanted = said.get("dependencies")
    if not isinstance(wanted, list):
        yield Finding("warning", field, "It has no list of dependencies.", "Name python and the packages there.")
        return None
    names = distributions.packages({"dependencies": [each for each in wanted if isinstance(each, str)]}).names
    if "python" not in names:
        message = "It does not name Python's version, which in Azure is then whatever is newest that day."
        yield Finding("warning", field, message, "Add python=3.11, or what the model was made with.")
    if "pip" not in names and any(isinstance(each, dict) and "pip" in each for each in wanted):
        yield Finding("warning", field, "It has a pip section, but pip is not among its packages.", "Add pip.")
    return said


def _server(conda: dict[str, Any]) -> Iterator[Finding]:
    """Source: Azure's public examples, whose conda files bring the server even where the image has one of its own."""
    given = distributions.packages(conda)
    if given.known and not given.names & _SERVERS:
        message = "Nothing in it brings Azure's inference server, without which its containers do not start."
        yield Finding(
            "warning", "environment.conda_file", message, "Add azureml-inference-server-http to its pip part."
        )


def _model(model: Model, deployment: OnlineDeployment) -> Iterator[Finding]:
    if not model.path or is_uri(model.path):
        return
    yield from (Finding("error", *_of(each)) for each in _missing("model.path", "model", model.path))
    path = Path(model.path)
    if path.is_dir():
        if not any(each.is_file() for each in path.rglob("*")):
            yield Finding("error", "model.path", f"The folder '{path}' has no file.")
        elif model.type == "mlflow_model" and not (path / "MLmodel").is_file():
            message = f"'{path}' has no MLmodel, the file that tells of an MLflow model."
            severity: Literal["error", "warning"] = "warning" if deployment.code_configuration else "error"
            yield Finding(severity, "model.path", message, "Name the folder that has it.")
    elif path.is_file() and not path.stat().st_size:
        yield Finding("warning", "model.path", f"'{path}' is empty.")


# The scoring script


def _folder(configuration: CodeConfiguration | None) -> Path | Problem | None:
    """The local code folder, what is wrong with it, or None."""
    if configuration is None or not configuration.code or is_uri(configuration.code):
        return None
    folder = Path(configuration.code)
    if not folder.is_dir():
        what = "is a file: name its folder" if folder.exists() else f"does not exist (looked in '{Path.cwd()}')"
        return Problem("code_configuration.code", f"The code folder '{folder}' {what}.")
    if not configuration.scoring_script:
        return None
    if not (folder / configuration.scoring_script).is_file():
        message = f"'{configuration.scoring_script}' is not in '{folder}', which has {_listed(folder)}."
        return Problem(_SCRIPT, message)
    return folder


def _code(deployment: OnlineDeployment, folder: Path, conda: dict[str, Any] | None, azure: bool) -> Iterator[Finding]:
    configuration = deployment.code_configuration
    assert configuration
    assert configuration.scoring_script
    script = folder / configuration.scoring_script
    tree = scripts.parsed(script)
    if isinstance(tree, scripts.Fault):
        where = f", line {tree.line}" if tree.line else ""
        yield Finding("error", _SCRIPT, f"'{script}'{where}: {tree.message}", SKIP)
        return
    for fault in scripts.faults(tree, azure=azure):
        where = f", line {fault.line}," if fault.line else ""
        yield Finding("error", _SCRIPT, f"'{script}'{where} {fault.message}", SKIP)
    found = scripts.imports(script, tree, folder)
    for name, broken in found.broken.items():
        yield Finding("warning", _SCRIPT, f"'{name}', line {broken.line}: {broken.message}")
    if conda is not None and not found.open:
        yield from _packages(found, conda, azure)
    if isinstance(deployment.model, Model) and deployment.model.path and not is_uri(deployment.model.path):
        yield from _opened(script, scripts.model_paths(tree), Path(deployment.model.path))


def _packages(found: scripts.Imports, conda: dict[str, Any], azure: bool) -> Iterator[Finding]:
    told = set()
    for module, package in distributions.missing(found.outside, distributions.packages(conda), azure=azure):
        if package not in told:
            told.add(package)
            message = f"{found.outside[module]}: '{module}' is imported, and no package of the conda file brings it."
            yield Finding("warning", "environment.conda_file", message, f"Add {package}, unless another one brings it.")


def _opened(script: Path, paths: Iterator[tuple[tuple[str, ...], int]], model: Path) -> Iterator[Finding]:
    """Source: AZUREML_MODEL_DIR is the folder that the model's file or folder is in, under its own name."""
    if not model.exists():
        return
    for steps, line in paths:
        if steps[0] == model.name and (len(steps) == 1 or model.joinpath(*steps[1:]).exists()):
            continue
        has = f"'{model.name}'" if model.is_file() or steps[0] != model.name else f"{_listed(model)} in '{model.name}'"
        message = f"'{script.name}', line {line}: AZUREML_MODEL_DIR will have no '{'/'.join(steps)}'; it has {has}."
        yield Finding("warning", "model.path", message, "Correct the path in the script, or the model's name.")


def _listed(folder: Path) -> str:
    names = sorted(each.name for each in folder.iterdir())
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(names[:_MOST_NAMED]) or "nothing") + more
