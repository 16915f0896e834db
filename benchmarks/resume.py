"""Whether a training run that is killed ends with the bytes of one that is not.

    uv run python -m benchmarks.resume [--check] [--json FILE]

Ten times a child process that trains is ended by SIGKILL at a random moment of a random step and
started again in the same folders. Five modes of training, two moments each; the model is the
first two blocks of the bundled starter, the data its calendar requests. The bar: ten of ten
adapters have the sha256 of an uninterrupted run's.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from backends.base import TrainingConfig, TrainingRun
from benchmarks.setup.hub import ROOT, arguments, finish, machine
from benchmarks.setup.models import make_small_model
from hub.selftest.tried import killed

STEPS = 8
COMMON: dict[str, Any] = {
    "iters": STEPS,
    "batch_size": 2,
    "save_every": 3,
    "steps_per_eval": 4,
    "warmup": 2,
    "lora": {"rank": 4, "dropout": 0.1},
}
MODES: dict[str, dict[str, Any]] = {
    "lora, adamw": {},
    "dora, muon": {"fine_tune_type": "dora", "optimizer": "muon"},
    "full, adafactor": {"fine_tune_type": "full", "optimizer": "adafactor", "num_layers": 1},
    "packing, 3 batches a step": {"packing": True, "grad_accumulation_steps": 3},
    "dpo": {"objective": "dpo"},
}


def describe(folder: Path, base: Path, data: Path, mode: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    config = TrainingConfig.model_validate(COMMON | mode)
    return killed.describe(
        TrainingRun(base, data, folder / "output", folder / "checkpoints", config)
    )


def make_data(folder: Path) -> tuple[Path, Path]:
    """Some of the starter's examples, and the same as preferences of right over cut answers."""
    plain, pairs = folder / "plain", folder / "pairs"
    for kind in (plain, pairs):
        kind.mkdir()
    source = ROOT / "registry" / "datasets" / "starter"
    for split, count in {"train": 40, "valid": 6}.items():
        chats = [json.loads(line) for line in (source / f"{split}.jsonl").open()][:count]
        (plain / f"{split}.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chats))
        values = []
        for chat in chats:
            *asked, last = chat["messages"]
            said = last["content"]
            values.append({"prompt": asked, "chosen": said, "rejected": said[: len(said) // 2]})
        (pairs / f"{split}.jsonl").write_text("".join(json.dumps(v) + "\n" for v in values))
    return plain, pairs


def measure(folder: Path) -> list[dict[str, Any]]:
    base = make_small_model(folder / "base", blocks=2)
    plain, pairs = make_data(folder)
    draw = random.Random(11)
    rows = []
    for number, (mode, settings) in enumerate(MODES.items()):
        data = pairs if "objective" in settings else plain
        whole = killed.finished(describe(folder / f"{number}-whole", base, data, settings))
        for step in sorted(draw.sample(range(1, STEPS), 2)):
            run = describe(folder / f"{number}-{step}", base, data, settings)
            said = killed.killed(run, step, wait := round(draw.uniform(0, 0.4), 2))
            same = killed.finished(run) == whole
            rows.append(
                {"mode": mode, "step": step, "wait_s": wait, "last_step": said, "same": same}
            )
            print(f"{mode}: killed {wait} s after step {step}: {'same' if same else 'DIFFERENT'}")
    return rows


def main() -> None:
    options = arguments((__doc__ or "").splitlines()[0])
    folder = Path(tempfile.mkdtemp(prefix="hub-resume-"))
    try:
        rows = measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table(title=f"Killed and resumed ({machine()})")
    for heading in ("mode", "killed after step", "and seconds", "bytes"):
        table.add_column(heading)
    for row in rows:
        same = "equal" if row["same"] else "DIFFERENT"
        table.add_row(row["mode"], str(row["step"]), str(row["wait_s"]), same)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "kills": rows}, indent=2) + "\n")
    right = sum(row["same"] for row in rows)
    finish(right == 10, options.check, f"{right} of {len(rows)} resumed adapters are byte-equal")


if __name__ == "__main__":
    main()
