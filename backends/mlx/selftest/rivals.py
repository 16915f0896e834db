"""mlx-lm as it comes, in this process: its `stream_generate`, its `BatchGenerator` and its trainer.

It gets the hub's fast BLAS; nothing else of it is changed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm import lora
from mlx_lm.generate import BatchGenerator
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import load_dataset

from backends.base import Message, TrainingConfig


@dataclass(frozen=True)
class Bare:
    """What mlx-lm answered: tokens, seconds from the text of the chats to the end, and to the first
    token of each."""

    tokens: int
    seconds: float
    firsts: list[float]

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def rate_after_first(self) -> float:
        """Of a single answer."""
        return (self.tokens - 1) / max(1e-9, self.seconds - self.firsts[0])


class BareModel:
    """A model folder in memory, loaded by mlx-lm."""

    def __init__(self, folder: Path) -> None:
        loaded: Any = mlx_lm.load(str(folder))
        self.model, self.tokenizer = loaded[:2]

    def one(self, chat: Sequence[Message], most: int) -> Bare:
        """By `stream_generate`."""
        began, first, last, count = time.perf_counter(), 0.0, 0.0, 0
        answers: Any = mlx_lm.stream_generate(
            self.model, self.tokenizer, self._tokens(chat), max_tokens=most
        )
        for answer in answers:
            if answer.finish_reason == "stop":
                break  # an end that is no text
            last, count = time.perf_counter() - began, count + 1
            first = first or last
        return Bare(count, last, [first])

    def many(self, chats: Sequence[Sequence[Message]], most: int) -> Bare:
        """By one `BatchGenerator`."""
        began = time.perf_counter()
        ends = [[token] for token in self.tokenizer.eos_token_ids]
        generator: Any = BatchGenerator(self.model, stop_tokens=ends)
        running = generator.insert([self._tokens(chat) for chat in chats], [most] * len(chats))
        firsts: dict[int, float] = {}
        count = 0
        while responses := generator.next_generated():
            for response in responses:
                firsts.setdefault(response.uid, time.perf_counter() - began)
                count += 1
        seconds = time.perf_counter() - began
        generator.close()
        return Bare(count, seconds, [firsts[uid] for uid in running])

    def close(self) -> None:
        del self.model
        gc.collect()
        mx.clear_cache()

    def _tokens(self, chat: Sequence[Message]) -> list[int]:
        return list(self.tokenizer.apply_chat_template(list(chat), add_generation_prompt=True))


def train(
    base: Path,
    data: Path,
    output: Path,
    config: TrainingConfig,
    report: Callable[[int, float], None],
) -> tuple[Any, Any]:
    """A run by mlx_lm.lora with the shape, optimizer and constant rate of `config`, which must be of
    LoRA with adam. `report` gets the counted tokens and the seconds of each step. Returns the model
    and its tokenizer."""

    class Report(TrainingCallback):
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            seconds = 1 / info["iterations_per_second"]
            # Its mask counts one target more than each example has.
            report(round(info["tokens_per_second"] * seconds - config.batch_size), seconds)

    settings = lora.CONFIG_DEFAULTS | {
        "model": str(base),
        "data": str(data),
        "train": True,
        "seed": config.seed,
        "optimizer": "adam",
        "optimizer_config": {"adam": {"betas": [0.9, 0.99], "bias_correction": True}},
        "num_layers": config.num_layers,
        "batch_size": config.batch_size,
        "iters": config.iters,
        "learning_rate": config.learning_rate,
        "max_seq_length": config.max_seq_length,
        "mask_prompt": config.learn == "last_answer",
        "lora_parameters": {"rank": config.lora.rank, "dropout": 0.0, "scale": config.lora.scale},
        "val_batches": 1,
        "steps_per_eval": 10**9,
        "steps_per_report": 1,
        "save_every": 10**9,
        "adapter_path": str(output),
    }
    args = SimpleNamespace(**settings)
    loaded: Any = mlx_lm.load(args.model)
    model, tokenizer = loaded[:2]
    # From a folder that is here.
    train_set, valid_set, _ = load_dataset(args, tokenizer)  # nosec B615
    np.random.seed(args.seed)
    lora.train_model(args, model, train_set, valid_set, Report())
    return model, tokenizer
