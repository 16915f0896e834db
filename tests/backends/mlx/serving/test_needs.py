"""What rows take is known before they are let in: never less than what they then hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest

from backends.base import Context, LoadOptions, Sampling
from backends.mlx.files.loading import open_model
from backends.mlx.serving.generation import MLXModel, load_model
from backends.mlx.serving.needs import WIDEST, Needs

TOKEN = 2 * 2 * 32  # numbers: keys and values of two layers with two heads of 16
CONFIG = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}


def rows(*contexts: int) -> list[Context]:
    return [Context(tokens, tokens) for tokens in contexts]


@pytest.mark.parametrize(("dtype", "width"), [(mx.float32, 4), (mx.bfloat16, 2)])
def test_a_token_takes_what_this_device_computes_with(
    tiny_base: Path, dtype: mx.Dtype, width: int
) -> None:
    model, _, _ = open_model(tiny_base)
    model.set_dtype(dtype)
    assert Needs(model, CONFIG, LoadOptions()).token_bytes == TOKEN * width


def test_rows_are_counted_as_long_as_the_longest(tiny_base: Path) -> None:
    model, _, _ = open_model(tiny_base)
    needs = Needs(model, CONFIG, LoadOptions())
    assert needs.of(rows(*[10] * 4, 1000)) == needs.of(rows(*[1000] * 5)) > needs.of(rows(1000)) > 0


def test_rows_that_begin_long_are_quantized_and_take_less(tiny_base: Path) -> None:
    model, _, _ = open_model(tiny_base)
    packed = Needs(model, CONFIG, LoadOptions(kv_bits=4, kv_after=500))
    plain = Needs(model, CONFIG, LoadOptions())
    begins_short = [Context(400, 1000)] * 200  # it stays as it was when it began
    assert packed.of(begins_short) == plain.of(begins_short)
    begins_long = [Context(500, 1000)] * 200
    assert packed.of(begins_long) < 0.6 * plain.of(begins_long)


def test_what_exists_for_a_moment_is_larger_where_it_is_given_back_late(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU frees what rows held after the work that it was handed ahead, a CPU later than it could."""
    model, _, _ = open_model(tiny_base)
    needs = Needs(model, {}, LoadOptions())
    row = 1024 * TOKEN * 4  # in whole blocks
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "cpu")
    assert needs.of(rows(*[1000] * 20)) == 20 * row + int(8 * row * 5 / 3)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    assert needs.of(rows(*[1000] * 20)) == 20 * row + 8 * row + 20 * row


def test_one_row_has_room_for_the_logits_of_its_guesses(tiny_base: Path) -> None:
    model, _, _ = open_model(tiny_base)
    without = Needs(model, CONFIG, LoadOptions())
    needs = Needs(model, CONFIG | {"vocab_size": 4096}, LoadOptions())
    assert [needs.of(rows(*[50] * n)) - without.of(rows(*[50] * n)) for n in (1, 2)] == [
        4 * 4 * WIDEST * 4096,
        4 * 4 * 2 * 4096,
    ]


@pytest.fixture
def model(lively_base: Path) -> Iterator[MLXModel]:
    loaded = load_model(lively_base)
    assert isinstance(loaded, MLXModel)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("kind", ["cpu", "metal"])
def test_a_batch_never_holds_more_than_was_reserved(
    model: MLXModel, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is counted, nor what exists for a moment, while rows of many lengths come and go."""
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", kind)
    prompts = [30 + 67 * number % 900 for number in range(12)]
    answers = [5 + 3 * number for number in range(12)]
    needed = model.needed_for([Context(a, a + b) for a, b in zip(prompts, answers, strict=True)])
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    left = len(prompts)
    for number, (length, tokens) in enumerate(zip(prompts, answers, strict=True)):
        model.insert(str(number), [7] * length, None, Sampling(max_tokens=tokens))
    while left:
        left -= sum(delta.finish_reason is not None for delta in model.step())
        assert model.memory.contexts <= needed
    assert mx.get_peak_memory() - before <= needed
