"""Fine-tuning as a generator of events, exactly resumable.

Nothing that decides the result lives outside (config, data, base weights, iteration): the batches
and the dropout of a step follow from (seed, iteration), the rest is in the checkpoint. So a run
that is killed anywhere and started again ends with the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import mlx.core as mx

from backends.base import (
    BackendError,
    Checkpointed,
    Evaluated,
    Evaluating,
    Finished,
    OutOfMemory,
    Started,
    Stepped,
    TrainingConfig,
    TrainingDiverged,
    TrainingEvent,
    TrainingRun,
)
from backends.best import Best, infinite
from backends.mlx.data import batching
from backends.mlx.data.packing import check_keeps_apart
from backends.mlx.device import peak_memory
from backends.mlx.training import checkpoint as checkpoints
from backends.mlx.training import lora, optimizers, samples
from backends.mlx.training.checkpoint import Checkpoint
from backends.mlx.training.evaluation import Evaluation
from backends.mlx.training.loading import load_base, run_fingerprint
from backends.mlx.training.loss import Lanes
from backends.mlx.training.objectives import objective_of
from backends.mlx.training.remat import keep_little
from backends.schedule import learning_rate, resolved


def train(run: TrainingRun) -> Generator[TrainingEvent, None, None]:
    """See `backends.base.Backend.train`."""
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


_MEMORY = (
    "The device has too little memory for this run; lower batch_size or max_seq_length, or switch "
    "grad_checkpoint on."
)
type Split = Literal["valid", "test"]
_SHORT = {"valid": "val", "test": "test"}


@dataclass
class _Training:
    """One run in this process: the model, the data and how far it is."""

    run: TrainingRun
    lanes: Lanes
    iteration: int = 0
    saved: int = 0  # the iteration of the newest checkpoint
    metrics: dict[str, float] = field(default_factory=dict)
    best: Best = field(default_factory=Best)

    def events(self) -> Generator[TrainingEvent, None, None]:
        self._set_up()
        parameters = lora.count_parameters(self.model)
        yield Started(self.iteration, self.config.iters, *parameters)
        if self.iteration == 0:
            yield from self._evaluate_base()
        try:
            yield from self._loop()
        except GeneratorExit:
            if self.iteration > self.saved:
                self._save()
            raise
        yield from self._finish()

    def _loop(self) -> Iterator[TrainingEvent]:
        """What is due after a step comes first: a run may have been closed between the two."""
        config = self.config
        while True:
            last = self.iteration >= config.iters
            due = self.iteration > 0 and (last or self.iteration % config.steps_per_eval == 0)
            if due and self.best.validated < self.iteration:
                yield from self._validate()
            last = last or self.best.exhausted(config.patience)
            due = last or self.iteration % config.save_every == 0
            if self.iteration > self.saved and (due or self.best.iteration == self.iteration):
                yield self._save()
            if last:
                return
            yield self._step()

    # ---------------------------------------------------------------- set-up

    def _set_up(self) -> None:
        config = self.run.config
        self.model, self.tokenizer = load_base(self.run.base)
        keys = lora.adapt(self.model, config)
        self.lanes.prepare(self.model)
        if config.packing:
            check_keeps_apart(self.model)
        keep_little(self.model, keys, recompute=config.grad_checkpoint)
        self.objective = objective_of(config, self.lanes)
        self._read_data(config)
        self.optimizer = optimizers.make_optimizer(config)
        self.optimizer.init(self.model.trainable_parameters())
        self.objective.begin(self.model)
        self.fingerprint = run_fingerprint(self.run)
        if found := checkpoints.latest(self.run.checkpoints, self.fingerprint):
            self._restore(found)
        # After the restore: it holds on to the state's objects.
        self.update = optimizers.Update(
            self.model, self.optimizer, self.objective, self.lanes, keys, config
        )
        mx.reset_peak_memory()

    def _read_data(self, config: TrainingConfig) -> None:
        """train and valid, and test where the data set has one."""
        data = self.run.data
        self.evaluations: dict[str, Evaluation] = {}
        for name in ("train", "valid", "test"):
            path = data / f"{name}.jsonl"
            if name == "test" and not path.exists():
                continue
            split = self.objective.read(path, self.tokenizer)
            self.metrics[f"{name}_truncated"] = split.truncated
            self.metrics[f"{name}_dropped"] = split.dropped
            if name == "train":
                self.examples = split.examples
                self.lengths = [example.length for example in split.examples]
            else:
                most = config.batch_size * max(self.lengths)
                self.evaluations[name] = Evaluation(
                    self.objective, self.lanes, split.examples, most
                )
        self.questions = samples.read_questions(data / "valid.jsonl", self.tokenizer, config)
        steps = batching.steps_per_epoch(len(self.examples), config)
        self.config: TrainingConfig = resolved(config, steps)

    def _restore(self, found: Checkpoint) -> None:
        self.model.load_weights(list(found.adapter.items()), strict=False)
        optimizers.restore(self.optimizer, found.optimizer)
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        self.iteration = self.saved = found.iteration
        self.metrics, self.best = found.metrics, found.best

    # ---------------------------------------------------------------- one step

    def _step(self) -> Stepped:
        began = time.perf_counter()
        iteration, config = self.iteration + 1, self.config
        parts = [
            self.objective.batches([self.examples[i] for i in indices], packed=config.packing)
            for indices in batching.step_batches(self.lengths, config, iteration)
        ]
        rate = learning_rate(config, iteration)
        self.optimizer.learning_rate = rate
        self.model.train()
        loss, norm = self.update.step(parts, seed=f"{config.seed}/{iteration}")
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(infinite(self._lines(iteration), iteration))
        self.iteration = iteration
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
        parts = batching.step_batches(self.lengths, self.config, iteration)
        return [self.examples[index].line for indices in parts for index in indices]

    # ---------------------------------------------------------------- evaluation

    def _evaluate_base(self) -> Iterator[TrainingEvent]:
        """Before the first step the adapter adds exactly nothing, so this is the base."""
        splits: tuple[Split, ...] = ("valid", "test")
        for split in splits:
            if split in self.evaluations:
                loss = yield from self._measure(split, "base_")
                yield Evaluated(0, split, loss, adapter=False)
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
            yield Evaluating(self.iteration, split, done, total)
        perplexity = found.pop("perplexity")
        for name, value in found.items():
            self.metrics[f"{prefix}{_SHORT[split]}_{name}"] = value
        if split == "test":
            self.metrics[f"{prefix}perplexity"] = perplexity
        return found["loss"]

    def _validate(self) -> Iterator[TrainingEvent]:
        loss = yield from self._measure("valid")
        if not math.isfinite(loss):
            raise TrainingDiverged(infinite(self._lines(self.iteration), self.iteration))
        self.best.see(self.iteration, loss)
        yield Evaluated(self.iteration, "valid", loss)
        yield from self._sample()

    def _sample(self) -> Iterator[TrainingEvent]:
        yield from samples.answers(
            self.model, self.tokenizer, self.questions, self.iteration, self.config.sample_tokens
        )

    # ---------------------------------------------------------------- saving

    def _save(self) -> Checkpointed:
        checkpoint = Checkpoint(
            iteration=self.iteration,
            run=self.fingerprint,
            metrics=dict(self.metrics),
            best=self.best,
            adapter=lora.adapter_weights(self.model),
            optimizer=lora.flat(self.optimizer.state),
        )
        path = checkpoints.save(self.run.checkpoints, checkpoint, self.config.keep_checkpoints)
        self.saved = self.iteration
        return Checkpointed(self.iteration, path)

    def _finish(self) -> Iterator[TrainingEvent]:
        if self.config.restore_best and self.best.iteration != self.iteration:
            yield from self._take_best()
        if "test" in self.evaluations:
            loss = yield from self._measure("test")
            yield Evaluated(self.iteration, "test", loss)
        output = self.run.output
        output.mkdir(parents=True, exist_ok=True)
        lora.write_adapter_config(output, self.config)
        mx.save_safetensors(str(output / lora.ADAPTER_FILE), lora.adapter_weights(self.model))
        checkpoints.sync_folder(output)
        yield Finished(self.iteration, self.metrics | self.best.metrics())

    def _take_best(self) -> Iterator[TrainingEvent]:
        """Go back to the weights of the lowest validation loss."""
        path = checkpoints.named(self.run.checkpoints, self.best.iteration)
        try:
            weights = checkpoints.adapter_of(path)
        except (OSError, RuntimeError, ValueError) as error:
            raise BackendError(
                f"The best checkpoint {path.name} cannot be read any more; run the job again."
            ) from error
        self.model.load_weights(list(weights.items()), strict=False)
        yield from self._measure("valid")
