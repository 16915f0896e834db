"""OpenTelemetry traces, sent only when an OTLP endpoint is set.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) turns them on; every other `OTEL_…` variable
means what OpenTelemetry's documentation says. Without an endpoint nothing is imported, wrapped or
sent. The spans themselves are started with `registry.traces`.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

from django.db.backends.signals import connection_created

from hub.config import ROOT
from registry import traces

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.http import HttpRequest

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_MOST_OF_A_QUERY = 4000  # characters
_PROBES = "/health$,/metrics$,/static/"  # they come every few seconds


def wanted() -> bool:
    """Whether an endpoint for traces is set."""
    return any(os.environ.get(name) for name in _ENDPOINTS)


def start(process: str) -> None:
    """Trace this process under the service name `mlx-model-hub-PROCESS`, if enabled."""
    if not wanted():
        return
    # The names that are stable; the libraries default to those before.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {"service.name": service_name(process), "service.version": release()}
    )
    provider = TracerProvider(resource=resource, id_generator=traces.ids())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    HTTPXClientInstrumentor().instrument()
    if process == "web":  # a job writes its progress once a second, for hours
        connection_created.connect(_trace_queries, dispatch_uid="hub-traces")
    traces.use(provider.get_tracer("hub", release()))


def service_name(process: str) -> str:
    """OTEL_SERVICE_NAME names all processes alike, if it is set."""
    return os.environ.get("OTEL_SERVICE_NAME") or f"mlx-model-hub-{process}"


def _trace_queries(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if _query not in connection.execute_wrappers:
        connection.execute_wrappers.append(_query)


def _query(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """A span around a query of a request, job or task, without its values; the worker and the sampler
    look into the database all the time, and that is no trace."""
    if not traces.current():
        return execute(sql, params, many, context)
    connection = context["connection"]
    verb = sql.split(None, 1)[0].upper() if sql.strip() else "QUERY"
    attributes = {
        "db.system.name": connection.vendor,
        "db.namespace": str(connection.settings_dict["NAME"]).rpartition("/")[2],
        "db.operation.name": verb,
        "db.query.text": str(sql)[:_MOST_OF_A_QUERY],
    }
    with traces.span(f"{verb} {connection.vendor}", kind="client", attributes=attributes):
        return execute(sql, params, many, context)


def release() -> str:
    """The hub's version, also where it runs from its sources and is not installed."""
    from importlib import metadata

    try:
        return metadata.version("mlx-model-hub")
    except metadata.PackageNotFoundError:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return str(project["version"])


def traced(application: Any) -> Any:
    """The ASGI `application` with a span around each HTTP request, which ends with the last byte of its
    answer. As it is where traces are off."""
    if not wanted():
        return application
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    server = OpenTelemetryMiddleware(
        application, excluded_urls=_PROBES, exclude_spans=["receive", "send"]
    )

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        # A socket stays open for hours: each generation on it has a trace of its own instead.
        await (server if scope["type"] == "http" else application)(scope, receive, send)

    return serve


def name_request(request: HttpRequest) -> None:
    """Name the running HTTP span after the route that was found, instead of the method alone."""
    if not wanted() or (found := request.resolver_match) is None:
        return
    from opentelemetry.trace import get_current_span

    span, route = get_current_span(), f"/{found.route.lstrip('^')}"
    span.update_name(f"{request.method} {route}")
    span.set_attribute("http.route", route)
