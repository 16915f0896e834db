"""Jobs whose process died or stopped responding."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.utils import timezone

from tests.training.build import claim, make_job
from training.machine import processes
from training.models import TrainingJob
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
    job.write_held(
        job.lease,
        process_group=child.pid,
        process_started=processes.start_time(child.pid),
        heartbeat_due_at=timezone.now() + datetime.timedelta(seconds=due_in_s),
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
    TrainingJob.objects.update(heartbeat_due_at=timezone.now())
    assert reaper.reap(grace_s=0) == [job]
