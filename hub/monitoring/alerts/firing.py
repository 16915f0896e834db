"""Which alerts stand now, for the hub's own dashboard: the same as Prometheus' rules, without Prometheus.

A rule's `for` is left out where what it waits for is seen at once; what grows over a while is read from
the rows of that while.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import Error
from django.db.models import Avg, Count, Q, Value
from django.utils import timezone

from hub.models import SystemSample
from hub.monitoring import ended
from hub.monitoring.alerts.table import ALERTS, Severity
from hub.monitoring.health import Part
from hub.processes import presence, restarts
from inference.gateway import unlogged
from inference.models import InferenceRequest
from registry.mlflow import outbox
from registry.models.work import Work
from training.models import TrainingJob

_HOUR = datetime.timedelta(hours=1)
_SHARE, _MANY = 0.05, 10  # of all requests fail, of at least so many
_STARTS_S = 60  # as long as a hub on a busy machine takes to start its processes
_RESTARTED = (2, 15 * 60.0)  # more often than that within so many seconds
_SLOW_MS = 10_000
ELSEWHERE = {"HubDown"}
"""Who does not answer shows no dashboard."""


@dataclass(frozen=True)
class Firing:
    """An alert that stands now; `reason` and `fix` are sentences."""

    name: str
    severity: Severity
    reason: str
    fix: str


@dataclass
class Now:
    """What the conditions look at, beside what they count: the parts' health, the engine's statistics while
    it answers, the newest sample, and whether a job runs."""

    health: Mapping[str, Part]
    engine: Mapping[str, Any] | None
    sample: SystemSample | None = None
    training: bool = False

    @cached_property
    def requests(self) -> dict[str, Any]:
        """Of the last ten minutes."""
        since = timezone.now() - datetime.timedelta(minutes=10)
        late = Q(status="failed", error__contains="missed its deadline")
        return InferenceRequest.objects.filter(created_at__gt=since).aggregate(
            total=Count("pk"),
            failed=Count("pk", filter=Q(status="failed") & ~late),
            late=Count("pk", filter=late),
            first_token_ms=Avg("first_token_ms"),
        )

    def share(self, outcome: str, said: str) -> str:
        found = self.requests
        if found["total"] <= _MANY or found[outcome] / found["total"] <= _SHARE:
            return ""
        return f"{found[outcome]} of {found['total']} requests {said} in the last ten minutes."

    def part(self, name: str) -> str:
        return self.health[name].reason if self.health[name].status == "failed" else ""


def firing(now: Now) -> list[Firing]:
    """The alerts that stand, critical ones first. What cannot be read is left out: the database's own
    alert says so."""
    return sorted(_standing(now), key=lambda one: one.severity != "critical")


def _standing(now: Now) -> Iterator[Firing]:
    for alert in ALERTS:
        if alert.name in ELSEWHERE:
            continue
        try:
            reason = CONDITIONS[alert.name](now)
        except Error:
            continue
        if reason:
            fix = alert.fix.replace("manage.py", settings.COMMAND)
            yield Firing(alert.name, alert.severity, reason, fix)


def _down(*names: str) -> Callable[[Now], str]:
    """Which of these processes do not run, unless the hub has only just been started."""

    def condition(now: Now) -> str:
        if presence.is_new("up", _STARTS_S):
            return ""
        return " ".join(filter(None, map(now.part, names)))

    return condition


def _restarts(now: Now) -> str:
    most, within = _RESTARTED
    since = time.time() - within
    often = {
        name: sum(moment > since for moment in moments)
        for name, moments in restarts.moments().items()
    }
    said = [f"{name} {count} times" for name, count in often.items() if count > most]
    return f"Restarted in the last 15 minutes: {', '.join(said)}." if said else ""


def _memory(now: Now) -> str:
    sample = now.sample
    if sample is None or sample.memory_used_bytes <= 0.95 * sample.memory_total_bytes:
        return ""
    share = 100 * sample.memory_used_bytes / sample.memory_total_bytes
    return f"{share:.0f} % of the memory is in use."


def _first_token(now: Now) -> str:
    mean = now.requests["first_token_ms"]
    return (
        f"Requests wait {mean / 1000:.0f} s for their first token."
        if (mean or 0) > _SLOW_MS
        else ""
    )


def _queue(now: Now) -> str:
    if now.engine is None or now.engine["waiting"] <= 0.8 * now.engine["max_queue"]:
        return ""
    return (
        f"{now.engine['waiting']} requests wait; with {now.engine['max_queue']} the next get 429."
    )


def _lost(now: Now) -> str:
    return f"{lost} answers are not in the request log." if (lost := unlogged.lost()) else ""


def _failed_jobs(now: Now) -> str:
    failed = TrainingJob.objects.filter(
        status=TrainingJob.Status.FAILED, completed_at__gt=timezone.now() - _HOUR
    ).order_by("-completed_at")
    found = [f"Job {pk} ({name})" for pk, name in failed.values_list("pk", "model__name")[:3]]
    return f"Failed in the last hour: {', '.join(found)}." if found else ""


def _stuck_jobs(now: Now) -> str:
    if now.training:
        return ""
    old = timezone.now() - datetime.timedelta(minutes=30)
    waiting = TrainingJob.objects.waiting().filter(paused=False, created_at__lt=old)
    newest = TrainingJob.objects.filter(completed_at__gt=old)
    if not (count := waiting.count()) or newest.exists():
        return ""
    return f"{count} jobs wait, and none has run for half an hour."


def _failed_tasks(now: Now) -> str:
    since = timezone.now() - _HOUR
    first, *others = (
        kind._default_manager.filter(status=Work.Status.FAILED, heartbeat_at__gt=since)
        .order_by()
        .values_list(Value(kind.label), flat=True)
        for kind in ended.KINDS
    )
    failed = Counter(first.union(*others, all=True))
    said = [f"{label} ({count})" for label, count in sorted(failed.items())]
    return f"Background tasks that failed in the last hour: {', '.join(said)}." if said else ""


def _mlflow(now: Now) -> str:
    part = now.health["mlflow"]
    if part.status == "ok" or outbox.given_up().exists() or not outbox.waiting().exists():
        return ""
    return part.reason


def _mlflow_rejects(now: Now) -> str:
    if now.health["mlflow"].status == "ok":
        return ""
    count = outbox.given_up().count()
    return f"MLflow rejected {count} updates." if count else ""


def _backup(now: Now) -> str:
    part = now.health.get("backup")  # absent where none are wanted
    return "" if part is None or part.status == "ok" else part.reason


def _disk(status: str) -> Callable[[Now], str]:
    def condition(now: Now) -> str:
        part = now.health["storage"]
        return part.reason if part.status == status else ""

    return condition


CONDITIONS: dict[str, Callable[[Now], str]] = {
    "HubDatabaseDown": lambda now: now.part("database"),
    "HubProcessDown": _down("worker", "sampler"),
    "HubEngineDown": _down("engine"),
    "HubProcessRestarts": _restarts,
    "HubDiskLow": _disk("warning"),
    "HubDiskFull": _disk("failed"),
    "HubMemoryLow": _memory,
    "HubRequestsFail": lambda now: now.share("failed", "failed"),
    "HubRequestsLate": lambda now: now.share("late", "missed their deadline"),
    "HubFirstTokenSlow": _first_token,
    "HubQueueFull": _queue,
    "HubAnswersLost": _lost,
    "HubJobFailed": _failed_jobs,
    "HubJobsStuck": _stuck_jobs,
    "HubTaskFailed": _failed_tasks,
    "HubBackupOld": _backup,
    "HubMLflowLate": _mlflow,
    "HubMLflowRejects": _mlflow_rejects,
}
