"""The sampler's tasks, and that a failing one does not stop the others."""

from __future__ import annotations

import datetime
import os
import plistlib
import threading
import time
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from hub.models import SystemSample
from hub.monitoring import sampler, samples
from hub.monitoring.sampler import Sampler
from registry.models import BaseImport, BundleImport, DatasetTask, MLflowOutbox
from tests.running import RunningHub, wait_until
from tests.training.build import claim, make_job
from training.models import TrainingJob


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
def test_a_training_process_holds_its_footprint(charged: int) -> None:
    make_job()
    claim()
    assert sampler.training_memory_bytes() is None  # it has not started
    TrainingJob.objects.update(process_group=os.getpid())
    held = sampler.training_memory_bytes() or 0
    assert held % charged == 0 < held


@pytest.mark.django_db
def test_old_samples_are_deleted() -> None:
    old, new = sampler.take_sample(), sampler.take_sample()
    old.created_at -= datetime.timedelta(days=366)
    SystemSample.objects.bulk_create([old, new])
    assert sampler.clean() == 1
    assert SystemSample.objects.get().created_at == new.created_at


def sample(at: datetime.datetime, cpu: float = 50.0, memory: int = 1) -> SystemSample:
    return SystemSample(
        created_at=at,
        cpu_percent=cpu,
        memory_used_bytes=memory,
        memory_total_bytes=9,
        disk_free_bytes=100 - memory,
    )


@pytest.mark.django_db
def test_samples_are_written_together_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    """A job of 42 s leaves a point for each of its samples, and pages see them before they are written."""
    now = timezone.now() - datetime.timedelta(minutes=2)
    keeping = samples.Samples()
    keeping.add(sample(now))  # the first one at once, so that nobody waits for a minute
    with django_assert_num_queries(0):
        for second in range(5, 45, 5):
            keeping.add(sample(now + datetime.timedelta(seconds=second), memory=second))
        assert samples.newest().memory_used_bytes == 40
    assert SystemSample.objects.count() == 1
    before = [row[1] for row in samples.since(now - datetime.timedelta(1), "memory_used_bytes")]
    assert before == [1, *range(5, 45, 5)]
    with (samples._file()).open("a") as file:
        file.write('["2026-')  # half a line: the sampler is writing it
    after_a_kill = samples.Samples()
    with django_assert_num_queries(1):
        after_a_kill.write()
    assert SystemSample.objects.count() == 9
    after = [row[1] for row in samples.since(now - datetime.timedelta(1), "memory_used_bytes")]
    assert after == before
    assert samples.newest().memory_used_bytes == 40


@pytest.mark.django_db
def test_a_database_that_is_away_loses_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: Any, **options: Any) -> None:
        raise OperationalError("gone")

    keeping = samples.Samples()
    with monkeypatch.context() as patch:
        patch.setattr(SystemSample.objects, "bulk_create", gone)
        with pytest.raises(OperationalError):
            keeping.add(sample(timezone.now()))
    keeping.add(sample(timezone.now()))
    keeping.write()
    assert SystemSample.objects.count() == 2


@pytest.mark.django_db
def test_old_samples_become_fewer(django_assert_max_num_queries: Any) -> None:
    now = timezone.now().replace(minute=30, second=0, microsecond=0)
    days = (1, 8, 40)
    rows = [
        sample(now - datetime.timedelta(days=day, seconds=-second), cpu=second, memory=second)
        for day in days
        for second in range(0, 180, 5)
    ]
    SystemSample.objects.bulk_create(rows)
    with django_assert_max_num_queries(20):
        assert samples.thin() == 36 + 36 - 3 - 1
    left = {
        day: list(
            SystemSample.objects.filter(
                created_at__gte=now - datetime.timedelta(days=day),
                created_at__lt=now - datetime.timedelta(days=day - 1),
            ).order_by("created_at")
        )
        for day in days
    }
    assert [len(left[day]) for day in days] == [36, 3, 1]
    first, whole = left[8][0], left[40][0]
    assert (first.cpu_percent, first.memory_used_bytes, first.disk_free_bytes) == (27.5, 55, 45)
    assert (whole.cpu_percent, whole.memory_used_bytes) == (87.5, 175)
    assert samples.thin() == 0


@pytest.mark.django_db
@pytest.mark.any_database
def test_a_year_of_samples_takes_less_than_50_mb() -> None:
    """What one takes, times how many are kept at one each 5 s."""
    moment = timezone.now()
    count = 2000
    rows = [
        SystemSample(
            created_at=moment - datetime.timedelta(seconds=5.01 * number),
            cpu_percent=12.3,
            gpu_percent=45.6,
            memory_used_bytes=20 * 10**9,
            memory_total_bytes=64 * 10**9,
            swap_used_bytes=10**9,
            disk_free_bytes=500 * 10**9,
            engine_memory_bytes=8 * 10**9,
            training_memory_bytes=9 * 10**9,
        )
        for number in range(count)
    ]

    def nbytes() -> int:
        with connection.cursor() as cursor:
            pages, free, size = (
                cursor.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    before = nbytes()
    SystemSample.objects.bulk_create(rows)
    each = (nbytes() - before) / count
    fine, minutes = (age.days for age, _ in samples.THINNED)
    kept = fine * 24 * 720 + (minutes - fine) * 24 * 60 + (365 - minutes) * 24
    assert each * kept < 40e6


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [DatasetTask, BundleImport, BaseImport])
def test_finished_tasks_are_deleted_after_a_while(kind: Any) -> None:
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
def test_a_failing_task_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise OSError("gone for a while")

    monkeypatch.setattr(sampler, "take_sample", gone)
    reaped = []
    monkeypatch.setattr("hub.monitoring.sampler.reaper.reap", lambda: reaped.append(1))
    beating = Sampler()
    beating.beat()
    beating.beat()
    assert len(reaped) == 2
    assert beating._flushing is None, "nothing waits for MLflow"


@pytest.mark.django_db
def test_an_idle_beat_asks_three_questions(django_assert_max_num_queries: Any) -> None:
    """Is a job running (for its memory, and to reap it), and does anything wait for MLflow?"""
    beating = Sampler(_cleaned_at=time.monotonic())
    beating.beat()
    held = connection.connection
    with django_assert_max_num_queries(3):
        beating.beat()
    assert connection.connection is held


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

    monkeypatch.setattr("hub.monitoring.sampler.outbox.flush", stall)
    MLflowOutbox.objects.create(operation="log_metrics", not_before=timezone.now())
    beating = Sampler()
    beating.beat()
    beating.beat()
    assert len(samples.unwritten()) == 1  # the first is in the database
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
