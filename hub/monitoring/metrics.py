"""`/metrics`: django-prometheus's request metrics, inference's own, and the hub's gauges.

The gauges are read from the database and the engine at each scrape, so they need no bookkeeping
and survive a restart.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator

import prometheus_client
from django.db import Error
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hub.backups import schedule
from hub.config import config
from hub.monitoring import ended, samples, usage
from hub.monitoring.health import mlflow_problem, running_engine_stats
from hub.monitoring.logs import PROCESSES
from hub.processes import presence
from hub.processes.asking import Question
from registry.mlflow import outbox
from registry.models import Dataset, Model, ModelVersion
from registry.storage import paths
from training.models import TrainingJob, TrainingMetric


def gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    """A gauge without labels; omitted while the value is unknown."""
    if value is not None:
        yield GaugeMetricFamily(f"hub_{name}", text, value=value)


class HubCollector(Collector):
    """The hub's state at the moment of the scrape."""

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering does not read the database

    def collect(self) -> Iterator[Metric]:
        asked = _database.put()
        yield from _processes()
        yield from usage.metrics()
        yield from _engine()
        yield from gauge(
            "disk_free_bytes",
            "Free space on the storage disk",
            shutil.disk_usage(paths.root()).free,
        )
        yield from _backup()
        yield from gauge("mlflow_up", "Whether MLflow answers", mlflow_problem() is None)
        try:
            found = asked.get()
        except (Error, TimeoutError):
            found = None
        yield from gauge("database_up", "Whether the database answers", found is not None)
        yield from found or ()


def _read() -> list[Metric]:
    return [
        metric
        for family in (_jobs, ended.metrics, _training, _system, _registry)
        for metric in family()
    ]


_database = Question(_read, limit_s=2.5)  # a scrape has five seconds, of a busy machine, too


def _processes() -> Iterator[Metric]:
    family = GaugeMetricFamily("hub_process_up", "Whether a process is running", labels=["process"])
    for name in PROCESSES:
        family.add_metric([name], presence.alive(name))
    yield family


def _backup() -> Iterator[Metric]:
    """Absent without HUB_BACKUP_DIR, and until there is a backup in it."""
    place = config.backup_dir
    if place is not None and (age := schedule.age(place)) is not None:
        text = "Age of the newest backup in HUB_BACKUP_DIR"
        yield from gauge("backup_age_seconds", text, age.total_seconds())


def _engine() -> Iterator[Metric]:
    stats = running_engine_stats()
    yield from gauge("engine_up", "Whether the engine responds", stats is not None)
    if stats is None:
        return
    yield from gauge("engine_memory_bytes", "Memory held by loaded models", stats["models_bytes"])
    yield from gauge("memory_budget_bytes", "Memory budget of MLX", stats["budget_bytes"])
    yield from gauge("engine_running_rows", "Requests in the batch", stats["running"])
    yield from gauge("engine_waiting", "Waiting requests", stats["waiting"])
    yield from gauge("engine_max_queue", "Requests that may wait", stats["max_queue"])
    yield from gauge("engine_models", "Base models in memory", len(stats["models"]))
    yield CounterMetricFamily(
        "hub_engine_tokens", "Tokens generated", value=stats["tokens_generated"]
    )
    yield from gauge("engine_cache_bytes", "Memory held by the prefix caches", stats["cache_bytes"])
    yield from gauge("engine_pinned", "Pinned models", sum(m["pinned"] for m in stats["models"]))
    for name, text, key in (
        ("requests", "Requests added to the batch", "requests"),
        ("prompt_tokens", "Prompt tokens", "prompt_tokens"),
        ("cached_tokens", "Prompt tokens found in the prefix cache", "cached_tokens"),
        ("cache_hits", "Requests with a prefix cache hit", "cache_hits"),
        ("drafted_tokens", "Tokens drafted for a request that ran alone", "drafted_tokens"),
        ("accepted_tokens", "Drafted tokens that the model chose itself", "accepted_tokens"),
        ("forced_tokens", "Tokens that a grammar left no choice about", "forced_tokens"),
        ("evictions", "Models evicted from memory", "evictions"),
        ("refused", "Requests rejected because the queue was full", "refused"),
        ("late", "Requests that hit their deadline", "late"),
    ):
        yield CounterMetricFamily(f"hub_engine_{name}", text, value=stats[key])


def _jobs() -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "hub_jobs", "Training jobs by status; paused ones are not queued", labels=["status"]
    )
    jobs, completed = TrainingJob.objects.order_by(), TrainingJob.Status.COMPLETED
    others = [status for status in TrainingJob.Status.values if status != completed]
    # Nearly all are completed: SQLite counts a whole table seven times as fast as its entries by status.
    by_status = jobs.filter(status__in=others).values_list("status").annotate(count=Count("*"))
    counts = dict(by_status)
    counts[completed.value] = max(0, jobs.count() - sum(counts.values()))
    waiting = TrainingJob.objects.filter(status=TrainingJob.Status.QUEUED)
    counts["paused"] = paused = waiting.filter(paused=True).count()
    counts["queued"] = counts.get("queued", 0) - paused
    for status in (*TrainingJob.Status.values, "paused"):
        family.add_metric([status], counts.get(status, 0))
    yield family


def _training() -> Iterator[Metric]:
    """The running job's newest metrics; nothing while no job runs."""
    job = TrainingJob.objects.filter(status=TrainingJob.Status.RUNNING).first()
    if job is None:
        return
    yield from gauge("training_iteration", "Iterations done", job.iteration)
    yield from gauge("training_tokens_per_second", "Training speed", job.tokens_per_second)
    yield from gauge("training_peak_memory_bytes", "Peak memory", job.peak_memory_bytes)
    for name, text in (("train_loss", "Training loss"), ("val_loss", "Validation loss")):
        measured = TrainingMetric.objects.filter(job=job).exclude(**{name: None})
        newest = measured.order_by("-iteration").values_list(name, flat=True).first()
        yield from gauge(
            {"train_loss": "training_loss", "val_loss": "training_validation_loss"}[name],
            text,
            newest,
        )


def _system() -> Iterator[Metric]:
    sample = samples.newest()
    if sample is None:
        return
    for name, text in (
        ("cpu_percent", "CPU usage of all cores"),
        ("gpu_percent", "GPU usage"),
        ("memory_used_bytes", "Memory in use"),
        ("memory_total_bytes", "Total memory"),
        ("swap_used_bytes", "Swap in use"),
    ):
        yield from gauge(f"system_{name}", text, getattr(sample, name))
    yield from gauge(
        "training_memory_bytes", "Memory held by the training process", sample.training_memory_bytes
    )


def _registry() -> Iterator[Metric]:
    yield from gauge("models", "Registered models", Model.objects.count())
    yield from gauge("datasets", "Registered data sets", Dataset.objects.count())
    yield from gauge(
        "versions_ready", "Versions that can be served", ModelVersion.objects.ready().count()
    )
    yield from gauge(
        "mlflow_outbox_pending",
        "Updates waiting for MLflow",
        outbox.waiting().count(),
    )
    yield from gauge(
        "mlflow_outbox_given_up",
        "Updates that MLflow rejected",
        outbox.given_up().count(),
    )


# When each series was made: half as many lines again, and nobody asks.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
prometheus_client.REGISTRY.register(HubCollector())


def families() -> Iterator[Metric]:
    """Everything that is measured, as it is now."""
    return iter(prometheus_client.REGISTRY.collect())


@require_safe
@never_cache
def view(request: HttpRequest) -> HttpResponse:
    """GET /metrics, in Prometheus' text format."""
    body = prometheus_client.generate_latest(prometheus_client.REGISTRY)
    return HttpResponse(body, content_type=prometheus_client.CONTENT_TYPE_LATEST)
