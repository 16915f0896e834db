"""Memory that forgets or rounds: rotating windows and quantized keys and values."""

from __future__ import annotations

import random
from pathlib import Path

import mlx.core as mx
import pytest

from backends.base import LoadedModel, LoadOptions, Sampling, UnsupportedModel
from backends.mlx.serving.caches import pack, unpack
from backends.mlx.serving.generation import load_model
from backends.prefixes import BLOCK
from tests.backends.rows import TWELVE, Row, run


def prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(100, 4_000), k=length)


def windowed(tokens: int, count: int = 12) -> Sampling:
    return Sampling(max_tokens=count, max_kv_tokens=tokens)


@pytest.fixture(scope="module")
def wide_base(lively_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lively model with heads of 32 numbers, which can be quantized, and steady weights."""
    import json
    import shutil

    folder = tmp_path_factory.mktemp("wide") / "base"
    shutil.copytree(lively_base, folder)
    config = json.loads((folder / "config.json").read_text())
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    (folder / "config.json").write_text(json.dumps(config | heads))
    return folder


def test_a_window_that_holds_everything_changes_nothing(model: LoadedModel) -> None:
    expected = run(model, Row())[0].tokens
    assert run(model, Row(sampling=windowed(500)))[0].tokens == expected


def test_a_window_bounds_what_a_row_holds(model: LoadedModel) -> None:
    empty = model.nbytes
    held = {}
    for sampling in (Sampling(max_tokens=200), windowed(64, 200)):
        model.insert("row", prompt(1, 400), None, sampling)
        while not model.step():
            pass
        for _ in range(
            2
        ):  # a GPU reads the whole prompt in one pass, and cuts what it keeps after it
            model.step()
        held[sampling.max_kv_tokens] = model.nbytes - empty
        model.remove("row")
    assert held[64] < held[0] / 2


def test_rows_with_and_without_windows_run_beside_each_other(lively_base: Path) -> None:
    loaded = load_model(lively_base)
    cases = [
        (prompt(1, 200), TWELVE),
        (prompt(2, 90), windowed(64)),
        (prompt(3, 150), windowed(64, 30)),
        (prompt(4, 20), windowed(100)),
    ]
    alone = [run(loaded, Row(prompt=tokens, sampling=s))[0].tokens for tokens, s in cases]
    rows = run(loaded, *(Row(prompt=t, sampling=s, after=n) for n, (t, s) in enumerate(cases)))
    assert [row.tokens for row in rows] == alone
    plain = [run(loaded, Row(prompt=tokens, sampling=TWELVE))[0].tokens for tokens, _ in cases]
    assert alone[1] != plain[1]  # what fell out of the window is forgotten
    loaded.close()


def test_packed_numbers_come_back_rounded() -> None:
    array = mx.random.normal((2, 3, 5, 64), key=mx.random.key(1))
    for dtype in (mx.float32, mx.bfloat16):
        source = array.astype(dtype)
        for bits, worst in ((8, 0.04), (4, 0.4)):
            packed = pack(source, bits)
            assert packed.nbytes < source.nbytes * (bits + 6) / 16
            read = unpack(packed, 64, bits, dtype)
            assert read.dtype == dtype
            assert float(mx.abs(read - source).max()) < worst


def test_quantized_rows_take_less_and_say_nearly_the_same(wide_base: Path) -> None:
    tokens = prompt(1, 500)
    plain = load_model(wide_base)
    packed = load_model(wide_base, options=LoadOptions(kv_bits=8, kv_after=300, cache_bytes=2**22))
    held, first = {}, {}
    for loaded in (plain, packed):
        empty = loaded.nbytes - loaded.cache_bytes
        loaded.insert("row", tokens, None, Sampling(logprobs=True, top_logprobs=1))
        while not (deltas := loaded.step()):
            pass
        held[loaded] = loaded.nbytes - loaded.cache_bytes - empty
        first[loaded] = deltas[0]
        loaded.remove("row")
    assert held[packed] < 0.4 * held[plain]
    assert first[packed].token == first[plain].token
    assert first[packed].logprob == pytest.approx(first[plain].logprob, abs=0.05)
    plain.close()
    packed.close()


def test_quantized_rows_share_prefixes_and_batches(wide_base: Path) -> None:
    loaded = load_model(wide_base, options=LoadOptions(kv_bits=8, kv_after=100, cache_bytes=2**22))
    prompts = [prompt(1, 150) + prompt(n, 20 * n) for n in range(2, 5)] + [prompt(9, 50)]
    alone = [run(loaded, Row(prompt=tokens))[0].tokens for tokens in prompts]
    rows = run(loaded, *(Row(prompt=tokens, after=n) for n, tokens in enumerate(prompts)))
    assert [row.tokens for row in rows] == alone
    # The first one's answer filled the block in which its prompt ends.
    assert [row.cached for row in rows] == [190 // BLOCK * BLOCK, 209, 229, 49]
    loaded.close()


@pytest.mark.parametrize(("bits", "reason"), [(4, "heads"), (3, "4 or 8")])
def test_what_cannot_be_quantized_is_refused(lively_base: Path, bits: int, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        load_model(lively_base, options=LoadOptions(kv_bits=bits))
