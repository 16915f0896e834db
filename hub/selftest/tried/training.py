"""Whether training learns, resumes, fits its estimate and is fast."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import django

from backends.base import Backend, LoraConfig, Stepped, TrainingConfig, TrainingRun
from hub.config import ROOT
from hub.selftest.bench import REPORT, SLOW, Bench
from hub.selftest.report import Outcome, judged
from hub.selftest.tried import killed
from hub.selftest.tried.readers import memory_now
from registry.bases.bundled import starter_gguf
from training.memory import estimate as planned

WARM = 4  # steps that are not timed
STARTER = ROOT / "registry" / "datasets" / "starter"


def small_model(bench: Bench) -> Path:
    """A tiny random model in float32: what is compared to the last digits needs no more."""
    from backends.mlx.selftest.models import TINY, make_random

    folder = bench.folder / "small"
    if not folder.is_dir():
        make_random(starter_gguf(), folder, TINY)
    return folder


def write_data(folder: Path, examples: int, *, pairs: bool = False) -> Path:
    """The beginning of the bundled data set, as it is or as `pairs` of a right and a cut answer."""
    folder.mkdir(exist_ok=True)
    for split, count in {"train": examples, "valid": 4 + examples // 20}.items():
        rows = [json.loads(line) for line in (STARTER / f"{split}.jsonl").open()][:count]
        if pairs:
            rows = [_pair(row) for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_manifest(folder)
    return folder


def write_manifest(folder: Path) -> None:
    """As a data set's folder has it: without one the lengths of its examples are not found."""
    content = (folder / "train.jsonl").read_bytes()
    files = {"train.jsonl": {"sha256": hashlib.sha256(content).hexdigest()}}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))


def _pair(row: dict[str, Any]) -> dict[str, Any]:
    *asked, last = row["messages"]
    said = last["content"]
    return {"prompt": asked, "chosen": said, "rejected": said[: len(said) // 2]}


def make_run(base: Path, data: Path, folder: Path, **settings: Any) -> TrainingRun:
    config: dict[str, Any] = {
        "lora": LoraConfig(rank=8),
        "steps_per_eval": 10**6,
        "save_every": 10**6,
        "restore_best": False,
        "seed": 7,
    }
    return TrainingRun(
        base=base,
        data=data,
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        config=TrainingConfig(**(config | settings)),
    )


def train(bench: Bench, run: TrainingRun) -> list[Stepped]:
    """Every step of the run."""
    steps = []
    for event in bench.backend.train(run):
        if isinstance(event, Stepped):
            steps.append(event)
            bench.say(f"step {event.iteration} of {run.config.iters}")
    return steps


def losses(bench: Bench, base: Path, data: Path, name: str, **settings: Any) -> list[float]:
    """The loss and the gradient's norm of every step."""
    steps = train(bench, make_run(base, data, bench.scratch(name), **settings))
    return [figure for step in steps for figure in (step.train_loss, step.grad_norm)]


# ---------------------------------------------------------------------------- learning

MODES: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora, packed": {"packing": True},
    "lora, checkpointing": {"grad_checkpoint": True},
    "dora": {"fine_tune_type": "dora"},
    "full": {"fine_tune_type": "full", "num_layers": 2, "learning_rate": 2e-5},
    "dpo": {"objective": "dpo", "learning_rate": 5e-5},
    "orpo": {"objective": "orpo"},
    "simpo": {"objective": "simpo", "beta": 2.0, "learning_rate": 5e-5},
    "kto": {"objective": "kto", "learning_rate": 5e-5},
}


QUICK_MODES = ("lora", "full", "dpo")


def steps(bench: Bench) -> Outcome:
    """Some steps of every mode on the bundled model: losses stay finite and fall."""
    iters = bench.few(20, 2)
    chats = write_data(bench.scratch("steps-chats"), bench.few(80, 12))
    pairs = write_data(bench.scratch("steps-pairs"), bench.few(80, 12), pairs=True)
    found: dict[str, dict[str, Any]] = {}
    wrong = []
    for number, (mode, settings) in enumerate(MODES.items()):
        if bench.quick and mode not in QUICK_MODES:
            continue
        if mode == "full" and bench.quantized:
            found[mode] = {"not_tried": "Quantized weights cannot be trained."}
            continue
        chosen = {"iters": iters, "batch_size": 4, "warmup": 0, "num_layers": 8} | settings
        data = pairs if "objective" in settings else chats
        run = make_run(bench.base, data, bench.scratch(f"steps-{number}"), **chosen)
        bench.say(mode)
        found[mode] = _learned(train(bench, run))
        # So few steps move the loss of preferences by little, and noise moves it, too.
        noise = 0.05 if "objective" in settings else 0.0
        fell = found[mode]["last_loss"] < found[mode]["first_loss"] + noise
        if not found[mode]["finite"] or not (fell or bench.quick):
            wrong.append(mode)
    rates = [mode["tokens_per_second"] for mode in found.values() if "tokens_per_second" in mode]
    said = (
        f"{', '.join(wrong)} did not learn within {iters} steps."
        if wrong
        else f"{len(rates)} modes learned within {iters} steps, at {min(rates):.0f} to "
        f"{max(rates):.0f} tokens/s."
    )
    return judged(not wrong, said, REPORT, modes=found, iters=iters)


def _learned(steps: list[Stepped]) -> dict[str, Any]:
    few = max(1, len(steps) // 4)
    losses = [step.train_loss for step in steps]
    warm = steps[min(WARM, len(steps) - 1) :]
    return {
        "finite": all(
            math.isfinite(x) for step in steps for x in (step.train_loss, step.grad_norm)
        ),
        "first_loss": statistics.mean(losses[:few]),
        "last_loss": statistics.mean(losses[-few:]),
        "tokens_per_second": statistics.median(step.tokens_per_second for step in warm),
        "peak_memory_bytes": max(step.peak_memory_bytes for step in steps),
    }


# ---------------------------------------------------------------------------- the same


def compiled(bench: Bench) -> Outcome:
    """The same run with steps compiled as a GPU has them, and without any compilation."""
    from backends.mlx.selftest import numerics

    base = small_model(bench)
    data = write_data(bench.scratch("compiled-data"), bench.few(40, 12))
    settings = {"iters": bench.few(12, 2), "batch_size": 4, "warmup": 0, "learning_rate": 1e-3}
    with numerics.as_on_a_gpu() as where:
        fused = losses(bench, base, data, "compiled-fused", **settings)
        with numerics.uncompiled():
            plain = losses(bench, base, data, "compiled-plain", **settings)
    far = max(abs(a - b) / max(1e-6, abs(b)) for a, b in zip(fused, plain, strict=True))
    return judged(
        far < 1e-3,
        f"Losses and gradients of {settings['iters']} steps differ by {far:.2e} at most.",
        REPORT,
        difference=far,
        device=where,
    )


def resume(bench: Bench) -> Outcome:
    """A run in a process that is killed, continued here, and one that is not."""
    data = write_data(bench.scratch("resume-data"), 24)
    iters = bench.few(8, 4)
    settings: dict[str, Any] = {
        "iters": iters,
        "batch_size": 2,
        "warmup": 2,
        "save_every": 2,
        "steps_per_eval": 4,
        "lora": LoraConfig(rank=4, dropout=0.1),
    }
    base = small_model(bench) if bench.quick else bench.base
    whole, cut = (
        make_run(base, data, bench.scratch(f"resume-{name}"), **settings)
        for name in ("whole", "cut")
    )
    train(bench, whole)
    step = iters - 1
    bench.say(f"a process that is killed after step {step}")
    last = killed.killed(killed.describe(cut), step, 0.1)
    train(bench, cut)
    same = killed.digest(cut.output) == killed.digest(whole.output)
    return judged(
        same,
        f"Killed after step {last} of {iters} and resumed: "
        f"{'the same bytes' if same else 'OTHER bytes'}.",
        REPORT,
        killed_after=last,
        same=same,
    )


# ---------------------------------------------------------------------------- memory and speed


def estimate(bench: Bench) -> Outcome:
    """The demo's settings, in a process that holds what a job's does and has done nothing else."""
    django.setup()
    data = write_data(bench.scratch("estimate-data"), bench.few(120, 12))
    folder = bench.scratch("estimate")
    settings = {"iters": bench.few(20, 2), "batch_size": 4, "warmup": 0}
    if not bench.quick:
        settings["num_layers"] = 12
    run = replace(make_run(bench.base, data, folder, **settings), cache=folder / "cache")
    ran = train(bench, run)
    measured = max(step.peak_memory_bytes for step in ran)
    parts = estimated(bench.backend, run)
    off = parts.total / measured - 1
    return judged(
        bench.quick or abs(off) <= 0.1,
        f"Estimated {parts.total / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB ({off:+.0%}).",
        "Jobs of this machine are estimated better after the first of them. " + REPORT,
        estimated=asdict(parts),
        estimated_bytes=parts.total,
        measured_bytes=measured,
        off=off,
        footprint=memory_now(),
    )


def estimated(backend: Backend, run: TrainingRun) -> planned.Memory:
    """What the plan of a job says of `run`, whose data were tokenized into its cache."""
    made = backend.inspect(run.base)
    held = sum(path.stat().st_size for path in run.base.glob("*.safetensors"))
    size = planned.Dimensions.read(run.base)
    base = planned.Base.of(size, held, made.quantization, made.architecture)
    lengths = learned = None
    if run.cache is not None:
        known = (run.base, run.data, run.config, run.cache)
        lengths, learned = backend.token_lengths(*known), backend.learned_tokens(*known)
    if lengths is None:
        raise ValueError(f"The lengths of the examples in {run.data} are not known.")
    return planned.memory(base, run.config, int(lengths[-1]), lengths, learned)


def beside_mlx_lm_lora(bench: Bench) -> Outcome:
    """mlx_lm.lora's trainer in this process, on the same base, data, shape and rate."""
    from backends.mlx.selftest import rivals

    data = write_data(bench.scratch("beside-data"), bench.few(96, 12))
    settings = {
        "iters": bench.few(16, 3),
        "batch_size": 4,
        "learning_rate": 5e-5,
        "optimizer": "adam",
        "schedule": "constant",
        "warmup": 0,
        "grad_clip": 0,
        "num_layers": bench.few(4, -1),
        "learn": "everything",
    }
    run = make_run(bench.base, data, bench.scratch("beside-hub"), **settings)
    bench.say("the hub")
    ours = _timed(bench, run)
    theirs: list[tuple[int, float]] = []
    bench.say("mlx_lm.lora")
    output = bench.scratch("beside-mlx-lm")
    rivals.train(bench.base, data, output, run.config, lambda n, s: theirs.append((n, s)))
    mine, its = _rate(ours), _rate(theirs)
    return judged(
        bench.quick or mine >= 0.95 * its,
        f"{mine:.0f} tokens/s, {mine / its:.2f} times mlx_lm.lora's {its:.0f}.",
        SLOW,
        tokens_per_second=mine,
        mlx_lm_tokens_per_second=its,
        ratio=mine / its,
    )


def _timed(bench: Bench, run: TrainingRun) -> list[tuple[int, float]]:
    """Counted tokens and seconds of each step."""
    found, began = [], time.perf_counter()
    for event in bench.backend.train(run):
        now = time.perf_counter()
        if isinstance(event, Stepped):
            found.append((event.tokens, now - began))
        began = now
    return found


def _rate(steps: list[tuple[int, float]]) -> float:
    """Tokens a second once it is warm."""
    warm = steps[min(WARM, len(steps) - 1) :]
    return sum(tokens for tokens, _ in warm) / sum(seconds for _, seconds in warm)
