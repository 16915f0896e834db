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
from mlx_lm.models.cache import BatchRotatingKVCache as _BatchRotatingKVCache
from mlx_lm.models.cache import KVCache as _KVCache
from mlx_lm.models.cache import RotatingKVCache as _RotatingKVCache
from mlx_lm.models.cache import make_prompt_cache

from backends.base import UnsupportedModel

KVCache: Any = _KVCache
BatchKVCache: Any = _BatchKVCache
BatchRotatingKVCache: Any = _BatchRotatingKVCache
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
            if type(cache) is RotatingKVCache:
                caches.append(WindowCache(cache.max_size, cache.keep))
            elif type(cache) is not KVCache:
                caches.append(cache)
            elif self.window:
                caches.append(WindowCache(self.window))
            else:
                caches.append(packed_row(self.bits)() if self.bits else RowCache())
        return caches


class RowCache(KVCache):  # type: ignore[misc]
    """A layer's keys and values of one row, whose batch hands rows out without copying them."""

    rows: type[RowsCache]

    @classmethod
    def merge(cls, caches: Sequence[Any]) -> RowsCache:
        longest = max(cache.size() for cache in caches)
        merged = cls.rows([longest - cache.size() for cache in caches])
        merged.state = BatchKVCache.merge(caches).state
        return merged


class RowsCache(BatchKVCache):  # type: ignore[misc]
    """A layer's keys and values of a batch, whose padding the host knows, too.

    mlx-lm's own reads it from the device, which answers after the step under way: whenever a row
    begins or ends the host would wait in each layer, and the device for the host. And its
    `extract` copies a whole row. `_idx` tokens are held, of which row r has `_idx - padding[r]`.
    """

    row: type[RowCache] = RowCache
    keys: Any
    values: Any

    def __init__(self, padding: Sequence[int]) -> None:
        super().__init__(list(padding))
        self.padding = list(padding)
        self._right: list[int] = []

    def make_mask(self, length: int, **options: Any) -> mx.array | None:
        """None where a single token attends to the whole cache: one row alone has no padding."""
        wanted = options.get("window_size") or options.get("return_array")
        if length == 1 and len(self.padding) == 1 and not wanted:
            return None
        mask: mx.array = super().make_mask(length, **options)
        return mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        held: tuple[mx.array, mx.array] = super().update_and_fetch(keys, values)
        # One array for all layers, instead of a sum in each.
        self.offset = _numbers(tuple(self._idx - each for each in self.padding))
        return held

    def lengthen(self) -> bool:
        """Add a block where there is no room for another token; whether there was none."""
        if self.keys is None or self._idx < self.keys.shape[2]:
            return False
        self.keys, self.values = (
            mx.concatenate(
                [part, mx.zeros((*part.shape[:2], self.step, part.shape[3]), part.dtype)], 2
            )
            for part in (self.keys, self.values)
        )
        return True

    def prepare(self, **padding: Any) -> None:
        super().prepare(**padding)
        if left := padding.get("left_padding"):
            self.padding = [a + b for a, b in zip(self.padding, left, strict=True)]
        self._right = list(padding.get("right_padding") or ())

    def finalize(self) -> None:
        super().finalize()
        if self._right:
            self._set_padding([a + b for a, b in zip(self.padding, self._right, strict=True)])
            self._right = []

    def filter(self, keep: Sequence[int]) -> None:
        if list(keep) != list(range(len(self.padding))) and self.keys is not None:
            self.keys, self.values = self.keys[keep], self.values[keep]
        padding = [self.padding[row] for row in keep]
        spare = min(padding)
        if spare:
            if self.keys is not None:
                self.keys = self.keys[..., spare:, :]
                self.values = self.values[..., spare:, :]
            self._idx -= spare
        self._set_padding([each - spare for each in padding])

    def extend(self, other: RowsCache) -> None:
        longest = max(self._idx, other._idx)
        padding = [each + longest - cache._idx for cache in (self, other) for each in cache.padding]
        super().extend(other)
        self._set_padding(padding)

    def extract(self, row: int) -> RowCache:
        padding = self.padding[row]
        cache = self.row()
        cache.keys = self.keys[row : row + 1, :, padding : self._idx]
        cache.values = self.values[row : row + 1, :, padding : self._idx]
        cache.offset = self._idx - padding
        return cache

    def _set_padding(self, padding: list[int]) -> None:
        self.padding = padding
        self.left_padding = mx.array(padding)  # mlx-lm adds to it in place
        self.offset = _numbers(tuple(self._idx - each for each in padding))


@functools.lru_cache(maxsize=8)
def _numbers(numbers: tuple[int, ...]) -> mx.array:
    """Nobody may change it in place."""
    return mx.array(numbers)


RowCache.rows = RowsCache


class WindowCache(RotatingKVCache):  # type: ignore[misc]
    """A layer's last keys and values of one row."""

    @classmethod
    def merge(cls, caches: Sequence[Any]) -> WindowRows:
        merged: WindowRows = WindowRows.merge(caches)
        return merged


class WindowRows(BatchRotatingKVCache):  # type: ignore[misc]
    """A layer's last keys and values of a batch."""

    def extract(self, _: int) -> None:
        """Nothing: mlx-lm extracts each row that ends, and waits for the device three times in each
        layer; but a window cannot be cut, so no other row can continue with it."""


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
