"""One attempt at a job, in this process, on the fake backend."""

import shutil
import uuid

import pytest

from registry import artifacts, paths
from registry.models import ModelVersion
from tests.training.build import claim, make_job
from training import queue, runner
from training.models import LeaseLost, TrainingJob

pytestmark = pytest.mark.django_db


def attempt(job: TrainingJob, stop_after: int | None = None) -> TrainingJob:
    """Run an attempt; with `stop_after` it is asked to stop after that many events."""
    asked = iter(range(10**6))
    runner.run(
        job.pk,
        job.lease,
        lambda: "stop" if stop_after is not None and next(asked) >= stop_after else "",
    )
    job.refresh_from_db()
    return job


def adapter_sha256(version: ModelVersion) -> str:
    return artifacts.sha256(paths.absolute(version.artifact_path) / "adapters.safetensors")


def test_an_attempt_makes_a_ready_version() -> None:
    make_job()
    job = attempt(claim())
    assert job.status == TrainingJob.Status.COMPLETED
    assert job.result_version.status == ModelVersion.Status.READY
    assert job.result_version.version == "0.1.0"
    assert job.iteration == 20
    assert job.memory_estimate_bytes > 0
    assert artifacts.verify(paths.absolute(job.result_version.artifact_path)) == []
