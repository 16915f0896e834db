"""Training without learning: a loss that falls, an adapter that depends on everything it should.

The weights walk by the seed, the data and the learning rate of each step, so that a resumed run
ends with the same bytes only if its state was really kept.
"""

# ruff: noqa: S311 (pseudo-random on purpose: everything here must repeat)

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from array import array
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from backends.base import (
    BadExample,
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
from backends.best import Best, infinite
from backends.fake import checkpoint, files
from backends.fake.checkpoint import Checkpoint, Weights
from backends.fake.examples import Line, read_split
from backends.schedule import learning_rate, resolved  # plain arithmetic, no MLX

_START, _FLOOR = 2.4, 0.05  # nats per token, before and after a long training
_BATCH = 16  # examples evaluated at a time
_WITHOUT_EFFECT = {"scoring", "samples", "sample_tokens", "keep_checkpoints"}


def train(run: TrainingRun, step_seconds: float) -> Generator[TrainingEvent, None, None]:
    """See `backends.base.Backend.train`. A learning rate above 0.1 makes the run diverge."""
    yield from _Training(run, step_seconds).events()


@dataclass
class _Training:
    """One run in this process, in the same order of events as a real one."""

    run: TrainingRun
    step_seconds: float
    saved: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def events(self) -> Generator[TrainingEvent, None, None]:
        base = files.inspect(self.run.base)
        objective = self.run.config.objective
        self.splits = {
            split: read_split(self.run.data, split, objective)
            for split in ("train", "valid", "test")
        }
        if not self.splits["train"]:
            raise BadExample("train.jsonl holds no examples; add at least one.")
        self.config = _resolved(self.run.config, len(self.splits["train"]))
        self.state = self._resume()
        trainable = sum(len(tensor.values) for tensor in self.state.weights.values())
        yield Started(
            self.state.iteration, self.config.iters, trainable, base.parameters + trainable
        )
        yield from self._evaluate_base()
        try:
            yield from self._loop()
        except GeneratorExit:
            if self.state.iteration > self.saved:
                self._save()
            raise
        yield from self._finish()

    def _resume(self) -> Checkpoint:
        fingerprint = _fingerprint(self.run, self.splits)
        found = checkpoint.latest(self.run.checkpoints, fingerprint)
        if found is None:
            return Checkpoint(fingerprint, 0, _fresh_weights(self.config), Best())
        self.saved = found.iteration
        return found

    def _loop(self) -> Iterator[TrainingEvent]:
        """What is due after a step comes first: a run may have been closed between the two."""
        config, state = self.config, self.state
        while True:
            last = state.iteration >= config.iters
            due = state.iteration > 0 and (last or state.iteration % config.steps_per_eval == 0)
            if due and self.splits["valid"] and state.best.validated < state.iteration:
                yield from self._evaluate("valid")
                loss = _loss(config, state.iteration, "valid")
                state.best.see(state.iteration, loss)
                yield Evaluated(state.iteration, "valid", loss)
                yield from self._sample()
            last = last or state.best.exhausted(config.patience)
            due = last or state.iteration % config.save_every == 0
            if state.iteration > self.saved and (due or state.best.iteration == state.iteration):
                yield self._save()
            if last:
                return
            yield self._step()

    def _step(self) -> Stepped:
        began = time.perf_counter()
        if self.step_seconds:
            time.sleep(self.step_seconds)
        config, iteration = self.config, self.state.iteration + 1
        batch = self._batch(iteration)
        rate = learning_rate(config, iteration)
        if config.learning_rate > 0.1 and config.learning_rate * iteration >= 1:
            raise TrainingDiverged(infinite([line.number for line in batch], iteration))
        texts = [line.text for line in batch]
        _walk(self.state.weights, f"{config.seed}:{iteration}:{texts}", rate)
        self.state.iteration = iteration
        loss = _loss(config, iteration, "train")
        tokens = sum(len(text.split()) for text in texts)
        seconds = max(time.perf_counter() - began, 1e-6)
        return Stepped(iteration, loss, rate, loss / 2, tokens, tokens / seconds, 64 * 2**20)

    def _batch(self, iteration: int) -> list[Line]:
        config = self.config
        randomness = random.Random(f"batch:{config.seed}:{iteration}")
        count = config.batch_size * config.grad_accumulation_steps
        return [randomness.choice(self.splits["train"]) for _ in range(count)]

    # ---------------------------------------------------------------- evaluation

    def _evaluate_base(self) -> Iterator[TrainingEvent]:
        """The figures always, the events once."""
        splits: tuple[Literal["valid", "test"], ...] = ("valid", "test")
        for split in splits:
            if self.splits[split]:
                self._measure(split, 0, "base_")
                if self.state.iteration == 0:
                    yield from self._evaluate(split)
                    yield Evaluated(0, split, _loss(self.config, 0, split), adapter=False)
        if self.state.iteration == 0:
            yield from self._sample()

    def _evaluate(self, split: Literal["valid", "test"]) -> Iterator[Evaluating]:
        """In batches, between which a long evaluation says that it goes on."""
        batches = -(-len(self.splits[split]) // _BATCH)
        for done in range(1, batches):
            if self.step_seconds:
                time.sleep(self.step_seconds)
            yield Evaluating(self.state.iteration, split, done, batches)

    def _measure(self, split: str, iteration: int, prefix: str = "") -> float:
        loss = _loss(self.config, iteration, split)
        short = {"valid": "val"}.get(split, split)
        self.metrics[f"{prefix}{short}_loss"] = loss
        if self.config.objective != "sft":
            self.metrics[f"{prefix}{short}_margin"] = _START - loss
            self.metrics[f"{prefix}{short}_accuracy"] = max(0.0, 1 - loss / _START)
        if split == "test":
            self.metrics[f"{prefix}perplexity"] = math.exp(loss)
        return loss

    def _sample(self) -> Iterator[Sampled]:
        """The better the loss, the more of the right answer is said."""
        learned = 1 - _loss(self.config, self.state.iteration, "valid") / _START
        for line in self.splits["valid"][: self.config.samples]:
            words = line.said.split()[: self.config.sample_tokens]
            said = " ".join(words[: round(len(words) * max(0.0, learned))])
            yield Sampled(self.state.iteration, line.number, line.asked, line.said, said)

    # ---------------------------------------------------------------- saving

    def _save(self) -> Checkpointed:
        path = checkpoint.save(self.run.checkpoints, self.state, self.config.keep_checkpoints)
        self.saved = self.state.iteration
        return Checkpointed(self.state.iteration, path)

    def _finish(self) -> Iterator[TrainingEvent]:
        state, iteration = self.state, self.state.iteration
        self.metrics["train_loss"] = _loss(self.config, iteration, "train")
        weights, measured = state.weights, iteration
        if self.config.restore_best and state.best.iteration not in (0, iteration):
            measured = state.best.iteration
            weights = checkpoint.weights(self.run.checkpoints, measured)
        if self.splits["valid"]:
            self._measure("valid", measured)
        if self.splits["test"]:
            yield from self._evaluate("test")
            yield Evaluated(iteration, "test", self._measure("test", measured))
        _write_adapter(self.run.output, self.config, weights)
        yield Finished(iteration, self.metrics | state.best.metrics())


def _resolved(config: TrainingConfig, examples: int) -> TrainingConfig:
    return resolved(config, -(-examples // (config.batch_size * config.grad_accumulation_steps)))


def _fingerprint(run: TrainingRun, splits: dict[str, list[Line]]) -> str:
    config = run.config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    texts = {split: [line.text for line in lines] for split, lines in splits.items()}
    return hashlib.sha256(json.dumps([config, texts], sort_keys=True).encode()).hexdigest()


def _write_adapter(output: Path, config: TrainingConfig, weights: Weights) -> None:
    output.mkdir(parents=True, exist_ok=True)
    files.write_safetensors(output / "adapters.safetensors", weights)
    adapter_config = {
        "fine_tune_type": config.fine_tune_type,
        "num_layers": config.num_layers,
        "lora_parameters": config.lora.model_dump(exclude_none=True),
    }
    (output / "adapter_config.json").write_text(json.dumps(adapter_config, indent=2))


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
