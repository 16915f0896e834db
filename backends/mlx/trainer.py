"""LoRA training as a generator of events, exactly resumable.

Nothing that decides the result lives outside (config, data, base weights, iteration): the batch
and the dropout of a step follow from (seed, iteration), the rest is in the checkpoint. So a run
that is killed anywhere and started again ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.utils import value_and_grad
from mlx.optimizers.optimizers import Adam, AdamW, Optimizer, clip_grad_norm
from mlx.utils import tree_unflatten

from backends.base import (
    Checkpointed,
    Evaluated,
    Finished,
    OutOfMemory,
    Started,
    Stepped,
    TrainingConfig,
    TrainingDiverged,
    TrainingEvent,
    TrainingRun,
    UnsupportedModel,
)
from backends.mlx import checkpoint as checkpoints
from backends.mlx import data, lora
from backends.mlx.checkpoint import Checkpoint
from backends.mlx.device import device_kind
from backends.mlx.folder import inspect
from backends.mlx.loss import Lanes, batch_loss
from backends.mlx.schedule import learning_rate

_EVAL_ROWS = 16  # rows of an evaluation batch; only speed and memory depend on it


def train(run: TrainingRun) -> Generator[TrainingEvent, None, None]:
    """Train `run`'s adapter. See `backends.base.Backend.train`."""
    with _errors_in_words(), Lanes.open() as lanes:
        yield from _Training(run, lanes).events()


@contextmanager
def _errors_in_words() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(_MEMORY) from error
    except RuntimeError as error:
        if "alloc" in str(error).lower() or "memory" in str(error).lower():
            raise OutOfMemory(_MEMORY) from error
        raise


_MEMORY = "The device has too little memory for this run; lower batch_size or max_seq_length."


@dataclass
class _Training:
    """One run in this process: the model, the data and how far it is."""

    run: TrainingRun
    lanes: Lanes
    iteration: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def events(self) -> Generator[TrainingEvent, None, None]:
        self._set_up()
        config = self.config
        yield Started(self.iteration, config.iters, *lora.count_parameters(self.model))
        if self.iteration == 0:
            yield from self._evaluate_base()
        while self.iteration < config.iters:
            yield self._step()
            if self.iteration % config.steps_per_eval == 0 or self.iteration == config.iters:
                yield self._validate()
            if self.iteration % config.save_every == 0 or self.iteration == config.iters:
                yield self._save()
        yield from self._finish()

    # ---------------------------------------------------------------- set-up

    def _set_up(self) -> None:
        self.config: TrainingConfig = self.run.config
        self.model, tokenizer = _load(self.run.base)
        lora.adapt(self.model, self.config.num_layers, self.config.lora, self.config.seed)
        self.lanes.prepare(self.model)
        self.splits = _read_splits(self.run.data, tokenizer, self.config)
        self.lengths = [len(example.tokens) for example in self.splits["train"].examples]
        for name, split in self.splits.items():
            self.metrics[f"{name}_truncated"] = split.truncated
            self.metrics[f"{name}_dropped"] = split.dropped
        self.optimizer = _optimizer(self.config)
        self.optimizer.init(self.model.trainable_parameters())
        self.fingerprint = run_fingerprint(self.run)
        if found := checkpoints.latest(self.run.checkpoints, self.fingerprint):
            self._restore(found)
        self._update = self._make_update()  # after the restore: it holds on to the state's objects
        mx.reset_peak_memory()

    def _restore(self, found: Checkpoint) -> None:
        self.model.load_weights(list(found.adapter.items()), strict=False)
        self.optimizer.state = tree_unflatten(list(found.optimizer.items()))
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        self.iteration = found.iteration
        self.metrics = found.metrics

    # ---------------------------------------------------------------- one step

    def _step(self) -> Stepped:
        began = time.perf_counter()
        iteration, config = self.iteration + 1, self.config
        indices = data.step_indices(self.lengths, config.batch_size, config.seed, iteration)
        examples = [self.splits["train"].examples[index] for index in indices]
        batches = self.lanes.batches(examples)
        rate = learning_rate(config, iteration)
        self.optimizer.learning_rate = rate
        mx.random.seed(_step_seed(config.seed, iteration))
        self.model.train()
        loss, norm = self._update(_arrays(batches))
        mx.eval(loss, norm, self.model.trainable_parameters(), self.optimizer.state)
        self.iteration = iteration
        train_loss, grad_norm = float(cast(float, loss.item())), float(cast(float, norm.item()))
        if not (math.isfinite(train_loss) and math.isfinite(grad_norm)):
            raise TrainingDiverged(
                f"Loss or gradient became infinite at iteration {iteration}; "
                "lower the learning rate."
            )
        self.metrics["train_loss"] = train_loss
        tokens = sum(batch.tokens for batch in batches)
        return Stepped(
            iteration=iteration,
            train_loss=train_loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            tokens=sum(batch.judged for batch in batches),
            tokens_per_second=tokens / (time.perf_counter() - began),
            peak_memory_bytes=mx.get_peak_memory(),
        )

    def _make_update(self) -> Callable[[Any], tuple[mx.array, mx.array]]:
        def loss_of(model: Module, arrays: Any) -> mx.array:
            total, count = batch_loss(model, arrays, self.lanes)
            return total / count

        gradient = value_and_grad(self.model, loss_of)
        clip: Any = clip_grad_norm  # untyped upstream

        def update(arrays: Any) -> tuple[mx.array, mx.array]:
            loss, gradients = gradient(self.model, arrays)
            limit = self.config.grad_clip or math.inf
            gradients, norm = clip(gradients, limit)
            self.optimizer.update(self.model, gradients)
            return loss, norm

        if device_kind() == "cpu":
            # On the CPU every fused kernel of the whole graph would go through g++ first (half a
            # minute); the parts that gain from fusion are compiled by themselves.
            return update
        state = [self.model.state, self.optimizer.state, mx.random.state]
        compiled: Callable[[Any], tuple[mx.array, mx.array]]
        compiled = mx.compile(update, inputs=state, outputs=state)
        return compiled

    # ---------------------------------------------------------------- evaluation

    def _loss(self, split: str) -> float:
        """Mean loss per target token over all of `split`."""
        self.model.eval()
        total = count = 0.0
        for examples in data.sequential(self.splits[split].examples, _EVAL_ROWS):
            batches = self.lanes.batches(examples)
            summed, judged = batch_loss(self.model, _arrays(batches), self.lanes)
            total += cast(float, summed.item())
            count += cast(float, judged.item())
        return total / count

    def _evaluate_base(self) -> Iterator[Evaluated]:
        """Before the first step the adapter adds exactly nothing, so this is the base."""
        splits: tuple[Literal["valid", "test"], ...] = ("valid", "test")
        for split in splits:
            if split in self.splits:
                loss = self._loss(split)
                self.metrics[f"base_{_SHORT[split]}_loss"] = loss
                yield Evaluated(0, split, loss, adapter=False)

    def _validate(self) -> Evaluated:
        loss = self._loss("valid")
        self.metrics["val_loss"] = loss
        if loss < self.metrics.get("best_val_loss", math.inf):
            self.metrics["best_val_loss"] = loss
            self.metrics["best_iteration"] = self.iteration
        return Evaluated(self.iteration, "valid", loss)

    # ---------------------------------------------------------------- saving

    def _save(self) -> Checkpointed:
        saved = Checkpoint(
            iteration=self.iteration,
            run=self.fingerprint,
            metrics=dict(self.metrics),
            adapter=lora.adapter_weights(self.model),
            optimizer=lora.flat(self.optimizer.state),
        )
        return Checkpointed(self.iteration, checkpoints.save(self.run.checkpoints, saved))

    def _finish(self) -> Iterator[TrainingEvent]:
        if "test" in self.splits:
            loss = self._loss("test")
            yield Evaluated(self.iteration, "test", loss)
            self.metrics["test_loss"] = loss
            self.metrics["perplexity"] = _perplexity(loss)
            self.metrics["base_perplexity"] = _perplexity(self.metrics["base_test_loss"])
        output = self.run.output
        output.mkdir(parents=True, exist_ok=True)
        lora.write_adapter_config(output, self.config.num_layers, self.config.lora)
        mx.save_safetensors(str(output / lora.ADAPTER_FILE), lora.adapter_weights(self.model))
        checkpoints.sync_folder(output)
        yield Finished(self.iteration, dict(self.metrics))


_SHORT = {"valid": "val", "test": "test"}


def run_fingerprint(run: TrainingRun) -> str:
    """sha256 over what decides the run's result: config, data, and the base's weights by size."""
    digest = hashlib.sha256(run.config.model_dump_json().encode())
    for name in ("train", "valid", "test"):
        path = run.data / f"{name}.jsonl"
        digest.update(checkpoints.sha256(path).encode() if path.exists() else b"-")
    for path in sorted(run.base.glob("model*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def _load(base: Path) -> tuple[Any, Any]:
    inspect(base)  # refuses code and pickles with a sentence
    from mlx_lm import load

    try:
        model, tokenizer = load(str(base))[:2]
    except (ValueError, FileNotFoundError) as error:
        raise UnsupportedModel(f"{base.name} cannot be loaded: {error}") from error
    return model, tokenizer


def _read_splits(folder: Path, tokenizer: Any, config: TrainingConfig) -> dict[str, data.Split]:
    """train and valid, and test where the data set has one."""
    names = ["train", "valid"] + (["test"] if (folder / "test.jsonl").exists() else [])
    return {
        name: data.read_split(
            folder / f"{name}.jsonl", tokenizer, config.max_seq_length, config.mask_prompt
        )
        for name in names
    }


def _optimizer(config: TrainingConfig) -> Optimizer:
    """Adam as published, unlike mlx-lm's default, which leaves the bias correction out.

    Without it the first steps are three to five times as long as `learning_rate` says. The short
    memory of 0.99 suits runs of hundreds of steps: the first, large gradients are soon forgotten.
    """
    rate, betas = config.learning_rate, [0.9, 0.99]
    if config.optimizer == "adamw":
        decay = config.weight_decay
        return AdamW(rate, betas=betas, weight_decay=decay, bias_correction=True)
    return Adam(rate, betas=betas, bias_correction=True)


def _step_seed(seed: int, iteration: int) -> int:
    """64 bits for the dropout of one step."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{iteration}".encode()).digest()[:8])


def _arrays(batches: Sequence[data.Batch]) -> list[tuple[mx.array, ...]]:
    return [
        (
            mx.array(batch.inputs),
            mx.array(batch.positions),
            mx.array(batch.targets),
            mx.array(batch.weights),
        )
        for batch in batches
    ]


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
