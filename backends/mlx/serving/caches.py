"""The kinds of cache that rows have: complete, a rotating window, or quantized.

mlx-lm's batches can hold the first two. Quantized keys and values travel through the same code
packed: the quantized numbers, scales and biases of a token lie side by side in one row of uint32,
so that merging, padding, filtering and cutting need not know. Attention gets them unpacked, one
layer at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache as _BatchKVCache
from mlx_lm.models.cache import KVCache as _KVCache
from mlx_lm.models.cache import RotatingKVCache as _RotatingKVCache
from mlx_lm.models.cache import make_prompt_cache

from backends.base import UnsupportedModel

KVCache: Any = _KVCache
BatchKVCache: Any = _BatchKVCache
RotatingKVCache: Any = _RotatingKVCache


@dataclass(frozen=True)
class Kind:
    """`window` tokens at most (0: all of them); `bits` of each number (0: as computed)."""

    window: int = 0
    bits: int = 0

    def row_caches(self, model: Any) -> list[Any]:
        """An empty cache for each layer of one row."""
        caches: list[Any] = []
        for cache in make_prompt_cache(model):
            if type(cache) is not KVCache:
                caches.append(cache)
            elif self.window:
                caches.append(RotatingKVCache(max_size=self.window))
            else:
                caches.append(packed_row(self.bits)() if self.bits else RowCache())
        return caches


class RowCache(KVCache):  # type: ignore[misc]
    """A layer's keys and values of one row, whose batch hands rows out without copying them."""

    rows: type[RowsCache]

    @classmethod
    def merge(cls, caches: Sequence[Any]) -> RowsCache:
        merged = cls.rows([0] * len(caches))
        merged.state = BatchKVCache.merge(caches).state
        return merged


class RowsCache(BatchKVCache):  # type: ignore[misc]
    """A layer's keys and values of a batch. mlx-lm's own would copy a whole row on `extract`."""

    row: type[RowCache] = RowCache

    def make_mask(self, length: int, **options: Any) -> mx.array | None:
        """None where a single token attends to the whole cache: one row alone has no padding."""
        wanted = options.get("window_size") or options.get("return_array")
        if length == 1 and self.left_padding.shape[0] == 1 and not wanted:
            return None
        mask: mx.array = super().make_mask(length, **options)
        return mask

    def extract(self, row: int) -> RowCache:
        padding = self.left_padding.tolist()[row]
        cache = self.row()
        cache.keys = self.keys[row : row + 1, :, padding : self._idx]
        cache.values = self.values[row : row + 1, :, padding : self._idx]
        cache.offset = self._idx - padding
        return cache


RowCache.rows = RowsCache


class PackedRows(RowsCache):
    """Keys and values of a batch, packed with `packed_bits` a number."""

    packed_bits: int  # not "bits": mlx-lm recognizes its own quantized caches by that name

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        sizes = keys.shape[-1], values.shape[-1]
        packed = super().update_and_fetch(
            pack(keys, self.packed_bits), pack(values, self.packed_bits)
        )
        read = [
            unpack(part, size, self.packed_bits, keys.dtype)
            for part, size in zip(packed, sizes, strict=True)
        ]
        return read[0], read[1]


@functools.cache
def packed_row(bits: int) -> type[RowCache]:
    """The class of one row's packed cache."""
    row: Any = type("PackedRow", (RowCache,), {})
    row.rows = type("PackedRows", (PackedRows,), {"packed_bits": bits, "row": row})
    cache: type[RowCache] = row
    return cache


def pack(array: mx.array, bits: int) -> mx.array:
    """[..., size] as uint32 [..., fewer]."""
    numbers, scales, biases = mx.quantize(array, group_size=_group(array.shape[-1]), bits=bits)
    factors = mx.concatenate([scales, biases], axis=-1)
    return mx.concatenate([numbers, factors.view(mx.uint32)], axis=-1)


def unpack(packed: mx.array, size: int, bits: int, dtype: mx.Dtype) -> mx.array:
    """The inverse of `pack` for an array [..., size], up to rounding to `bits`."""
    numbers = size * bits // 32
    factors = mx.contiguous(packed[..., numbers:]).view(dtype)
    scales, biases = mx.split(factors, 2, axis=-1)
    return mx.dequantize(
        mx.contiguous(packed[..., :numbers]), scales, biases, group_size=_group(size), bits=bits
    )


def check_packing(model: Any, name: str, bits: int) -> None:
    """Raises UnsupportedModel for a model whose keys and values cannot be quantized."""
    caches = make_prompt_cache(model)
    if bits not in (4, 8):
        raise UnsupportedModel(f"Keys and values cannot have {bits} bits; choose 4 or 8.")
    if any(type(cache) is not KVCache for cache in caches):
        raise UnsupportedModel(
            f"The model {name} keeps a kind of cache that cannot be quantized; leave kv_bits out."
        )
    model(mx.array([[0]]), cache=caches)
    if any(part.shape[-1] % 32 for cache in caches for part in (cache.keys, cache.values)):
        raise UnsupportedModel(
            f"The model {name} has heads of a size that cannot be quantized; leave kv_bits out."
        )


def _group(size: int) -> int:
    return 64 if size % 64 == 0 else 32
