"""The part `training`: LoRA on SmolLM2's first four blocks, beside every trainer that runs here.

Shape, data and settings are those of `benchmarks.training`, which compares what is learned; a run is one
epoch, in a process of its own, and they take turns. Lengths are all 64 or log-normal; only with these
does mlx_lm.lora with sorted batches differ from the shipped one, and packed rows from padded ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.base import LoraConfig, TrainingConfig
from benchmarks.rivals.environments import NotInstalled
from benchmarks.rivals.trainers import SORTED, TRAINERS, Trained, Trainer, run
from benchmarks.setup.figures import Figures, turns
from benchmarks.setup.models import make_small_model
from benchmarks.training import BLOCKS, CONFIG, STEPS, WARM, hub_environment, make_data

RATE, HELD = "training, real tokens/s", "training, private memory at most, MB"
SHARED = ("batch_size", "learning_rate", "num_layers", "max_seq_length")
HUB, PACKED = "hub", "hub, packed"
ONLY_LOG_NORMAL = (PACKED, SORTED.name)
TIMES, TIMES_MEMORY = 2.0, 1.0


def measure(
    found: Figures, rounds: int, trainers: Sequence[Trainer] = TRAINERS, steps: int = STEPS
) -> dict[str, str]:
    """Adds figures and bars. Returns the reasons of the trainers that do not run."""
    left_out, rivals = dict[str, str](), {trainer.name: trainer for trainer in trainers}
    with tempfile.TemporaryDirectory(prefix="hub-trainers-") as place:
        base = make_small_model(Path(place, "base"), BLOCKS)
        make_data(Path(place, "data"), base)
        for number in range(rounds):
            for lengths in ("uniform", "log-normal"):
                for name in turns(number, (HUB, PACKED, *rivals)):
                    trainer = rivals.get(name, name)
                    if name in left_out or (lengths == "uniform" and name in ONLY_LOG_NORMAL):
                        continue
                    folder = Path(place, f"{number}-{lengths}-{name}".replace(" ", ""))
                    spec = _spec(folder, base, Path(place, "data", lengths), number, steps)
                    try:
                        trained = _train(trainer, folder, spec)
                    except NotInstalled as error:
                        left_out[name] = str(error)
                        continue
                    _add(found, lengths, name, trained)
                    print(f"training, {lengths}, {name}: {trained.rate:.0f} tokens/s", flush=True)
    for name in left_out:
        for values in found.values.values():
            values.pop(name, None)
    for name in [name for name in found.values if name.startswith(RATE)]:
        found.hold(name, HUB, TIMES)
    for name in [name for name in found.values if name.startswith(HELD)]:
        found.hold(name, HUB, TIMES_MEMORY, at_least=False)
    return left_out


def _train(trainer: Trainer | str, folder: Path, spec: dict[str, Any]) -> Trained:
    """By the hub where `trainer` is no rival. Raises NotInstalled."""
    folder.mkdir()
    file = folder / "run.json"
    if isinstance(trainer, Trainer):
        file.write_text(json.dumps(spec))
        return run(trainer.command(file), WARM)
    changes = {"packing": trainer == PACKED, "seed": spec["seed"], "iters": spec["iters"]}
    config = TrainingConfig.model_validate(CONFIG | changes)
    file.write_text(json.dumps(spec | {"config": config.model_dump(mode="json")}))
    return run(
        [sys.executable, "-m", "benchmarks.training", "--train", str(folder)],
        WARM,
        **hub_environment(folder),
    )


def _spec(folder: Path, base: Path, data: Path, seed: int, steps: int) -> dict[str, Any]:
    lora = LoraConfig()
    return {
        "base": str(base),
        "data": str(data),
        "output": str(folder / "output"),
        "seed": seed,
        "iters": steps,
        "rank": lora.rank,
        "scale": lora.scale,
        **{key: CONFIG[key] for key in SHARED},
    }


def _add(found: Figures, lengths: str, name: str, trained: Trained) -> None:
    found.add(f"{RATE}, {lengths} lengths", name, trained.rate)
    found.add(f"{HELD}, {lengths} lengths", name, trained.peak / 1e6)
    found.add(f"training, mean loss after {WARM} steps, {lengths} lengths", name, trained.loss)
