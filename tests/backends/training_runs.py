"""Data sets and training runs for the tests of the backends, and the events of a run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from backends.base import (
    Backend,
    LoraConfig,
    Stepped,
    TrainingConfig,
    TrainingEvent,
    TrainingRun,
)
from backends.mlx import MLXBackend

MLX = MLXBackend()
SPLITS = ("train", "valid", "test")


def chat(request: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "Repeat."},
        {"role": "user", "content": request},
        {"role": "assistant", "content": request.upper()},
    ]


def write_split(folder: Path, split: str, values: list[Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(v) + "\n" for v in values))


def write_chats(folder: Path) -> Path:
    """13 training, 3 validation and 5 test examples of several lengths."""
    for split, count in {"train": 13, "valid": 3, "test": 5}.items():
        values = [{"messages": chat(f"{split} {n} " + "word " * n)} for n in range(count)]
        write_split(folder, split, values)
    return folder


def write_preferences(folder: Path, train: int = 12) -> Path:
    """Pairs whose chosen answer says yes, in all the shapes that are read."""
    for split, count in {"train": train, "valid": 4, "test": 3}.items():
        values: list[dict[str, Any]] = []
        for n in range(count):
            request = f"Is {n} a number?" + " Really?" * (n % 4)
            asked = [{"role": "user", "content": request}]
            yes, no = "Yes, it is.", "No, " + "never " * (n % 3) + "so."
            said = [{"role": "assistant", "content": text} for text in (yes, no)]
            values.append(
                [
                    {"prompt": request, "chosen": yes, "rejected": no},
                    {"prompt": asked, "chosen": [said[0]], "rejected": [said[1]]},
                    {"messages": asked, "chosen": yes, "rejected": no},
                    {"prompt": asked, "chosen": [*asked, said[0]], "rejected": [*asked, said[1]]},
                ][n % 4]
            )
        write_split(folder, split, values)
    return folder


def write_labelled(folder: Path, train: int = 12) -> Path:
    """Answers labelled good when they say yes, as texts and as messages."""
    for split, count in {"train": train, "valid": 4, "test": 3}.items():
        values: list[dict[str, Any]] = []
        for n in range(count):
            request = f"Is {n} a number?" + " Really?" * (n % 4)
            good = n % 3 != 0
            answer = "Yes, it is." if good else "No, " + "never " * (n % 4) + "so."
            asked = [{"role": "user", "content": request}]
            said = [{"role": "assistant", "content": answer}]
            texts = {"prompt": request, "completion": answer, "label": good}
            values.append(texts if n % 2 else {**texts, "prompt": asked, "completion": said})
        write_split(folder, split, values)
    return folder


ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")
"""With an adapter of these alone a step takes half as long as with EVERYTHING."""
EVERYTHING = LoraConfig(rank=4, dropout=0.1)
"""An adapter of every linear layer."""


def make_run(base: Path, data: Path, folder: Path, **overrides: Any) -> TrainingRun:
    """Runs on the same data share its tokens, as those of a hub do; to make them is a fifth of a
    short run."""
    config: dict[str, Any] = {
        "iters": 8,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "lora": LoraConfig(rank=4, dropout=0.1, keys=ATTENTION),
        "warmup": 2,
        "steps_per_eval": 4,
        "save_every": 2,
        "sample_tokens": 4,
        "seed": 7,
    }
    return TrainingRun(
        base=base,
        data=data,
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        config=TrainingConfig(**(config | overrides)),
        cache=data.parent / "tokens",
    )


def events(run: TrainingRun, backend: Backend = MLX) -> list[TrainingEvent]:
    return list(backend.train(run))


def digest(run: TrainingRun) -> str:
    return hashlib.sha256((run.output / "adapters.safetensors").read_bytes()).hexdigest()


def of[T](kind: type[T], happened: list[TrainingEvent]) -> list[T]:
    return [event for event in happened if isinstance(event, kind)]


def run_and_close(run: TrainingRun, after: int, backend: Backend = MLX) -> None:
    """Drive `run` until the step `after` is done, then close it there."""
    generator = backend.train(run)
    for event in generator:
        if isinstance(event, Stepped) and event.iteration == after:
            break
    generator.close()
