"""Jobs whose process died or stopped responding."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.utils import timezone

from tests.running import wait_until
from tests.training.build import claim, make_job
from training import queue
from training.machine import processes
from training.models import TrainingJob
from training.models.leases import START_ALLOWANCE, START_LIMIT
from training.worker import reaper

pytestmark = pytest.mark.django_db

Status = TrainingJob.Status


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """An idle process in its own process group."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    yield process
    process.kill()
    process.wait()


def running(child: subprocess.Popen[bytes], due_in_s: float = 60) -> TrainingJob:
    make_job()
    job = claim()
    due = timezone.now() + datetime.timedelta(seconds=due_in_s)
    job.write_held(
        job.lease,
        process_group=child.pid,
        process_started=processes.start_time(child.pid),
        heartbeat_at=min(due, timezone.now()),
        heartbeat_due_at=due,
        stage="training",
    )
    return job


def test_a_living_job_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    running(child)
    assert reaper.reap(grace_s=0) == []
    assert child.poll() is None


def test_the_job_of_a_dead_process_is_requeued(child: subprocess.Popen[bytes]) -> None:
    job = running(child)
    child.kill()
    child.wait()
    assert reaper.reap(grace_s=0) == [job]
    job.refresh_from_db()
    assert (job.status, job.crashes) == (Status.QUEUED, 1)
    assert job.wait_reason == "The training process disappeared."


def test_a_silent_process_is_killed_first(child: subprocess.Popen[bytes]) -> None:
    job = running(child, due_in_s=-1)
    assert reaper.reap(grace_s=0) == [job]
    assert child.wait(1) == -9
    job.refresh_from_db()
    assert "stopped responding" in job.wait_reason


def test_a_slow_start_is_no_crash(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "busyness", lambda: 1.0)
    make_job()
    for _ in range(2 * queue.MAX_CRASHES):
        job = claim()
        job.expect_start(job.lease, child.pid, processes.start_time(child.pid))
        ago = timezone.now() - 2 * START_ALLOWANCE
        TrainingJob.objects.update(
            heartbeat_at=ago, heartbeat_due_at=ago + START_ALLOWANCE, process_group=None
        )
        assert reaper.reap(grace_s=0) == [job]
        job.refresh_from_db()
        assert (job.status, job.crashes) == (Status.QUEUED, 0)
        TrainingJob.objects.update(not_before=None)


def test_a_start_may_take_longer_the_busier_the_machine_is(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job()
    job = claim()
    job.expect_start(job.lease, child.pid, processes.start_time(child.pid))
    ago = timezone.now() - 2 * START_ALLOWANCE
    TrainingJob.objects.update(heartbeat_at=ago, heartbeat_due_at=ago + START_ALLOWANCE)
    monkeypatch.setattr(processes, "busyness", lambda: 3.0)
    monkeypatch.setattr(processes, "worked_s", lambda job: 0.0)
    assert reaper.reap(grace_s=0) == []
    assert child.poll() is None
    monkeypatch.setattr(processes, "busyness", lambda: 1.5)
    assert reaper.reap(grace_s=0) == [job]
    assert child.wait(1) == -9
    job.refresh_from_db()
    assert (job.status, job.crashes) == (Status.QUEUED, 0)
    assert "did not start in time" in job.wait_reason


def test_a_start_that_is_seen_to_work_may_take_far_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "busyness", lambda: 1.0)
    busy = "import time; end = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", busy], start_new_session=True) as child:
        make_job()
        job = claim()
        job.expect_start(job.lease, child.pid, processes.start_time(child.pid))
        ago = timezone.now() - 2 * START_ALLOWANCE
        overdue = {"heartbeat_at": ago, "heartbeat_due_at": ago + START_ALLOWANCE}
        TrainingJob.objects.update(**overdue, stage_since=ago)
        job.refresh_from_db()
        for _ in range(2):
            enough = reaper._worked.get(job.lease, 0.0) + 2 * reaper._WORKS_S
            wait_until(lambda: processes.worked_s(job) > enough)  # noqa: B023
            assert reaper.reap(grace_s=0) == []
        child.send_signal(signal.SIGSTOP)  # alive, and no longer at work
        assert reaper.reap(grace_s=0) in ([], [job])  # what it did since the last look
        TrainingJob.objects.filter(status="running").update(stage_since=ago)
        reaper.reap(grace_s=0)
        job.refresh_from_db()
        assert (job.status, job.crashes) == (Status.QUEUED, 0)

    with subprocess.Popen([sys.executable, "-c", busy], start_new_session=True) as child:
        TrainingJob.objects.update(not_before=None)
        job = claim()
        job.expect_start(job.lease, child.pid, processes.start_time(child.pid))
        TrainingJob.objects.update(**overdue, stage_since=timezone.now() - 2 * START_LIMIT)
        assert reaper.reap(grace_s=0) == [job]  # for ever is too long


def test_the_supervisor_repeats_the_reapers_reason(child: subprocess.Popen[bytes]) -> None:
    """Whichever of the two records the end of a killed process, the reason is the true one."""
    job = running(child)
    job.write_held(job.lease, stage="training", wait_reason="It stopped responding.")
    queue.crashed(job, job.lease, "It was killed, most likely because memory ran out.")
    job.refresh_from_db()
    assert (job.wait_reason, job.crashes) == ("It stopped responding.", 1)


def test_a_problem_must_last_before_a_job_is_recovered(child: subprocess.Popen[bytes]) -> None:
    job = running(child, due_in_s=-1)
    assert reaper.reap(grace_s=0.2) == []
    time.sleep(0.25)
    assert reaper.reap(grace_s=0.2) == [job]


def test_a_heartbeat_in_time_clears_the_suspicion(child: subprocess.Popen[bytes]) -> None:
    job = running(child, due_in_s=-1)
    assert reaper.reap(grace_s=0.2) == []
    time.sleep(0.25)
    job.beat(job.lease, 60)
    assert reaper.reap(grace_s=0.2) == []
    assert child.poll() is None


def test_a_reused_pid_is_not_mistaken_for_the_child(child: subprocess.Popen[bytes]) -> None:
    job = running(child)
    TrainingJob.objects.update(process_started=processes.start_time(child.pid) - 3600)
    assert reaper.reap(grace_s=0) == [job]
    assert child.poll() is None


def test_a_claim_expires_when_the_worker_died_before_the_child_started() -> None:
    make_job()
    job = claim()
    assert reaper.reap(grace_s=0) == []
    now = timezone.now()
    TrainingJob.objects.update(heartbeat_at=now, heartbeat_due_at=now)
    assert reaper.reap(grace_s=0) == [job]
