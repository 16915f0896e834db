"""Rows to ask a loaded model with, and adapters of the tiny model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from backends.base import Delta, LoadedModel, Sampling

QUESTIONS = (
    "What is the capital of France?",
    "Name three rivers.",
    "Plan a meeting with Ana on Friday at nine, at the old harbour, and tell everybody about it.",
    "Hi",
    "Write a sentence about the sea and another about the moon.",
)
TWELVE = Sampling(max_tokens=12)


@dataclass
class Row:
    """A request and what came of it. `after` is the step before which it is inserted."""

    question: str = QUESTIONS[0]
    adapter: Path | None = None
    sampling: Sampling = TWELVE
    after: int = 0
    deltas: list[Delta] = field(default_factory=list)
    prompt: list[int] | None = None  # instead of the question
    cached: int = 0

    @property
    def tokens(self) -> list[int]:
        return [delta.token for delta in self.deltas]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def finish_reason(self) -> str | None:
        return self.deltas[-1].finish_reason


def run(model: LoadedModel, *rows: Row, limit: int = 500) -> tuple[Row, ...]:
    """Insert the rows when their time comes and step until all have ended."""
    waiting = {str(number): row for number, row in enumerate(rows)}
    running: dict[str, Row] = {}
    for step in range(limit):
        for uid, row in list(waiting.items()):
            if row.after <= step:
                running[uid] = waiting.pop(uid)
                prompt = row.prompt or encode(model, row.question)
                row.cached = model.insert(uid, prompt, row.adapter, row.sampling)
        for delta in model.step():
            running[delta.uid].deltas.append(delta)
            if delta.finish_reason:
                del running[delta.uid]
        if not running and not waiting:
            return rows
    raise AssertionError(f"{len(running)} rows did not end within {limit} steps")


def encode(model: LoadedModel, question: str) -> list[int]:
    return model.encode([{"role": "user", "content": question}])


def write_adapter(folder: Path, layers: dict[str, tuple[int, int]], rank: int, seed: int) -> Path:
    """A random mlx-lm adapter over `layers`, which gives inputs and outputs by name."""
    import mlx.core as mx

    keys = iter(mx.random.split(mx.random.key(seed), 2 * len(layers)))
    weights = {}
    for name, (inputs, outputs) in layers.items():
        weights[f"{name}.lora_a"] = 0.3 * mx.random.normal((inputs, rank), key=next(keys))
        weights[f"{name}.lora_b"] = 0.3 * mx.random.normal((rank, outputs), key=next(keys))
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights, metadata={"format": "mlx"})
    config = {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "lora_parameters": {
            "rank": rank,
            "scale": 2.0,
            "dropout": 0.0,
            "keys": sorted({".".join(name.split(".")[3:]) for name in layers}),
        },
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
