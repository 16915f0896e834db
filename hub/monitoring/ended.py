"""What ended since this process started: jobs, their phases and background tasks, out of their rows; and
which tasks run.

They end in other processes, and the database is where these meet: each scrape counts the rows that have
ended since the one before, so that nothing is missed that began and ended between two scrapes.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from typing import Any

from django.db.models import Q, Value
from django.utils import timezone
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from inference.models import ClientCheck, Replay
from registry.models import BaseImport, BundleImport, DatasetTask, ExportTask
from registry.models.work import Work
from training.models import Setup, TrainingJob

KINDS: tuple[type[Work], ...] = (
    *(BaseImport, BundleImport, DatasetTask, ExportTask),
    *(ClientCheck, Replay, Setup),
)
_OVERLAP = datetime.timedelta(minutes=2)
"""A row's transaction may end so much later than the moment that it was marked with."""
_OUTCOMES = ("completed", "failed", "cancelled")
_ENDED = (Work.Status.COMPLETED, Work.Status.FAILED)  # what is paused is neither

_registry = CollectorRegistry()
JOBS = Histogram(
    "hub_job_duration_seconds",
    "From a job's first start to its end",
    ["outcome"],
    buckets=(10, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600),
    registry=_registry,
)
PHASES = Histogram(
    "hub_job_phase_duration_seconds",
    "Time that an ended job spent in each phase, all attempts together",
    ["phase"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 24 * 3600),
    registry=_registry,
)
STEPS = Counter("hub_training_steps", "Training steps of all jobs", registry=_registry)
TASKS = Histogram(
    "hub_task_duration_seconds",
    "From the start of a background task to its end",
    ["task", "outcome"],
    buckets=(1, 10, 60, 300, 1800, 7200),
    registry=_registry,
)

RUNNING = Gauge(
    "hub_tasks_running", "Background tasks that run or wait", ["task"], registry=_registry
)


class Harvest:
    """What has ended since this process started, each once."""

    def __init__(self) -> None:
        self._began = self._newest = timezone.now()
        self._given: dict[tuple[object, ...], datetime.datetime] = {}

    @property
    def floor(self) -> datetime.datetime:
        """What ended before has been given."""
        return max(self._began, self._newest - _OVERLAP)

    def is_new(self, ended: datetime.datetime, *which: object) -> bool:
        """Whether this end of it was not given before. A retried row ends again."""
        key = (ended, *which)
        if key in self._given:
            return False
        self._given[key] = ended
        self._newest = max(self._newest, ended)
        return True

    def forget(self) -> None:
        """Forget what nobody will ask for again."""
        floor = self.floor
        self._given = {key: ended for key, ended in self._given.items() if ended >= floor}


class Steps:
    """How many steps the running and ended jobs have done since the last look."""

    def __init__(self) -> None:
        self._began = timezone.now()
        self._done: dict[int, int] = {}

    def new(self, job: TrainingJob) -> int:
        # Of a job that was under way when this process started only what follows counts.
        known = 0 if job.started_at and job.started_at > self._began else job.iteration
        before = self._done.get(job.pk, known)
        self._done[job.pk] = job.iteration
        return max(0, job.iteration - before)  # less after a crash: from its checkpoint


_jobs = Harvest()
_tasks = Harvest()
_steps = Steps()
_one_at_a_time = threading.Lock()
for _outcome in _OUTCOMES:  # from the start, so that the first of each is an increase
    JOBS.labels(_outcome)
for _kind in KINDS:
    for _end in _ENDED:
        TASKS.labels(_kind.label, _end.value)


def metrics() -> Iterator[Metric]:
    """Raises DatabaseError."""
    with _one_at_a_time:
        _harvest()
    yield from _registry.collect()


def _harvest() -> None:
    now_or_lately = Q(status=TrainingJob.Status.RUNNING) | Q(completed_at__gt=_jobs.floor)
    columns = ("status", "iteration", "phases", "started_at", "completed_at")
    for job in TrainingJob.objects.order_by().filter(now_or_lately).only(*columns):
        if job.completed_at is None:
            STEPS.inc(_steps.new(job))
        elif _jobs.is_new(job.completed_at, job.pk):
            STEPS.inc(_steps.new(job))
            lasted = job.completed_at - (job.started_at or job.completed_at)
            JOBS.labels(job.status).observe(lasted.total_seconds())
            for phase, seconds in job.phases.items():
                PHASES.labels(phase).observe(seconds)
    running = dict.fromkeys((kind.label for kind in KINDS), 0)
    for label, status, pk, created, ended in _tasks_since(_tasks.floor):
        if status == Work.Status.RUNNING:
            running[label] += 1
        elif _tasks.is_new(ended, label, pk):
            seconds = max(0.0, (ended - created).total_seconds())
            TASKS.labels(label, status).observe(seconds)
    for label, count in running.items():
        RUNNING.labels(label).set(count)
    _jobs.forget()
    _tasks.forget()


def _tasks_since(moment: datetime.datetime) -> Iterator[tuple[Any, ...]]:
    """Those that run, and those that ended after that."""
    first, *others = (
        kind._default_manager.order_by()
        .filter(Q(status=Work.Status.RUNNING) | Q(status__in=_ENDED, heartbeat_at__gt=moment))
        .values_list(Value(kind.label), "status", "pk", "created_at", "heartbeat_at")
        for kind in KINDS
    )
    return iter(first.union(*others, all=True))
