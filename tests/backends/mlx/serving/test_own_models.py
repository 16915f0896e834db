"""DoRA and full fine-tunes, loaded as models of their own, have all that a base has: the prefix
cache in memory and on disk, grammars, neighbours in a batch, and all of it through the engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.base import Grammar, LoadedModel, LoadOptions, Sampling
from backends.mlx import MLXBackend
from inference.gateway import client
from inference.protocol import Done, Folder, Generate, Unload
from registry.storage import artifacts, paths
from tests.backends.mlx.serving.test_load_adapter import make_adapter
from tests.backends.mlx.serving.test_prefix_cache import prompt
from tests.backends.rows import Row, run
from tests.inference.engines import joined, running_engine

pytestmark = pytest.mark.any_database

CACHED = LoadOptions(cache_bytes=2**24)
EVENT = {
    "type": "object",
    "properties": {"day": {"enum": ["Monday", "Friday"]}, "hour": {"enum": [9, 14]}},
    "required": ["day", "hour"],
    "additionalProperties": False,
}
EVENT_ONLY = Sampling(max_tokens=400, grammar=Grammar("json_schema", json.dumps(EVENT)))


@pytest.fixture(scope="module", params=["dora", "full"])
def tuned(
    request: pytest.FixtureRequest, lively_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("own") / request.param
    return make_adapter(lively_base, folder, request.param)


@pytest.fixture
def model(lively_base: Path, tuned: Path) -> Iterator[LoadedModel]:
    loaded = MLXBackend().load(lively_base, tuned, CACHED)
    yield loaded
    loaded.close()


def test_a_prompt_read_before_gives_the_same_text_sooner(
    lively_base: Path, tuned: Path, model: LoadedModel
) -> None:
    plain = MLXBackend().load(lively_base, tuned)
    expected = run(plain, Row(prompt=prompt(1, 333)))[0]
    plain.close()
    first, second = (run(model, Row(prompt=prompt(1, 333)))[0] for _ in range(2))
    assert (expected.cached, first.cached, second.cached) == (0, 0, 332)
    assert first.tokens == second.tokens == expected.tokens
    assert model.memory.prefixes == model.cache_bytes > 0


def test_rows_with_and_without_a_hit_and_a_grammar_share_a_batch(model: LoadedModel) -> None:
    shared = prompt(1, 200)
    rows = [
        Row(prompt=shared + prompt(2, 20)),
        Row(prompt=shared + prompt(3, 40), sampling=EVENT_ONLY, after=1),
        Row(prompt=prompt(4, 77), after=2),
    ]
    alone = [run(model, Row(prompt=row.prompt, sampling=row.sampling))[0].tokens for row in rows]
    together = run(model, *rows)
    assert [row.tokens for row in together] == alone
    assert [row.cached > 0 for row in together] == [True, True, True]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_schema_is_kept_after_a_cached_prompt_too(model: LoadedModel, temperature: float) -> None:
    sampling = Sampling(60, temperature, seed=3, grammar=EVENT_ONLY.grammar)
    answers = [run(model, Row(prompt=prompt(5, 150), sampling=sampling))[0] for _ in range(2)]
    assert [row.cached for row in answers] == [0, 128]
    assert answers[0].text == answers[1].text
    value = json.loads(answers[0].text)
    assert value["day"] in ("Monday", "Friday")
    assert value["hour"] in (9, 14)
    assert answers[0].finish_reason == "stop"


def test_the_disk_keeps_its_prefixes_apart_from_the_bases(
    lively_base: Path, tuned: Path, tmp_path: Path
) -> None:
    options = LoadOptions(cache_bytes=2**24, cache_dir=tmp_path)

    def ask(adapter: Path | None) -> Row:
        loaded = MLXBackend().load(lively_base, adapter, options)
        row = run(loaded, Row(prompt=prompt(6, 200)))[0]
        loaded.close()
        return row

    own, base, again = ask(tuned), ask(None), ask(tuned)
    assert (own.cached, base.cached, again.cached) == (0, 0, 192)
    assert again.tokens == own.tokens != base.tokens


def stored(source: Path, target: Path) -> Folder:
    """A copy of a folder as the registry keeps it."""
    staging = paths.staging_dir("copy")
    shutil.copytree(source, staging, dirs_exist_ok=True)
    manifest = artifacts.publish(staging, target)
    return Folder(path=paths.relative(target), manifest_sha256=manifest.sha256)


async def test_the_engine_serves_it_beside_its_base(lively_base: Path, tuned: Path) -> None:
    base = stored(lively_base, paths.base_dir("lively"))
    own = stored(tuned, paths.version_dir("calendar", "0.1.0"))

    async def ask(name: str, adapter: Folder | None, sampling: Sampling) -> tuple[str, Done]:
        request = Generate(
            request_id=name,
            base=base,
            adapter=adapter,
            messages=[{"role": "user", "content": "Lunch with Ana next Friday. " * 20}],
            sampling=sampling,
        )
        *events, done = [event async for event in client.generate(request)]
        assert isinstance(done, Done)
        return joined(events), done

    async with running_engine(MLXBackend(), budget_bytes=2**31, cache_bytes=2**24) as engine:
        free, _ = await ask("one", own, Sampling(max_tokens=12))
        other, done = await ask("two", None, Sampling(max_tokens=12))
        assert (other != free, done.cached_tokens) == (True, 0)
        enforced, done = await ask("three", own, EVENT_ONLY)
        assert json.loads(enforced)["day"] in ("Monday", "Friday")
        assert done.cached_tokens > 100
        held = {m["base"]: m["memory"] for m in engine.stats()["models"]}
        assert list(held) == ["lively+calendar@0.1.0", "lively"]
        assert all(memory["prefixes"] > 0 for memory in held.values())
        assert await client.unload(Unload(base=base, adapter=own)) == ["lively+calendar@0.1.0"]
