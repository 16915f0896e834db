"""A real engine of which twice as much is asked as its memory holds, as on the CPU and as on a Mac."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import pytest

from backends.base import Context, Delta, LoadOptions, Sampling
from backends.mlx import MLXBackend
from backends.mlx.serving import generation
from backends.mlx.serving.generation import MLXModel
from inference.gateway import client
from inference.protocol import Done, Folder, Generate
from registry.errors import Unavailable
from registry.storage import artifacts, paths
from tests.inference.engines import joined, running_engine

pytestmark = pytest.mark.any_database

WIDE = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 512}
LONG = {"max_position_embeddings": 2**14}
KEPT = 2**24  # bytes of freed buffers
MODELS, ROWS = ("one", "two"), 8
WORDS, PROMPT, TOKENS = 140, 464, 40  # of each row, and the tokens that the words are


@pytest.fixture(scope="module")
def wide_base(lively_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lively model with 32 kB of keys and values a token, so that few rows fill much memory."""
    folder = tmp_path_factory.mktemp("wide") / "base"
    shutil.copytree(lively_base, folder)
    config = json.loads((folder / "config.json").read_text()) | WIDE | LONG
    (folder / "config.json").write_text(json.dumps(config))
    weights: Any = mx.load(str(lively_base / "model.safetensors"))
    wide, key = WIDE["num_attention_heads"] * WIDE["head_dim"], mx.random.key(3)
    for name in sorted(weights):
        if "self_attn" in name:
            shape = (64, wide) if "o_proj" in name else (wide, 64)
            key, draw = mx.random.split(key)
            weights[name] = 0.1 * mx.random.normal(shape, key=draw)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder


class Noted(MLXModel):
    """Notes what MLX has held at most up to the end of each step, with the freed buffers that it keeps."""

    held: ClassVar[list[int]] = []

    def step(self) -> list[Delta]:
        deltas = super().step()
        self.held.append(mx.get_peak_memory() + mx.get_cache_memory())
        mx.reset_peak_memory()
        return deltas


class Counted(MLXBackend):
    """Counts arrays and kept buffers alone: this process holds much besides."""

    def memory_bytes(self) -> int | None:
        return int(mx.get_active_memory() + mx.get_cache_memory())


def stored(source: Path, name: str) -> Folder:
    staging = paths.staging_dir("copy")
    shutil.copytree(source, staging, dirs_exist_ok=True)
    manifest = artifacts.publish(staging, paths.base_dir(name))
    return Folder(path=paths.relative(paths.base_dir(name)), manifest_sha256=manifest.sha256)


def asking(base: Folder, name: str, words: int = WORDS) -> Generate:
    return Generate(
        request_id=name,
        correlation_id=name,
        base=base,
        adapter=None,
        messages=[{"role": "user", "content": f"{name} " * words}],
        sampling=Sampling(max_tokens=TOKENS),
    )


async def answer(request: Generate) -> Done:
    *events, done = [event async for event in client.generate(request)]
    assert joined(events)
    assert isinstance(done, Done)
    return done


@pytest.mark.parametrize("kind", ["cpu", "metal"])
async def test_twice_what_fits_is_answered_within_the_budget(
    wide_base: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models with many contexts each and kept prefixes, where there is room for half of all that;
    and among them a request that would not fit alone."""
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", kind)
    monkeypatch.setattr(generation, "MLXModel", Noted)
    monkeypatch.setattr(Noted, "held", [])
    loaded = MLXBackend().load(wide_base)
    model = loaded.nbytes + loaded.needed_for([Context(PROMPT, PROMPT + TOKENS)] * ROWS)
    loaded.close()
    before, asked = mx.get_active_memory(), len(MODELS) * model + KEPT
    budget = before + asked // 2
    options = LoadOptions(cache_bytes=asked, unused_bytes=KEPT, budget_bytes=budget)
    bases = {name: stored(wide_base, name) for name in MODELS}
    rows = [asking(bases[name], f"{name} {turn}") for turn in range(ROWS) for name in MODELS]
    huge = asking(bases["two"], "huge", 5000)
    mx.reset_peak_memory()
    async with running_engine(
        Counted(), max_rows=16, max_queue=16, budget_bytes=budget, options=options
    ) as engine:
        first, last = (asyncio.gather(*map(answer, some)) for some in (rows[:5], rows[5:]))
        with pytest.raises(Unavailable, match=r"A context of \d{5} tokens does not fit"):
            await answer(huge)
        done = [*await first, *await last]
        assert engine.stats()["models_bytes"] <= budget
    assert {one.completion_tokens for one in done} == {TOKENS}
    assert before + asked // 6 < max(Noted.held) <= budget
