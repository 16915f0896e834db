"""The queue's rules: order, leases, and who may change a status."""

from __future__ import annotations

import datetime
import threading
import uuid

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from registry.errors import Conflict, Invalid
from registry.models import MLflowOutbox, ModelVersion
from registry.storage import paths
from tests.training.build import claim, make_config, make_dataset, make_job, make_model
from training import queue
from training.models import LeaseLost, TrainingJob

pytestmark = pytest.mark.django_db

Status = TrainingJob.Status


def test_a_job_starts_queued_with_its_whole_configuration() -> None:
    job = make_job(iters=33)
    assert job.status == Status.QUEUED
    assert job.training_config == make_config(iters=33)
    assert job.correlation_id


def test_a_batch_larger_than_the_data_set_is_refused() -> None:
    with pytest.raises(Invalid, match="12 training examples"):
        queue.enqueue(make_model(), make_dataset(train=12), make_config(batch_size=13))


def test_an_archived_model_is_not_trained() -> None:
    model = make_model()
    model.archived_at = timezone.now()
    with pytest.raises(Invalid, match="archived"):
        queue.enqueue(model, make_dataset(), make_config())


def test_preferences_are_not_trained_as_answers() -> None:
    dataset = make_dataset()
    dataset.format = "preference"
    with pytest.raises(Invalid, match="preferences"):
        queue.enqueue(make_model(), dataset, make_config())


def test_higher_priority_runs_first_and_equals_run_in_order() -> None:
    model = make_model()
    first, second = make_job(model), make_job(model)
    urgent = make_job(model, priority=5)
    order = []
    for _ in range(3):
        job = claim()
        order.append(job.pk)
        queue.fail(job, job.lease, "no")
    assert order == [urgent.pk, first.pk, second.pk]


def test_a_job_waits_for_its_back_off() -> None:
    job = make_job()
    later = timezone.now() + datetime.timedelta(minutes=1)
    TrainingJob.objects.update(not_before=later)
    assert queue.claim() is None
    TrainingJob.objects.update(not_before=timezone.now())
    assert claim() == job


def test_a_claim_gives_a_lease_and_counts_the_attempt() -> None:
    make_job()
    job = claim()
    assert (job.status, job.attempt) == (Status.RUNNING, 1)
    assert job.lease is not None
    assert job.heartbeat_due_at > job.heartbeat_at


def test_a_mark_is_there_from_before_a_job_runs_until_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine looks for a running job only while it is."""
    mark, take = paths.training_mark(), TrainingJob._claim

    def claim_marked(job: TrainingJob, patience_s: float) -> bool:
        assert mark.exists()
        return take(job, patience_s)

    monkeypatch.setattr(TrainingJob, "_claim", claim_marked)
    assert queue.claim() is None
    make_job()
    assert queue.claim(lambda job: False) is None
    assert not mark.exists()
    job = claim()
    assert queue.claim() is None  # it runs
    assert mark.exists()
    queue.fail(job, job.lease, "no")
    assert queue.claim() is None
    assert not mark.exists()


def test_nothing_is_claimed_while_a_job_runs() -> None:
    model = make_model()
    make_job(model)
    waiting = make_job(model)
    claim()
    assert queue.claim() is None
    waiting.refresh_from_db()
    assert (waiting.status, waiting.attempt) == (Status.QUEUED, 0)


def test_the_database_refuses_a_second_running_job() -> None:
    model = make_model()
    make_job(model)
    other = make_job(model)
    claim()
    with pytest.raises(IntegrityError), transaction.atomic():
        TrainingJob.objects.filter(pk=other.pk).update(status=Status.RUNNING, lease=uuid.uuid4())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("jobs", [1, 4])
def test_of_claims_at_once_exactly_one_wins(jobs: int) -> None:
    model = make_model()
    for _ in range(jobs):
        make_job(model)
    claimed: list[TrainingJob | None] = []
    start = threading.Barrier(4)

    def race() -> None:
        start.wait()
        try:
            claimed.append(queue.claim())
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 4
    assert len([job for job in claimed if job is not None]) == 1
    assert TrainingJob.objects.running().count() == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda job, lease: job.beat(lease, 30.0),
        lambda job, lease: queue.complete(job, lease),
        lambda job, lease: queue.fail(job, lease, "no"),
        lambda job, lease: queue.requeue(job, lease, "again"),
        lambda job, lease: queue.crashed(job, lease, "Crash."),
        lambda job, lease: queue.cancelled(job, lease),
        lambda job, lease: queue.attach_version(job, lease, make_config()),
    ],
    ids=["beat", "complete", "fail", "requeue", "crashed", "cancelled", "attach_version"],
)
def test_a_lost_lease_writes_nothing(write) -> None:  # type: ignore[no-untyped-def]
    make_job()
    old = claim()
    queue.requeue(old, old.lease, "taken back")
    new = claim()
    before = TrainingJob.objects.filter(pk=new.pk).values().get()
    with pytest.raises(LeaseLost):
        write(old, old.lease)
    assert TrainingJob.objects.filter(pk=new.pk).values().get() == before
    assert ModelVersion.objects.count() == 0


def test_a_heartbeat_moves_its_own_deadline() -> None:
    make_job()
    job = claim()
    job.beat(job.lease, 600.0, iteration=3)
    job.refresh_from_db()
    assert job.iteration == 3
    assert job.heartbeat_due_at - job.heartbeat_at == datetime.timedelta(seconds=600)


def test_cancelling_a_queued_job_is_immediate() -> None:
    job = queue.cancel(make_job())
    assert job.status == Status.CANCELLED
    assert job.completed_at is not None
    assert queue.claim() is None


def test_cancelling_a_running_job_asks_its_child() -> None:
    make_job()
    job = queue.cancel(claim())
    assert (job.status, job.cancel_requested) == (Status.RUNNING, True)


def test_a_job_that_is_over_cannot_be_cancelled() -> None:
    job = queue.cancel(make_job())
    with pytest.raises(Conflict, match="already cancelled"):
        queue.cancel(job)


@pytest.mark.parametrize("settle", [queue.requeue, queue.crashed])
def test_a_child_that_dies_after_a_cancel_leaves_the_job_cancelled(settle) -> None:  # type: ignore[no-untyped-def]
    make_job()
    job = claim()
    queue.cancel(job)
    settle(job, job.lease, "It died.")
    job.refresh_from_db()
    assert job.status == Status.CANCELLED


def test_completing_twice_is_harmless() -> None:
    make_job()
    job = claim()
    queue.complete(job, job.lease)
    queue.complete(job, job.lease)
    job.refresh_from_db()
    assert job.status == Status.COMPLETED


def test_each_crash_waits_longer_and_the_third_without_progress_fails() -> None:
    make_job()
    waits = []
    for _ in range(2):
        job = claim()
        queue.crashed(job, job.lease, "Killed.")
        job.refresh_from_db()
        assert (job.status, job.lease) == (Status.QUEUED, None)
        waits.append((job.not_before - timezone.now()).total_seconds())
        TrainingJob.objects.update(not_before=None)
    assert 1 < waits[0] <= 2
    assert 7 < waits[1] <= 8
    job = claim()
    version = queue.attach_version(job, job.lease, make_config())
    queue.crashed(job, job.lease, "Killed.")
    job.refresh_from_db()
    version.refresh_from_db()
    assert job.status == Status.FAILED
    assert job.error_message == "Killed. It crashed after iteration 0, 3 times in a row."
    assert version.status == ModelVersion.Status.FAILED


def test_a_requeue_is_not_held_against_the_job() -> None:
    make_job()
    for _ in range(5):
        job = claim()
        queue.requeue(job, job.lease, "The worker was stopped.")
    job.refresh_from_db()
    assert (job.status, job.crashes, job.attempt) == (Status.QUEUED, 0, 5)


def test_attempts_of_a_job_share_one_version() -> None:
    make_job()
    job = claim()
    version = queue.attach_version(job, job.lease, make_config())
    queue.requeue(job, job.lease, "again")
    job = claim()
    assert queue.attach_version(job, job.lease, make_config()) == version
    assert ModelVersion.objects.count() == 1
    assert MLflowOutbox.objects.filter(operation="start_run").count() == 1


def test_a_failed_job_retried_makes_another_version() -> None:
    make_job()
    job = claim()
    queue.attach_version(job, job.lease, make_config())
    queue.fail(job, job.lease, "Bad luck.")
    job = queue.retry(TrainingJob.objects.get())
    assert (job.status, job.error_message, job.result_version) == (Status.QUEUED, "", None)
    job = claim()
    assert queue.attach_version(job, job.lease, make_config()).version == "0.1.1"


def test_only_failed_and_cancelled_jobs_are_retried() -> None:
    with pytest.raises(Conflict, match="is queued"):
        queue.retry(make_job())


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_job_rings_no_bell() -> None:
    from huey.contrib.djhuey import HUEY

    model, dataset = make_model(), make_dataset()
    HUEY.flush()
    with transaction.atomic():
        queue.enqueue(model, dataset, make_config())
        transaction.set_rollback(True)
    assert len(HUEY) == 0
    queue.enqueue(model, dataset, make_config())
    assert len(HUEY) == 1
