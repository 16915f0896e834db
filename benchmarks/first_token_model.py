"""What a 7B model at 4 bits gives on an M4 Pro, from bandwidth and FLOPs alone: pure arithmetic.

    uv run python -m benchmarks.first_token_model [--write]

Prints the tables of `docs/first-token.md`; with `--write` it puts them there. Nothing is measured:
the machine's figures and the rates that calibrate them are published ones, and the hub's own share
of a first token is the figure in `docs/benchmarks.md` and `docs/decisions.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from hub.selftest.tried.bound import (
    LIMIT_S,
    OVERHEAD_S,
    Model,
    Rates,
    first_token_s,
    read_s,
    restore_s,
    step_s,
)

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "first-token.md"
GB, KIB = 1e9, 2**10

# --------------------------------------------------------------------------- what is assumed

BANDWIDTH = 273 * GB  # bytes/s of unified memory, Apple
PEAK = 9.2e12  # FLOP/s of the 20-core GPU in float32; float16 is not faster, see the document
MEMORY = 48 * GB
BUDGET = 0.9 * 0.75 * MEMORY  # the hub's own default: most of what Metal recommends
# Llama 2 7B as Q4_0 with llama.cpp on an M4 Pro with 20 GPU cores, llama.cpp discussion 4167
PUBLISHED_PROMPT, PUBLISHED_DECODE = 439.78, 50.74  # tokens/s: 512 tokens at once; one at a time
KV_BITS = {"16-bit": 16.0, "8-bit": 8.5, "4-bit": 4.5}  # quantized likewise in groups of 64
BLOCK = 32  # tokens: what the prefix cache keeps and finds as one piece


LLAMA = Model("Llama 2 7B", 32, 4096, 11008, 32, 32, 32_000)
MODELS = (
    LLAMA,
    Model("Mistral 7B v0.3", 32, 4096, 14336, 32, 8, 32_768),
    Model("Qwen2.5 7B", 28, 3584, 18944, 28, 4, 152_064),
)


BOUND = Rates(BANDWIDTH, PEAK)
EXPECTED = Rates(
    PUBLISHED_DECODE * LLAMA.step_bytes, PUBLISHED_PROMPT * LLAMA.flops(512) / 512
)  # what the published run reached


def longest(seconds: Callable[[int], float], most: int = 2**20) -> int:
    """The largest count for which `seconds` is within the limit; it must grow with the count."""
    if seconds(1) > LIMIT_S:
        return 0
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds(middle) <= LIMIT_S else (low, middle - 1)
    return low


# --------------------------------------------------------------------------- tables


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def shapes() -> str:
    """What the models weigh and compute."""
    kinds = [f"KV a token, {kind}" for kind in KV_BITS]
    rows = [
        [
            model.name,
            f"{(model.blocks + 2 * model.head) / 1e9:.2f} billion",
            f"{model.weight_bytes / GB:.2f} GB",
            f"{model.step_bytes / GB:.2f} GB",
            f"{model.flops(1) / 1e9:.1f} GFLOP",
            *(f"{model.kv_bytes(bits) / KIB:.0f} KiB" for bits in KV_BITS.values()),
        ]
        for model in MODELS
    ]
    head = ["", "weights", "in memory", "read a step", "computed a prompt token", *kinds]
    return table(head, rows)


def speeds() -> str:
    """Tokens per second: as the machine's figures bound them, and as the published run reached."""
    rows = []
    for model in MODELS:
        for which, rates in (("bound", BOUND), ("expected", EXPECTED)):
            counts = (
                1 / step_s(model, rates, 1, 1000),
                1 / step_s(model, rates, 1, 16_000),
                8 / step_s(model, rates, 8, 1000),
                512 / read_s(model, rates, 512),
            )
            rows.append([f"{model.name}, {which}", *(f"{count:,.0f}" for count in counts)])
    contexts = (
        "one stream, 1,000 tokens of context",
        "one stream, 16,000",
        "8 streams, 1,000 each",
    )
    return table(["", *contexts, "prompt of 512"], rows)


def prompts() -> str:
    """The longest prompt whose first token comes within 100 ms."""
    rests = (1, BLOCK // 4, BLOCK // 2, BLOCK)
    head = ["", "cold: bound", "cold: expected", "cold: with the hub"]
    head += [f"cached, beside {rest} new" for rest in rests]
    return table(head, [[model.name, *_prompts(model, rests)] for model in MODELS])


def _prompts(model: Model, rests: Sequence[int]) -> list[str]:
    cold = [
        longest(lambda tokens: first_token_s(model, BOUND, tokens)),
        longest(lambda tokens: first_token_s(model, EXPECTED, tokens)),
        longest(lambda tokens: first_token_s(model, EXPECTED, tokens, 0, OVERHEAD_S)),
    ]
    warm = [_longest_cached(model, rest) for rest in rests]
    return [f"{tokens:,}" if tokens else "none" for tokens in cold + warm]


def _longest_cached(model: Model, rest: int) -> int:
    return longest(lambda cached: first_token_s(model, EXPECTED, rest, cached, OVERHEAD_S))


def shares() -> str:
    """Where the time of a first token goes, expected, in milliseconds."""
    prompts = (
        ("256 tokens", 256, 0),
        ("2,048 tokens", 2048, 0),
        (f"2,048 tokens, all but {BLOCK // 2} cached", BLOCK // 2, 2048 - BLOCK // 2),
    )
    rows = []
    for model in MODELS:
        for label, tokens, cached in prompts:
            whole = first_token_s(model, EXPECTED, tokens, cached, OVERHEAD_S)
            parts = (
                restore_s(model, EXPECTED, cached),
                read_s(model, EXPECTED, tokens - 1, cached),
                step_s(model, EXPECTED, 1, tokens + cached),
                OVERHEAD_S,
                whole,
            )
            share = f"{100 * OVERHEAD_S / whole:.1f} %"
            rows.append([f"{model.name}, {label}", *(f"{1000 * s:,.1f}" for s in parts), share])
    head = ["", "restoring", "reading", "first step", "hub", "in all", "hub's share"]
    return table(head, rows)


def memory() -> str:
    """How many tokens of context fit beside the weights, in all rows together."""
    head = ["", "left of the budget", *(f"tokens, {kind}" for kind in KV_BITS)]
    rows = []
    for model in MODELS:
        left = BUDGET - model.weight_bytes
        counts = [f"{left / model.kv_bytes(bits):,.0f}" for bits in KV_BITS.values()]
        rows.append([model.name, f"{left / GB:.1f} GB", *counts])
    return table(head, rows)


TABLES = {
    "shapes": shapes,
    "speeds": speeds,
    "prompts": prompts,
    "shares": shares,
    "memory": memory,
}


def written(text: str) -> str:
    """`text` with the tables between its marks recomputed. Raises ValueError without a mark."""
    for name, make in TABLES.items():
        before, after = f"<!-- {name} -->\n", "\n<!-- end -->"
        start = text.index(before) + len(before)
        text = text[:start] + make() + text[text.index(after, start) :]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="put the tables into the document")
    if parser.parse_args().write:
        DOCUMENT.write_text(written(DOCUMENT.read_text()))
        return
    used = EXPECTED.bandwidth / BANDWIDTH, EXPECTED.flops / PEAK
    print(
        f"The published run used {used[0]:.0%} of the bandwidth and {used[1]:.0%} of the FLOPs.\n"
    )
    for name, make in TABLES.items():
        print(f"{name}\n\n{make()}\n")


if __name__ == "__main__":
    main()
