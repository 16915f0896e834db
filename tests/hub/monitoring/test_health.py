"""`/health`: each part's state and reason, fast, without MLflow."""

from __future__ import annotations

import datetime
import time

import httpx
import pytest
from django.test import Client
from django.utils import timezone

from hub.models import SystemSample
from hub.monitoring import health
from hub.processes import presence
from registry.models import MLflowOutbox
from tests.running import RunningHub


def test_a_running_hub_is_ready_with_a_reason_for_every_part(running_hub: RunningHub) -> None:
    answer = httpx.get(f"{running_hub.url}/health", timeout=10)
    body = answer.json()
    assert answer.status_code == 200
    assert body["ready"] is True
    names = {"database", "engine", "worker", "sampler", "storage", "mlflow"}
    assert set(body["parts"]) == names
    assert all(part["reason"] for part in body["parts"].values())


def test_health_responds_quickly(running_hub: RunningHub) -> None:
    with httpx.Client(base_url=running_hub.url) as client:
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            client.get("/health")
            seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05  # the others are as slow as a busy machine is


@pytest.mark.django_db
def test_without_its_processes_the_hub_lives_but_is_not_ready(client: Client) -> None:
    answer = client.get("/health")
    body = answer.json()
    assert answer.status_code == 503
    assert (body["live"], body["ready"]) == (True, False)
    assert body["parts"]["engine"]["status"] == "failed"
    assert body["parts"]["worker"]["reason"].startswith("The worker is not running")
    assert body["parts"]["database"]["status"] == "ok"


@pytest.mark.django_db
def test_late_mlflow_is_a_warning_not_a_failure() -> None:
    entry = MLflowOutbox.objects.create(operation="log_metrics", not_before=timezone.now())
    assert health.parts()["mlflow"].status == "ok"
    MLflowOutbox.objects.filter(pk=entry.pk).update(
        created_at=timezone.now() - health.OUTBOX_LATE - datetime.timedelta(seconds=1)
    )
    assert health.parts()["mlflow"].status == "warning"


@pytest.mark.django_db
def test_a_sampler_that_hangs_is_a_warning() -> None:
    presence.announce("sampler")
    try:
        assert health.parts()["sampler"].status == "ok"
        sample = SystemSample.objects.create(
            cpu_percent=1, memory_used_bytes=1, memory_total_bytes=2, disk_free_bytes=3
        )
        past = timezone.now() - datetime.timedelta(minutes=5)
        SystemSample.objects.filter(pk=sample.pk).update(created_at=past)
        assert health.parts()["sampler"].status == "warning"
    finally:
        presence.withdraw("sampler")


@pytest.mark.django_db
def test_a_full_disk_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "NO_DISK_BYTES", 2**62)
    assert health.parts()["storage"].status == "failed"
