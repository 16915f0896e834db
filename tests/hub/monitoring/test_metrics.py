"""What /metrics has of what ended in other processes, and of the processes themselves."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from typing import Any

import psutil
import pytest
from django.apps import apps
from django.utils import timezone
from prometheus_client.metrics_core import Metric

from hub.monitoring import ended, usage
from hub.monitoring.metrics import _jobs
from hub.processes import presence, restarts
from registry.models import DatasetTask
from registry.models.work import Work
from tests.training.build import make_job
from training import queue
from training.models import TrainingJob


def value(metrics: Iterable[Metric], name: str, **labels: str) -> float:
    """The sum of the samples with that name and those labels."""
    samples = [sample for metric in metrics for sample in metric.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@pytest.fixture
def since_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harvests of a process that has just started."""
    monkeypatch.setattr(ended, "_jobs", ended.Harvest())
    monkeypatch.setattr(ended, "_tasks", ended.Harvest())
    monkeypatch.setattr(ended, "_steps", ended.Steps())


def end(job: TrainingJob, **columns: Any) -> None:
    now = timezone.now()
    started = now - datetime.timedelta(seconds=42)
    TrainingJob.objects.filter(pk=job.pk).update(
        **{"completed_at": now, "started_at": started, **columns}
    )


@pytest.mark.django_db
def test_jobs_are_counted_by_status() -> None:
    first = make_job()
    jobs = [first, *(make_job(first.model) for _ in range(3))]
    end(jobs[0], status="completed")
    end(jobs[1], status="failed")
    TrainingJob.objects.filter(pk=jobs[2].pk).update(paused=True)
    counts = {"queued": 1, "paused": 1, "running": 0, "completed": 1, "failed": 1, "cancelled": 0}
    found = {status: value(_jobs(), "hub_jobs", status=status) for status in counts}
    assert found == counts


@pytest.mark.django_db
def test_a_job_counts_once_with_its_outcome_its_phases_and_its_steps(since_now: None) -> None:
    old = make_job()
    end(old, status="completed", completed_at=timezone.now() - datetime.timedelta(hours=1))
    before = list(ended.metrics())
    phases = {"training": 30.0, "scoring": 9.5}
    job = queue.clone(old, {})
    end(job, status="failed", iteration=20, phases=phases, started_at=timezone.now())
    after, again = list(ended.metrics()), list(ended.metrics())
    for metrics in (after, again):

        def grown(name: str, metrics: list[Metric] = metrics, **labels: str) -> float:
            return value(metrics, name, **labels) - value(before, name, **labels)

        assert grown("hub_job_duration_seconds_count", outcome="failed") == 1
        assert grown("hub_job_duration_seconds_count", outcome="completed") == 0
        assert grown("hub_job_phase_duration_seconds_sum", phase="training") == 30
        assert grown("hub_job_phase_duration_seconds_count") == 2
        assert grown("hub_training_steps_total") == 20


@pytest.mark.django_db
def test_a_running_jobs_steps_are_counted_as_they_come(since_now: None) -> None:
    job = make_job()
    first = {"status": "running", "lease": "00000000-0000-0000-0000-000000000001"}
    TrainingJob.objects.filter(pk=job.pk).update(**first, iteration=5, started_at=timezone.now())
    before = value(ended.metrics(), "hub_training_steps_total")
    TrainingJob.objects.filter(pk=job.pk).update(iteration=12)
    assert value(ended.metrics(), "hub_training_steps_total") == before + 7
    end(job, status="completed", iteration=15)
    assert value(ended.metrics(), "hub_training_steps_total") == before + 10


@pytest.mark.django_db
def test_a_background_task_counts_with_its_outcome(since_now: None) -> None:
    labels = {"task": DatasetTask.label, "outcome": "failed"}
    before = value(ended.metrics(), "hub_task_duration_seconds_count", **labels)
    task = DatasetTask.objects.create(name="one", kind="register")
    counted, running = "hub_task_duration_seconds_count", "hub_tasks_running"
    now = list(ended.metrics())
    assert value(now, counted, **labels) == before
    assert value(now, running, task=DatasetTask.label) == value(now, running) == 1
    task.fail("It broke.")
    now = list(ended.metrics())
    assert (value(now, counted, **labels), value(now, running)) == (before + 1, 0)


@pytest.mark.any_database
def test_no_kind_of_task_is_left_out() -> None:
    kinds = {model for model in apps.get_models() if issubclass(model, Work)}
    assert set(ended.KINDS) == kinds


@pytest.mark.any_database
def test_every_process_has_its_footprint_and_its_processor_time(charged: int) -> None:
    presence.announce("up")
    try:
        again = restarts.Restarts(["web", "engine"])
        for _ in range(3):
            again.add("engine")
        first, second = list(usage.metrics()), list(usage.metrics())
    finally:
        presence.withdraw("up")
    name = usage._name(psutil.Process(os.getpid()).cmdline())
    assert value(first, "hub_process_memory_bytes", process=name) >= charged
    spent = [value(m, "hub_process_cpu_seconds_total", process=name) for m in (first, second)]
    assert 0 < spent[0] <= spent[1]
    assert value(first, "hub_process_restarts_total", process="engine") == 3


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/python /x/manage.py run_web", "web"),
        ("python -Xfrozen manage.py run_job 7 --lease 1", "job"),
        ("python manage.py up --port 8000", "up"),
        ("python manage.py run_dataset_task 5", "task"),
        ("python -m registry.mlflow.child", "mlflow"),
        ("caffeinate -is", "other"),
    ],
)
def test_a_process_is_known_by_its_command(command: str, name: str) -> None:
    assert usage._name(command.split()) == name
