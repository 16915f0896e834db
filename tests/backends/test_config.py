"""What a training configuration means, as it is sent now and as it was recorded earlier."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from backends.base import TrainingConfig, in_new_words

pytestmark = pytest.mark.any_database


def test_all_answers_are_learned_unless_something_else_is_asked_for() -> None:
    assert TrainingConfig().learn == "answers"


@pytest.mark.parametrize(("masked", "learn"), [(True, "last_answer"), (False, "everything")])
def test_the_old_name_is_accepted_and_not_written(masked: bool, learn: str) -> None:
    config = TrainingConfig.model_validate({"mask_prompt": masked})
    assert config.learn == learn
    assert "mask_prompt" not in config.model_dump()
    assert TrainingConfig.model_validate({"mask_prompt": masked, "learn": learn}) == config


@pytest.mark.parametrize(
    "values", [{"mask_prompt": True, "learn": "answers"}, {"mask_prompt": "perhaps"}]
)
def test_an_old_name_that_says_something_else_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="mask_prompt is the old name of learn"):
        TrainingConfig.model_validate(values)


@pytest.mark.parametrize(
    ("recorded", "learn"),
    [
        ({}, "last_answer"),
        ({"mask_prompt": True}, "last_answer"),
        ({"mask_prompt": False}, "everything"),
        ({"learn": "answers"}, "answers"),
    ],
)
def test_a_recorded_configuration_means_what_it_meant(recorded: dict[str, Any], learn: str) -> None:
    assert TrainingConfig.recorded(recorded).learn == learn
    assert TrainingConfig.recorded(recorded).special_tokens == "control"
    assert TrainingConfig.recorded({"special_tokens": "text"}).special_tokens == "text"
    assert TrainingConfig.recorded(recorded).thoughts == "as_written"
    assert TrainingConfig.recorded({"thoughts": "masked"}).thoughts == "masked"
    assert TrainingConfig.recorded(recorded).tools == "as_written"
    assert TrainingConfig.recorded({"tools": "in_words"}).tools == "in_words"
    assert TrainingConfig.recorded(recorded).arithmetic == "earlier"
    assert TrainingConfig.recorded({"arithmetic": "masters"}).arithmetic == "masters"
    assert TrainingConfig.recorded(recorded).eval_examples == 0
    assert TrainingConfig.recorded({"eval_examples": 8}).eval_examples == 8


def test_kto_needs_a_batch_to_compare() -> None:
    with pytest.raises(ValidationError, match="set batch_size to 2 or more"):
        TrainingConfig(objective="kto", batch_size=1)


def test_a_recorded_setting_that_cannot_be_understood_is_shown_as_it_is() -> None:
    assert in_new_words({"mask_prompt": "x", "iters": 1}) == {"mask_prompt": "x", "iters": 1}
