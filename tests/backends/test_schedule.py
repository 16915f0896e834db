from __future__ import annotations

import pytest

from backends.base import TrainingConfig
from backends.schedule import learning_rate


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
