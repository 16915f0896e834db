"""The sampler's duties, and that one's failure does not keep the others from being done."""

from __future__ import annotations

import datetime
import plistlib
import threading
from typing import Any

import pytest
from django.utils import timezone

from hub.models import SystemSample
from hub.monitoring import sampler
from hub.monitoring.sampler import Sampler
from registry.models import BaseImport, BundleImport, DatasetTask
from tests.running import RunningHub, wait_until


@pytest.mark.django_db
def test_a_sample_measures_this_machine() -> None:
    sample = sampler.take_sample()
    assert 0 < sample.memory_used_bytes < sample.memory_total_bytes
    assert sample.disk_free_bytes > 0
    assert 0 <= sample.cpu_percent <= 100


@pytest.mark.django_db
def test_without_an_engine_its_memory_is_unknown() -> None:
    assert sampler.take_sample().engine_memory_bytes is None


@pytest.mark.django_db
def test_old_samples_are_deleted() -> None:
    old, new = sampler.take_sample(), sampler.take_sample()
    past = timezone.now() - datetime.timedelta(days=15)
    SystemSample.objects.filter(pk=old.pk).update(created_at=past)
    assert sampler.clean() == 1
    assert list(SystemSample.objects.all()) == [new]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [DatasetTask, BundleImport, BaseImport])
def test_work_that_is_over_is_forgotten_after_a_while(kind: Any) -> None:
    more = {"kind": "register"} if kind is DatasetTask else {}
    past = timezone.now() - datetime.timedelta(days=31)
    made = {
        (status, at): kind.objects.create(name=f"{status}-{at:%m%d}", status=status, **more).pk
        for status in ("running", "completed", "failed")
        for at in (past, timezone.now())
    }
    for (_, at), pk in made.items():
        kind.objects.filter(pk=pk).update(created_at=past, heartbeat_at=at)
    assert sampler.clean() == 2
    left = set(kind.objects.values_list("pk", flat=True))
    gone = {key for key, pk in made.items() if pk not in left}
    assert gone == {("completed", past), ("failed", past)}


@pytest.mark.django_db(transaction=True)
def test_a_duty_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise OSError("gone for a while")

    monkeypatch.setattr(sampler, "take_sample", gone)
    reaped = []
    monkeypatch.setattr(sampler.reaper, "reap", lambda: reaped.append(1))
    beating = Sampler()
    beating.beat()
    beating.beat()
    assert len(reaped) == 2
    assert beating._flushing is not None
    beating._flushing.join()


@pytest.mark.django_db(transaction=True)
def test_an_mlflow_that_stalls_stops_neither_samples_nor_a_second_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flushes = []
    answer = threading.Event()

    def stall() -> int:
        flushes.append(1)
        assert answer.wait(60), "the beats waited for MLflow"
        return 0

    monkeypatch.setattr(sampler.outbox, "flush", stall)
    beating = Sampler()
    beating.beat()
    beating.beat()
    assert SystemSample.objects.count() == 2
    assert beating._flushing is not None
    assert beating._flushing.is_alive()
    answer.set()
    beating._flushing.join()
    assert flushes == [1]


def test_apples_gpu_load_is_read_from_ioreg() -> None:
    accelerators = [
        {"PerformanceStatistics": {"Device Utilization %": 7}},
        {"PerformanceStatistics": {"Device Utilization %": 42}},
        {"IOClass": "without statistics"},
    ]
    assert sampler.apple_gpu_percent(plistlib.dumps(accelerators)) == 42
    assert sampler.apple_gpu_percent(b"") is None


def test_a_running_hub_samples(running_hub: RunningHub) -> None:
    code = "from hub.models import SystemSample; print(SystemSample.objects.count())"

    def sampled() -> bool:
        answer = running_hub.manage("shell", "--no-imports", "-c", code)
        return int(answer.stdout) > 0

    wait_until(sampled, every_s=1)
