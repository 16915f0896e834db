"""Whether a data set is fit to train on, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from registry.datasets.examination import warnings
from registry.models import Dataset


@dataclass(frozen=True)
class Fitness:
    """`sentence` answers, `more` says what to do about it, a sentence each."""

    sentence: str
    more: list[str]
    tone: Literal["ok", "warn", "bad", ""]


def fitness(dataset: Dataset) -> Fitness:
    """By its splits and the newest check of it."""
    if not dataset.splits.get("train"):
        return Fitness("There is nothing to train on: the train split is empty.", [], "bad")
    report = dataset.reports.select_related("base_model").first()
    if report is None:
        check = "A check finds leaks, duplicates and answers that do not fit, in a few seconds."
        return Fitness("Not checked for problems yet.", [check, *_held_out(dataset)], "")
    found, by = list(warnings(report)), f"for {report.base_model.name}"
    if not found:
        return Fitness(
            f"Ready to train on: the check {by} found no problems.",
            _held_out(dataset),
            "warn" if _held_out(dataset) else "ok",
        )
    problems = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    sentence = f"The check {by} found {problems}: look before you train."
    return Fitness(sentence, [found[0], *_held_out(dataset)], "warn")


def _held_out(dataset: Dataset) -> list[str]:
    if dataset.splits.get("test"):
        return []
    return ["It has no test split, so versions trained on it are not scored: add test examples."]
