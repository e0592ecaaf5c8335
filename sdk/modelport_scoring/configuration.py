"""
The settings, read: flags win over the environment, and that over the configuration file.

The file's place may depend on the other two, so it comes last and only fills what
they left open.

Source: azureml-inference-server-http for the order, the places of the file and
what an unknown key in it is worth: a warning.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport_scoring import __version__
from modelport_scoring.settings import DECLARED, Declared, Settings, SettingsError

AZURE_ROOT = Path("/var/azureml-app")
"""The app root of Azure's images."""

HEALTH_PORT = 5000
"""Of the listener for probes. Source: azureml-inference-server-http."""

TELEMETRY = ("WORKSPACE_NAME", "HOSTNAME")
"""Variables that Azure's file may have and that mean nothing to the server itself."""

COLLECTION = "AML_MODEL_DC_STORAGE_ENABLED"
"""Azure's first data collection, which it has given up."""


@dataclass(frozen=True)
class _Said:
    """One text, and who said it: a flag, a variable, or a key of the file."""

    source: str
    text: str

    @property
    def by_flag(self) -> bool:
        return self.source.startswith("--")


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """
    Return the settings.

    Raises:
        SettingsError: A value is not of its kind, or the configuration file cannot be read.
        SystemExit: An unknown flag (2), or `--help` (0).
    """
    said = {**_in_variables(environment), **_in_flags(arguments)}
    root = _read("app_root", said["app_root"]) if "app_root" in said else _default_root()
    file = _file(said, root)
    document = {} if file is None else _document(file)
    in_file = _in_variables(document, f"{{}} in {file}")
    merged = {**in_file, **said}
    values = {name: _read(name, one) for name, one in merged.items()}
    warnings = [*_unknown(document, file), *_collection({**document, **environment})]
    values["app_root"] = values.get("app_root", root)
    values["config_file"] = file
    values["entry_script"] = _entry_script(merged, values)
    values["health_port"] = _health_port(merged, values)
    if "app_insights_key" in said and said["app_insights_key"].by_flag:
        values["app_insights"] = True
    return Settings(**values, warnings=tuple(warnings))


def _in_flags(arguments: Sequence[str]) -> dict[str, _Said]:
    parser = argparse.ArgumentParser(
        prog="modelport-scoring",
        description=f"Serve a scoring script over HTTP, as Azure ML does. Version {__version__}.",
        epilog="Each flag has a variable, which it wins over; README.md beside this program lists all settings.",
    )
    for name, declared in DECLARED.items():
        if declared.flag:
            _add(parser, name, declared)
    flags = vars(parser.parse_args(arguments))
    return {name: _Said(DECLARED[name].flag, text) for name, text in flags.items() if text is not None}


def _add(parser: argparse.ArgumentParser, name: str, declared: Declared) -> None:
    default = f" Default: {declared.shown}." if declared.shown and declared.kind.name != "true or false" else ""
    told = f"{declared.purpose}{default}".replace("`", "").replace("%", "%%")
    if declared.kind.name == "true or false":
        parser.add_argument(declared.flag, dest=name, action="store_const", const=declared.bare, help=told)
        return
    word = declared.flag.rpartition("_")[2].lstrip("-").upper() if declared.bare is None else "HOST:PORT"
    optional: dict[str, Any] = {} if declared.bare is None else {"nargs": "?", "const": declared.bare}
    parser.add_argument(declared.flag, dest=name, metavar=word, help=told, **optional)


def _in_variables(variables: Mapping[str, Any], source: str = "{}") -> dict[str, _Said]:
    """Return what is said in the environment, or in a document like it; what is empty is not said."""
    return {
        name: _Said(source.format(declared.variable), _text(source, declared.variable, variables[declared.variable]))
        for name, declared in DECLARED.items()
        if declared.variable and variables.get(declared.variable) not in (None, "")
    }


def _text(source: str, variable: str, value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise SettingsError(
            f"{source.format(variable)} is {json.dumps(value)}: it must be text, a number, true or false."
        )
    return value if isinstance(value, str) else json.dumps(value)


def _read(name: str, said: _Said) -> Any:
    kind = DECLARED[name].kind
    try:
        return kind.read(said.text)
    except (ValueError, OverflowError):
        raise SettingsError(f"{said.source} is {said.text!r}: it must be {kind.rule}.") from None


def _default_root() -> Path:
    return AZURE_ROOT if AZURE_ROOT.is_dir() else Path.cwd()


def _file(said: Mapping[str, _Said], root: Path) -> Path | None:
    """Return the configuration file's path; None where there is none."""
    if "config_file" in said:
        named: Path = _read("config_file", said["config_file"])
        if not named.is_file():
            raise SettingsError(f"The configuration file {named} does not exist.")
        return named
    folders = [root]
    if "entry_script" in said:
        folders.append(_script(said["entry_script"], root).parent)
    found = (folder / "config.json" for folder in folders)
    return next((path for path in found if path.is_file() and path.stat().st_size), None)


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SettingsError(f"The configuration file {file} is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise SettingsError(f"The configuration file {file} is not a JSON object, such as {{}}.")
    return document


def _unknown(document: Mapping[str, Any], file: Path | None) -> list[str]:
    known = {declared.variable for declared in DECLARED.values()} | {COLLECTION, *TELEMETRY}
    unknown = [key for key in document if key not in known]
    return [f"Keys of {file} that are no settings: {', '.join(unknown)}."] if unknown else []


def _collection(variables: Mapping[str, Any]) -> list[str]:
    if str(variables.get(COLLECTION, "")).lower() != "true":
        return []
    return [f"{COLLECTION} does nothing here: collect data with the Collector of azureml-ai-monitoring."]


def _script(said: _Said, root: Path) -> Path:
    """Return the script's path: on the command line, one of the working directory goes first, as in Azure."""
    here = Path(said.text).absolute()
    return here if said.by_flag and here.is_file() else root / said.text


def _entry_script(merged: Mapping[str, _Said], values: Mapping[str, Any]) -> str:
    """Return the script's path below the app root; whole, where it is elsewhere."""
    if "entry_script" not in merged:
        return Settings.entry_script
    root: Path = values["app_root"]
    script = _script(merged["entry_script"], root)
    return str(script.relative_to(root)) if script.is_relative_to(root) else str(script)


def _health_port(merged: Mapping[str, _Said], values: Mapping[str, Any]) -> int | None:
    """Return the port of the listener for probes; the variable alone asks for none, as in Azure."""
    said = merged.get("health_port")
    if said is None or not said.by_flag:
        port = values.get("health_port", HEALTH_PORT) if values.get("separate_health") else None
    else:
        port = values["health_port"]
    return None if port == values.get("port", Settings.port) and values.get("uds") is None else port
