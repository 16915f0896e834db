"""OpenTelemetry traces, sent only when an OTLP endpoint is set.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) turns them on; every other `OTEL_…` variable
means what OpenTelemetry's documentation says. Without an endpoint nothing is imported, wrapped or
sent.
"""

from __future__ import annotations

import os

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def wanted() -> bool:
    """Whether an endpoint for traces is set."""
    return any(os.environ.get(name) for name in _ENDPOINTS)


def start(process: str) -> None:
    """Trace this process under the service name `mlx-model-hub-PROCESS`, if enabled."""
    if not wanted():
        return
    # Without this package the Django instrumentation silently skips every ASGI request.
    import opentelemetry.instrumentation.asgi  # noqa: F401
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service_name(process)}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    # Probes come every few seconds and are not worth tracing.
    DjangoInstrumentor().instrument(excluded_urls="/health$,/metrics$,/static/")


def service_name(process: str) -> str:
    return os.environ.get("OTEL_SERVICE_NAME") or f"mlx-model-hub-{process}"
