"""A real receiver of OpenTelemetry, over HTTP: what a hub sends is here as Python has it."""

from __future__ import annotations

import contextlib
import gzip
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from prometheus_client.utils import floatToGoString


class Receiver(ThreadingHTTPServer):
    """Collects what is sent to `/v1/traces` and `/v1/metrics`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Collect)
        self.requests: list[ExportTraceServiceRequest] = []
        self.metrics: list[ResourceMetrics] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self, service: str = "") -> list[Span]:
        """What all services sent, or one of them."""
        return [span for span in self._all() if service in ("", span.service)]

    def _all(self) -> Iterator[Span]:
        for request in tuple(self.requests):
            for group in request.resource_spans:
                resource = plain(group.resource.attributes)
                for scope in group.scope_spans:
                    for sent in scope.spans:
                        yield Span(
                            str(resource["service.name"]).removeprefix("mlx-model-hub-"),
                            str(resource["service.version"]),
                            sent.name,
                            sent.trace_id.hex(),
                            sent.span_id.hex(),
                            sent.parent_span_id.hex(),
                            sent.start_time_unix_nano,
                            sent.end_time_unix_nano,
                            plain(sent.attributes),
                            sent.status.code == Status.STATUS_CODE_ERROR,
                            [link.trace_id.hex() + link.span_id.hex() for link in sent.links],
                        )

    def trace(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans() if span.trace_id == trace_id]


@dataclass(frozen=True)
class Span:
    """One span as it was received."""

    service: str
    version: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    failed: bool
    links: list[str]
    """Trace and span of each."""


def numbers(sent: ResourceMetrics) -> dict[str, float]:
    """What was sent at one time, as lines of Prometheus' text name and value it."""
    found = {}
    for metric in sent.scope_metrics[0].metrics:
        data = getattr(metric, metric.WhichOneof("data"))
        for point in data.data_points:
            labels = plain(point.attributes)
            if metric.WhichOneof("data") != "histogram":
                found[line(metric.name, labels)] = point.as_double
                continue
            found[line(f"{metric.name}_sum", labels)] = point.sum
            found[line(f"{metric.name}_count", labels)] = point.count
            for number, bound in enumerate((*point.explicit_bounds, math.inf), 1):
                until = {**labels, "le": floatToGoString(bound)}
                found[line(f"{metric.name}_bucket", until)] = sum(point.bucket_counts[:number])
    return found


def line(name: str, labels: dict[str, str]) -> str:
    return f"{name}{sorted(labels.items())}"


def plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes as Python has them."""
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in attributes
    }


class Collect(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/metrics":
            self.server.metrics += ExportMetricsServiceRequest.FromString(body).resource_metrics
        else:
            self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens until the end of the block."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
