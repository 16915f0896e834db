from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backends.base import TrainingConfig
from hub.demo.walkthrough import CONFIG
from registry.datasets.starter import calendar

FOLDER = Path(calendar.__file__).parent


def read(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text().splitlines()]


def request(example: dict[str, Any]) -> str:
    return str(example["messages"][1]["content"])


def answer(example: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(example["messages"][2]["content"])
    return found


def combination(example: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(answer(example).get(key) for key in ("title", "with", "place", "start"))


def test_the_committed_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    calendar.write(tmp_path)
    for split in calendar.SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (
            FOLDER / f"{split}.jsonl"
        ).read_bytes()


@pytest.mark.parametrize(("split", "least"), [("train", 400), ("valid", 50), ("test", 50)])
def test_the_splits_are_large_enough(split: str, least: int) -> None:
    assert len(read(split)) >= least


@pytest.mark.parametrize("held_out", ["valid", "test"])
def test_nothing_held_out_occurs_in_training(held_out: str) -> None:
    train = read("train")
    assert not {request(e).lower() for e in train} & {request(e).lower() for e in read(held_out)}
    assert not {combination(e) for e in train} & {combination(e) for e in read(held_out)}


def test_every_answer_is_a_plausible_entry() -> None:
    for split in calendar.SPLITS:
        for example in read(split):
            entry = answer(example)
            assert {"title", "day", "start"} <= set(entry)
            assert set(entry) <= {"title", "day", "start", "minutes", "with", "place"}
            assert entry["title"] in request(example).lower()
            start = datetime.strptime(entry["start"], "%I:%M %p")
            assert 7 <= start.hour <= 21
            assert start.minute in (0, 15, 30, 45)


@pytest.mark.parametrize(
    "form", [" pm", "noon", "half past", "in the evening", ":15", "hour", "tomorrow"]
)
def test_the_held_out_requests_vary_like_the_training_ones(form: str) -> None:
    for split in ("train", "test"):
        assert any(form in request(example) for example in read(split)), split


def test_the_starter_configuration_is_valid() -> None:
    config = TrainingConfig.model_validate_json(CONFIG.read_text())
    assert config.learn == "answers"
