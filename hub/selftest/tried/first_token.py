"""How soon the first token comes: of the bundled model, and of a 7B model at 4 bits."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from hub.selftest.bench import REPORT, SLOW, Bench, greedy
from hub.selftest.report import Outcome, judged, not_tried
from hub.selftest.tried import bound
from hub.selftest.tried.rows import ask
from registry.bases.bundled import starter_gguf

if TYPE_CHECKING:
    from backends.mlx.selftest.models import Shape


def first_token(bench: Bench) -> Outcome:
    found = measure_first_token(bench, bench.base, bench.few(1024, 128), bench.few(3, 1))
    halved = found["cached_ms"] <= 0.5 * found["cold_ms"]
    return judged(
        found["cached_tokens"] >= found["prompt_tokens"] - 64 and (bench.quick or halved),
        f"{found['cold_ms']:.0f} ms for a prompt of {found['prompt_tokens']} tokens, "
        f"{found['cached_ms']:.0f} ms when all but {found['new_tokens']} are in the prefix cache.",
        REPORT,
        **found,
    )


def first_token_7b(bench: Bench) -> Outcome:
    """Random weights of Mistral 7B's shape at 4 bits, where the machine can hold and compute them."""
    shape, reason = shape_7b(bench)
    found = measure_shape(bench, shape)
    figures = {"shape": asdict(shape), "bits": 4, **found}
    if reason:
        return not_tried(
            f"{reason} The same at a sixteenth of its width works: {found['cold_ms']:.0f} ms cold, "
            f"{found['cached_ms']:.0f} ms cached.",
            **figures,
        )
    with_hub = found["cached_ms"] + 1000 * bound.OVERHEAD_S
    return judged(
        with_hub <= 1000 * bound.LIMIT_S,
        f"{found['short_ms']:.0f} ms for {found['short_tokens']} tokens, {found['cold_ms']:.0f} ms "
        f"for {found['prompt_tokens']}, {found['cached_ms']:.0f} ms when all but "
        f"{found['new_tokens']} are cached (bound {found['bound_cached_ms']:.0f}), and the hub's 9; "
        f"{found['tokens_per_second']:.0f} tokens/s ({found['share_of_bound']:.0%} of the bound).",
        SLOW,
        **figures,
    )


def shape_7b(bench: Bench) -> tuple[Shape, str]:
    """The shape to measure, and why it is not the whole one; the reason is empty where it is."""
    from backends.mlx.selftest.models import MISTRAL_7B, SCALED_7B

    reason = _too_small(bench)
    scaled = replace(SCALED_7B, num_hidden_layers=bench.few(SCALED_7B.num_hidden_layers, 1))
    return (scaled if reason else MISTRAL_7B), reason


def measure_shape(bench: Bench, shape: Shape) -> dict[str, Any]:
    """The first token of a random model of `shape` at 4 bits, and what the machine allows it."""
    from backends.mlx.selftest.models import make_random

    folder = bench.folder / "shape"
    try:
        bench.say("making random weights")
        make_random(starter_gguf(), folder, shape, bits=4)
        # The CPU takes a second for every few of these weights' tokens.
        tokens, rounds = (256, 1) if bench.kind == "cpu" else (2048, 3)
        found = measure_first_token(bench, folder, bench.few(tokens, 128), bench.few(rounds, 1))
        return found | _against_bound(bench, folder, found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _too_small(bench: Bench) -> str:
    """Why a 7B model cannot be measured here; empty where it can."""
    if bench.quick:
        return "A quick run makes no model of that size."
    if bench.kind == "cpu":
        return "This machine computes on its CPU, where a 7B model takes seconds for each token."
    free = min(bench.device.memory_bytes, psutil.virtual_memory().available)
    if free < 8e9:
        return f"It takes 8 GB of free memory, and {free / 1e9:.1f} GB are free."
    disk = shutil.disk_usage(bench.folder).free
    return "" if disk > 6e9 else f"It takes 6 GB of disk, and {disk / 1e9:.1f} GB are free."


def measure_first_token(bench: Bench, base: Path, tokens: int, rounds: int) -> dict[str, Any]:
    """Medians in milliseconds: of a short prompt, of one of `tokens`, and of the latter followed by 16
    others when it is in the prefix cache; and the rate of decoding."""
    short, new = 32, 16
    firsts: dict[str, list[float]] = {"short_ms": [], "cold_ms": [], "cached_ms": []}
    rates, cached = [], 0
    model = bench.load(base, cache_bytes=1 << 30)
    try:
        for number in range(rounds):
            bench.say(f"round {number + 1} of {rounds}")
            prompt = bench.prompt(model, number, tokens)
            longer = [*prompt, *bench.prompt(model, 1000 + number, new)]
            (few,) = ask(
                model, [bench.prompt(model, 500 + number, short)], greedy(bench.few(32, 4))
            )
            (cold,) = ask(model, [prompt], greedy(2))
            (again,) = ask(model, [longer], greedy(2))
            for name, row in (("short_ms", few), ("cold_ms", cold), ("cached_ms", again)):
                firsts[name].append(1000 * row.first_s)
            rates.append(few.rate)
            cached = again.cached
    finally:
        model.close()
    return {
        **{name: statistics.median(values) for name, values in firsts.items()},
        "tokens_per_second": statistics.median(rates),
        "short_tokens": short,
        "prompt_tokens": tokens,
        "new_tokens": new,
        "cached_tokens": cached,
    }


def _against_bound(bench: Bench, folder: Path, found: dict[str, Any]) -> dict[str, float]:
    """What the machine's measured rates would allow."""
    from backends.mlx.selftest import rates

    size = bench.few(1 << 30, 1 << 24), bench.few(4096 if bench.kind != "cpu" else 1024, 128)
    device = bound.Rates(rates.bandwidth(size[0], 5), rates.flops(size[1], 3))
    model = bound.of_folder(folder)
    cached, new = found["cached_tokens"], found["new_tokens"]
    rest = found["prompt_tokens"] + new - cached
    step_s = bound.step_s(model, device, 1, found["short_tokens"])
    return {
        "bytes_per_second": device.bandwidth,
        "flops": device.flops,
        "bound_cold_ms": 1000 * bound.first_token_s(model, device, found["prompt_tokens"]),
        "bound_cached_ms": 1000 * bound.first_token_s(model, device, rest, cached),
        "bound_tokens_per_second": 1 / step_s,
        "share_of_bound": found["tokens_per_second"] * step_s,
    }
