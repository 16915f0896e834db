"""The most that a training process holds, beside what the plan of a job says.

    uv run python -m benchmarks.peaks [--only TEXT] [--check] [--json FILE]

Few steps of the bundled starter (the demo's first three have its heaviest batch twice), each case in a
process of its own that holds what a job's does, on the CPU and as on a Mac (HUB_ASSUMED_DEVICE=metal:
steps compiled whole, one lane, rows of few lengths). All held-out examples are evaluated first, since
what that frees is kept and counts. A busy machine does not change the figures, but a CPU takes five to ten
minutes for what 16 and 4 bits compute. `--only` takes the cases with TEXT in their line. Bar: no estimate
is off by more than OFF.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from backends.base import Stepped, TrainingConfig, TrainingRun
from benchmarks.setup.hub import ROOT, add_arguments, finish, machine
from registry.bases.bundled import starter_gguf

OFF = 0.1
STARTER = ROOT / "registry" / "datasets" / "starter"
QUIET = {"restore_best": False, "samples": 0, "warmup": 0, "num_layers": -1}
DEMO = json.loads((ROOT / "hub" / "demo" / "config.json").read_text()) | {"iters": 3, "warmup": 0}
WEIGHTS = ("float32", "bfloat16", "4-bit", "4-bit-float32")
EIGHT, ONE = {"batch_size": 8, "iters": 12}, {"batch_size": 1, "iters": 2}
AGAIN = ONE | {"grad_checkpoint": True}
CASES: dict[
    str, dict[str, Any]
] = {  # by data, a base of other weights, a word that makes names differ
    "demo": DEMO,
    "demo bfloat16": DEMO,
    "demo 4-bit": DEMO,
    "demo 4-bit-float32": DEMO,
    "log-normal": EIGHT,
    "log-normal checkpointing": EIGHT | {"grad_checkpoint": True},
    "1024": ONE,
    "1024 checkpointing": AGAIN,
    "2048": ONE,
    "2048 checkpointing": AGAIN,
}


def make_bases(folder: Path) -> None:
    """The bundled starter in `folder`, by the name of its weights; 4 bits of 16 and of 32."""
    from backends.mlx.files.quantize import quantize
    from backends.mlx.gguf.importer import import_gguf

    import_gguf(starter_gguf(), folder / "float32", quantize=False)
    os.environ["HUB_ASSUMED_DEVICE"] = "metal"
    import_gguf(starter_gguf(), folder / "bfloat16")
    for name, source in {"4-bit": "bfloat16", "4-bit-float32": "float32"}.items():
        quantize(folder / source, folder / name, 4, 64)


def make_data(folder: Path, base: Path, kind: str) -> Path:
    """The starter's chats, or pieces of the project's prose: 4 of a length or 96 of log-normal ones."""
    from hub.selftest.tried.training import write_manifest

    folder.mkdir(parents=True)
    tokenizer: Any = Tokenizer.from_file(str(base / "tokenizer.json"))
    prose = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    words, draw = tokenizer.encode(prose).ids, random.Random(5)
    lengths = [int(min(max(draw.lognormvariate(3.8, 0.9), 10), 300)) for _ in range(96)]
    lengths = [int(kind) - 20] * 4 if kind.isdigit() else lengths
    for split, chosen in {"train": lengths, "valid": [16, 16]}.items():
        starts = [draw.randrange(len(words) - length) for length in chosen]
        cuts = zip(starts, chosen, strict=True)
        texts = [{"text": tokenizer.decode(words[at : at + length])} for at, length in cuts]
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        demo = (STARTER / f"{split}.jsonl").read_text()
        (folder / f"{split}.jsonl").write_text(demo if kind == "demo" else lines)
    write_manifest(folder)
    return folder


def train(base: Path, data: Path, folder: Path, settings: dict[str, Any]) -> dict[str, int]:
    """In this process; bytes."""
    import django

    django.setup()
    from backends.mlx import MLXBackend
    from hub.selftest.tried.training import estimated

    config = TrainingConfig.model_validate(QUIET | settings)
    run = TrainingRun(base, data, folder / "out", folder / "kept", config, folder / "cache")
    backend, held = MLXBackend(), 0
    with contextlib.closing(backend.train(run)) as events:
        for event in events:
            if isinstance(event, Stepped):
                held = max(held, event.peak_memory_bytes)
                if event.iteration == config.iters:  # what follows holds no more
                    break
    return {"planned": estimated(backend, run).total, "held": held}


def measure(device: str, *told: str) -> dict[str, float]:
    """What `train` finds in a process of its own, as on `device`."""
    environment = {**os.environ, "HUB_ASSUMED_DEVICE": device, "TERM": "dumb"}
    environment |= {"HUB_ENV_FILE": os.devnull, "DJANGO_SETTINGS_MODULE": "hub.settings"}
    command = [sys.executable, "-m", "benchmarks.peaks", "--train", *told]
    ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found | {"off": found["planned"] / found["held"] - 1}


def main() -> None:
    if sys.argv[1:2] == ["--train"]:
        base, data, folder = map(Path, sys.argv[2:5])
        print(json.dumps(train(base, data, folder, json.loads(sys.argv[5]))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--only", default="", metavar="TEXT")
    options, found = parser.parse_args(), {}
    lines = [(name, device) for name in CASES for device in ("cpu", "metal")]
    with tempfile.TemporaryDirectory(prefix="hub-peaks-") as place:
        make_bases(bases := Path(place) / "bases")
        for number, (name, device) in enumerate(lines):
            if options.only in f"{name}, {device}":
                own = Path(place) / str(number)
                kind, *words = name.split()
                base = bases / next((word for word in words if word in WEIGHTS), "float32")
                data = make_data(own / "data", base, kind)
                told = (str(base), str(data), str(own), json.dumps(CASES[name]))
                one = found[f"{name}, {device}"] = measure(device, *told)
                said = f"planned {one['planned'] / 1e6:.0f} MB, held {one['held'] / 1e6:.0f} MB"
                print(f"{name}, as on {device}: {said} ({one['off']:+.0%})", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "cases": found}, indent=2) + "\n")
    worst = max((abs(one["off"]) for one in found.values()), default=0.0)
    finish(worst <= OFF, options.check, f"off by {worst:.0%} at most (bar {OFF:.0%})")


if __name__ == "__main__":
    main()
