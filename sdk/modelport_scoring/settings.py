"""
What the server can be told, each thing once.

One declaration says a setting's flag, its variable, its kind, its default and its
purpose. `configuration` reads them all from the command line, the environment and
the configuration file; `--help` and the README's table are made of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from modelport_scoring.kinds import ADDRESS, LEVEL, LOOPBACK, NUMBER, PATH, PORT, SWITCHED, TEXT, WHOLE, Kind

DEBUG = f"{LOOPBACK}:5678"
"""Where `--debug` without an address listens: debugpy's own port, which editors propose."""


class SettingsError(Exception):
    """The server is told what it cannot understand, or cannot do; one sentence says what."""


@dataclass(frozen=True)
class Declared:
    """
    How a setting is written.

    Attributes:
        variable: Its name in the environment and in the configuration file; empty: it has none.
        flag: Its name on the command line; empty: it has none.
        bare: What the flag means without a value; None: it needs one.
        shown: Its default, for people.
    """

    kind: Kind
    variable: str
    flag: str
    purpose: str
    bare: str | None = None
    shown: str = ""


def setting(
    default: Any,
    kind: Kind,
    variable: str,
    flag: str,
    purpose: str,
    *,
    bare: str | None = None,
    shown: str | None = None,
    secret: bool = False,
) -> Any:
    """Declare a field."""
    if shown is None:
        shown = str(default).lower() if isinstance(default, bool) else "" if default is None else str(default)
    declared = Declared(kind, variable, flag, purpose, bare, shown)
    return field(default=default, repr=not secret, metadata={"declared": declared})


@dataclass(frozen=True)
class Settings:
    """What the server is told. Times in seconds; empty text is none."""

    entry_script: str = setting(
        "main.py", TEXT, "AZUREML_ENTRY_SCRIPT", "--entry_script", "The scoring script, below the app root."
    )
    model_dir: str | None = setting(
        None, TEXT, "AZUREML_MODEL_DIR", "--model_dir", "What the script reads from `AZUREML_MODEL_DIR`."
    )
    host: str = setting(LOOPBACK, TEXT, "", "--host", "Address to listen on; `0.0.0.0` is every one.")
    port: int = setting(5001, PORT, "SERVER_PORT", "--port", "Port to listen on.")
    uds: Path | None = setting(None, PATH, "", "--uds", "Unix socket to listen on, instead of host and port.")
    health_port: int | None = setting(
        None, PORT, "HEALTH_PORT", "--health_port", "Port of a listener for probes alone.", shown="none of its own"
    )
    health_uds: Path | None = setting(
        None, PATH, "MODELPORT_HEALTH_UDS", "--health_uds", "Unix socket of such a listener."
    )
    metrics_port: int | None = setting(
        None, PORT, "MODELPORT_METRICS_PORT", "--metrics_port", "Port of a listener for `/metrics`."
    )
    metrics_uds: Path | None = setting(
        None, PATH, "MODELPORT_METRICS_UDS", "--metrics_uds", "Unix socket of such a listener."
    )
    separate_health: bool = setting(
        False, SWITCHED, "SEPERATE_HEALTH_ENDPOINT", "", "Whether `HEALTH_PORT` counts, with 5000 as its default."
    )
    worker_count: int = setting(1, WHOLE, "WORKER_COUNT", "--worker_count", "Processes that call run().")
    worker_timeout: float = setting(
        300.0,
        NUMBER,
        "WORKER_TIMEOUT",
        "",
        "How many seconds a worker may be silent before it is replaced.",
        shown="300",
    )
    worker_preload: bool = setting(
        False, SWITCHED, "WORKER_PRELOAD", "", "Whether init() runs once, before the workers are forked."
    )
    reload: bool = setting(
        False, SWITCHED, "MODELPORT_RELOAD", "--reload", "Serve the script anew when its files change.", bare="true"
    )
    debug: str = setting(
        "", ADDRESS, "MODELPORT_DEBUG", "--debug", f"Let a debugger be attached, at {DEBUG} or HOST:PORT.", bare=DEBUG
    )
    debug_port: int | None = setting(
        None,
        PORT,
        "AZUREML_DEBUG_PORT",
        "",
        "Port of a debugger that waits for the server: connect to it at the start.",
    )
    cors_origins: str = setting(
        "",
        TEXT,
        "AML_CORS_ORIGINS",
        "--access_control_allow_origins",
        "Origins whose pages may read the answers, with commas between them.",
    )
    app_insights: bool = setting(False, SWITCHED, "AML_APP_INSIGHTS_ENABLED", "", "Send to Application Insights.")
    app_insights_key: str = setting(
        "",
        TEXT,
        "AML_APP_INSIGHTS_KEY",
        "--appinsights_instrumentation_key",
        "Its instrumentation key; the flag enables it too.",
        secret=True,
    )
    log_responses: bool = setting(
        True, SWITCHED, "APP_INSIGHTS_LOG_RESPONSE_ENABLED", "", "Whether answers are sent there."
    )
    version_header: bool = setting(
        True, SWITCHED, "SERVER_VERSION_LOG_RESPONSE_ENABLED", "", "Whether answers have `x-ms-server-version`."
    )
    log_level: str = setting("INFO", LEVEL, "AZUREML_LOG_LEVEL", "", "The least severe lines that are logged.")
    scoring_timeout_ms: int = setting(
        3_600_000, WHOLE, "SCORING_TIMEOUT_MS", "", "Longest that a caller waits for run(), in milliseconds."
    )
    max_concurrent_requests: int | None = setting(
        None,
        WHOLE,
        "MODELPORT_MAX_CONCURRENT_REQUESTS",
        "",
        "How many requests may be in run() at once; `@concurrent` may say more.",
        shown="1; 1000 for an `async def run`",
    )
    body_timeout: float = setting(
        60.0,
        NUMBER,
        "MODELPORT_BODY_TIMEOUT_SECONDS",
        "",
        "Longest that a request's body may take, and that a client may leave a stream unread.",
        shown="60",
    )
    max_body_bytes: int = setting(
        100 * 1024 * 1024, WHOLE, "MODELPORT_MAX_BODY_BYTES", "", "Longest body; that of the nginx in Azure's images."
    )
    grace: float = setting(
        30.0, NUMBER, "MODELPORT_GRACE_SECONDS", "", "How many seconds requests may go on after SIGTERM.", shown="30"
    )
    typed: bool = setting(
        True, SWITCHED, "MODELPORT_TYPED", "", "Whether annotations of run() are heeded; Azure does not heed them."
    )
    exact_results: bool = setting(
        False, SWITCHED, "MODELPORT_EXACT_RESULTS", "", "Whether a result that Azure cannot write is a 500, as there."
    )
    app_root: Path = setting(
        Path(),
        PATH,
        "AML_APP_ROOT",
        "",
        "Working directory and import path of the script.",
        shown="`/var/azureml-app` where there is one, else the working directory",
    )
    source_directory: str = setting(
        "", TEXT, "AZUREML_SOURCE_DIRECTORY", "", "A folder below the app root that imports are looked for in, too."
    )
    path_prefix: str = setting(
        "",
        TEXT,
        "SERVICE_PATH_PREFIX",
        "",
        "Put before the paths in `/swagger.json`; they are served with and without.",
    )
    service_name: str = setting("ML service", TEXT, "SERVICE_NAME", "", "The title in `/swagger.json`.")
    service_version: str = setting("1.0", TEXT, "SERVICE_VERSION", "", "The version in `/swagger.json`.")
    deployment: str = setting("", TEXT, "MODELPORT_DEPLOYMENT", "", "Name of the deployment, for the log.")
    failure_file: Path | None = setting(
        None, PATH, "MODELPORT_FAILURE_FILE", "", "Where it is reported, as JSON, why nothing can be served."
    )
    config_file: Path | None = setting(
        None,
        PATH,
        "AZUREML_CONFIG_FILE",
        "--config_file",
        "A JSON object of variables, which the environment wins over.",
        shown="`config.json` in the app root, else beside the script",
    )
    warnings: tuple[str, ...] = ()
    """What was odd about the settings; for the log, which they configure."""


DECLARED: dict[str, Declared] = {
    each.name: each.metadata["declared"] for each in fields(Settings) if "declared" in each.metadata
}
"""The settings by the names of their fields."""
