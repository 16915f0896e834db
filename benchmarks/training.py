"""How fast the trainer is beside mlx_lm.lora, in real (unpadded) tokens per second.

    uv run python -m benchmarks.training [--check] [--json FILE]

Same base (the first blocks of the bundled starter, float32), examples, LoRA shape, optimizer and
constant rate, in processes that take turns; the rival gets the same BLAS (`benchmarks.rivals.lora`).
A run is one epoch, so that every batch is new, as in real training: batches that come again would
find memory of their very sizes. Its first WARM steps warm up; of the others the time of the steps
alone is measured. The loss counts every token, as is mlx-lm's default; it is
that of the validation split after the last step, and each round has a seed of its own, the same for
all. Bars: at least 1 times mlx-lm on texts of equal length and 1.5 on log-normal lengths, by the
median over rounds of the ratio within a round; packing faster than buckets in every round; and
validation losses that have fallen by many times (CLEAR) what seeds make of them, and then differ, in
the mean over seeds, by no more than that; and the most memory that a run's process held within OFF of
what the plan of a job says.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from backends.base import TrainingConfig, TrainingRun
from benchmarks.setup.hub import ROOT, arguments, finish, machine
from benchmarks.setup.models import make_small_model

BLOCKS, EXAMPLES, BATCH, ROUNDS, WARM = 4, 128, 8, 3, 4
STEPS = EXAMPLES // BATCH  # an epoch
CONFIG: dict[str, Any] = {
    "iters": STEPS,
    "batch_size": BATCH,
    "learning_rate": 5e-4,
    "optimizer": "adam",
    "schedule": "constant",
    "warmup": 0,
    "grad_clip": 0,
    "num_layers": BLOCKS,
    "max_seq_length": 1024,
    "learn": "everything",
    "steps_per_eval": STEPS,
    "save_every": STEPS,
    "restore_best": False,
}
OFF = 0.1  # of the memory estimate
CLEAR = 5.0  # a smaller fall would have taught nothing that could be compared


@dataclass(frozen=True)
class Entry:
    """A contender: whose trainer, on which lengths."""

    trainer: str  # "mlx-lm" | "hub"
    lengths: str  # "uniform" | "log-normal"
    packing: bool = False

    @property
    def name(self) -> str:
        return f"{self.trainer}{', packed' if self.packing else ''}"


type Runs = dict[Entry, list[dict[str, float]]]

RIVAL, HUB, PACKED = (
    Entry("mlx-lm", "log-normal"),
    Entry("hub", "log-normal"),
    Entry("hub", "log-normal", packing=True),
)
UNIFORM_RIVAL, UNIFORM_HUB = Entry("mlx-lm", "uniform"), Entry("hub", "uniform")
ENTRIES = (UNIFORM_RIVAL, UNIFORM_HUB, RIVAL, HUB, PACKED)


def make_data(folder: Path, base: Path) -> dict[str, float]:
    """Pieces of the project's own prose by length; the share of real tokens in mlx-lm's batches
    (which are in the file's order)."""
    from hub.selftest.tried.training import write_manifest

    tokenizer: Any = Tokenizer.from_file(str(base / "tokenizer.json"))
    prose = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
    words = [token for path in prose for token in tokenizer.encode(path.read_text()).ids]
    draw = random.Random(5)
    shares = {}
    for kind in ("uniform", "log-normal"):
        (folder / kind).mkdir(parents=True)
        for split, count in {"train": EXAMPLES, "valid": 32}.items():
            lengths = [
                64 if kind == "uniform" else int(min(max(draw.lognormvariate(3.8, 0.9), 10), 300))
                for _ in range(count)
            ]
            texts = []
            for length in lengths:
                at = draw.randrange(len(words) - length)
                texts.append(tokenizer.decode(words[at : at + length]))
            lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
            (folder / kind / f"{split}.jsonl").write_text(lines)
            if split == "train":
                batches = [lengths[i : i + BATCH] for i in range(0, count, BATCH)]
                padded = sum(32 * -(-max(batch) // 32) * len(batch) for batch in batches)
                shares[kind] = sum(lengths) / padded
        write_manifest(folder / kind)
    return shares


def run_hub(spec: dict[str, Any], folder: Path) -> None:
    """The hub's trainer in this process, which holds what a job's does; one JSON line a step."""
    import django

    from backends.base import Finished, Stepped
    from backends.mlx import MLXBackend
    from hub.selftest.tried.training import estimated

    django.setup()
    run = TrainingRun(
        base=Path(spec["base"]),
        data=Path(spec["data"]),
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        config=TrainingConfig.model_validate(spec["config"]),
        cache=folder / "cache",
    )
    backend, peak = MLXBackend(), 0
    for event in backend.train(run):
        if isinstance(event, Stepped):
            peak = max(peak, event.peak_memory_bytes)
            seconds = event.tokens / event.tokens_per_second
            said = {"tokens": event.tokens, "seconds": seconds, "loss": event.train_loss}
            print(json.dumps(said), flush=True)
        if isinstance(event, Finished):
            found = {name: event.metrics[name] for name in ("val_loss", "base_val_loss")}
            found |= {"peak_bytes": peak, "estimated_bytes": estimated(backend, run).total}
            print(json.dumps(found), flush=True)


def hub_environment(folder: Path) -> dict[str, str]:
    """Of a process that is to be like a job's, with its storage in the folder."""
    return {
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "hub.settings",
        "HUB_ENV_FILE": os.devnull,
        "HUB_STORAGE": str(folder / "storage"),
    }


def measure(entry: Entry, folder: Path, base: Path, data: Path, seed: int) -> dict[str, float]:
    """One run in a child process: tokens a second once it is warm, and its validation loss (the
    hub's runs also report the base's, and their memory)."""
    folder.mkdir(parents=True)
    config = TrainingConfig.model_validate(CONFIG | {"packing": entry.packing, "seed": seed})
    spec = {
        "base": str(base),
        "data": str(data / entry.lengths),
        "output": str(folder / "output"),
        "config": config.model_dump(mode="json"),
    }
    (folder / "run.json").write_text(json.dumps(spec))
    child = ["-m", "benchmarks.training", "--train", str(folder)]
    if entry.trainer == "mlx-lm":
        child = ["-m", "benchmarks.rivals.lora", str(folder / "run.json")]
    ended = subprocess.run(
        [sys.executable, *child],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "dumb", **hub_environment(folder)},
    )
    if ended.returncode:
        raise SystemExit(f"{entry.name} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    said = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"')]
    steps = [line for line in said if "tokens" in line][WARM:]
    tokens, seconds = (sum(step[key] for step in steps) for key in ("tokens", "seconds"))
    return {"tokens_per_second": tokens / seconds, **said[-1]}


def race(folder: Path) -> tuple[Runs, dict[str, float]]:
    base = make_small_model(folder / "base", BLOCKS)
    shares = make_data(folder / "data", base)
    found: Runs = {entry: [] for entry in ENTRIES}
    for number in range(ROUNDS):
        order = ENTRIES if number % 2 == 0 else ENTRIES[::-1]
        for entry in order:
            run = folder / f"{number}-{ENTRIES.index(entry)}"
            found[entry].append(measure(entry, run, base, folder / "data", seed=number))
            rate = found[entry][-1]["tokens_per_second"]
            loss = found[entry][-1]["val_loss"]
            text = f"round {number + 1}: {entry.lengths}, {entry.name}: {rate:.0f} tokens/s"
            text += f", validation loss {loss:.3f}"
            print(text, flush=True)
    return found, shares


def ratios(found: Runs, one: Entry, other: Entry) -> list[float]:
    """How many times faster `one` is, by round."""
    key = "tokens_per_second"
    return [a[key] / b[key] for a, b in zip(found[one], found[other], strict=True)]


def ratio(found: Runs, one: Entry, other: Entry) -> float:
    return statistics.median(ratios(found, one, other))


def losses_alike(found: Runs, one: Entry, other: Entry) -> tuple[bool, str]:
    """Whether both have learned, and `one` as much as `other` up to the spread over seeds."""
    mine, theirs = ([run["val_loss"] for run in found[entry]] for entry in (one, other))
    before = found[one][0]["base_val_loss"]
    worse = statistics.mean(mine) - statistics.mean(theirs)
    noise = max(max(losses) - min(losses) for losses in (mine, theirs))
    fell = before - max(*mine, *theirs) >= CLEAR * noise
    return fell and worse <= noise, f"{one.lengths}, {one.name} {worse:+.3f} (seeds: {noise:.3f})"


def memory_off(found: Runs) -> dict[str, float]:
    """By how much the estimate is off for each of the hub's entries, in the median over rounds."""
    return {
        f"{entry.lengths}, {entry.name}": statistics.median(
            run["estimated_bytes"] / run["peak_bytes"] - 1 for run in runs
        )
        for entry, runs in found.items()
        if entry.trainer == "hub"
    }


def show(found: Runs, shares: dict[str, float]) -> None:
    table = Table(title=f"Real tokens per second, {ROUNDS} rounds ({machine()})")
    for heading in (
        "lengths",
        "trainer",
        "median",
        "lowest",
        "highest",
        "times mlx-lm",
        "val loss, mean",
        "lowest",
        "highest",
    ):
        table.add_column(heading, justify="left" if heading in ("lengths", "trainer") else "right")
    for entry, runs in found.items():
        rival = UNIFORM_RIVAL if entry.lengths == "uniform" else RIVAL
        rates = [run["tokens_per_second"] for run in runs]
        figures = (statistics.median(rates), min(rates), max(rates))
        losses = [run["val_loss"] for run in runs]
        table.add_row(
            entry.lengths,
            entry.name,
            *(f"{figure:.0f}" for figure in figures),
            f"{ratio(found, entry, rival):.2f}",
            *(f"{loss:.3f}" for loss in (statistics.mean(losses), min(losses), max(losses))),
        )
    Console(width=120).print(table)
    before = {entry.lengths: found[entry][0]["base_val_loss"] for entry in (UNIFORM_HUB, HUB)}
    print("Before: " + ", ".join(f"{loss:.3f} ({kind})" for kind, loss in before.items()))
    for entry, runs in found.items():
        if entry.trainer == "hub":
            peak, planned = (
                statistics.median(run[key] for run in runs) / 1e6
                for key in ("peak_bytes", "estimated_bytes")
            )
            print(f"{entry.lengths}, {entry.name}: {planned:.0f} MB estimated, {peak:.0f} measured")
    print(
        ", ".join(
            f"{share:.2f} of mlx-lm's {kind} tokens are real" for kind, share in shares.items()
        )
    )


def main() -> None:
    if sys.argv[1:2] == ["--train"]:
        folder = Path(sys.argv[2])
        run_hub(json.loads((folder / "run.json").read_text()), folder)
        return
    options = arguments((__doc__ or "").splitlines()[0])
    folder = Path(tempfile.mkdtemp(prefix="hub-training-"))
    try:
        found, shares = race(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(found, shares)
    uniform, buckets = ratio(found, UNIFORM_HUB, UNIFORM_RIVAL), ratio(found, HUB, RIVAL)
    packed = ratios(found, PACKED, HUB)
    memory = memory_off(found)
    alike = [
        losses_alike(found, UNIFORM_HUB, UNIFORM_RIVAL),
        losses_alike(found, HUB, RIVAL),
        losses_alike(found, PACKED, RIVAL),
    ]
    if options.json:
        figures = {f"{entry.lengths}, {entry.name}": runs for entry, runs in found.items()}
        text = json.dumps({"machine": machine(), "real_share": shares, "runs": figures}, indent=2)
        options.json.write_text(text + "\n")
    finish(
        uniform >= 1
        and buckets >= 1.5
        and min(packed) > 1
        and all(ok for ok, _ in alike)
        and all(abs(off) <= OFF for off in memory.values()),
        options.check,
        f"{uniform:.2f} times mlx-lm on uniform lengths (bar 1), {buckets:.2f} on log-normal ones "
        f"(bar 1.5), packed {statistics.median(packed):.2f} times buckets, {min(packed):.2f} at "
        f"least (bar: above 1); validation losses beside mlx-lm's: "
        + "; ".join(text for _, text in alike)
        + "; memory estimates off by "
        + ", ".join(f"{off:+.0%} ({name})" for name, off in memory.items())
        + f" (bar {OFF:.0%})",
    )


if __name__ == "__main__":
    main()
