"""A backend without weights: fast, deterministic, and nothing but the standard library.

It keeps every promise of `backends.base` (files that others can read, rows in a batch, exact
resumption, the same errors), so what stands above it can be tried and tested without a model.
Pace comes from arguments or, for child processes, from the environment:
HUB_FAKE_TOKENS_PER_SECOND (per row), HUB_FAKE_REPLY_WORDS and HUB_FAKE_STEP_SECONDS.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from backends.base import DeviceInfo, ImportedModel, LoadedModel, TrainingEvent, TrainingRun
from backends.fake import files, generation, training


class FakeBackend:
    """`tokens_per_second` and `step_seconds` slow it down; `reply_words` fixes the length of
    replies, which is otherwise 8 to 40 words by the prompt."""

    name = "fake"

    def __init__(
        self,
        tokens_per_second: float | None = None,
        reply_words: int | None = None,
        step_seconds: float | None = None,
    ) -> None:
        self._tokens_per_second = _setting("HUB_FAKE_TOKENS_PER_SECOND", tokens_per_second)
        self._reply_words = int(_setting("HUB_FAKE_REPLY_WORDS", reply_words))
        self._step_seconds = _setting("HUB_FAKE_STEP_SECONDS", step_seconds)

    def device(self) -> DeviceInfo:
        return DeviceInfo(
            backend="fake",
            device="fake",
            name="No device",
            memory_bytes=16 * 2**30,
            blas="none",
            versions={"fake": "1"},
        )

    def import_gguf(self, source: Path, target: Path) -> ImportedModel:
        return files.import_gguf(source, target)

    def inspect(self, folder: Path) -> ImportedModel:
        return files.inspect(folder)

    def load(self, base: Path) -> LoadedModel:
        return generation.FakeModel(
            files.inspect(base), 1 / (self._tokens_per_second or float("inf")), self._reply_words
        )

    def train(self, run: TrainingRun) -> Generator[TrainingEvent, None, None]:
        return training.train(run, self._step_seconds)


def _setting(variable: str, argument: float | None) -> float:
    """The argument, else the environment's value, else 0. Raises ValueError naming the variable."""
    if argument is not None:
        return float(argument)
    text = os.environ.get(variable) or "0"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{variable} is {text!r}; set it to a number that is not negative.")
    return value
