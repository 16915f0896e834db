"""The worker and its children as real processes, killed as real life kills them."""

from __future__ import annotations

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

from registry import artifacts, paths
from registry.models import ModelVersion
from tests.training.build import make_job
from training import queue
from training.models import TrainingJob

pytestmark = pytest.mark.django_db(transaction=True)

Status = TrainingJob.Status
type Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start_worker(storage: Path) -> Iterator[Start]:
    """Starts `manage.py run_worker` on this test's storage and database; ends what is left."""
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
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_for(job: TrainingJob, reached: Callable[[TrainingJob], bool], limit_s: float = 60) -> None:
    """Until the job's row is as asked; never more than one job runs meanwhile."""
    deadline = time.monotonic() + limit_s
    while True:
        job.refresh_from_db()
        if reached(job):
            return
        assert time.monotonic() < deadline, f"{job.status}, iteration {job.iteration}: {job.error_message}"
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


def test_a_job_goes_through_the_worker(start_worker: Start) -> None:
    job = make_job()
    start_worker()
    wait_for(job, completed)
    assert job.attempt == 1
    assert list(job.metrics.values_list("iteration", flat=True)) == list(range(1, 21))
