"""A real engine of which twice as much is asked as its memory holds, as on the CPU and as on a Mac."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any, ClassVar

import mlx.core as mx
import pytest

from backends.base import Context, Delta, LoadOptions, Sampling
from backends.mlx import MLXBackend
from backends.mlx.serving import generation
from backends.mlx.serving.caches import BatchKVCache, KVCache
from backends.mlx.serving.generation import MLXModel
from inference.engine import batches
from inference.engine.memory import residents
from inference.engine.requests import row
from inference.gateway import client
from inference.protocol import Done, Folder, Generate
from registry.errors import Unavailable
from registry.storage import artifacts, paths
from tests.inference.engines import joined, running_engine
from tests.running import often

pytestmark = pytest.mark.any_database

WIDE = {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4}
WIDE |= {"head_dim": 256, "max_position_embeddings": 2**14}
KEPT = 2**24  # bytes of freed buffers
MODELS, ROWS = ("one", "two"), often(4, 6)
WORDS, PROMPT, TOKENS = 70, 240, 12  # of each row, and the tokens that the words are


@pytest.fixture(autouse=True)
def preempted() -> Iterator[None]:
    """Beyond its limit of memory MLX waits for its own thread in a loop, which must leave that thread a core;
    tests run without preemption (see `tests/__init__.py`), where this took six times as long. Nor does the
    limit stay for the tests that follow in this process."""
    limit = mx.set_memory_limit(2**40)
    mx.set_memory_limit(limit)
    if sys.platform == "linux":
        before = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    yield
    mx.set_memory_limit(limit)
    if sys.platform == "linux":
        os.sched_setscheduler(0, before, os.sched_param(0))


@pytest.fixture(scope="module")
def wide_base(lively_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lively model with four layers and 32 kB of keys and values a token, so that few rows fill much
    memory."""
    folder = tmp_path_factory.mktemp("wide") / "base"
    shutil.copytree(lively_base, folder)
    config = json.loads((folder / "config.json").read_text()) | WIDE
    (folder / "config.json").write_text(json.dumps(config))
    lively: Any = mx.load(str(lively_base / "model.safetensors"))
    weights = {name: array for name, array in lively.items() if ".layers." not in name}
    heads, key = WIDE["num_attention_heads"] * WIDE["head_dim"], mx.random.key(3)
    for layer in range(WIDE["num_hidden_layers"]):
        for name, array in lively.items():
            if ".layers.0." in name:
                shape = (64, heads) if "o_proj" in name else (heads, 64)
                key, draw = mx.random.split(key)
                wide = 0.1 * mx.random.normal(shape, key=draw)
                own = wide if "self_attn" in name else array
                weights[name.replace(".0.", f".{layer}.")] = own
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


@pytest.mark.parametrize("kind", ["cpu", "metal"])
async def test_answers_longer_than_reserved_end_where_the_budget_does(
    wide_base: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows grow beyond what was kept free for them: the newest end before the memory does, in words."""
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", kind)
    monkeypatch.setattr(generation, "MLXModel", Noted)
    monkeypatch.setattr(Noted, "held", [])
    monkeypatch.setattr(row, "MOST_RESERVED", 8)
    monkeypatch.setattr(residents, "SOON", 8)
    monkeypatch.setattr(batches, "_MEMORY_EVERY_S", 0)
    for cache in (KVCache, BatchKVCache):
        monkeypatch.setattr(cache, "step", 32)
    many, kept, tokens = 24, 2**20, 80
    loaded = MLXBackend().load(wide_base)
    needed = loaded.needed_for([Context(64, 72)] * many) + loaded.nbytes
    loaded.close()
    budget = mx.get_active_memory() + needed + kept
    options = LoadOptions(unused_bytes=kept, budget_bytes=budget)
    base = stored(wide_base, "one")
    asked = [asking(base, name, 7) for name in ascii_lowercase[:many]]
    longer = Sampling(max_tokens=tokens)
    mx.reset_peak_memory()
    async with running_engine(
        Counted(), max_rows=many, max_queue=many, budget_bytes=budget, options=options
    ):
        ended = await asyncio.gather(
            *(answer(one.model_copy(update={"sampling": longer})) for one in asked),
            return_exceptions=True,
        )
    done = [one.completion_tokens for one in ended if isinstance(one, Done)]
    refused = [str(one) for one in ended if isinstance(one, Unavailable)]
    assert done == [tokens] * len(done)
    assert len(done) + len(refused) == many
    assert all("does not fit into the memory budget" in one for one in refused)
    assert done
    assert refused
    assert budget // 2 < max(Noted.held) <= budget
