"""The alerts that the hub's own dashboard shows: each with what is wrong and how to fix it."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from hub.models import SystemSample
from hub.monitoring import health
from hub.monitoring.alerts import firing, table
from hub.monitoring.health import Part
from hub.processes import presence, restarts
from inference.gateway import unlogged
from inference.models import InferenceRequest
from registry.models import DatasetTask, MLflowOutbox
from registry.storage import paths
from tests.running import ROOT
from tests.training.build import make_job
from training.models import TrainingJob

OK = {
    name: Part("ok", "Fine.")
    for name in ("database", "engine", "worker", "sampler", "storage", "mlflow")
}
ENGINE = {"waiting": 3, "max_queue": 64}


def requests(*, failed: int = 0, late: int = 0, completed: int = 0, first: float = 100) -> None:
    ends = [
        *[("failed", "There is not enough memory.")] * failed,
        *[("failed", "The request missed its deadline of 5 s while it waited.")] * late,
        *[("completed", "")] * completed,
    ]
    InferenceRequest.objects.bulk_create(
        InferenceRequest(request_id=str(n), api="native", status=status, error=error)
        for n, (status, error) in enumerate(ends)
    )
    InferenceRequest.objects.filter(status="completed").update(first_token_ms=first)


def job(**columns: Any) -> None:
    TrainingJob.objects.filter(pk=make_job().pk).update(**columns)


def restart(times: int) -> None:
    again = restarts.Restarts(["web", "engine"])
    for _ in range(times):
        again.add("engine")


def use_memory(share: int) -> None:
    SystemSample.objects.create(
        cpu_percent=1, memory_used_bytes=share, memory_total_bytes=100, disk_free_bytes=1
    )


def task(outcome: str) -> None:
    DatasetTask.objects.create(name="one", kind="register", status=outcome)


def mlflow(attempts: int) -> None:
    MLflowOutbox.objects.create(
        operation="log_metrics", not_before=timezone.now(), attempts=attempts
    )


HOUR_AGO = datetime.timedelta(hours=1)
BAD: list[tuple[str, dict[str, Part], dict[str, int] | None, Callable[[], object]]] = [
    ("HubDatabaseDown", {"database": Part("failed", "Gone.")}, ENGINE, lambda: None),
    ("HubProcessDown", {"worker": Part("failed", "Gone.")}, ENGINE, lambda: None),
    ("HubEngineDown", {"engine": Part("failed", "Gone.")}, None, lambda: None),
    ("HubProcessRestarts", {}, ENGINE, lambda: restart(3)),
    ("HubDiskLow", {"storage": Part("warning", "4 GB free")}, ENGINE, lambda: None),
    ("HubDiskFull", {"storage": Part("failed", "The disk is full.")}, ENGINE, lambda: None),
    ("HubMemoryLow", {}, ENGINE, lambda: use_memory(97)),
    ("HubRequestsFail", {}, ENGINE, lambda: requests(failed=2, completed=18)),
    ("HubRequestsLate", {}, ENGINE, lambda: requests(late=2, completed=18)),
    ("HubFirstTokenSlow", {}, ENGINE, lambda: requests(completed=3, first=12_000)),
    ("HubQueueFull", {}, {"waiting": 60, "max_queue": 64}, lambda: None),
    ("HubAnswersLost", {}, ENGINE, lambda: None),
    ("HubJobFailed", {}, ENGINE, lambda: job(status="failed", completed_at=timezone.now())),
    ("HubJobsStuck", {}, ENGINE, lambda: job(created_at=timezone.now() - HOUR_AGO)),
    ("HubTaskFailed", {}, ENGINE, lambda: task("failed")),
    ("HubBackupOld", {"backup": Part("warning", "No backup yet in x.")}, ENGINE, lambda: None),
    ("HubMLflowLate", {"mlflow": Part("warning", "3 wait.")}, ENGINE, lambda: mlflow(0)),
    ("HubMLflowRejects", {"mlflow": Part("warning", "Rejected.")}, ENGINE, lambda: mlflow(16)),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "parts", "engine", "spoil"), BAD, ids=[bad[0] for bad in BAD])
def test_an_alert_stands_alone_and_says_what_to_do(
    name: str,
    parts: dict[str, Part],
    engine: dict[str, int] | None,
    spoil: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil()
    if name == "HubAnswersLost":
        monkeypatch.setattr(unlogged, "_lost", 2)
    now = firing.Now(OK | parts, engine, SystemSample.objects.first())
    [found] = firing.firing(now)
    assert found.name == name
    assert found.reason.endswith((".", "free"))
    assert found.fix.endswith(".")


@pytest.mark.django_db
def test_a_hub_that_is_well_has_none() -> None:
    restart(2)
    use_memory(90)
    requests(failed=1, late=1, completed=28)
    task("completed")
    job(created_at=timezone.now() - HOUR_AGO, paused=True)
    assert firing.firing(firing.Now(OK, ENGINE, SystemSample.objects.first())) == []


@pytest.mark.django_db
def test_a_hub_that_starts_is_given_time_for_its_processes() -> None:
    parts = {name: Part("failed", "Not running.") for name in ("engine", "worker", "sampler")}
    now = firing.Now(OK | parts, None, None)
    presence.announce("up")
    try:
        assert firing.firing(now) == []
        long_ago = time.time() - 90
        os.utime(paths.run_dir() / "up.alive", (long_ago, long_ago))
        assert [one.name for one in firing.firing(now)] == ["HubProcessDown", "HubEngineDown"]
    finally:
        presence.withdraw("up")
    os.utime(paths.run_dir() / "up.alive")  # of a hub that ended
    assert firing.firing(now)


@pytest.mark.any_database
def test_every_alert_is_looked_for_and_documented() -> None:
    names = {alert.name for alert in table.ALERTS}
    assert firing.CONDITIONS.keys() == names - firing.ELSEWHERE
    assert {bad[0] for bad in BAD} == names - firing.ELSEWHERE
    text = (ROOT / "docs" / "operations.md").read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.django_db
def test_the_dashboard_shows_them_with_their_fix(client: Client) -> None:
    job(status="failed", completed_at=timezone.now())
    page = client.get("/").content.decode()
    assert "Failed in the last hour: Job" in page
    assert "manage.py jobs retry" in page
    assert health.parts()["engine"].reason in page
