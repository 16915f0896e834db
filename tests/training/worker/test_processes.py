"""The worker and its children as real processes, killed in realistic ways."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from registry.models import ModelVersion
from registry.storage import artifacts, paths
from tests.training.build import make_job
from training import queue
from training.models import TrainingJob

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

unmeasured_children = pytest.mark.usefixtures("unmeasured_children")

Status = TrainingJob.Status
type Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start_worker(storage: Path) -> Iterator[Start]:
    """Starts `manage.py run_worker` on this test's storage and database, and stops what still runs."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (storage / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "manage.py", "run_worker"],
                cwd=settings.BASE_DIR,
                env=environment(storage),
                stdout=log,
                stderr=log,
            )
        started.append(worker)
        return worker

    yield start
    for job in TrainingJob.objects.running():
        if job.process_group:
            kill_group(job.process_group)
    for worker in started:
        if worker.poll() is None:
            worker.kill()
        worker.wait()
    sys.stdout.write((storage / "worker.log").read_text()[-6000:])
    for log in (storage / "jobs").glob("*/log.txt"):
        sys.stdout.write(log.read_text()[-3000:])


def environment(storage: Path, step_seconds: float = 0.05) -> dict[str, str]:
    url = os.environ.get("DATABASE_URL", "")
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "postgresql":
        address, _, options = url.partition("?")
        url = f"{address.rsplit('/', 1)[0]}/{name}" + (f"?{options}" if options else "")
    else:
        url = f"sqlite:///{name}"
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "hub.settings",
        "HUB_STORAGE": str(storage),
        "HUB_BACKEND": "fake",
        "HUB_ENV_FILE": os.devnull,
        "HUB_SECRET_KEY": "tests",
        "HUB_FAKE_STEP_SECONDS": str(step_seconds),
        "DATABASE_URL": url,
    }


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def wait_for(
    job: TrainingJob, reached: Callable[[TrainingJob], bool], limit_s: float = 240
) -> None:
    """Wait until the job's row matches; never more than one job runs meanwhile."""
    deadline = time.monotonic() + limit_s
    while True:
        job.refresh_from_db()
        if reached(job):
            return
        assert time.monotonic() < deadline, (
            f"{job.status}, iteration {job.iteration}: {job.error_message}"
        )
        time.sleep(0.05)


def training_at(iteration: int) -> Callable[[TrainingJob], bool]:
    return lambda job: job.status == Status.RUNNING and job.checkpoint_iteration >= iteration


def completed(job: TrainingJob) -> bool:
    assert job.status not in (Status.FAILED, Status.CANCELLED), job.error_message
    return job.status == Status.COMPLETED


def adapter_sha256(job: TrainingJob) -> str:
    assert job.result_version is not None
    folder = paths.absolute(job.result_version.artifact_path)
    assert artifacts.verify(folder) == []
    return artifacts.sha256(folder / "adapters.safetensors")


@pytest.mark.both_databases
def test_a_job_goes_through_the_worker(start_worker: Start) -> None:
    job = make_job()
    start_worker()
    wait_for(job, completed)
    assert job.attempt == 1
    assert list(job.metrics.values_list("iteration", flat=True)) == list(range(1, 21))


@unmeasured_children
@pytest.mark.both_databases
def test_a_killed_worker_loses_no_job_and_changes_no_byte(start_worker: Start) -> None:
    job = make_job(iters=60, priority=1)
    untouched = make_job(job.model, iters=60)
    worker = start_worker()
    wait_for(job, training_at(10))
    worker.kill()
    worker.wait()
    start_worker()
    wait_for(job, completed)
    assert job.attempt == 2
    assert job.crashes == 0
    assert list(job.metrics.values_list("iteration", flat=True)) == list(range(1, 61))
    wait_for(untouched, completed)
    assert untouched.attempt == 1
    assert adapter_sha256(untouched) == adapter_sha256(job)


@unmeasured_children
def test_a_killed_child_is_retried_from_its_checkpoint(start_worker: Start) -> None:
    job = make_job(iters=60)
    start_worker()
    wait_for(job, training_at(10))
    kill_group(job.process_group)
    wait_for(job, lambda job: job.status == Status.QUEUED)
    assert "signal 9" in job.wait_reason
    assert job.not_before is not None
    wait_for(job, completed)
    assert job.attempt == 2
    assert ModelVersion.objects.count() == 1


@unmeasured_children
@pytest.mark.both_databases
def test_a_job_whose_processes_all_died_is_recovered(start_worker: Start) -> None:
    job = make_job(iters=60)
    worker = start_worker()
    wait_for(job, training_at(10))
    worker.kill()
    kill_group(job.process_group)
    worker.wait()
    start_worker()
    wait_for(job, lambda job: job.attempt == 2 or job.wait_reason != "")
    wait_for(job, completed)
    assert job.attempt == 2


def test_a_running_job_is_cancelled_at_its_next_step(start_worker: Start) -> None:
    job = make_job(iters=2000)
    start_worker()
    wait_for(job, training_at(5))
    group = job.process_group
    queue.cancel(job)
    wait_for(job, lambda job: job.status == Status.CANCELLED, limit_s=10)
    assert job.result_version.status == ModelVersion.Status.FAILED
    assert any((paths.job_dir(job.pk) / "checkpoints").iterdir())
    wait_until_gone(group)


def test_a_stopped_worker_requeues_its_job_without_counting_a_crash(start_worker: Start) -> None:
    job = make_job(iters=60)
    worker = start_worker()
    wait_for(job, training_at(10))
    group = job.process_group
    worker.terminate()
    assert worker.wait(40) == 0
    assert not psutil.pid_exists(group)
    job.refresh_from_db()
    assert (job.status, job.crashes, job.lease) == (Status.QUEUED, 0, None)
    start_worker()
    wait_for(job, completed)
    assert (job.attempt, job.crashes) == (2, 0)


@unmeasured_children
def test_a_hanging_child_is_killed_and_its_job_continues(
    start_worker: Start, storage: Path
) -> None:
    job = make_job(iters=60)
    start_worker()
    wait_for(job, training_at(10))
    os.kill(job.process_group, signal.SIGSTOP)
    TrainingJob.objects.running().update(heartbeat_due_at=timezone.now())
    # As the sampler does it, in a process of its own: it rings the worker's bell, not this test's.
    reap = "from training.worker import reaper; reaper.reap(grace_s=0)"
    subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", reap],
        cwd=settings.BASE_DIR,
        env=environment(storage),
        check=True,
    )
    wait_for(job, completed)  # on a slow machine the worker's own reaper may have been first
    assert job.attempt == 2


def wait_until_gone(pid: int, limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.05)
