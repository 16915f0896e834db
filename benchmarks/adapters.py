"""The cost of many adapters in one batch: 8 streams over 4 adapters, over one, and on the bare base.

    uv run python -m benchmarks.adapters [--check] [--json FILE]

A real hub with the bundled SmolLM2-135M in float32 and four versions of one model, LoRA of rank 8
on all linear layers of all blocks. Everything goes over HTTP, the three take turns within each
round, and their prompts differ in their first words. Bars, by the median over the rounds of the
ratio within a round: at least 0.95 of the rate on one adapter, and 0.75 of the base's.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backends.base import Message
from benchmarks.setup.chats import Chats
from benchmarks.setup.client import Server, ask, ask_all
from benchmarks.setup.hub import arguments, finish, machine, supervised_hub

STREAMS, ADAPTERS, RANK, ROUNDS, WORDS, TOKENS = 8, 4, 8, 4, 20, 32
MANY, ONE, BASE = "four adapters", "one adapter", "bare base"
SAME_BAR, BASE_BAR = 0.95, 0.75


def make_version(base: Any, number: int) -> str:
    """A ready version with a random adapter; returns the name for requests."""
    from registry.models import Model, ModelVersion
    from registry.storage import artifacts, paths

    model, _ = Model.objects.get_or_create(name="tuned", defaults={"base_model": base})
    version = f"0.{number}.0"
    staging = paths.staging_dir("adapter")
    write_adapter(
        staging, json.loads((paths.absolute(base.path) / "config.json").read_text()), number
    )
    target = paths.version_dir(model.name, version)
    manifest = artifacts.publish(staging, target)
    row = ModelVersion.objects.create(
        model=model,
        version=version,
        base_model=base,
        status=ModelVersion.Status.READY,
        artifact_path=paths.relative(target),
        manifest_sha256=manifest.sha256,
    )
    return str(row)


def write_adapter(folder: Path, config: dict[str, Any], seed: int) -> None:
    """Small random factors: the answers change a little and stay as long."""
    from safetensors.numpy import save_file

    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    draw = np.random.default_rng(seed)
    weights = {}
    for block in range(config["num_hidden_layers"]):
        for name, (inputs, outputs) in shapes.items():
            place = f"model.layers.{block}.{name}"
            weights[f"{place}.lora_a"] = draw.normal(0, 0.02, (inputs, RANK)).astype(np.float32)
            weights[f"{place}.lora_b"] = draw.normal(0, 0.02, (RANK, outputs)).astype(np.float32)
    save_file(weights, folder / "adapters.safetensors", metadata={"format": "mlx"})
    lora = {"rank": RANK, "scale": 2.0, "dropout": 0.0, "keys": sorted(shapes)}
    described = {
        "fine_tune_type": "lora",
        "num_layers": config["num_hidden_layers"],
        "lora_parameters": lora,
    }
    (folder / "adapter_config.json").write_text(json.dumps(described))


async def measure(kinds: dict[str, list[Server]]) -> dict[str, list[float]]:
    for server in {server for servers in kinds.values() for server in servers}:
        await ask(server, Chats(1).chat(WORDS), 4)  # loads it
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(-1, ROUNDS):
        draw = Chats(7000 + number)
        for kind in list(kinds) if number % 2 == 0 else list(kinds)[::-1]:
            chats: Sequence[Sequence[Message]] = [
                draw.chat(WORDS) for _ in range(STREAMS if number >= 0 else 2)
            ]
            together = await ask_all(kinds[kind], chats, TOKENS)
            if number >= 0:  # the first round warms up
                found[kind].append(together.rate)
    return found


def ratio(found: dict[str, list[float]], one: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(found[one], found[other], strict=True))


def main() -> None:
    options = arguments((__doc__ or "").splitlines()[0])
    with supervised_hub("mlx") as hub:
        from registry.bases.registration import register_starter

        base = register_starter()
        versions = [make_version(base, number) for number in range(1, ADAPTERS + 1)]
        tuned = [Server(name, hub.url, name) for name in versions]
        bare = Server("base", hub.url, f"base:{base.name}")
        found = asyncio.run(measure({MANY: tuned, ONE: tuned[:1], BASE: [bare]}))
    table = Table(title=f"{STREAMS} streams, tokens/s together ({machine()})")
    for heading in ("on", "median", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "on" else "right")
    for kind, rates in found.items():
        figures = (statistics.median(rates), min(rates), max(rates))
        table.add_row(kind, *(f"{figure:.1f}" for figure in figures))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rates": found}, indent=2) + "\n")
    same, plain = ratio(found, MANY, ONE), ratio(found, MANY, BASE)
    finish(
        same >= SAME_BAR and plain >= BASE_BAR,
        options.check,
        f"four adapters {same:.2f} of one (≥ {SAME_BAR}), {plain:.2f} of the bare base "
        f"(≥ {BASE_BAR})",
    )


if __name__ == "__main__":
    main()
