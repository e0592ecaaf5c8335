"""
Traces, where the environment asks for them: with OpenTelemetry's own variables.

The packages are the user's, and loaded only then. A script that has set up traces in its
init(), or `opentelemetry-instrument` before it, keeps what it has: our spans go there. A
server whose traces cannot be sent serves without them, and says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from modelport_scoring import __version__, app_insights
from modelport_scoring.settings import Settings
from modelport_scoring.tracing import Tracing

OTLP = "otlp"
PROTOCOLS = {"http/protobuf": ("otlp_proto_http",), "grpc": ("otlp_proto_grpc",)}
"""Exporters that speak them, by their names among the entry points."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

log = logging.getLogger(__name__)


class TelemetryError(Exception):
    """What was asked for cannot be sent; one sentence says why, and what to do."""


def tracing(settings: Settings, environment: Mapping[str, str]) -> Tracing | None:
    """Return what traces requests; None when nothing is asked for, or can be had. Call after init()."""
    processors: list[Any] = []
    told = None
    try:
        asked = asked_by(environment)
        if asked:
            processors += _exporting(asked, environment)
    except Exception as error:  # noqa: BLE001  # the user's packages: whatever they do, requests are served
        log.warning("No traces are sent: %s", error)
    try:
        if settings.app_insights:
            told = app_insights.Insights(settings, environment)
            processors.append(told.processor)
    except Exception as error:  # noqa: BLE001  # as above
        log.warning("Nothing is sent to Application Insights: %s", error)
    if not processors:
        return None
    _provide(processors, settings, environment, is_azure=told is not None)
    _mark_records()
    return Tracing(told)


def asked_by(environment: Mapping[str, str]) -> str:
    """Return the variable that asks for traces; empty when none does."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporters:
        return "" if exporters.lower() == "none" else "OTEL_TRACES_EXPORTER"
    return next((name for name in ENDPOINTS if environment.get(name)), "")


def _exporting(asked: str, environment: Mapping[str, str]) -> list[Any]:
    """
    Return what sends spans to where the environment says.

    Raises:
        TelemetryError: A package is missing, or there is no such exporter.
    """
    try:
        export: Any = import_module("opentelemetry.sdk.trace.export")
    except ImportError as error:
        raise TelemetryError(
            f"{asked} asks for them, but a package is missing ({error}). "
            "Add opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http to the environment."
        ) from error
    names = (environment.get("OTEL_TRACES_EXPORTER") or OTLP).split(",")
    return [export.BatchSpanProcessor(_exporter(name.strip(), environment)()) for name in names]


def _exporter(name: str, environment: Mapping[str, str]) -> Any:
    """Return the class of the exporter that OTEL_TRACES_EXPORTER calls so."""
    candidates: tuple[str, ...] = (name,)
    if name == OTLP:
        protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", ""
        )
        any_protocol = tuple(each for names in PROTOCOLS.values() for each in names)
        candidates = PROTOCOLS.get(protocol.strip(), (protocol,)) if protocol else any_protocol
    found = {entry.name: entry for entry in _entries("opentelemetry_traces_exporter")}
    for candidate in candidates:
        if candidate in found:
            return found[candidate].load()
    package = f"opentelemetry-exporter-{candidates[0].replace('_', '-')}"
    raise TelemetryError(f"there is no exporter {candidates[0]!r}. Add a package that has it, such as {package}.")


def _entries(group: str) -> Any:
    every: Any = import_module("importlib.metadata").entry_points()  # slow to load
    return every.select(group=group) if hasattr(every, "select") else every.get(group, ())  # Python 3.9 has a dict


def _provide(processors: list[Any], settings: Settings, environment: Mapping[str, str], *, is_azure: bool) -> None:
    """Set up a tracer provider with these processors, unless there is one."""
    api: Any = import_module("opentelemetry.trace")
    sdk: Any = import_module("opentelemetry.sdk.trace")
    provider = api.get_tracer_provider()
    if hasattr(provider, "add_span_processor"):
        log.info("The script's own tracer provider is used: spans go where it sends them.")
        if not is_azure:
            return
        processors = processors[-1:]
    else:
        options: dict[str, Any] = {"resource": resource(settings, environment)}
        if is_azure and "OTEL_TRACES_SAMPLER" not in environment:
            options["sampler"] = import_module("opentelemetry.sdk.trace.sampling").ALWAYS_ON  # as Azure's server
        provider = sdk.TracerProvider(**options)
        api.set_tracer_provider(provider)
    for processor in processors:
        provider.add_span_processor(processor)


def resource(settings: Settings, environment: Mapping[str, str]) -> Any:
    """Return OpenTelemetry's description of this process; what its variables say wins."""
    own: dict[str, Any] = {"service.version": __version__, "process.pid": os.getpid()}
    named = "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named and not environment.get("OTEL_SERVICE_NAME"):
        own["service.name"] = settings.deployment or settings.service_name
    return import_module("opentelemetry.sdk.resources").Resource.create(own)


def _mark_records() -> None:
    """Give every record of the log the ids of its trace and span. Names: opentelemetry-instrumentation-logging's."""
    api: Any = import_module("opentelemetry.trace")
    make = logging.getLogRecordFactory()

    def marked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        span = api.get_current_span().get_span_context()
        if span.is_valid:
            record.otelTraceID = api.format_trace_id(span.trace_id)
            record.otelSpanID = api.format_span_id(span.span_id)
        return record

    logging.setLogRecordFactory(marked)
