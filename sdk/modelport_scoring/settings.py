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
    max_concurrent_requests: int = 1
    """How many requests may be in run() at once. MODELPORT_MAX_CONCURRENT_REQUESTS."""
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
    worker_count: int = 1
    """Processes that serve. WORKER_COUNT."""
    worker_timeout: float = 300.0
    """Longest that run() may keep the interpreter to itself. WORKER_TIMEOUT."""
    worker_preload: bool = False
    """Whether init() runs once, and the workers are forked after it. WORKER_PRELOAD."""
    health_port: int | None = None
    """Where another process tells whether the server is ready and lives; None: only where requests go. HEALTH_PORT."""
    health_uds: Path | None = None
    """The same as a Unix socket. MODELPORT_HEALTH_UDS."""
    metrics_port: int | None = None
    """Where another process tells what was counted. MODELPORT_METRICS_PORT."""
    metrics_uds: Path | None = None
    """The same as a Unix socket. MODELPORT_METRICS_UDS."""
    app_insights: bool = False
    """Whether requests are told to Application Insights. AML_APP_INSIGHTS_ENABLED."""
    app_insights_key: str = ""
    """Its instrumentation key or connection string. AML_APP_INSIGHTS_KEY; the flag enables it, too."""
    log_responses: bool = True
    """Whether answers are told to it. APP_INSIGHTS_LOG_RESPONSE_ENABLED."""
    reload: bool = False
    """Whether a change of the script's folder starts it anew."""
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
    parser.add_argument("--worker_count", type=int, default=int(environment.get("WORKER_COUNT") or 1))
    parser.add_argument("--health_port", type=int, default=_health_port(environment))
    parser.add_argument("--health_uds", type=Path, default=environment.get("MODELPORT_HEALTH_UDS") or None)
    parser.add_argument("--metrics_port", type=int, default=environment.get("MODELPORT_METRICS_PORT") or None)
    parser.add_argument("--metrics_uds", type=Path, default=environment.get("MODELPORT_METRICS_UDS") or None)
    parser.add_argument("--appinsights_instrumentation_key", default="")
    parser.add_argument("--reload", action="store_true", help="serve the script as it is now, after each change")
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
    return Settings(
        app_root=Path(environment.get("AML_APP_ROOT") or Path.cwd()).absolute(),
        entry_script=flags.entry_script,
        model_dir=flags.model_dir,
        uds=flags.uds and flags.uds.absolute(),
        host=flags.host,
        port=flags.port,
        deployment=environment.get("MODELPORT_DEPLOYMENT", ""),
        failure_file=Path(failure_file).absolute() if failure_file else None,
        max_concurrent_requests=int(number("MODELPORT_MAX_CONCURRENT_REQUESTS", Settings.max_concurrent_requests)),
        scoring_timeout_ms=int(number("SCORING_TIMEOUT_MS", Settings.scoring_timeout_ms)),
        body_timeout=number("MODELPORT_BODY_TIMEOUT_SECONDS", Settings.body_timeout),
        max_body_bytes=int(number("MODELPORT_MAX_BODY_BYTES", Settings.max_body_bytes)),
        grace=number("MODELPORT_GRACE_SECONDS", Settings.grace),
        cors_origins=environment.get("AML_CORS_ORIGINS", ""),
        debug=environment.get("MODELPORT_DEBUG", ""),
        worker_count=flags.worker_count,
        worker_timeout=number("WORKER_TIMEOUT", Settings.worker_timeout),
        worker_preload=environment.get("WORKER_PRELOAD", "").lower() == "true",
        health_port=flags.health_port,
        health_uds=flags.health_uds and Path(flags.health_uds).absolute(),
        metrics_port=flags.metrics_port,
        metrics_uds=flags.metrics_uds and Path(flags.metrics_uds).absolute(),
        app_insights=bool(flags.appinsights_instrumentation_key)
        or environment.get("AML_APP_INSIGHTS_ENABLED", "").lower() == "true",
        app_insights_key=flags.appinsights_instrumentation_key or environment.get("AML_APP_INSIGHTS_KEY", ""),
        log_responses=environment.get("APP_INSIGHTS_LOG_RESPONSE_ENABLED", "").lower() != "false",
        reload=flags.reload,
        service_name=environment.get("SERVICE_NAME") or Settings.service_name,
        service_version=environment.get("SERVICE_VERSION") or Settings.service_version,
    )


def _health_port(environment: Mapping[str, str]) -> int | None:
    said = environment.get("HEALTH_PORT")
    if said:
        return int(said)
    return 5000 if environment.get("SEPERATE_HEALTH_ENDPOINT", "").lower() == "true" else None
