"""What a person does to the queue: move, pause, resume, clone, halve."""

from __future__ import annotations

from typing import Any

import pytest

from registry.errors import Conflict, Invalid
from tests.training.build import claim, make_config, make_dataset, make_job, make_model
from training import queue
from training.models import TrainingJob
from training.web.overview import queue_positions

pytestmark = pytest.mark.django_db

Status = TrainingJob.Status


def order() -> list[int]:
    return list(queue_positions())


def make_jobs(*priorities: int) -> list[TrainingJob]:
    model = make_model()
    return [make_job(model, priority=priority) for priority in priorities]


@pytest.mark.parametrize(
    ("which", "where", "expected"),
    [
        (2, "first", [2, 0, 1, 3]),
        (2, "up", [0, 2, 1, 3]),
        (0, "up", [0, 1, 2, 3]),
        (1, "down", [0, 2, 1, 3]),
        (3, "down", [0, 1, 2, 3]),
        (1, "last", [0, 2, 3, 1]),
    ],
)
def test_a_waiting_job_is_moved(which: int, where: queue.Where, expected: list[int]) -> None:
    jobs = make_jobs(0, 0, 0, 0)
    queue.move(jobs[which], where)
    assert order() == [jobs[n].pk for n in expected]


def test_a_move_beyond_another_priority_takes_that_priority() -> None:
    urgent, normal, idle = make_jobs(5, 0, -3)
    assert queue.move(idle, "first").priority == 5
    assert order() == [idle.pk, urgent.pk, normal.pk]
    assert queue.move(urgent, "last").priority == 0
    assert order() == [idle.pk, normal.pk, urgent.pk]


def test_the_order_holds_for_jobs_that_come_later_and_for_the_worker() -> None:
    first, second = make_jobs(0, 0)
    queue.move(second, "first")
    third = make_job(first.model)
    assert order() == [second.pk, first.pk, third.pk]
    assert claim() == second


def test_jobs_of_an_older_hub_without_positions_can_be_moved() -> None:
    jobs = make_jobs(0, 0, 0)
    TrainingJob.objects.update(position=0)
    queue.move(jobs[2], "up")
    assert order() == [jobs[0].pk, jobs[2].pk, jobs[1].pk]


def test_only_waiting_jobs_are_moved_or_prioritized() -> None:
    make_job()
    job = claim()
    with pytest.raises(Conflict, match="is running"):
        queue.move(job, "first")
    with pytest.raises(Conflict, match="is running"):
        queue.prioritize(job, 3)


def test_a_new_priority_puts_a_job_behind_those_that_have_it() -> None:
    first, second, third = make_jobs(2, 0, 0)
    queue.prioritize(second, 2)
    assert order() == [first.pk, second.pk, third.pk]


def test_a_paused_job_keeps_its_place_and_is_skipped() -> None:
    first, second = make_jobs(0, 0)
    assert queue.pause(first).is_paused
    assert order() == [first.pk, second.pk]
    running = claim()
    assert running == second
    queue.fail(running, running.lease, "no")
    assert queue.claim() is None
    queue.resume(first)
    assert claim() == first


def test_pausing_twice_or_resuming_what_is_not_paused_is_refused() -> None:
    (job,) = make_jobs(0)
    with pytest.raises(Conflict, match="is queued; it cannot be resumed"):
        queue.resume(job)
    queue.pause(job)
    with pytest.raises(Conflict, match="is paused; it cannot be paused"):
        queue.pause(job)


def test_a_pause_of_a_running_job_can_be_undone() -> None:
    make_job()
    job = queue.pause(claim())
    assert job.is_pausing
    assert not queue.resume(job).paused


def test_a_job_that_is_over_cannot_be_paused() -> None:
    (job,) = make_jobs(0)
    queue.cancel(job)
    with pytest.raises(Conflict, match="is cancelled"):
        queue.pause(job)


def test_a_paused_job_is_cancelled_and_retried_unpaused() -> None:
    (job,) = make_jobs(0)
    queue.cancel(queue.pause(job))
    assert not queue.retry(job).paused
    assert claim() == job


def test_a_clone_has_the_changes_and_nothing_else() -> None:
    job = make_job(iters=33, priority=2)
    copy = queue.clone(job, {"lora.rank": 16, "scoring": {"examples": 3}})
    expected = make_config(iters=33).model_dump(mode="json")
    expected["lora"]["rank"], expected["scoring"]["examples"] = 16, 3
    assert copy.config == expected
    assert (copy.cloned_from, copy.priority, copy.status) == (job, 2, Status.QUEUED)
    assert (copy.model, copy.dataset) == (job.model, job.dataset)


def test_a_clone_may_learn_from_other_data() -> None:
    job = make_job()
    other = make_dataset("others")
    assert queue.clone(job, {}, dataset=other, priority=0).dataset == other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iter": 9}, "iter: "),
        ({"lora.rang": 9}, "lora.rang: "),
        ({"lora.rank": 0}, "lora.rank: "),
        ({"iters": 5, "warmup": 9}, "Warmup"),
        ({"batch_size": 13}, "12 training examples"),
    ],
)
def test_a_clone_that_could_not_be_trained_is_refused(changes: dict[str, Any], words: str) -> None:
    job = make_job()
    with pytest.raises(Invalid, match=words):
        queue.clone(job, changes)
    assert TrainingJob.objects.count() == 1


def fail_for_want_of_memory(**config: Any) -> TrainingJob:
    make_job(**config)
    job = claim()
    job.write_held(job.lease, out_of_memory=True, checkpoint_iteration=5, iteration=7)
    queue.fail(job, job.lease, "Memory ran out.")
    return TrainingJob.objects.get()


def test_half_the_batch_size_keeps_the_effective_batch_and_starts_over() -> None:
    job = fail_for_want_of_memory(batch_size=4, grad_accumulation_steps=2)
    assert job.can_halve
    job = queue.retry_halved(job)
    config = job.training_config
    assert (config.batch_size, config.grad_accumulation_steps) == (2, 4)
    assert (job.status, job.batch_size_before) == (Status.QUEUED, 4)
    assert (job.iteration, job.checkpoint_iteration) == (0, 0)


def test_an_odd_batch_size_loses_no_examples_of_a_step() -> None:
    config = queue.retry_halved(fail_for_want_of_memory(batch_size=5)).training_config
    assert (config.batch_size, config.grad_accumulation_steps) == (2, 3)


def test_the_batch_size_is_halved_once() -> None:
    queue.retry_halved(fail_for_want_of_memory(batch_size=4))
    job = claim()
    job.write_held(job.lease, out_of_memory=True)
    queue.fail(job, job.lease, "Memory ran out.")
    with pytest.raises(Conflict, match="works once"):
        queue.retry_halved(job)


@pytest.mark.parametrize("config", [{"batch_size": 1}, {"batch_size": 4}])
def test_halving_is_not_offered_where_it_cannot_help(config: dict[str, int]) -> None:
    job = fail_for_want_of_memory(**config)
    if config["batch_size"] > 1:
        TrainingJob.objects.update(out_of_memory=False)
    with pytest.raises(Conflict):
        queue.retry_halved(job)
