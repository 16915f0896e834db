"""From the queue to the verdict on the real trainer: trained, scored, and trained again."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry.bases.registration import register_base
from registry.datasets.snapshots import register_dataset
from registry.maintenance import gc
from registry.models import BaseModel, Model, ModelVersion
from registry.storage import paths
from tests.training.build import claim, make_config
from training import queue
from training.attempt import reproduction, runner
from training.memory.measured import Estimator
from training.models import TrainingJob

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def model(tiny_base: Path, settings: Any) -> Model:
    settings.BACKEND = "mlx"
    base = register_base("tiny", BaseModel.Source.FOLDER, str(tiny_base))
    return Model.objects.create(name="helper", base_model=base)


def run_next() -> TrainingJob:
    job = claim()
    assert job.lease is not None
    runner.run(job.pk, job.lease, lambda: "")
    job.refresh_from_db()
    assert (job.status, job.error_message) == (TrainingJob.Status.COMPLETED, "")
    return job


def test_a_version_is_scored_and_reproduced_to_the_last_bit(model: Model) -> None:
    folder = paths.root() / "source"
    folder.mkdir()
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        lines = [
            json.dumps({"prompt": f"Say {split} {n}", "completion": f"{split} {n}"})
            for n in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    config = make_config(
        iters=4, batch_size=2, warmup=1, steps_per_eval=4, learning_rate=1e-2,
        scoring={"scorer": "f1", "examples": 3, "max_tokens": 6},
    )  # fmt: skip
    dataset = register_dataset("notes", folder)
    queue.enqueue(model, dataset, config)
    run_next()
    kept = paths.tokens_dir(dataset.checksum)
    made = {entry.name: entry.stat().st_ino for entry in kept.iterdir()}
    assert sorted(name.partition("-")[0] for name in made) == ["parity", "test", "train", "valid"]
    assert gc.leftovers(timedelta(0)) == []
    lengths = Estimator(model.base_model, dataset)._lengths(config)
    assert lengths is not None
    assert len(lengths) == 6
    version = ModelVersion.objects.get()
    scored = version.evaluation
    assert (scored["problem"], scored["examples"]) == ("", 3)
    assert any(sample["base"] != sample["tuned"] for sample in scored["samples"])
    reproduction.enqueue(version)
    run_next()
    version.refresh_from_db()
    found = version.reproduction
    assert (found["verdict"], found["differs"], found["unknown"]) == ("bit-exact", [], [])
    assert {entry.name: entry.stat().st_ino for entry in kept.iterdir()} == made
    version.seed = 8
    version.save()
    reproduction.enqueue(version)
    run_next()
    version.refresh_from_db()
    assert version.reproduction["verdict"] == "diverged"
