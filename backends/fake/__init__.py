"""A backend without weights: fast, deterministic, and nothing but the standard library.

It keeps every promise of `backends.base` (files that others can read, rows in a batch, exact
resumption, the same errors), so the rest of the hub can be tried and tested without a model.
Its pace comes from arguments or, for child processes, from the environment:
HUB_FAKE_TOKENS_PER_SECOND (per row), HUB_FAKE_REPLY_WORDS and HUB_FAKE_STEP_SECONDS.
HUB_FAKE_REPLY is the answer to everything; form feeds in it part the answers of a chat's turns, and
the last is that of every later one. HUB_FAKE_CONTEXT is the length of every model's context.
HUB_FAKE_TEMPLATE=differs or =loops makes a chat template that must not be trained on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.base import (
    DeviceInfo,
    Examination,
    Fidelity,
    ImportedModel,
    LoadedModel,
    LoadOptions,
    Prospect,
    RenderedRow,
    Thoughts,
    TrainingConfig,
    TrainingEvent,
    TrainingRun,
)
from backends.fake import conversion, examination, files, generation, parity, training


class FakeBackend:
    """`tokens_per_second` and `step_seconds` slow it down; `reply_words` fixes the length of
    replies, which is otherwise 8 to 40 words depending on the prompt; `reply` is its only answer."""

    name = "fake"

    def __init__(
        self,
        tokens_per_second: float | None = None,
        reply_words: int | None = None,
        step_seconds: float | None = None,
        reply: str | None = None,
    ) -> None:
        self._tokens_per_second = _setting("HUB_FAKE_TOKENS_PER_SECOND", tokens_per_second)
        self._reply_words = int(_setting("HUB_FAKE_REPLY_WORDS", reply_words))
        self._step_seconds = _setting("HUB_FAKE_STEP_SECONDS", step_seconds)
        self._reply = os.environ.get("HUB_FAKE_REPLY", "") if reply is None else reply

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

    def foresee(self, config: Mapping[str, Any]) -> Prospect:
        return files.foresee(config)

    def foresee_gguf(self, source: Path) -> Prospect:
        return files.foresee_gguf(source)

    def quantize(self, base: Path, target: Path, bits: int, group_size: int) -> ImportedModel:
        return conversion.quantize(base, target, bits, group_size)

    def fuse(self, base: Path, adapter: Path, target: Path) -> ImportedModel:
        return conversion.fuse(base, adapter, target)

    def fidelity(
        self, base: Path, adapter: Path | None, converted: Path, examples: Path, most_tokens: int
    ) -> Fidelity:
        return conversion.fidelity(base, adapter, converted, examples, most_tokens)

    def check_gguf(self, folder: Path) -> None:
        conversion.check_gguf(folder)

    def export_gguf(self, folder: Path, target: Path) -> None:
        conversion.export_gguf(folder, target)

    def measure(self, base: Path, data: Path, max_seq_length: int, target: Path) -> None:
        files.inspect(base)
        examination.measure(data, max_seq_length, target)

    def render(self, base: Path, file: Path, offset: int, max_seq_length: int) -> RenderedRow:
        files.inspect(base)
        return examination.render(file, offset, max_seq_length)

    def examine(self, base: Path, data: Path, max_seq_length: int, sample: int) -> Examination:
        files.inspect(base)
        return examination.examine(data, max_seq_length, sample)

    def memory_bytes(self) -> int | None:
        return None

    def unused_bytes(self) -> int:
        return 0

    def import_serving(self) -> None:
        """It needs nothing."""

    def free_unused(self) -> None:
        """It keeps nothing."""

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        pace = 1 / (self._tokens_per_second or float("inf"))
        model = files.inspect(base)
        if context := int(_setting("HUB_FAKE_CONTEXT", None)):
            model = replace(model, context_length=context)
        return generation.FakeModel(model, pace, self._reply_words, adapter, options, self._reply)

    def token_lengths(self, base: Path, data: Path, config: TrainingConfig, cache: Path) -> None:
        """It keeps no tokens."""

    def learned_tokens(self, base: Path, data: Path, config: TrainingConfig, cache: Path) -> None:
        """It keeps no tokens."""

    def check_template(
        self,
        base: Path,
        data: Path,
        sample: int,
        thoughts: Thoughts = "kept",
        cache: Path | None = None,
    ) -> None:
        files.inspect(base)
        parity.check_template(data, sample, thoughts, os.environ.get("HUB_FAKE_TEMPLATE", ""))

    def run_lm_eval(
        self,
        base: Path,
        adapter: Path | None,
        tasks: Sequence[str],
        limit: int,
        tick: Callable[[], None],
    ) -> dict[str, dict[str, float]]:
        for _ in range(limit):
            tick()
        return {task: {"acc": 0.25 if adapter is None else 0.5} for task in tasks}

    def train(self, run: TrainingRun) -> Generator[TrainingEvent, None, None]:
        return training.train(run, self._step_seconds)

    def largest_weights(self, path: Path) -> dict[str, float]:
        return files.largest_weights(path)

    def compare_weights(self, one: Path, other: Path) -> dict[str, float]:
        return files.compare_weights(one, other)


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
        raise ValueError(f"{variable} is {text!r}; set it to a number of at least 0.")
    return value
