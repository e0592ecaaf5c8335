"""What the server is told: Azure's environment variables, a few of our own, and flags over both."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where to listen, what to run, and the limits. Times in seconds."""

    app_root: Path
    """Working directory and import path of the script. AML_APP_ROOT; the working directory when it is not set."""
    entry_script: str
    """Path of the script below `app_root`. AZUREML_ENTRY_SCRIPT; Azure's default is `main.py`."""
    model_dir: str | None
    """What the script reads from AZUREML_MODEL_DIR."""
    uds: Path | None
    """Unix socket to listen on, instead of `host` and `port`."""
    host: str
    port: int
    deployment: str
    """Name for the log. MODELPORT_DEPLOYMENT."""
    failure_file: Path | None
    """Where a script that cannot be served is reported, as JSON. MODELPORT_FAILURE_FILE."""
    max_concurrent_requests: int | None = None
    """How many requests may be in run() at once; None lets the script decide. MODELPORT_MAX_CONCURRENT_REQUESTS."""
    scoring_timeout_ms: int = 3_600_000
    """Longest that a caller waits for run(). SCORING_TIMEOUT_MS."""
    body_timeout: float = 60.0
    """Longest that a request's body may take to arrive. MODELPORT_BODY_TIMEOUT_SECONDS."""
    max_body_bytes: int = 100 * 1024 * 1024
    """Source: the nginx in Azure's images. MODELPORT_MAX_BODY_BYTES."""
    grace: float = 30.0
    """How long requests may go on after SIGTERM. MODELPORT_GRACE_SECONDS."""
    cors_origins: str = ""
    """Origins whose pages may read the answers, with commas between them. AML_CORS_ORIGINS."""
    debug: str = ""
    """Where a debugger can be attached, `host:port`. MODELPORT_DEBUG."""
    service_name: str = "ML service"
    """The title in /swagger.json. SERVICE_NAME."""
    service_version: str = "1.0"
    """The version in /swagger.json. SERVICE_VERSION."""


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings; a flag wins over its variable. Exits with status 2 on what cannot be understood."""
    parser = argparse.ArgumentParser(prog="python -m modelport_scoring", description="Serve a scoring script.")
    parser.add_argument("--entry_script", default=environment.get("AZUREML_ENTRY_SCRIPT") or "main.py")
    parser.add_argument("--model_dir", default=environment.get("AZUREML_MODEL_DIR"))
    parser.add_argument("--uds", type=Path, help="Unix socket to listen on, instead of host and port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5001)
    flags = parser.parse_args(arguments)

    def number(name: str, default: float) -> float:
        text = environment.get(name) or str(default)
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not value > 0:
            parser.error(f"{name} is {text!r}: it must be a number above 0.")
        return value

    failure_file = environment.get("MODELPORT_FAILURE_FILE")
    places = environment.get("MODELPORT_MAX_CONCURRENT_REQUESTS")
    return Settings(
        app_root=Path(environment.get("AML_APP_ROOT") or Path.cwd()).absolute(),
        entry_script=flags.entry_script,
        model_dir=flags.model_dir,
        uds=flags.uds and flags.uds.absolute(),
        host=flags.host,
        port=flags.port,
        deployment=environment.get("MODELPORT_DEPLOYMENT", ""),
        failure_file=Path(failure_file).absolute() if failure_file else None,
        max_concurrent_requests=int(number("MODELPORT_MAX_CONCURRENT_REQUESTS", 1)) if places else None,
        scoring_timeout_ms=int(number("SCORING_TIMEOUT_MS", Settings.scoring_timeout_ms)),
        body_timeout=number("MODELPORT_BODY_TIMEOUT_SECONDS", Settings.body_timeout),
        max_body_bytes=int(number("MODELPORT_MAX_BODY_BYTES", Settings.max_body_bytes)),
        grace=number("MODELPORT_GRACE_SECONDS", Settings.grace),
        cors_origins=environment.get("AML_CORS_ORIGINS", ""),
        debug=environment.get("MODELPORT_DEBUG", ""),
        service_name=environment.get("SERVICE_NAME") or Settings.service_name,
        service_version=environment.get("SERVICE_VERSION") or Settings.service_version,
    )
