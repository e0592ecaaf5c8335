"""
Application Insights, as AML_APP_INSIGHTS_ENABLED asks for it.

Azure's own server tells it of every request but probes, with what run() answered, and of
what the script prints. The same facts are sent here, under the same names, so that
people's queries and alerts go on working; they stand in the request's one span, where
Azure's server makes a second one that lasts no time. The exporter is Azure's, from the
user's environment.

Source: azureml-inference-server-http (`appinsights_client`), for names and formats.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from modelport_scoring import request_ids
from modelport_scoring.exchange import Exchange
from modelport_scoring.records import ENDED, METHOD, PATH, STARTED, STATUS, Record
from modelport_scoring.settings import Settings

CONNECTION = "APPLICATIONINSIGHTS_CONNECTION_STRING"
LOGGERS = ("azmlinfsrv",)
"""Whose lines are sent: our own, which are below it, and what the script prints."""

LONGEST = 8192
"""Characters of a value that Application Insights keeps."""
NO_TEXT = json.dumps("Scoring request response payload is a non serializable object or raw binary")


class InsightsError(Exception):
    """Nothing can be sent; one sentence says why, and what to do."""


class Insights:
    """
    Sends requests, and lines of the log.

    Attributes:
        processor: Sends the spans of a tracer provider.
        wants_answers: Whether answers are sent, too.

    Raises:
        InsightsError: There is no key, or no exporter.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        connection = _connection(settings.app_insights_key, environment)
        try:
            azure: Any = import_module("azure.monitor.opentelemetry.exporter")
            traces: Any = import_module("opentelemetry.sdk.trace.export")
        except ImportError as error:
            raise InsightsError(
                f"a package is missing ({error}). Add azure-monitor-opentelemetry-exporter to the environment."
            ) from error
        self.wants_answers = settings.log_responses
        self._constant = {
            "Container Id": environment.get("HOSTNAME") or "Unknown",
            "Workspace Name": environment.get("WORKSPACE_NAME", ""),
            "Service Name": settings.service_name,
        }
        try:
            self.processor = traces.BatchSpanProcessor(azure.AzureMonitorTraceExporter(connection_string=connection))
            self._send_logs(azure.AzureMonitorLogExporter(connection_string=connection), settings)
        except ValueError as error:  # the exporter's word for a key that is none
            raise InsightsError(f"{error} Say the key, or the connection string, in AML_APP_INSIGHTS_KEY.") from error

    def attributes(self, exchange: Exchange, record: Record, body: bytes) -> Mapping[str, Any]:
        """Return what a request's span tells."""
        environ = exchange.environ
        seconds = record[ENDED] - record[STARTED]
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        host = environ.get("HTTP_HOST", environ["SERVER_NAME"])
        found: dict[str, Any] = {
            **self._constant,
            "Request Id": exchange.request_id,
            "Client Request Id": dict(exchange.headers).get("x-ms-client-request-id", ""),
            "name": record[PATH],
            "url": f"{environ['wsgi.url_scheme']}://{host}{record[PATH]}{query}",
            "start_time": _clock(time.time() - seconds),
            "duration": _duration(seconds),
            "resultCode": str(record[STATUS]),
            "success": record[STATUS] < 400,
            "http_method": record[METHOD],
        }
        if self.wants_answers:
            found["Response Value"] = _text(body)
        return found

    def _send_logs(self, exporter: Any, settings: Settings) -> None:
        sdk: Any = import_module("opentelemetry.sdk._logs")
        export: Any = import_module("opentelemetry.sdk._logs.export")
        resources: Any = import_module("opentelemetry.sdk.resources")
        provider = sdk.LoggerProvider(resource=resources.Resource.create({"service.name": settings.service_name}))
        provider.add_log_record_processor(export.BatchLogRecordProcessor(exporter))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer ones say where it will move to
            handler: logging.Handler = sdk.LoggingHandler(level=logging.INFO, logger_provider=provider)
        handler.addFilter(self._name_request)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(handler)

    def _name_request(self, record: logging.LogRecord) -> bool:
        """Put the ids where queries look for them."""
        record.__dict__["Container Id"] = self._constant["Container Id"]
        record.__dict__["Request Id"] = request_ids.current.get() or "Unknown"
        return True


def _connection(key: str, environment: Mapping[str, str]) -> str:
    """Return the connection string; a key alone is one with a default endpoint, or with that of the variable."""
    if not key and not environment.get(CONNECTION):
        raise InsightsError("it is enabled, but AML_APP_INSIGHTS_KEY says no key.")
    return f"InstrumentationKey={key}" if key and "=" not in key.partition(";")[0] else key or environment[CONNECTION]


def _text(body: bytes) -> str:
    try:
        return body.decode()[:LONGEST]
    except UnicodeDecodeError:
        return NO_TEXT


def _clock(when: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(when))}.{int(when % 1 * 1e6):06d}Z"


def _duration(seconds: float) -> str:
    """Return it as Azure's server does, `00:00:00.412`, with days before it where there are any."""
    milliseconds = int(seconds * 1000)
    days, rest = divmod(milliseconds, 86_400_000)
    text = f"{rest // 3_600_000:02d}:{rest // 60_000 % 60:02d}:{rest // 1000 % 60:02d}.{rest % 1000:03d}"
    return f"{days}.{text}" if days else text
