"""One attempt at a job, in this process, on the fake backend."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import pytest

from registry import artifacts, bases, paths
from registry.models import MLflowOutbox, ModelVersion
from tests.training.build import claim, make_job, make_model
from training import queue, runner
from training.models import LeaseLost, TrainingJob

pytestmark = pytest.mark.django_db

Status = TrainingJob.Status


def attempt(job: TrainingJob, asked_to_stop: Callable[[], str] = lambda: "") -> TrainingJob:
    assert job.lease is not None
    runner.run(job.pk, job.lease, asked_to_stop)
    return TrainingJob.objects.get(pk=job.pk)


def after_events(count: int) -> Callable[[], str]:
    """Asks to stop at that many events."""
    events = iter(range(1, 10**6))
    return lambda: "Please stop." if next(events) >= count else ""


def adapter_sha256(job: TrainingJob) -> str:
    assert job.result_version is not None
    folder = paths.absolute(job.result_version.artifact_path)
    return artifacts.sha256(folder / "adapters.safetensors")


def test_an_attempt_makes_a_ready_version() -> None:
    make_job()
    job = attempt(claim())
    assert job.status == Status.COMPLETED
    assert (job.iteration, job.result_version.version) == (20, "0.1.0")
    assert job.result_version.status == ModelVersion.Status.READY
    assert job.result_version.metrics["perplexity"] < job.result_version.metrics["base_perplexity"]
    assert artifacts.verify(paths.absolute(job.result_version.artifact_path)) == []
    assert job.memory_estimate_bytes > job.model.base_model.size_bytes
    assert not (paths.job_dir(job.pk) / "checkpoints").exists()
    assert paths.staging_dirs(f"job-{job.pk}") == []


def test_every_step_and_validation_is_kept() -> None:
    make_job()
    job = attempt(claim())
    rows = list(job.metrics.order_by("iteration"))
    assert [row.iteration for row in rows] == list(range(1, 21))
    assert all(row.train_loss and row.learning_rate is not None for row in rows)
    assert [row.iteration for row in rows if row.val_loss] == [10, 20]


def test_mlflow_is_told_of_the_whole_run() -> None:
    make_job()
    attempt(claim())
    told = list(MLflowOutbox.objects.order_by("pk").values_list("operation", flat=True))
    assert told[0] == "start_run"
    assert "log_metrics" in told
    assert told[-3:] == ["log_artifacts", "end_run", "register_version"]


def test_a_stopped_attempt_goes_on_from_its_checkpoint_to_the_same_bytes() -> None:
    model = make_model()
    make_job(model)
    stopped = attempt(claim(), after_events(9))  # Started, 7 steps, a checkpoint at 5
    assert (stopped.status, stopped.wait_reason) == (Status.QUEUED, "Please stop.")
    assert (stopped.checkpoint_iteration, stopped.crashes) == (5, 0)
    resumed = attempt(claim())
    assert (resumed.pk, resumed.attempt, resumed.status) == (stopped.pk, 2, Status.COMPLETED)
    assert list(resumed.metrics.values_list("iteration", flat=True)) == list(range(1, 21))
    make_job(model)
    assert adapter_sha256(attempt(claim())) == adapter_sha256(resumed)


def test_an_attempt_that_died_after_publishing_only_completes_the_job() -> None:
    make_job()
    first = claim()
    attempt(first)
    TrainingJob.objects.update(status=Status.QUEUED, completed_at=None)
    again = attempt(claim())
    assert again.status == Status.COMPLETED
    assert ModelVersion.objects.count() == 1


def test_a_cancelled_attempt_stops_at_its_next_event() -> None:
    make_job()
    job = claim()

    def cancel_at_once() -> str:
        TrainingJob.objects.update(cancel_requested=True)
        return ""

    job = attempt(job, cancel_at_once)
    assert (job.status, job.iteration) == (Status.CANCELLED, 0)
    assert job.result_version.status == ModelVersion.Status.FAILED


def test_a_diverged_run_fails_at_once_with_the_reason() -> None:
    make_job(learning_rate=0.5)
    job = attempt(claim())
    assert (job.status, job.attempt) == (Status.FAILED, 1)
    assert "lower the learning rate" in job.error_message
    assert job.result_version.status == ModelVersion.Status.FAILED


def test_a_damaged_base_model_fails_the_job_before_it_trains() -> None:
    make_job()
    job = claim()
    weights = bases.base_path(job.model.base_model) / "model.safetensors"
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    job = attempt(job)
    assert job.status == Status.FAILED
    assert "model.safetensors has other content" in job.error_message
    assert job.result_version is None


def test_a_configuration_that_is_no_longer_valid_fails_the_job() -> None:
    make_job()
    TrainingJob.objects.update(config={"iters": 0})
    job = attempt(claim())
    assert job.status == Status.FAILED
    assert "not valid" in job.error_message


def test_an_unexpected_error_counts_as_a_crash() -> None:
    make_job()
    job = claim()

    def explode() -> str:
        raise RuntimeError("surprise")

    job = attempt(job, explode)
    assert (job.status, job.crashes) == (Status.QUEUED, 1)
    assert job.wait_reason == "Unexpected RuntimeError: surprise."


def test_a_new_checkpoint_forgives_earlier_crashes() -> None:
    make_job()
    TrainingJob.objects.update(crashes=2)
    job = attempt(claim(), after_events(9))
    assert job.crashes == 0


def test_a_lease_lost_amid_training_leaves_the_new_holder_alone() -> None:
    make_job()
    job = claim()
    old_lease = job.lease

    def taken_back() -> str:
        if TrainingJob.objects.held(job.pk, old_lease).exists():
            queue.requeue(job, old_lease, "taken back")
            claim()
        return ""

    with pytest.raises(LeaseLost):
        attempt(job, taken_back)
    job.refresh_from_db()
    assert (job.status, job.attempt) == (Status.RUNNING, 2)


def test_a_job_is_not_run_without_its_lease() -> None:
    make_job()
    job = claim()
    with pytest.raises(LeaseLost):
        runner.run(job.pk, uuid.uuid4(), lambda: "")


def test_a_process_knows_that_its_worker_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUB_WORKER_PID", raising=False)
    assert not runner.orphaned()
    monkeypatch.setenv("HUB_WORKER_PID", str(os.getppid()))
    assert not runner.orphaned()
    monkeypatch.setenv("HUB_WORKER_PID", str(os.getpid()))
    assert runner.orphaned()
