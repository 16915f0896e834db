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
import shutil
import time
from array import array
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal

from backends.base import (
    BackendError,
    BadExample,
    Checkpointed,
    Evaluated,
    Finished,
    Started,
    Stepped,
    TrainingConfig,
    TrainingDiverged,
    TrainingEvent,
    TrainingRun,
)
from backends.fake import files
from backends.mlx.schedule import learning_rate  # plain arithmetic, no MLX

type Weights = dict[str, files.Tensor]

_START, _FLOOR = 2.4, 0.05  # nats per token, before and after a long training
_KEYS = ("messages", "prompt", "text")
_KEPT = 2  # checkpoints


def train(run: TrainingRun, step_seconds: float) -> Generator[TrainingEvent, None, None]:
    """See `backends.base.Backend.train`. A learning rate above 0.1 makes the run diverge."""
    base = files.inspect(run.base)
    splits = {split: _read_split(run.data, split) for split in ("train", "valid", "test")}
    if not splits["train"]:
        raise BadExample("train.jsonl holds no examples; add at least one.")
    fingerprint = _fingerprint(run, splits)
    iteration, weights = _resume(run, fingerprint)
    trainable = sum(len(tensor.values) for tensor in weights.values())
    config = run.config
    yield Started(iteration, config.iters, trainable, base.parameters + trainable)

    metrics: dict[str, float] = {}
    names: tuple[tuple[Literal["valid", "test"], str], ...] = (("valid", "val"), ("test", "test"))
    for split, short in names:
        if splits[split]:
            metrics[f"base_{short}_loss"] = _loss(config, 0, split)
            if iteration == 0:
                yield Evaluated(0, split, _loss(config, 0, split), adapter=False)
    loss = _loss(config, iteration, "train")
    while iteration < config.iters:
        iteration += 1
        began = time.perf_counter()
        if step_seconds:
            time.sleep(step_seconds)
        batch = _batch(splits["train"], config, iteration)
        rate = learning_rate(config, iteration)
        _walk(weights, f"{config.seed}:{iteration}:{batch}", rate)
        loss = _loss(config, iteration, "train")
        if config.learning_rate > 0.1 and config.learning_rate * iteration >= 1:
            raise TrainingDiverged(
                f"The loss became infinite at iteration {iteration}; lower the learning rate."
            )
        tokens = sum(len(line.split()) for line in batch)
        seconds = max(time.perf_counter() - began, 1e-6)
        yield Stepped(iteration, loss, rate, loss / 2, tokens, tokens / seconds, 64 * 2**20)
        if splits["valid"] and (
            iteration % config.steps_per_eval == 0 or iteration == config.iters
        ):
            yield Evaluated(iteration, "valid", _loss(config, iteration, "valid"))
        if iteration % config.save_every == 0 or iteration == config.iters:
            yield Checkpointed(iteration, _save(run, fingerprint, iteration, weights))

    metrics["train_loss"] = loss
    if splits["valid"]:
        metrics["val_loss"] = _loss(config, iteration, "valid")
    if splits["test"]:
        metrics["test_loss"] = _loss(config, iteration, "test")
        metrics["perplexity"] = math.exp(metrics["test_loss"])
        metrics["base_perplexity"] = math.exp(metrics["base_test_loss"])
        yield Evaluated(iteration, "test", metrics["test_loss"])
    _write_adapter(run.output, config, weights)
    yield Finished(iteration, metrics)


def _read_split(data: Path, split: str) -> list[str]:
    """The lines of a split, none if its file is absent. Raises BadExample."""
    path = data / f"{split}.jsonl"
    if not path.is_file():
        return []
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            example = json.loads(line)
        except ValueError:
            example = None
        if not isinstance(example, dict) or not any(key in example for key in _KEYS):
            raise BadExample(
                f"{split}.jsonl, line {number}: an example is a JSON object with 'messages', "
                "'prompt' and 'completion', or 'text'."
            )
    return lines


def _fingerprint(run: TrainingRun, splits: dict[str, list[str]]) -> str:
    text = json.dumps([run.config.model_dump(mode="json"), splits], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _resume(run: TrainingRun, fingerprint: str) -> tuple[int, Weights]:
    """Iteration and weights of the newest checkpoint, or the beginning."""
    saved = _saved(run.checkpoints)
    if not saved:
        return 0, _fresh_weights(run.config)
    state = json.loads((saved[-1] / "state.json").read_text())
    if state["fingerprint"] != fingerprint:
        raise BackendError(
            f"The checkpoint {saved[-1].name} belongs to another configuration or data set; "
            "remove it to begin anew."
        )
    return state["iteration"], files.read_safetensors(saved[-1] / "adapters.safetensors")


def _saved(checkpoints: Path) -> list[Path]:
    """Whole checkpoints, oldest first; one that was being written has another name."""
    return sorted(path for path in checkpoints.glob("[0-9]*") if path.is_dir())


def _save(run: TrainingRun, fingerprint: str, iteration: int, weights: Weights) -> Path:
    final = run.checkpoints / f"{iteration:07}"
    partial = run.checkpoints / f".staging-{iteration:07}"
    for leftover in (partial, final):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    files.write_safetensors(partial / "adapters.safetensors", weights)
    state = {"iteration": iteration, "fingerprint": fingerprint}
    (partial / "state.json").write_text(json.dumps(state))
    partial.rename(final)
    for old in _saved(run.checkpoints)[:-_KEPT]:
        shutil.rmtree(old)
    return final


def _write_adapter(output: Path, config: TrainingConfig, weights: Weights) -> None:
    output.mkdir(parents=True, exist_ok=True)
    files.write_safetensors(output / "adapters.safetensors", weights)
    adapter_config = {
        "fine_tune_type": "lora",
        "num_layers": config.num_layers,
        "lora_parameters": config.lora.model_dump(),
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


def _batch(lines: Sequence[str], config: TrainingConfig, iteration: int) -> list[str]:
    randomness = random.Random(f"batch:{config.seed}:{iteration}")
    return [randomness.choice(lines) for _ in range(config.batch_size)]


def _loss(config: TrainingConfig, iteration: int, split: str) -> float:
    """Falls by a factor of e every 20 iterations at the default learning rate, with noise."""
    progress = iteration * min(config.learning_rate / 2e-4, 10) / 20
    noise = random.Random(f"{split}:{config.seed}:{iteration}").uniform(0.98, 1.02)
    return (_FLOOR + (_START - _FLOOR) * math.exp(-progress)) * noise
