"""Prompts whose beginning was read before: the same text, sooner."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.base import LoadedModel, LoadOptions, Sampling
from backends.mlx.serving import prefix_files
from backends.mlx.serving.generation import load_model
from backends.prefixes import BLOCK
from tests.backends.rows import TWELVE, Row, run, write_adapter
from tests.backends.test_failures import OUT_OF_MEMORY

MB = 2**20
LONG = Sampling(max_tokens=150)


def prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(100, 4_000), k=length)


@pytest.fixture(scope="module")
def plain(lively_base: Path) -> Iterator[LoadedModel]:
    loaded = load_model(lively_base)
    yield loaded
    loaded.close()


@pytest.fixture
def cached(lively_base: Path) -> Iterator[LoadedModel]:
    loaded = load_model(lively_base, options=LoadOptions(cache_bytes=64 * MB))
    yield loaded
    loaded.close()


def test_text_is_the_same_with_and_without_a_hit(plain: LoadedModel, cached: LoadedModel) -> None:
    tokens = prompt(1, 333)
    expected = run(plain, Row(prompt=tokens))[0]
    first, second = (run(cached, Row(prompt=tokens))[0] for _ in range(2))
    assert (expected.cached, first.cached, second.cached) == (0, 0, 332)
    assert first.tokens == second.tokens == expected.tokens


def test_a_prompt_of_whole_blocks_is_not_read_wholly_from_the_cache(
    plain: LoadedModel, cached: LoadedModel
) -> None:
    tokens = prompt(1, 4 * BLOCK)
    expected = run(plain, Row(prompt=tokens))[0].tokens
    rows = [run(cached, Row(prompt=tokens))[0] for _ in range(2)]
    assert [row.cached for row in rows] == [0, 3 * BLOCK]
    assert [row.tokens for row in rows] == [expected] * 2


def test_a_second_turn_finds_the_first_with_its_answer(
    plain: LoadedModel, cached: LoadedModel
) -> None:
    first = run(cached, Row(prompt=prompt(1, 100), sampling=LONG))[0]
    tokens = prompt(1, 100) + first.tokens + prompt(2, 50)
    second = run(cached, Row(prompt=tokens))[0]
    read = 100 + 150 - 1  # of the answer's tokens the last is not read yet
    assert second.cached == read
    assert second.tokens == run(plain, Row(prompt=tokens))[0].tokens


def test_rows_with_and_without_a_hit_share_a_batch(plain: LoadedModel, cached: LoadedModel) -> None:
    shared = prompt(1, 200)
    prompts = [shared + prompt(n, 30 + 40 * n) for n in range(2, 6)] + [prompt(9, 77)]
    expected = [run(plain, Row(prompt=tokens))[0].tokens for tokens in prompts]
    run(cached, Row(prompt=shared))
    rows = run(cached, *(Row(prompt=tokens, after=n) for n, tokens in enumerate(prompts)))
    assert [row.cached for row in rows] == [200] * 4 + [0]
    assert [row.tokens for row in rows] == expected


def test_rows_do_not_write_into_what_is_shared(plain: LoadedModel, cached: LoadedModel) -> None:
    tokens = prompt(1, 4 * BLOCK + 1)
    expected = run(plain, Row(prompt=tokens, sampling=LONG))[0].tokens
    run(cached, Row(prompt=tokens, sampling=LONG))
    rows = run(cached, *(Row(prompt=tokens, sampling=LONG, after=3 * n) for n in range(4)))
    assert [row.tokens for row in rows] == [expected] * 4


def test_adapters_and_the_base_do_not_read_each_other(
    plain: LoadedModel, cached: LoadedModel, adapters: tuple[Path, Path]
) -> None:
    tokens = prompt(1, 200)
    choices = (None, *adapters)
    expected = [run(plain, Row(prompt=tokens, adapter=adapter))[0].tokens for adapter in choices]
    for hits in (0, 199):
        for adapter, text in zip(choices, expected, strict=True):
            row = run(cached, Row(prompt=tokens, adapter=adapter))[0]
            assert (row.cached, row.tokens) == (hits, text)


def test_a_stopped_row_is_remembered_too(cached: LoadedModel) -> None:
    whole = run(cached, Row(prompt=prompt(1, 60), sampling=LONG))[0]
    stop = whole.text[-40:-35]
    cached.shrink_cache(0)
    stopped = run(cached, Row(prompt=prompt(1, 60), sampling=Sampling(150, stop=(stop,))))[0]
    assert stopped.finish_reason == "stop"
    row = run(cached, Row(prompt=prompt(1, 60) + stopped.tokens))[0]
    assert row.cached >= (60 + len(stopped.tokens) - 2) // BLOCK * BLOCK > 0


def test_the_budget_holds_and_counts(lively_base: Path) -> None:
    budget = 300_000
    loaded = load_model(lively_base, options=LoadOptions(cache_bytes=budget))
    empty = loaded.nbytes
    for seed in range(12):
        run(loaded, Row(prompt=prompt(seed % 7, 100 + 30 * seed), sampling=TWELVE))
        assert loaded.cache_bytes <= budget
        assert loaded.nbytes == empty + loaded.cache_bytes
    assert loaded.cache_bytes > budget / 2
    loaded.shrink_cache(budget // 4)
    assert loaded.cache_bytes <= budget // 4
    loaded.shrink_cache(0)
    assert loaded.nbytes == empty
    loaded.close()


def restart(base: Path, folder: Path, *rows: Row, cache_bytes: int = MB) -> tuple[Row, ...]:
    """Ask a model that is loaded for these rows, one after another, and closed."""
    loaded = load_model(base, options=LoadOptions(cache_bytes=cache_bytes, cache_dir=folder))
    for row in rows:
        run(loaded, row)
    loaded.close()
    return rows


def test_a_restart_finds_what_was_read_before(
    plain: LoadedModel, lively_base: Path, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    tokens = prompt(1, 100)
    first, _ = restart(
        lively_base,
        tmp_path,
        Row(prompt=tokens, sampling=LONG),
        Row(prompt=tokens, adapter=adapters[0]),
    )
    longer = tokens + first.tokens + prompt(2, 9)
    base, adapted, other = restart(
        lively_base,
        tmp_path,
        Row(prompt=longer),
        Row(prompt=tokens, adapter=adapters[0]),
        Row(prompt=tokens, adapter=adapters[1]),
    )
    blocks = (base.cached // BLOCK, adapted.cached // BLOCK, other.cached)
    assert blocks == (249 // BLOCK, 99 // BLOCK, 0)
    assert base.tokens == run(plain, Row(prompt=longer))[0].tokens
    expected = run(plain, Row(prompt=tokens, adapter=adapters[0]))[0].tokens
    assert adapted.tokens == expected


def test_a_changed_adapter_finds_nothing(lively_base: Path, tmp_path: Path) -> None:
    layers = {"model.layers.0.self_attn.q_proj": (64, 64)}
    adapter = write_adapter(tmp_path / "adapter", layers, rank=4, seed=1)
    restart(lively_base, tmp_path / "cache", Row(prompt=prompt(1, 200), adapter=adapter))
    shutil.rmtree(adapter)
    write_adapter(adapter, layers, rank=4, seed=2)
    row = Row(prompt=prompt(1, 200), adapter=adapter)
    assert restart(lively_base, tmp_path / "cache", row)[0].cached == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "note"])
def test_damaged_files_are_passed_over(
    plain: LoadedModel, lively_base: Path, tmp_path: Path, damage: str
) -> None:
    tokens = prompt(1, 200)
    restart(lively_base, tmp_path, Row(prompt=tokens))
    (path,) = tmp_path.rglob("*.safetensors")
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-100])
    elif damage == "flip":
        path.write_bytes(data[:-100] + b"\xff" * 100)
    elif damage == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{")
    (row,) = restart(lively_base, tmp_path, Row(prompt=tokens))
    assert row.cached == 0
    assert row.tokens == run(plain, Row(prompt=tokens))[0].tokens


def test_a_prefix_whose_work_failed_is_not_written_and_the_next_one_is(
    lively_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metal may say so when the copies are waited for."""
    failed: list[bool] = []
    evaluate: Any = prefix_files.mx.eval

    def fail_once(*arrays: Any) -> None:
        if threading.current_thread().name == "prefix-files" and not failed:
            failed.append(True)
            raise RuntimeError(OUT_OF_MEMORY)
        evaluate(*arrays)

    monkeypatch.setattr(prefix_files.mx, "eval", fail_once)
    rows = [Row(prompt=prompt(seed, 200)) for seed in (1, 2)]
    for row in rows:
        restart(lively_base, tmp_path, row)
    found = [restart(lively_base, tmp_path, row)[0].cached for row in rows]
    assert failed
    assert found[0] == 0 < found[1]


def test_the_disk_is_bounded(lively_base: Path, tmp_path: Path) -> None:
    budget = 150_000
    rows = [Row(prompt=prompt(seed, 400)) for seed in range(12)]
    for row in rows:
        restart(lively_base, tmp_path, row, cache_bytes=budget)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert budget < written < 4.2 * budget
