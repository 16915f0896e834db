"""What adapters cost in one batch: kernels, counted, and only where a row uses them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest

from backends.base import Sampling
from backends.mlx.serving.adapters import BASE, AdapterBank, AdapterRows, RoutedModel
from backends.mlx.serving.caches import Kind
from backends.mlx.serving.generation import MLXModel, load_model
from tests.backends.mlx.counting import kernels


class Decoding:
    """The tiny model and two adapters, of which the first adapts the queries of both layers and the
    second one product of the second layer."""

    def __init__(self, base: Path, adapters: Sequence[Path]) -> None:
        self.model: Any = mlx_lm.load(str(base))[0]
        self.bank = AdapterBank(self.model)
        self.slots = [BASE, *map(self.bank.add, adapters)]

    def step(self, slots: Sequence[int]) -> Counter[str]:
        """The kernels of one token for rows with these slots."""
        kind = Kind()
        rows = [[*kind.row_caches(self.model), AdapterRows([slot])] for slot in slots]
        caches = [parts[0].merge(parts) for parts in zip(*rows, strict=True)]
        routed = RoutedModel(self.model, self.bank.routing)
        tokens = mx.array([[5]] * len(slots))
        mx.eval(routed(tokens, cache=caches), [cache.state for cache in caches[:-1]])
        logits = routed(tokens, cache=caches)
        self.positions = [cache.offset for cache in caches[:-1]]
        return kernels(logits)


@pytest.fixture(scope="module")
def decoding(tiny_base: Path, adapters: tuple[Path, Path]) -> Decoding:
    return Decoding(tiny_base, adapters)


def test_rows_without_an_adapter_run_the_kernels_of_the_bare_model(
    decoding: Decoding, tiny_base: Path
) -> None:
    bare = Decoding(tiny_base, []).step([BASE] * 2)
    assert decoding.step([BASE] * 2) == bare


def test_the_positions_of_a_step_cost_no_kernel(decoding: Decoding) -> None:
    """mlx-lm adds one to them on the device, in each layer by itself."""
    decoding.step([BASE] * 3)
    assert kernels(*decoding.positions) == Counter()
    assert decoding.positions[0] is decoding.positions[1]
    assert decoding.positions[0].tolist() == [2, 2, 2]


def test_one_adapter_adds_two_kernels_to_each_layer_that_it_adapts(decoding: Decoding) -> None:
    base, first, second = decoding.slots
    bare = decoding.step([base] * 2)
    assert decoding.step([first] * 2) - bare == Counter(Matmul=2, AddMM=2)
    assert decoding.step([second] * 2) - bare == Counter(Matmul=1, AddMM=1)


def test_several_adapters_add_three_kernels_and_none_where_no_row_is_adapted(
    decoding: Decoding,
) -> None:
    base, first, second = decoding.slots
    bare = decoding.step([base] * 3)
    assert decoding.step([base, first, second]) - bare == Counter(GatherMM=6, Add=3)
    assert decoding.step([base, base, second]) - bare == Counter(GatherMM=2, Add=1)


def test_a_token_reads_each_factor_as_it_lies_in_memory(decoding: Decoding) -> None:
    """The fast kernels of Metal and CUDA for one vector need A's inputs side by side (mlx's
    `gather_mm_wide` and `can_use_gemv`)."""
    layer = decoding.model.model.layers[0].self_attn.q_proj
    for a in (layer._inward, layer._used[1][0]):
        assert a.shape[-2] == 64
        assert memoryview(a).strides[-2:] == (4, 4 * 64)


def test_two_adapters_on_a_base_in_bfloat16_answer_in_one_batch(
    tiny_base: Path, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    """MLX gathers on a CPU in float32 only."""
    base = shutil.copytree(tiny_base, tmp_path / "half")
    weights: Any = mx.load(str(base / "model.safetensors"))
    half = {name: array.astype(mx.bfloat16) for name, array in weights.items()}
    mx.save_safetensors(str(base / "model.safetensors"), half, metadata={"format": "mlx"})
    loaded = load_model(base)
    assert isinstance(loaded, MLXModel)
    for uid, adapter in zip("abc", (None, *adapters), strict=True):
        loaded.insert(uid, [*range(100, 120)], adapter, Sampling(max_tokens=3))
    ended = 0
    while ended < 3:
        ended += sum(delta.finish_reason is not None for delta in loaded.step())
    loaded.close()
