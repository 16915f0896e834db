from __future__ import annotations

import random

import pytest

from backends.base import TrainingConfig
from backends.mlx.data import batching
from backends.mlx.data.examples import Example
from backends.schedule import Best, Progress, divide, heaviest_batch, learning_rate


def rates(schedule: str, warmup: int = 2) -> list[float]:
    config = TrainingConfig.model_validate(
        {"iters": 10, "learning_rate": 1e-3, "warmup": warmup, "schedule": schedule}
    )
    return [learning_rate(config, iteration) for iteration in range(1, 11)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_rate_warms_up_to_its_peak(schedule: str) -> None:
    found = rates(schedule)
    assert found[0] < found[1] < found[2]
    assert found[2] == max(found) == pytest.approx(1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_falls_but_never_to_zero(schedule: str) -> None:
    found = rates(schedule)[2:]
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 2e-4


def test_without_warm_up_the_first_step_is_a_full_one() -> None:
    assert rates("constant", warmup=0) == [1e-3] * 10


def due(progress: Progress, **settings: int) -> list[str]:
    """What `progress` asks for after its last step."""
    config = TrainingConfig.model_validate(
        {"iters": 10, "steps_per_eval": 4, "save_every": 3, "patience": 2} | settings
    )
    found = {
        "validation": progress.validation_due(config),
        "checkpoint": progress.checkpoint_due(config),
        "end": progress.is_over(config),
    }
    return [name for name, is_due in found.items() if is_due]


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (0, []),
        (1, []),
        (3, ["checkpoint"]),
        (4, ["validation"]),
        (8, ["validation"]),
        (10, ["validation", "checkpoint", "end"]),
    ],
)
def test_what_is_due_after_a_step(iteration: int, expected: list[str]) -> None:
    assert due(Progress(iteration)) == expected


def test_nothing_is_done_twice() -> None:
    assert due(Progress(10, saved=10, best=Best(1.0, 4, validated=10, waited=1))) == ["end"]


def test_a_new_best_is_saved() -> None:
    assert due(Progress(4, best=Best(1.0, 4, validated=4))) == ["checkpoint"]


def test_a_run_without_patience_left_is_saved_and_over() -> None:
    exhausted = Progress(8, saved=6, best=Best(1.0, 4, validated=8, waited=2))
    assert due(exhausted) == ["checkpoint", "end"]
    assert due(exhausted, patience=0) == []


def test_the_heaviest_batch_of_few_examples_is_their_longest() -> None:
    config = TrainingConfig(batch_size=3, max_seq_length=90)
    assert heaviest_batch([10, 20, 30, 40, 50], config, parts=1) == 3 * 50
    assert heaviest_batch([10, 20, 30, 40, 500], config, parts=1) == 3 * 90
    assert heaviest_batch([10, 20, 30, 40, 500], config, parts=2) == 90 + 2 * 40
    assert heaviest_batch([10, 20], config, parts=2) == 20 + 10


def test_the_heaviest_batch_of_many_examples_is_about_that_of_the_real_order() -> None:
    draw = random.Random(1)
    lengths = [int(min(max(draw.lognormvariate(4, 0.9), 10), 2000)) for _ in range(4000)]
    config = TrainingConfig(batch_size=8)
    order = batching.Order(lengths, config)
    heaviest = []
    for epoch in range(6):
        steps = (order.step(epoch * 500 + step) for step in range(1, 501))
        rows = ([Example([0] * lengths[at], 1) for at in step] for step in steps)
        lanes = (divide(step, 2) for step in rows)
        heaviest.append(
            max(sum(len(lane) * max(e.length for e in lane) for lane in step) for step in lanes)
        )
    expected = heaviest_batch(sorted(lengths), config, parts=2)
    assert expected == pytest.approx(sum(heaviest) / 6, rel=0.15)
    assert expected < 0.8 * 8 * max(lengths)
