"""Training without learning: a loss that falls, an adapter that depends on everything it should.

The weights walk by the seed, the data and the learning rate of each step, so that a resumed run
ends with the same bytes only if its state was really kept. Events, files and errors are those of
a real run; `tests/backends/test_training_protocol.py` holds both to it.
"""

# ruff: noqa: S311 (pseudo-random on purpose: everything here must repeat)

from __future__ import annotations

import json
import math
import random
import time
from array import array
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from backends import checkpoints
from backends.base import (
    Checkpointed,
    Evaluated,
    Evaluating,
    Finished,
    Sampled,
    Started,
    Stepped,
    TrainingConfig,
    TrainingDiverged,
    TrainingEvent,
    TrainingRun,
)
from backends.checkpoints import Checkpoint
from backends.examples import explained
from backends.fake import files
from backends.fake.examples import Line, read_split
from backends.schedule import (
    Progress,
    examples_per_step,
    learning_rate,
    measured,
    measured_in_words,
    resolved,
)

type Split = Literal["valid", "test"]
type Weights = dict[str, files.Tensor]

_START, _FLOOR = 2.4, 0.05  # nats per token, before and after a long training
_BATCH = 16  # examples evaluated at a time
_ADAPTER = "adapters.safetensors"
_SHORT = {"valid": "val", "test": "test"}


def train(run: TrainingRun, step_seconds: float) -> Generator[TrainingEvent, None, None]:
    """See `backends.base.Backend.train`. A learning rate above 0.1 makes the run diverge."""
    yield from _Training(run, step_seconds).events()


@dataclass
class _Training:
    """One run in this process. `learned` is the number of steps that its weights have seen."""

    run: TrainingRun
    step_seconds: float
    progress: Progress = field(default_factory=Progress)
    learned: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    splits: dict[str, Sequence[Line]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def events(self) -> Generator[TrainingEvent, None, None]:
        base = files.inspect(self.run.base)
        self._set_up()
        config, progress = self.config, self.progress
        trainable = sum(len(tensor.values) for tensor in self.weights.values())
        total = base.parameters + trainable
        yield Started(progress.iteration, config.iters, trainable, total, tuple(self.notes))
        if progress.iteration == 0:
            yield from self._evaluate_base()
        try:
            # What is due comes before the next step: a run may have been closed between the two.
            while True:
                if progress.validation_due(config):
                    loss = yield from self._measure("valid")
                    progress.best.record(progress.iteration, loss)
                    yield Evaluated(progress.iteration, "valid", loss)
                    yield from self._sample()
                if progress.checkpoint_due(config):
                    yield self._save()
                if progress.is_over(config):
                    break
                yield self._step()
        except GeneratorExit:
            if progress.unsaved:
                self._save()
            raise
        if config.restore_best and progress.best.iteration != progress.iteration:
            self._load(checkpoints.path_of(self.run.checkpoints, progress.best.iteration))
            self.learned = progress.best.iteration
            yield from self._measure("valid")
        if "test" in self.splits:
            loss = yield from self._measure("test")
            yield Evaluated(progress.iteration, "test", loss)
        self._write_adapter()
        yield Finished(progress.iteration, self.metrics | progress.best.metrics())

    def _set_up(self) -> None:
        for name in ("train", "valid", "test"):
            path = self.run.data / f"{name}.jsonl"
            if name == "test" and not path.exists():
                continue
            split = read_split(path, self.run.config)
            self.splits[name] = split.examples
            if name != "train":
                self.notes += measured_in_words(name, len(split.examples), self.run.config)
            self.metrics[f"{name}_truncated"] = split.truncated
            self.metrics[f"{name}_dropped"] = split.dropped
            self.notes += explained(name, split.notes)
        self.config = resolved(self.run.config, len(self.splits["train"]))
        self.weights = _fresh_weights(self.config)
        self.fingerprint = checkpoints.fingerprint(self.run)
        if found := checkpoints.latest(self.run.checkpoints, self.fingerprint):
            self._load(found.path)
            self.progress = Progress(found.iteration, found.iteration, found.best)
            self.metrics, self.learned = found.metrics, found.iteration

    def _step(self) -> Stepped:
        began = time.perf_counter()
        if self.step_seconds:
            time.sleep(self.step_seconds)
        config, iteration = self.config, self.progress.iteration + 1
        batch = self._batch(iteration)
        rate = learning_rate(config, iteration)
        if config.learning_rate > 0.1 and config.learning_rate * iteration >= 1:
            raise TrainingDiverged.at(iteration, [line.number for line in batch])
        _walk(self.weights, f"{config.seed}:{iteration}:{[line.text for line in batch]}", rate)
        self.progress.iteration = self.learned = iteration
        loss = _loss(config, iteration, "train")
        self.metrics["train_loss"] = loss
        tokens = sum(min(line.tokens, config.max_seq_length) for line in batch)
        seconds = max(time.perf_counter() - began, 1e-6)
        return Stepped(
            iteration=iteration,
            train_loss=loss,
            learning_rate=rate,
            grad_norm=loss / 2,
            tokens=sum(line.learned for line in batch),
            tokens_per_second=tokens / seconds,
            peak_memory_bytes=64 * 2**20,
        )

    def _batch(self, iteration: int) -> list[Line]:
        """Every example once an epoch, in an order that the seed decides."""
        size = examples_per_step(self.config)
        order = list(self.splits["train"])
        epoch, index = divmod(iteration - 1, -(-len(order) // size))
        random.Random(f"{self.config.seed}/{epoch}").shuffle(order)
        return order[index * size : (index + 1) * size]

    # ---------------------------------------------------------------- evaluation

    def _evaluate_base(self) -> Iterator[TrainingEvent]:
        splits: tuple[Split, ...] = ("valid", "test")
        for split in splits:
            if split in self.splits:
                loss = yield from self._measure(split, "base_")
                yield Evaluated(0, split, loss, adapter=False)
        yield from self._sample()

    def _measure(self, split: Split, prefix: str = "") -> Generator[TrainingEvent, None, float]:
        """The loss over `split`, in batches; all figures go into the metrics."""
        batches = -(-len(measured(len(self.splits[split]), self.config)) // _BATCH)
        for done in range(1, batches):
            if self.step_seconds:
                time.sleep(self.step_seconds)
            yield Evaluating(self.progress.iteration, split, done, batches)
        loss = _loss(self.config, self.learned, split)
        name = f"{prefix}{_SHORT[split]}"
        self.metrics[f"{name}_loss"] = loss
        if self.config.objective != "sft":
            self.metrics[f"{name}_margin"] = _START - loss
            self.metrics[f"{name}_accuracy"] = max(0.0, 1 - loss / _START)
        if split == "test":
            self.metrics[f"{prefix}perplexity"] = math.exp(loss)
        return loss

    def _sample(self) -> Iterator[Sampled]:
        """The lower the loss, the more of the right answer comes out."""
        learned = 1 - _loss(self.config, self.learned, "valid") / _START
        for line in self.splits["valid"][: self.config.samples]:
            words = line.expected.split()[: self.config.sample_tokens]
            answer = " ".join(words[: round(len(words) * max(0.0, learned))])
            yield Sampled(self.progress.iteration, line.number, line.prompt, line.expected, answer)

    # ---------------------------------------------------------------- files

    def _save(self) -> Checkpointed:
        iteration = self.progress.iteration
        path = checkpoints.path_of(self.run.checkpoints, iteration)
        best = self.progress.best
        checkpoint = Checkpoint(path, iteration, self.fingerprint, dict(self.metrics), best)

        def write(folder: Path) -> None:
            files.write_safetensors(folder / _ADAPTER, self.weights)

        checkpoints.save(checkpoint, write, self.config.keep_checkpoints)
        self.progress.saved = iteration
        return Checkpointed(iteration, path)

    def _load(self, folder: Path) -> None:
        self.weights = files.read_safetensors(folder / _ADAPTER)

    def _write_adapter(self) -> None:
        output, config = self.run.output, self.config
        output.mkdir(parents=True, exist_ok=True)
        files.write_safetensors(output / _ADAPTER, self.weights)
        adapter_config = {
            "fine_tune_type": config.fine_tune_type,
            "num_layers": config.num_layers,
            "lora_parameters": config.lora.model_dump(exclude_none=True),
        }
        (output / "adapter_config.json").write_text(json.dumps(adapter_config, indent=2) + "\n")


def _fresh_weights(config: TrainingConfig) -> Weights:
    """A uniform A and a zero B for one projection of each adapted layer, as LoRA begins."""
    rank, width = config.lora.rank, files.WIDTH
    randomness = random.Random(config.seed)
    count = files.LAYERS if config.num_layers < 0 else min(config.num_layers, files.LAYERS)
    weights: Weights = {}
    for layer in range(files.LAYERS - count, files.LAYERS):
        name = f"model.layers.{layer}.self_attn.q_proj"
        a = array("f", (randomness.uniform(-0.25, 0.25) for _ in range(width * rank)))
        weights[f"{name}.lora_a"] = files.Tensor((width, rank), a)
        weights[f"{name}.lora_b"] = files.Tensor((rank, width), array("f", bytes(4 * len(a))))
    return weights


def _walk(weights: Weights, cause: str, rate: float) -> None:
    """Move every weight by a step that `cause` decides; float32 rounds as storage would."""
    randomness = random.Random(cause)
    for tensor in weights.values():
        for n, value in enumerate(tensor.values):
            tensor.values[n] = value + rate * randomness.uniform(-1, 1)


def _loss(config: TrainingConfig, iteration: int, split: str) -> float:
    """Falls by a factor of e every 20 iterations at the default learning rate, with noise."""
    progress = iteration * min(config.learning_rate / 2e-4, 10) / 20
    noise = random.Random(f"{split}:{config.seed}:{iteration}").uniform(0.98, 1.02)
    return (_FLOOR + (_START - _FLOOR) * math.exp(-progress)) * noise
