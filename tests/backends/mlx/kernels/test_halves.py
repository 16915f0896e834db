"""A prompt read in halves gives the states and the caches of one read in one piece."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache

from backends.base import Sampling
from backends.mlx.kernels import halves
from backends.mlx.kernels.quick import quicken
from backends.mlx.serving.caches import Kind, RowCache
from backends.mlx.serving.generation import MLXModel, load_model
from tests.backends.mlx.kernels.test_quick import close

pytestmark = pytest.mark.usefixtures("lanes")


@pytest.fixture
def model(lively_base: Path) -> Any:
    found = load(str(lively_base))[0]
    quicken(found)
    return found


def _fresh(model: Any) -> list[Any]:
    return make_prompt_cache(model)


def _behind_others(model: Any) -> list[Any]:
    """A row that holds 5 tokens already."""
    caches = make_prompt_cache(model)
    model.model(mx.array([[3, 1, 4, 1, 5]]), caches)
    return caches


def _batch(model: Any) -> list[Any]:
    """Of two rows, which hold 5 and 2 tokens, and whose prompts differ in length by 4."""
    rows = []
    for held in ([3, 1, 4, 1, 5], [9, 2]):
        caches = Kind().row_caches(model)
        model.model(mx.array([held]), caches)
        rows.append(caches)
    batch = [RowCache.merge(layer) for layer in zip(*rows, strict=True)]
    for cache in batch:
        cache.prepare(lengths=[9, 13], right_padding=[4, 0])
    return batch


@pytest.mark.parametrize("make", [_fresh, _behind_others, _batch])
@pytest.mark.parametrize("length", [13, 70])
def test_halves_agree_with_the_whole(
    model: Any, make: Callable[[Any], list[Any]], length: int
) -> None:
    whole, halved = make(model), make(model)
    rows = 2 if make is _batch else 1
    tokens = mx.random.randint(0, 4096, (rows, length))
    expected = model.model(tokens, whole)
    assert halves.are_worth_it(length, halved)
    assert close(halves.read(model, tokens, halved), expected, 1e-4)
    for cache in (*whole, *halved):
        if rows > 1:
            cache.finalize()
    for one, other in zip(whole, halved, strict=True):
        assert one.size() == other.size()
        for ours, theirs in zip(other.keys_and_values(), one.keys_and_values(), strict=True):
            assert close(ours, theirs, 1e-4)


def test_not_with_a_window_for_a_few_tokens_on_one_core_or_another_model(
    model: Any, lively_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert halves.has_halves(model)
    assert not halves.are_worth_it(100, Kind(window=64).row_caches(model))
    assert not halves.are_worth_it(7, _fresh(model))
    assert not halves.has_halves(load(str(lively_base))[0])  # its attention is MLX's own
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not halves.has_halves(model)


@pytest.fixture
def served(lively_base: Path) -> Any:
    loaded = load_model(lively_base)
    yield loaded
    loaded.close()


def test_prompts_are_read_in_halves_and_answered_the_same(
    served: MLXModel, lively_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone and beside a running row; the answers are those of a model on one thread."""
    lengths = []
    read = halves.read

    def noted(model: Any, inputs: mx.array, caches: Any) -> mx.array:
        lengths.append(inputs.shape[1])
        return read(model, inputs, caches)

    monkeypatch.setattr(halves, "read", noted)
    prompts = {"one": list(range(5, 45)), "two": list(range(90, 150))}
    answered = _answers(served, prompts)
    assert lengths == [40, 60]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plain = load_model(lively_base)
    assert _answers(plain, prompts) == answered
    plain.close()
    assert len(lengths) == 2


def _answers(model: MLXModel, prompts: dict[str, list[int]]) -> dict[str, list[int]]:
    """Of rows that come one step after another."""
    found: dict[str, list[int]] = {name: [] for name in prompts}
    waiting, running = list(prompts), set[str]()
    while waiting or running:
        if waiting:
            name = waiting.pop(0)
            model.insert(name, prompts[name], None, Sampling(max_tokens=8, temperature=0))
            running.add(name)
        for delta in model.step():
            found[delta.uid].append(delta.token)
            if delta.finish_reason:
                running.remove(delta.uid)
    return found
