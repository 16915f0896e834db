"""The same metrics as `/metrics`, sent over OTLP where that is chosen: by the web process, once in
`OTEL_METRIC_EXPORT_INTERVAL` milliseconds (60000).

`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` turns it on, or `OTEL_METRICS_EXPORTER=otlp` beside
`OTEL_EXPORTER_OTLP_ENDPOINT`. Names, labels and values are those of `/metrics`, a counter's `_total` too.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import structlog

from hub.monitoring import metrics
from hub.monitoring.telemetry import release, service_name

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData, NumberDataPoint
    from opentelemetry.sdk.metrics.export import Metric as Sent
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

type Labels = Mapping[str, str]

_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
log = structlog.get_logger(__name__)


def wanted() -> bool:
    """Whether metrics are to be sent."""
    chosen = os.environ.get(
        "OTEL_METRICS_EXPORTER", "otlp" if os.environ.get(_ENDPOINT) else "none"
    )
    somewhere = os.environ.get(_ENDPOINT) or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return "otlp" in chosen.split(",") and bool(somewhere)


def start() -> None:
    """Send from a thread of this process from now on, if that is wanted."""
    if wanted():
        threading.Thread(target=_run, name="metrics", daemon=True).start()


def _run() -> None:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter, series = OTLPMetricExporter(), Series()
    every_s = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or 60_000) / 1000
    while True:
        time.sleep(every_s)
        try:
            exporter.export(series.data(metrics.families()))
        except Exception:  # the next time is in a minute
            log.exception("metrics_not_sent")


class Series:
    """Turns Prometheus' families into OTLP's, and knows since when each series counts."""

    def __init__(self) -> None:
        self._began = time.time_ns()
        self._known: dict[tuple[str, frozenset[tuple[str, str]]], tuple[int, float]] = {}

    def data(self, families: Iterable[Metric]) -> MetricsData:
        """All of them, as they are now."""
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        named = {"service.name": service_name("web"), "service.version": release()}
        scope = InstrumentationScope("hub", release())
        sent = [one for family in families for one in self._sent(family)]
        scopes = [ScopeMetrics(scope, sent, "")]
        return MetricsData([ResourceMetrics(Resource.create(named), scopes, "")])

    def _sent(self, family: Metric) -> Iterator[Sent]:
        from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Histogram, Sum
        from opentelemetry.sdk.metrics.export import Metric as Sent

        whole = AggregationTemporality.CUMULATIVE
        if family.type == "histogram":
            if points := list(self._histograms(family)):  # one without any would have no type
                yield Sent(family.name, family.documentation, "", Histogram(points, whole))
            return
        by_name = defaultdict(list)
        for sample in family.samples:
            by_name[sample.name].append(sample)
        for name, samples in by_name.items():
            numbers = [self._number(sample) for sample in samples]
            counts = family.type == "counter"
            data = Sum(numbers, whole, is_monotonic=True) if counts else Gauge(numbers)
            yield Sent(name, family.documentation, "", data)

    def _number(self, sample: Sample) -> NumberDataPoint:
        from opentelemetry.sdk.metrics.export import NumberDataPoint

        value = float(sample.value)  # a gauge may say True
        since = self._since(sample.name, sample.labels, value)
        return NumberDataPoint(sample.labels, since, time.time_ns(), value)

    def _histograms(self, family: Metric) -> Iterator[HistogramDataPoint]:
        from opentelemetry.sdk.metrics.export import HistogramDataPoint

        found: dict[frozenset[tuple[str, str]], dict[str, float]] = defaultdict(dict)
        for sample in family.samples:
            bound = sample.labels.get("le", sample.name.rpartition("_")[2])
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            found[frozenset(labels.items())][bound] = sample.value
        for key, values in found.items():
            total, count = values.pop("sum"), values.pop("count")
            up_to = sorted((float(bound), int(value)) for bound, value in values.items())
            counts = [
                value - before
                for (_, value), (_, before) in zip(up_to, [(0.0, 0), *up_to], strict=False)
            ]
            labels = dict(key)
            since = self._since(family.name, labels, count)
            bounds = [bound for bound, _ in up_to[:-1]]  # the last is infinity
            yield HistogramDataPoint(
                *(labels, since, time.time_ns(), int(count), total, counts, bounds),
                None,  # type: ignore[arg-type]  # Prometheus keeps neither the least
                None,  # type: ignore[arg-type]  # nor the most
            )

    def _since(self, name: str, labels: Labels, value: float) -> int:
        """When it began to count; a counter of another process begins again with that process."""
        key = (name, frozenset(labels.items()))
        since, before = self._known.get(key, (self._began, 0.0))
        if value < before:
            since = time.time_ns()
        self._known[key] = (since, value)
        return since
