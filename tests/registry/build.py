"""Plain builders of what the registry keeps, in the database and on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.test import Client

from registry.bases.registration import register_base
from registry.datasets.snapshots import register_dataset
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.models.work import Work
from registry.storage import paths
from registry.versions.lifecycle import begin_version, complete_version


def make_base(name: str = "tiny") -> BaseModel:
    source = paths.root() / f"{name}.gguf"
    source.write_bytes(b"GGUF" + name.encode())
    return register_base(name, BaseModel.Source.GGUF, str(source))


def chat(number: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    }


def write_jsonl(path: Path, examples: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path


def make_dataset(name: str = "notes", first: int = 0, **splits: int) -> Dataset:
    """Splits of so many examples; `first` makes others."""
    folder = paths.root() / f"source-{name}"
    for split, count in {"train": 8, "valid": 2, "test": 2, **splits}.items():
        examples = [chat(1000 * first + 100 * len(split) + n) for n in range(count)]
        write_jsonl(folder / f"{split}.jsonl", examples)
    return register_dataset(name, folder)


def add_on_page(client: Client, files: Any, **fields: str) -> Any:
    """The answer to files that are chosen on the page, and registered on the page after it."""
    chosen = client.post("/datasets/new/", {"files": files})
    assert chosen.status_code == 302, chosen.content.decode()
    return client.post(chosen["Location"], {"register": "", **fields}, follow=True)


def make_model(name: str = "helper", **overrides: Any) -> Model:
    """A model without an MLflow experiment."""
    base = overrides.pop("base", None) or make_base(f"{name}-base")
    return Model.objects.create(name=name, base_model=base, **overrides)


def make_staging(weights: bytes = b"weights") -> Path:
    """What training leaves: an adapter folder that nobody has published yet."""
    staging = paths.staging_dir("test")
    (staging / "adapters.safetensors").write_bytes(weights)
    (staging / "adapter_config.json").write_text('{"fine_tune_type": "lora"}')
    return staging


def begin(model: Model | None = None, **params: Any) -> ModelVersion:
    model = model or make_model()
    dataset = Dataset.objects.first() or make_dataset()
    return begin_version(model, dataset, {"iters": 10, **params}, seed=params.get("seed", 0))


def make_version(model: Model | None = None, **params: Any) -> ModelVersion:
    """A ready version with files."""
    version = begin(model, **params)
    return complete_version(version, make_staging(str(version).encode()), {"val_loss": 0.5})


def recorder[W: Work](rows: list[W]) -> Callable[[W], W]:
    """In place of `work.launch`: keeps the row in `rows` and starts no child."""

    def launch(row: W) -> W:
        rows.append(row)
        return row

    return launch
