"""
What a person sees first who starts the server by hand: what it is told, and where it answers.

Source: azureml-inference-server-http prints such a page, with these labels.
"""

from __future__ import annotations

from modelport_scoring import __version__
from modelport_scoring.settings import Settings


def page(settings: Settings) -> str:
    """Return the page."""
    blocks = [[f"Modelport scoring server v{__version__}"], _told(settings), _routes(settings)]
    return "\n" + "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _told(settings: Settings) -> list[str]:
    told = {
        "App Root": settings.app_root,
        "Entry Script Name": settings.entry_script,
        "Model Directory": settings.model_dir,
        "Config File": settings.config_file,
        "Worker Count": settings.worker_count,
        "Worker Timeout (seconds)": f"{settings.worker_timeout:g}",
        "Server Port": settings.port if settings.uds is None else None,
        "Health Port": settings.health_port or (settings.port if settings.uds is None else None),
        "Application Insights Enabled": settings.app_insights,
        "Application Insights Key": "provided" if settings.app_insights_key else None,
        "CORS for the specified origins": settings.cors_origins or None,
    }
    return [*_title("Server Settings"), *(f"{label}: {value}" for label, value in told.items())]


def _routes(settings: Settings) -> list[str]:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared, not bound
    host = f"[{host}]" if ":" in host else host
    # A name must stand before the path; which one, the socket does not care.
    served = f"http://{host}:{settings.port}" if settings.uds is None else "http://localhost"
    probed = f"http://{host}:{settings.health_port}" if settings.health_port else served
    socket = "" if settings.uds is None else f"--unix-socket {settings.uds} "
    return [
        *_title("Server Routes"),
        f"Liveness Probe: GET   {probed}/",
        f"Score:          POST  {served}/score",
        f"OpenAPI:        GET   {served}/swagger.json?version=3",
        "",
        f"Try it: curl {socket}{served}/score --data '{{}}'",
    ]


def _title(text: str) -> list[str]:
    return [text, "-" * len(text)]
