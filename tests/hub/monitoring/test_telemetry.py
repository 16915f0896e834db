"""Traces: none until an endpoint is set, and then real ones, over OTLP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hub.monitoring import telemetry
from tests.running import run_hub, wait_until

pytestmark = pytest.mark.any_database


class Receiver(ThreadingHTTPServer):
    """Collects what is sent to `/v1/traces`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Collect)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self, service: str) -> list[str]:
        """Names of the spans that a service sent."""
        return [
            span.name
            for request in self.requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
            if any(
                attribute.key == "service.name" and attribute.value.string_value == service
                for attribute in group.resource.attributes
            )
        ]


class Collect(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not telemetry.wanted()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    assert telemetry.wanted()


def test_a_request_is_traced_under_its_process(tmp_path: Path, receiver: Receiver) -> None:
    environment: dict[str, Any] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with run_hub(tmp_path, **environment) as hub:
        httpx.get(f"{hub.url}/api/models", timeout=10).raise_for_status()
        wait_until(lambda: receiver.spans("mlx-model-hub-web"))
        log = hub.log.read_text()
    assert any("api/models" in name for name in receiver.spans("mlx-model-hub-web"))
    assert not any("health" in name for name in receiver.spans("mlx-model-hub-web"))
    assert "different Context" not in log
