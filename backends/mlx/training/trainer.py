"""Fine-tuning as a generator of events, exactly resumable.

Nothing that decides the result lives outside (config, data, base weights, iteration): the batches
and the dropout of a step follow from (seed, iteration), the rest is in the checkpoint. So a run
that is killed anywhere and started again ends with the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx

from backends import checkpoints
from backends.base import (
    BackendError,
    Checkpointed,
    Evaluated,
    Evaluating,
    Finished,
    Started,
    Stepped,
    TrainingConfig,
    TrainingDiverged,
    TrainingEvent,
    TrainingRun,
)
from backends.base.failures import readable_errors
from backends.checkpoints import Checkpoint
from backends.durable import sync_folder
from backends.examples import explained
from backends.mlx.data import batching, cache
from backends.mlx.data.packing import check_keeps_apart
from backends.mlx.device import peak_memory, settle
from backends.mlx.files.loading import open_model
from backends.mlx.training import lora, optimizers, samples
from backends.mlx.training.evaluation import Evaluation
from backends.mlx.training.loss import Lanes
from backends.mlx.training.masters import Trained
from backends.mlx.training.objectives import objective_of
from backends.mlx.training.remat import keep_little
from backends.schedule import Progress, learning_rate, measured, measured_in_words, resolved

type Split = Literal["valid", "test"]
_SHORT = {"valid": "val", "test": "test"}
_OPTIMIZER_FILE = "optimizer.safetensors"
_MEMORY = (
    "The device has too little memory for this run; lower batch_size or max_seq_length, or switch "
    "grad_checkpoint on."
)


def train(run: TrainingRun) -> Generator[TrainingEvent, None, None]:
    """See `backends.base.Backend.train`."""
    with readable_errors(_MEMORY), Lanes.open(run.config.arithmetic) as lanes:
        yield from _Training(run, lanes).events()


@dataclass
class _Training:
    """One run in this process: the model, the data and how far it is."""

    run: TrainingRun
    lanes: Lanes
    progress: Progress = field(default_factory=Progress)
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def events(self) -> Generator[TrainingEvent, None, None]:
        yield from self._set_up()
        config, progress = self.config, self.progress
        trainable, total = lora.count_parameters(self.model)
        yield Started(progress.iteration, config.iters, trainable, total, tuple(self.notes))
        if progress.iteration == 0:
            yield from self._evaluate_base()
        try:
            # What is due comes before the next step: a run may have been closed between the two.
            while True:
                if progress.validation_due(config):
                    yield from self._validate()
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
            yield from self._restore_best()
        if "test" in self.evaluations:
            loss = yield from self._measure("test")
            yield Evaluated(progress.iteration, "test", loss)
        self._write_adapter()
        yield Finished(progress.iteration, self.metrics | progress.best.metrics())

    # ---------------------------------------------------------------- set-up

    def _set_up(self) -> Iterator[TrainingEvent]:
        config = self.run.config
        self.model, self.tokenizer, _ = open_model(self.run.base)
        keys = lora.adapt(self.model, config)
        self.lanes.prepare(self.model)
        if config.packing:
            check_keeps_apart(self.model)
        keep_little(self.model, keys, recompute=config.grad_checkpoint)
        self.objective = objective_of(config, self.lanes)
        yield from self._read_data(config)
        self.optimizer = optimizers.make_optimizer(config)
        self.weights = Trained(self.model, config.arithmetic)
        self.optimizer.init(self.weights.tree)
        self.objective.begin(self.model)
        self.fingerprint = checkpoints.fingerprint(self.run)
        if found := checkpoints.latest(self.run.checkpoints, self.fingerprint):
            self._resume(found)
        # After the checkpoint is loaded: it holds on to the state's objects.
        self.update = optimizers.Update(
            self.model,
            self.weights,
            self.optimizer,
            self.objective,
            self.lanes,
            keys,
            config,
        )
        mx.reset_peak_memory()

    def _read_data(self, config: TrainingConfig) -> Iterator[TrainingEvent]:
        """train and valid, and test where the data set has one."""
        data = self.run.data
        self.evaluations: dict[str, Evaluation] = {}
        for name in ("train", "valid", "test"):
            path = data / f"{name}.jsonl"
            if name == "test" and not path.exists():
                continue
            split, problem = yield from cache.read(
                path, self.run.base, self.tokenizer, config, self.run.cache
            )
            self.metrics[f"{name}_truncated"] = split.truncated
            self.metrics[f"{name}_dropped"] = split.dropped
            self.notes += [*explained(name, split.notes), *filter(None, [problem])]
            if name == "train":
                self.examples = split.examples
                self.order = batching.Order(split.examples.lengths, config)
                longest = int(split.examples.lengths.max())
            else:
                most = self.lanes.at_most(config.batch_size * longest, longest)
                count = len(split.examples)
                self.evaluations[name] = Evaluation(
                    self.objective, self.lanes, split.examples, most, measured(count, config)
                )
                self.notes += measured_in_words(name, count, config)
        self.questions = samples.read_questions(data / "valid.jsonl", self.tokenizer, config)
        self.config: TrainingConfig = resolved(config, len(self.examples))

    def _resume(self, found: Checkpoint) -> None:
        self._load_weights(found.path)
        state: Any = mx.load(str(found.path / _OPTIMIZER_FILE))
        optimizers.restore(self.optimizer, state)
        mx.eval(self.model.trainable_parameters(), self.weights.masters, self.optimizer.state)
        self.progress = Progress(found.iteration, found.iteration, found.best)
        self.metrics = found.metrics

    def _load_weights(self, checkpoint: Path) -> None:
        weights: Any = mx.load(str(checkpoint / lora.ADAPTER_FILE))
        self.weights.load(weights)

    # ---------------------------------------------------------------- one step

    def _step(self) -> Stepped:
        began = time.perf_counter()
        iteration, config = self.progress.iteration + 1, self.config
        parts = [
            self.objective.batches(piece, packed=config.packing)
            for indices in self.order.batches(iteration)
            for piece in self.objective.pieces(
                [self.examples[i] for i in indices], packed=config.packing
            )
        ]
        rate = learning_rate(config, iteration)
        self.optimizer.learning_rate = rate
        self.model.train()
        loss, norm = self.update.step(parts, seed=f"{config.seed}/{iteration}")
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged.at(iteration, self._lines(iteration))
        self.progress.iteration = iteration
        self.metrics["train_loss"] = loss
        batches = [batch for part in parts for batch in part]
        return Stepped(
            iteration=iteration,
            train_loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens=sum(batch.judged for batch in batches),
            tokens_per_second=sum(batch.tokens for batch in batches)
            / (time.perf_counter() - began),
            peak_memory_bytes=peak_memory(),
        )

    def _lines(self, iteration: int) -> list[int]:
        """The lines of train.jsonl that the step `iteration` learns from."""
        return [self.examples[index].line for index in self.order.step(iteration)]

    # ---------------------------------------------------------------- evaluation

    def _evaluate_base(self) -> Iterator[TrainingEvent]:
        """Before the first step the adapter adds exactly nothing, so this is the base."""
        splits: tuple[Split, ...] = ("valid", "test")
        for split in splits:
            if split in self.evaluations:
                loss = yield from self._measure(split, "base_")
                yield Evaluated(0, split, loss, adapter=False)
        yield from self._sample()

    def _validate(self) -> Iterator[TrainingEvent]:
        iteration = self.progress.iteration
        loss = yield from self._measure("valid")
        if not math.isfinite(loss):
            raise TrainingDiverged.at(iteration, self._lines(iteration))
        self.progress.best.record(iteration, loss)
        yield Evaluated(iteration, "valid", loss)
        yield from self._sample()

    def _measure(self, split: Split, prefix: str = "") -> Generator[TrainingEvent, None, float]:
        """The mean loss over `split`; all figures go into the metrics."""
        measuring = self.evaluations[split].measuring(self.model)
        while True:
            try:
                done, total = next(measuring)
            except StopIteration as end:
                found: dict[str, float] = end.value
                break
            yield Evaluating(self.progress.iteration, split, done, total)
        perplexity = found.pop("perplexity")
        for name, value in found.items():
            self.metrics[f"{prefix}{_SHORT[split]}_{name}"] = value
        if split == "test":
            self.metrics[f"{prefix}perplexity"] = perplexity
        return found["loss"]

    def _sample(self) -> Iterator[TrainingEvent]:
        yield from samples.answers(
            self.model,
            self.tokenizer,
            self.questions,
            self.progress.iteration,
            self.config.sample_tokens,
        )

    # ---------------------------------------------------------------- saving

    def _save(self) -> Checkpointed:
        iteration = self.progress.iteration
        path = checkpoints.path_of(self.run.checkpoints, iteration)
        best = self.progress.best
        checkpoint = Checkpoint(path, iteration, self.fingerprint, dict(self.metrics), best)

        def write(folder: Path) -> None:
            weights, state = self.weights.saved(), lora.flat(self.optimizer.state)
            mx.save_safetensors(str(folder / lora.ADAPTER_FILE), weights)
            mx.save_safetensors(str(folder / _OPTIMIZER_FILE), state)
            settle(*self.lanes.streams)

        checkpoints.save(checkpoint, write, self.config.keep_checkpoints)
        self.progress.saved = iteration
        return Checkpointed(iteration, path)

    def _restore_best(self) -> Iterator[TrainingEvent]:
        """Go back to the weights of the lowest validation loss."""
        path = checkpoints.path_of(self.run.checkpoints, self.progress.best.iteration)
        try:
            self._load_weights(path)
        except (OSError, RuntimeError, ValueError) as error:
            raise BackendError(
                f"The best checkpoint {path.name} can no longer be read; run the job again."
            ) from error
        yield from self._measure("valid")

    def _write_adapter(self) -> None:
        output = self.run.output
        output.mkdir(parents=True, exist_ok=True)
        lora.write_adapter_config(output, self.config)
        mx.save_safetensors(str(output / lora.ADAPTER_FILE), lora.adapter_weights(self.model))
        settle(*self.lanes.streams)
        sync_folder(output)
