"""Plain builders of what a training job needs, on disk and in the database."""

from __future__ import annotations

import json
from typing import Any

from backends.base import TrainingConfig
from registry.bases.registration import register_base
from registry.datasets import snapshots
from registry.models import BaseModel, Dataset, Model
from registry.storage import paths
from training import queue
from training.models import TrainingJob


def make_base(name: str = "tiny") -> BaseModel:
    path = paths.root() / f"{name}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + name.encode())
    return register_base(name, BaseModel.Source.GGUF, str(path))


def make_dataset(name: str = "notes", train: int = 12) -> Dataset:
    folder = paths.root() / f"source-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("valid", 4), ("test", 4)):
        lines = [
            json.dumps({"prompt": f"{split} {n}", "completion": f"{name} {n}"})
            for n in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return snapshots.register_dataset(name, folder)


def make_model(name: str = "helper") -> Model:
    """A model without an MLflow experiment: these tests need no MLflow."""
    return Model.objects.create(name=name, base_model=make_base(f"{name}-base"))


SHORT: dict[str, Any] = {"iters": 4, "save_every": 2, "steps_per_eval": 2, "warmup": 1}
"""Settings of a run for tests of what comes after it."""


def make_config(**overrides: Any) -> TrainingConfig:
    return TrainingConfig(
        **{"iters": 20, "save_every": 5, "steps_per_eval": 10, "seed": 7, **overrides}
    )


def make_job(model: Model | None = None, *, priority: int = 0, **config: Any) -> TrainingJob:
    model = model or make_model()
    dataset = Dataset.objects.first() or make_dataset()
    return queue.enqueue(model, dataset, make_config(**config), priority)


def claim() -> TrainingJob:
    """The next job, which must be there."""
    job = queue.claim()
    assert job is not None
    assert job.lease is not None
    return job
