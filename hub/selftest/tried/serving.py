"""Whether the hub serves rightly and fast here."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from backends.base import Delta, Grammar, LoadedModel
from hub.selftest.bench import REPORT, SLOW, Bench, chat, greedy
from hub.selftest.report import Outcome, judged, right
from hub.selftest.tried import bound
from hub.selftest.tried.rows import ask, rate_of
from registry.bases.bundled import starter_gguf
from training.memory.estimate import Dimensions

QUESTIONS = (
    "What is the capital of France?",
    "Name three rivers.",
    "Plan a meeting with Ana on Friday at nine, at the old harbour, and tell everybody about it.",
    "Hi",
    "Write a sentence about the sea and another about the moon.",
    "Why is the sky blue? Answer in one sentence, and then in ten.",
    "Count to twenty.",
    "What do bees do in winter?",
)
A_ROW = 4  # waits for a row's start and end, in all layers together
SETTLED = 2  # more of them in each layer on a CPU, which makes the changed batch layer by layer


def bundled_model(bench: Bench) -> Outcome:
    """Imports it as `register_starter` does on this device; a quick run makes a tiny one instead."""
    folder = bench.folder / "base"
    began = time.perf_counter()
    if bench.quick:
        from backends.mlx.selftest.models import TINY, make_random

        made = bench.backend.inspect(make_random(starter_gguf(), folder, TINY))
    else:
        made = bench.backend.import_gguf(starter_gguf(), folder)
    imported = time.perf_counter()
    model = bench.load()
    loaded = time.perf_counter()
    try:
        (answer,) = ask(model, [chat(QUESTIONS[0])], greedy(12))
        figures = {
            "quantization": made.quantization,
            "parameters": made.parameters,
            "import_s": imported - began,
            "load_s": loaded - imported,
            "memory": asdict(model.memory),
        }
    finally:
        model.close()
    if bench.quick:
        return right(f"A tiny random model says {len(answer.deltas)} tokens.", **figures)
    knows = "Paris" in answer.text
    said = f"In {made.quantization} it {'knows' if knows else 'does not know'} France's capital."
    return judged(knows, said, REPORT, **figures)


# ------------------------------------------------------------------------- the same


def alone_equals_batched(bench: Bench) -> Outcome:
    """Greedy answers alone and all at once. Where they part, the two likeliest tokens must have been
    as good as equal: a batch moves the last bits of 16-bit numbers."""
    near = 1e-3 if bench.exact else 0.25
    questions = [chat(text) for text in QUESTIONS[: bench.few(8, 4)]]
    sampling = greedy(bench.few(32, 8), logprobs=True, top_logprobs=2)
    model = bench.load()
    try:
        alone = [ask(model, [question], sampling)[0].deltas for question in questions]
        together = [row.deltas for row in ask(model, questions, sampling)]
    finally:
        model.close()
    gaps = [_parted(one, other) for one, other in zip(alone, together, strict=True)]
    wrong = [gap for gap in gaps if gap is not None and gap > near]
    parted = sum(gap is not None for gap in gaps)
    far = max(
        (
            abs(a.logprob - b.logprob)
            for one, other in zip(alone, together, strict=True)
            for a, b in zip(one, other, strict=False)
            if a.token == b.token
        ),
        default=0.0,
    )
    said = f"{len(gaps) - parted} of {len(gaps)} answers are the same to the last token"
    said += f", {parted} part at a tie" if parted and not wrong else ""
    said += f", {len(wrong)} part where no tie is" if wrong else ""
    figures = {"answers": len(gaps), "parted": parted, "wrong": len(wrong), "logprob_moved": far}
    return judged(not wrong, f"{said}.", REPORT, **figures)


def _parted(one: Sequence[Delta], other: Sequence[Delta]) -> float | None:
    """How much likelier the first choice was than the second where the answers part; None where they
    do not."""
    for a, b in zip(one, other, strict=False):
        if a.token != b.token:
            return min(d.top[0].logprob - d.top[1].logprob for d in (a, b) if len(d.top) > 1)
    return None if len(one) == len(other) else float("inf")


# ------------------------------------------------------------------------- as fast


def beside_mlx_lm(bench: Bench) -> Outcome:
    """One stream and eight, in turn with mlx-lm in the same process."""
    from backends.mlx.selftest import rates
    from backends.mlx.selftest.rivals import BareModel

    tokens, rounds = bench.few(64, 6), bench.few(5, 2)
    questions = [chat(f"{text} Answer at length.") for text in QUESTIONS]
    model, bare = bench.load(), BareModel(bench.base)
    found: dict[str, list[float]] = {
        name: [] for name in ("one", "bare_one", "eight", "bare_eight")
    }
    try:
        bare.one(questions[0], 4)
        for number in range(rounds):
            bench.say(f"round {number + 1} of {rounds}")
            question = questions[number % len(questions)]
            found["one"].append(ask(model, [question], greedy(tokens))[0].rate)
            found["bare_one"].append(bare.one(question, tokens).rate_after_first)
            found["eight"].append(rate_of(ask(model, questions, greedy(tokens))))
            found["bare_eight"].append(bare.many(questions, tokens).rate)
        read = rates.bandwidth(bench.few(1 << 29, 1 << 24), 3)
    finally:
        model.close()
        bare.close()
    middle = {name: statistics.median(values) for name, values in found.items()}
    one, eight = (_ratio(found, name) for name in ("one", "eight"))
    step_s = bound.step_s(bound.of_folder(bench.base), bound.Rates(read, float("inf")), 1, 64)
    figures = {
        "tokens_per_second": middle,
        "ratio_one": one,
        "ratio_eight": eight,
        "bytes_per_second": read,
        "bound_tokens_per_second": 1 / step_s,
        "share_of_bound": middle["one"] * step_s,
    }
    said = (
        f"{middle['one']:.0f} tokens/s alone ({one:.2f} times mlx-lm, {middle['one'] * step_s:.0%} of "
        f"what {read / 1e9:.3g} GB/s allow), {middle['eight']:.0f} in eight streams ({eight:.2f} times)."
    )
    return judged(bench.quick or (one >= 0.9 and eight >= 0.9), said, SLOW, **figures)


def _ratio(found: dict[str, list[float]], name: str) -> float:
    """The median over rounds of the ratio within one."""
    pairs = zip(found[name], found[f"bare_{name}"], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def adapter_overhead(bench: Bench) -> Outcome:
    """Eight rows of the bare base, on one adapter, and on four of them."""
    rows, tokens, rounds = bench.few(8, 4), bench.few(24, 4), bench.few(3, 1)
    folder = bench.scratch("adapters")
    adapters = [write_adapter(bench.base, folder / str(n), seed=n) for n in range(4)]
    ways: dict[str, list[Path | None]] = {
        "base": [None] * rows,
        "one": [adapters[0]] * rows,
        "four": [adapters[n % 4] for n in range(rows)],
    }
    questions = [chat(text) for text in QUESTIONS[:rows]]
    found: dict[str, list[float]] = {name: [] for name in ways}
    model = bench.load()
    try:
        for number in range(rounds + 1):
            for name, chosen in ways.items():
                bench.say(f"round {number} of {rounds}: {name}")
                rate = rate_of(ask(model, questions, greedy(tokens), chosen))
                if number or bench.quick:  # the first one warms up
                    found[name].append(rate)
    finally:
        model.close()
    middle = {name: statistics.median(values) for name, values in found.items()}
    one, four = middle["one"] / middle["base"], middle["four"] / middle["base"]
    return judged(
        bench.quick or (one >= 0.7 and four >= 0.6),
        f"{rows} rows: {middle['base']:.0f} tokens/s on the base, {one:.0%} of it on one adapter, "
        f"{four:.0%} on four.",
        SLOW,
        tokens_per_second=middle,
        one_to_base=one,
        four_to_base=four,
    )


def write_adapter(base: Path, folder: Path, seed: int, rank: int = 8) -> Path:
    """A random LoRA adapter on all linear layers, which changes little."""
    size, draw = Dimensions.read(base), np.random.default_rng(seed)
    weights = {}
    for layer in range(size.layers):
        for name, (inputs, outputs) in size.projections.items():
            place = f"model.layers.{layer}.{name}"
            a, b = draw.normal(size=(inputs, rank)), draw.normal(size=(rank, outputs))
            weights[f"{place}.lora_a"] = (a * inputs**-0.5).astype(np.float32)
            weights[f"{place}.lora_b"] = (b * 1e-3).astype(np.float32)
    folder.mkdir()
    save_file(weights, folder / "adapters.safetensors")
    parameters = {"rank": rank, "scale": 1.0, "dropout": 0.0}
    config = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


# ------------------------------------------------------------------------- without waiting


def waits(bench: Bench) -> Outcome:
    """What a row's start and end add to the waits of the steps around them."""
    from backends.mlx.selftest.waits import counted

    model, layers = bench.load(), Dimensions.read(bench.base).layers
    try:
        for uid in ("long", "beside"):  # a row that runs alone waits less often
            model.insert(uid, model.encode(chat(QUESTIONS[0])), None, greedy(200))
        _step(model, 4)
        with counted() as still:
            _step(model, 8)
        a_step = sum(still.values()) / 8
        with counted() as joined:
            model.insert("short", model.encode(chat(QUESTIONS[2])), None, greedy(4))
            steps = 0
            while not any(d.uid == "short" and d.finish_reason for d in model.step()):
                steps += 1
        model.remove("long")
        model.remove("beside")
    finally:
        model.close()
    more = sum(joined.values()) - a_step * (steps + 1)
    allowed = A_ROW + (SETTLED * layers if bench.kind == "cpu" else 0)
    return judged(
        a_step <= 2 and more <= allowed,
        f"{a_step:.1f} waits a step; a row's start and end add {more:.0f} ({more / layers:.1f} a "
        "layer).",
        REPORT,
        waits_a_step=a_step,
        waits_a_row=more,
        layers=layers,
        row=dict(joined),
    )


def _step(model: LoadedModel, times: int) -> None:
    for _ in range(times):
        model.step()


def grammar(bench: Bench) -> Outcome:
    """The same rows, free and made to write words of four letters."""
    rows, tokens, rounds = bench.few(4, 2), bench.few(32, 6), bench.few(3, 1)
    questions = [chat(text) for text in QUESTIONS[:rows]]
    held = Grammar("regex", r"([a-z]{4} ){60}")
    free_s, held_s, texts = [], [], []
    model = bench.load()
    try:
        ask(model, questions, greedy(2, grammar=held))
        for _ in range(rounds):
            free_s.append(_token_s(ask(model, questions, greedy(tokens))))
            answers = ask(model, questions, greedy(tokens, grammar=held))
            held_s.append(_token_s(answers))
            texts += [row.text for row in answers]
    finally:
        model.close()
    kept = all(re.fullmatch(r"([a-z]{4} )*[a-z]{0,4}", text) for text in texts)
    free, ruled = statistics.median(free_s) * 1000, statistics.median(held_s) * 1000
    said = f"A step of {rows} rows takes {ruled:.1f} ms with a grammar, {free:.1f} ms without"
    return judged(
        kept and (bench.quick or ruled <= max(2 * free, free + 4)),
        f"{said}; {'all answers keep to it' if kept else 'NOT all answers keep to it'}.",
        REPORT,
        kept=kept,
        step_ms=ruled,
        step_ms_without=free,
    )


def _token_s(rows: Sequence[Any]) -> float:
    """Seconds of a step: the time after the first token, by the tokens of the longest row."""
    last, first = max(row.last_s for row in rows), max(row.first_s for row in rows)
    steps = max(len(row.deltas) for row in rows) - 1
    return float((last - first) / max(1, steps))
