"""One attempt at a job, in this process, on the fake backend."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from structlog.testing import capture_logs

from backends import get_backend
from backends.base import (
    Checkpointed,
    Evaluated,
    GPUInterrupted,
    OutOfMemory,
    Started,
    Stepped,
    Tokenizing,
    TrainingRun,
)
from registry.bases import registration
from registry.datasets import snapshots
from registry.models import MLflowOutbox, ModelVersion
from registry.storage import artifacts, paths
from registry.versions import curves
from tests.training.build import claim, make_job, make_model
from training import queue
from training.attempt import progress, runner
from training.models import LeaseLost, TrainingJob

pytestmark = pytest.mark.django_db

Status = TrainingJob.Status


def attempt(job: TrainingJob, stop_reason: Callable[[], str] = lambda: "") -> TrainingJob:
    assert job.lease is not None
    runner.run(job.pk, job.lease, stop_reason)
    return TrainingJob.objects.get(pk=job.pk)


def after_events(count: int) -> Callable[[], str]:
    """Requests a stop after that many events."""
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
    assert not (paths.job_dir(job.pk) / "checkpoints").exists()
    assert paths.staging_dirs(f"job-{job.pk}") == []
    expected = {"starting", "verifying", "preparing", "training", "publishing", "scoring"}
    assert expected <= job.phases.keys()
    assert all(seconds >= 0 for seconds in job.phases.values())


def test_the_log_says_which_answers_are_not_learned_and_why() -> None:
    model, folder = make_model(), paths.root() / "turns"
    folder.mkdir(parents=True)
    said = [("user", "Hi"), ("assistant", ""), ("user", "Hello?"), ("assistant", "Yes")]
    messages = [{"role": role, "content": text} for role, text in said]
    for split in ("train", "valid"):
        line = json.dumps({"messages": messages}) + "\n"
        (folder / f"{split}.jsonl").write_text(line * 12)
    snapshots.register_dataset("turns", folder)
    make_job(model)
    with capture_logs() as logs:
        attempt(claim())
    assert [log["note"] for log in logs if log["event"] == "answers not learned as asked"] == [
        f"In {split}, 12 answers are not learned: the answer is empty."
        for split in ("train", "valid")
    ]


def test_every_step_and_validation_is_kept() -> None:
    make_job()
    job = attempt(claim())
    rows = list(job.metrics.order_by("iteration"))
    assert [row.iteration for row in rows] == list(range(1, 21))
    assert all(row.train_loss and row.learning_rate is not None for row in rows)
    assert [row.iteration for row in rows if row.val_loss] == [10, 20]


def test_a_step_is_looked_up_only_where_an_earlier_process_may_have_written_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "WRITE_EVERY_S", 3600.0)
    make_job()
    job = claim()
    earlier = progress.Progress(job, job.lease, job.training_config)
    earlier.record(Started(0, 20, 1, 2))
    earlier.record(Stepped(1, 2.5, 1e-4, 1.0, 8, 8.0, 64))
    with CaptureQueriesContext(connection) as queries:
        earlier.record(Stepped(2, 2.25, 1e-4, 1.0, 8, 8.0, 64))
    assert queries.captured_queries == []
    earlier.record(Checkpointed(2, paths.job_dir(job.pk)))

    job = TrainingJob.objects.get()
    later = progress.Progress(job, job.lease, job.training_config)
    later.record(Started(2, 20, 1, 2))
    later.record(Evaluated(2, "valid", 2.0))
    later.write()
    row = job.metrics.get(iteration=2)
    assert (row.train_loss, row.val_loss) == (2.25, 2.0)


def test_mlflow_gets_the_whole_run() -> None:
    make_job()
    attempt(claim())
    operations = list(MLflowOutbox.objects.order_by("pk").values_list("operation", flat=True))
    assert operations[0] == "start_run"
    assert "log_metrics" in operations
    assert operations[-3:] == ["log_artifacts", "end_run", "register_version"]


def test_a_stopped_attempt_continues_from_its_checkpoint_to_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(curves, "WIDTH", 4)
    monkeypatch.setattr(curves, "SUMMARIZE_EVERY", 4)
    model = make_model()
    make_job(model)
    stopped = attempt(claim(), after_events(12))  # 8 steps, a checkpoint at 5 between
    assert (stopped.status, stopped.wait_reason) == (Status.QUEUED, "Please stop.")
    assert (stopped.checkpoint_iteration, stopped.crashes) == (8, 0)
    assert list(stopped.spans.values_list("number", flat=True)) == [0]
    stopped.spans.create(number=2, train_loss=99)  # of steps after the checkpoint
    resumed = attempt(claim())
    assert (resumed.pk, resumed.attempt, resumed.status) == (stopped.pk, 2, Status.COMPLETED)
    assert list(resumed.metrics.values_list("iteration", flat=True)) == list(range(1, 21))
    spans = list(resumed.spans.values_list("number", "train_loss"))
    assert [number for number, _ in spans] == [0, 1, 2, 3, 4]
    assert max(loss or 0 for _, loss in spans) < 99
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


def test_a_paused_attempt_goes_back_to_the_queue_and_on_to_the_same_bytes() -> None:
    model = make_model()
    make_job(model)
    job = claim()
    events = iter(range(1, 10**6))

    def pause_amid() -> str:
        if next(events) == 9:
            queue.pause(TrainingJob.objects.get(pk=job.pk))
        return ""

    job = attempt(job, pause_amid)
    assert (job.status, job.is_paused, job.crashes) == (Status.QUEUED, True, 0)
    assert "Resume the job" in job.wait_reason
    assert queue.claim() is None
    queue.resume(job)
    resumed = attempt(claim())
    assert (resumed.status, resumed.attempt, resumed.paused) == (Status.COMPLETED, 2, False)
    make_job(model)
    assert adapter_sha256(attempt(claim())) == adapter_sha256(resumed)


def run_out_of_memory(job: TrainingJob) -> TrainingJob:
    def refuse() -> str:
        raise OutOfMemory("The device has too little memory for this batch.")

    return attempt(job, refuse)


def test_out_of_memory_is_retried_and_then_with_half_the_batch_size() -> None:
    make_job(batch_size=4, grad_accumulation_steps=1)
    job = run_out_of_memory(claim())
    assert (job.status, job.out_of_memory, job.config["batch_size"]) == (Status.QUEUED, True, 4)
    first_version = job.result_version
    TrainingJob.objects.update(not_before=None)
    job = run_out_of_memory(claim())
    assert (job.status, job.batch_size_before, job.crashes) == (Status.QUEUED, 4, 0)
    assert "Restarting with batch_size 2 instead of 4" in job.wait_reason
    TrainingJob.objects.update(not_before=None)
    job = attempt(claim())
    assert job.status == Status.COMPLETED
    params = job.result_version.params
    assert (params["batch_size"], params["grad_accumulation_steps"]) == (2, 2)
    first_version.refresh_from_db()
    assert first_version.status == ModelVersion.Status.FAILED


def test_the_gpus_watchdog_fails_a_job_at_once_and_keeps_its_batch_size() -> None:
    """Another attempt would be stopped the same way, with half the batch as well."""

    def stop() -> str:
        raise GPUInterrupted("Let the display sleep.")

    make_job(batch_size=4)
    job = attempt(claim(), stop)
    assert (job.status, job.error_message) == (Status.FAILED, "Let the display sleep.")
    assert (job.config["batch_size"], job.out_of_memory, job.crashes) == (4, False, 0)


def test_half_the_batch_size_is_only_offered_where_that_is_set(settings: Any) -> None:
    settings.HALVE_BATCH_SIZE = False
    make_job(batch_size=4)
    for _ in range(3):
        TrainingJob.objects.update(not_before=None)
        job = run_out_of_memory(claim())
    assert (job.status, job.config["batch_size"]) == (Status.FAILED, 4)
    assert job.can_halve


def test_a_halved_job_does_not_meet_the_checkpoints_of_the_larger_batch() -> None:
    make_job(batch_size=4)
    job = attempt(claim(), after_events(9))
    assert job.checkpoint_iteration >= 5
    job = claim()
    job.write_held(job.lease, out_of_memory=True)
    queue.fail(job, job.lease, "Memory ran out.")
    queue.retry_halved(TrainingJob.objects.get())
    job = attempt(claim())
    assert (job.status, job.iteration) == (Status.COMPLETED, 20)
    assert list(job.metrics.values_list("iteration", flat=True)) == list(range(1, 21))
    assert list(paths.job_dir(job.pk).glob("checkpoints*")) == []


def test_a_diverged_run_fails_at_once_with_the_reason() -> None:
    make_job(learning_rate=0.5)
    job = attempt(claim())
    assert (job.status, job.attempt) == (Status.FAILED, 1)
    assert "lower the learning rate" in job.error_message
    assert job.result_version.status == ModelVersion.Status.FAILED


def test_a_damaged_base_model_fails_the_job_before_it_trains() -> None:
    make_job()
    job = claim()
    weights = registration.base_path(job.model.base_model) / "model.safetensors"
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
    assert "is invalid" in job.error_message


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


def test_a_lease_lost_during_training_does_not_disturb_the_new_owner() -> None:
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


def test_a_long_evaluation_sends_heartbeats_and_stops_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """40 examples are three batches; after each the reaper sees that the job is alive."""
    monkeypatch.setattr("training.attempt.progress.WRITE_EVERY_S", 0.0)
    folder = paths.root() / "long"
    folder.mkdir(parents=True)
    for split, count in (("train", 12), ("valid", 40)):
        lines = [json.dumps({"prompt": str(n), "completion": split}) for n in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    snapshots.register_dataset("long", folder)
    make_job(make_model())
    stages: list[tuple[int, str]] = []
    due: list[bool] = []
    beat = TrainingJob.beat

    def listen(job: TrainingJob, *args: Any, **columns: Any) -> None:
        beat(job, *args, **columns)
        row = TrainingJob.objects.get()
        stages.append((row.iteration, row.stage))
        due.append(row.heartbeat_due_at > timezone.now())

    def ask() -> str:
        return "Enough." if stages[-1:] == [(20, "evaluating 2 of 3")] else ""

    monkeypatch.setattr(TrainingJob, "beat", listen)
    job = attempt(claim(), ask)
    assert (job.status, job.wait_reason, job.checkpoint_iteration) == (Status.QUEUED, "Enough.", 20)
    for iteration in (0, 10, 20):
        assert (iteration, "evaluating 1 of 3") in stages
    assert all(due)
    # Sample answers and the first step, which compiles, are no part of the evaluation of the base.
    assert [stage for iteration, stage in stages if iteration == 0][-1] == "preparing"
    assert [stage for iteration, stage in stages if iteration == 11] == ["training"]
    stages.clear()
    assert attempt(claim()).status == Status.COMPLETED
    assert stages.index((20, "evaluating")) > stages.index((20, "evaluating 2 of 3"))


def test_tokenizing_shows_how_far_it_is_and_stops_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tokens are kept below the data set's own folder."""
    given: list[TrainingRun] = []
    stages: list[str] = []

    def tokenizing(_: object, run: TrainingRun) -> Iterator[Tokenizing]:
        given.append(run)
        for done in range(1, 9):
            yield Tokenizing("train", done * 1000, 8000)
            stages.append(TrainingJob.objects.get().stage)

    monkeypatch.setattr(type(get_backend("fake")), "train", tokenizing)
    monkeypatch.setattr("training.attempt.progress.WRITE_EVERY_S", 0.0)
    make_job()
    job = claim()
    assert attempt(job, after_events(4)).status == Status.QUEUED
    assert stages == ["tokenizing train, 12 %", "tokenizing train, 25 %", "tokenizing train, 37 %"]
    assert given[0].cache == paths.root() / "tokens" / job.dataset.checksum
