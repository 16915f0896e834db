"""How long runs take: measured, foreseen for the next one, and what is left of a running one."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from registry.models import Dataset
from registry.storage.sizes import about
from tests.training.build import claim, make_config, make_dataset, make_job, make_model
from training.attempt import runner
from training.models import TrainingJob
from training.models.remaining import validations
from training.timing import Stopwatch, forecast

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

MEASURED = {
    "start": 4.0,
    "step": 2.0,
    "validation": 5.0,
    "test": 3.0,
    "publishing": 1.0,
    "scoring": 10.0,
}


def running(**columns: Any) -> TrainingJob:
    """40 steps with a validation after every tenth; not saved."""
    spent = datetime.timedelta(seconds=columns.pop("spent", 0))
    config = make_config(iters=40, steps_per_eval=10).model_dump(mode="json")
    fields = {"status": "running", "stage": "training", "durations": MEASURED, "config": config}
    dataset = Dataset(splits={"train": 12, "valid": 4, "test": 4})
    return TrainingJob(dataset=dataset, stage_since=timezone.now() - spent, **fields | columns)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"iteration": 30}, "about 40 s left"),  # 20 + 5 + 3 + 1 + 10
        ({"iteration": 5, "stage": "verifying", "spent": 1}, "about 1 min 40 s left"),
        ({"iteration": 30, "stage": "evaluating 1 of 3", "spent": 2}, "about 40 s left"),
        ({"iteration": 30, "durations": {"step": 2.0}}, "about 20 s left, then scoring"),
        ({"iteration": 0, "durations": {}}, ""),
        (
            {"iteration": 40, "stage": "evaluating", "spent": 2},
            "Measuring the loss of the result, about 17 s left",
        ),
        (
            {"iteration": 40, "stage": "evaluating", "spent": 60},
            "Measuring the loss of the result",
        ),
        ({"iteration": 40, "stage": "publishing"}, "Saving the version, about 11 s left"),
        (
            {"iteration": 40, "stage": "scoring", "spent": 2},
            "Answering the test examples, a few seconds left",
        ),
        (
            {"iteration": 40, "stage": "scoring 2 of 10", "spent": 8},
            "Answering the test examples, about 30 s left",
        ),
        ({"iteration": 40, "stage": "scoring", "spent": 99}, "Answering the test examples"),
        ({"status": "queued"}, ""),
    ],
)
def test_what_is_left_includes_what_follows_the_last_step(
    columns: dict[str, Any], words: str
) -> None:
    if columns.get("spent") == 2 and columns["stage"] == "scoring":
        columns |= {"durations": MEASURED | {"scoring": 6.0}}
    assert str(running(**columns).remaining) == words


def test_a_forecast_is_as_exact_as_it_can_be() -> None:
    told = [about(seconds) for seconds in (2, 12, 33, 60, 99, 400, 4000)]
    assert told == [
        "a few seconds",
        "about 12 s",
        "about 35 s",
        "about 1 min",
        "about 1 min 30 s",
        "about 6 min",
        "about 1 h 0 min",
    ]


def test_validations_follow_every_so_many_steps_and_the_last() -> None:
    assert [validations(0, 40, 10), validations(0, 45, 10), validations(10, 40, 10)] == [4, 5, 3]
    assert [validations(0, 40, 50), validations(40, 40, 10)] == [1, 0]


@pytest.mark.both_databases
def test_a_run_measures_its_parts_and_the_next_one_is_foreseen_by_them() -> None:
    model, dataset = make_model(), make_dataset()
    config = make_config()
    nothing = "Not known before a first job on helper-base has run."
    assert forecast(model.base_model, dataset, [config]) == nothing
    make_job(model)
    first = claim()
    runner.run(first.pk, first.lease, lambda: "")
    first.refresh_from_db()
    assert set(first.durations) == set(MEASURED)
    assert forecast(model.base_model, dataset, [config]) == (
        f"A few seconds, by what job {first.pk} took."
    )
    other = make_config(fine_tune_type="full")
    assert forecast(model.base_model, dataset, [other]) == (
        f"Very roughly a few seconds: job {first.pk} had other settings."
    )

    first.durations = MEASURED
    first.save()
    watch = Stopwatch(model.base_model, dataset)
    longer = make_config(iters=100, batch_size=2 * config.batch_size)
    found = watch(longer)
    assert found is not None
    assert found.total(longer, 100) == pytest.approx(4 + 3 + 1 + 10 + 100 * 2 * 2.0 + 10 * 5)
    fewer = longer.model_copy(update={"eval_examples": 2})  # of 4 in valid and in test
    found = watch(fewer)
    assert found is not None
    assert found.total(fewer, 100) == pytest.approx(4 + 1.5 + 1 + 10 + 100 * 2 * 2.0 + 10 * 2.5)

    make_job(model)  # which knows all this from its first step on
    second = claim()
    seen: list[str] = []

    def stop() -> str:
        row = TrainingJob.objects.get(pk=second.pk)
        seen.append(str(row.remaining))
        return "Enough." if row.iteration else ""

    runner.run(second.pk, second.lease, stop)
    assert "about 1 min" in seen[0]


@pytest.mark.both_databases
def test_attempts_are_kept_with_where_they_began_and_ended() -> None:
    make_job()
    job = claim()
    events = iter(range(100))
    runner.run(job.pk, job.lease, lambda: "The worker was stopped." if next(events) > 12 else "")
    stopped = TrainingJob.objects.get()
    assert stopped.iteration == stopped.checkpoint_iteration > 0
    TrainingJob.objects.update(checkpoint_iteration=5)  # as after a crash: later steps are lost
    job = claim()
    TrainingJob.objects.update(iteration=9)
    job.refresh_from_db()
    job.leave_running(
        job.lease, TrainingJob.Status.QUEUED, lease=None, wait_reason="It crashed.", iteration=5
    )
    job = claim()
    assert job.iteration == 5  # and not the ninth
    runner.run(job.pk, job.lease, lambda: "")
    rows = [
        (row.number, row.iteration, row.became, row.reason)
        for row in TrainingJob.objects.get().attempts.all()
    ]
    assert rows == [
        (1, stopped.iteration, "queued", "The worker was stopped."),
        (2, 9, "queued", "It crashed."),
        (3, 20, "completed", ""),
    ]
