"""Turn GGUF's block formats into float32 with numpy.

Layouts follow ggml's `block_*` structs and `dequantize_row_*` functions:
https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c
Every function takes blocks as uint8 `[n, bytes per block]` and gives float32 `[n, block size]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = ("Q4_0", "Q4_1", "Q8_0")
"""Kinds whose blocks are groups of MLX's quantization."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def dequantize(raw: Bytes, kind: str) -> Floats:
    """All values of a tensor whose bytes are `raw`, flat."""
    block = _BY_NAME[kind]
    return block.decode(raw.reshape(-1, block.nbytes)).reshape(-1)


@dataclass(frozen=True)
class Packed:
    """A tensor as MLX quantizes: value = scale * whole + bias in each group of 32, exactly.

    `wholes` uint8 `[n, 32]`, `scales` and `biases` float16 `[n]`.
    """

    bits: int
    wholes: Bytes
    scales: NDArray[np.float16]
    biases: NDArray[np.float16]


def repack(raw: Bytes, kind: str) -> Packed | None:
    """The tensor whose bytes are `raw` without another rounding; None where its blocks have another
    form than MLX's."""
    if kind not in EXACT:
        return None
    block = _BY_NAME[kind]
    raw = raw.reshape(-1, block.nbytes)
    scales = np.ascontiguousarray(raw[:, :2]).view(np.float16)[:, 0]
    if kind == "Q8_0":
        return Packed(8, raw[:, 2:] ^ np.uint8(128), scales, scales * np.float16(-128))
    if kind == "Q4_0":
        return Packed(4, _nibbles(raw[:, 2:]).astype(np.uint8), scales, scales * np.float16(-8))
    biases = np.ascontiguousarray(raw[:, 2:4]).view(np.float16)[:, 0]
    return Packed(4, _nibbles(raw[:, 4:]).astype(np.uint8), scales, biases)


def _half(raw: Bytes) -> Floats:
    """Two bytes per row as one float16, widened: `[n, 2k]` → `[n, k]`."""
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _nibbles(raw: Bytes) -> NDArray[np.int16]:
    """Low nibbles of all bytes, then the high ones: `[n, k]` → `[n, 2k]`."""
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.int16)


def _f32(raw: Bytes) -> Floats:
    return np.ascontiguousarray(raw).view(np.float32)


def _bf16(raw: Bytes) -> Floats:
    wide = np.ascontiguousarray(raw).view(np.uint16).astype(np.uint32) << 16
    return wide.view(np.float32)


def _q4_0(raw: Bytes) -> Floats:
    return _half(raw[:, :2]) * (_nibbles(raw[:, 2:]) - 8)


def _q4_1(raw: Bytes) -> Floats:
    return _half(raw[:, :2]) * _nibbles(raw[:, 4:]) + _half(raw[:, 2:4])


def _fifth_bits(raw: Bytes) -> NDArray[np.int16]:
    """32 bits, least significant first, as 0 or 16: `[n, 4]` → `[n, 32]`."""
    return np.unpackbits(raw, axis=1, bitorder="little").astype(np.int16) << 4


def _q5_0(raw: Bytes) -> Floats:
    return _half(raw[:, :2]) * ((_nibbles(raw[:, 6:]) | _fifth_bits(raw[:, 2:6])) - 16)


def _q5_1(raw: Bytes) -> Floats:
    values = _nibbles(raw[:, 8:]) | _fifth_bits(raw[:, 4:8])
    return _half(raw[:, :2]) * values + _half(raw[:, 2:4])


def _q8_0(raw: Bytes) -> Floats:
    return _half(raw[:, :2]) * raw[:, 2:].view(np.int8)


def _scales_and_minima(raw: Bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The eight 6-bit scales and minima that K-quants pack into 12 bytes, each `[n, 8]`."""
    low, middle, high = raw[:, :4], raw[:, 4:8], raw[:, 8:]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1)
    return scales, minima


def _k_blocks(raw: Bytes, values: NDArray[np.signedinteger[Any]]) -> Floats:
    """`values` `[n, 8, 32]` scaled by the header that Q4_K and Q5_K share (first 16 bytes)."""
    scales, minima = _scales_and_minima(raw[:, 4:16])
    scale = _half(raw[:, :2]) * scales
    minimum = _half(raw[:, 2:4]) * minima
    result: Floats = scale[:, :, None] * values - minimum[:, :, None]
    return result.reshape(len(raw), 256)


def _q4_k(raw: Bytes) -> Floats:
    packed = raw[:, 16:].reshape(-1, 4, 1, 32)
    values = (packed >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)) & 15
    return _k_blocks(raw, values.reshape(-1, 8, 32))


def _q5_k(raw: Bytes) -> Floats:
    packed = raw[:, 48:].reshape(-1, 4, 1, 32)
    low = (packed >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)) & 15
    bits = (raw[:, 16:48].reshape(-1, 1, 32) >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1)) & 1
    return _k_blocks(raw, low.reshape(-1, 8, 32) | (bits << 4))


def _q6_k(raw: Bytes) -> Floats:
    low = raw[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    high = raw[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1)
    six = (low.reshape(-1, 16, 16) & 15) | ((high.reshape(-1, 16, 16) & 3) << 4)
    values = six.astype(np.int8) - 32
    scale = _half(raw[:, 208:]) * raw[:, 192:208].view(np.int8)
    return (scale[:, :, None] * values).reshape(-1, 256)


@dataclass(frozen=True)
class Block:
    """One storage type: `size` values in `nbytes` bytes."""

    name: str
    size: int
    nbytes: int
    decode: Callable[[Bytes], Floats]


BLOCKS = {
    0: Block("F32", 1, 4, _f32),
    1: Block("F16", 1, 2, _half),
    2: Block("Q4_0", 32, 18, _q4_0),
    3: Block("Q4_1", 32, 20, _q4_1),
    6: Block("Q5_0", 32, 22, _q5_0),
    7: Block("Q5_1", 32, 24, _q5_1),
    8: Block("Q8_0", 32, 34, _q8_0),
    12: Block("Q4_K", 256, 144, _q4_k),
    13: Block("Q5_K", 256, 176, _q5_k),
    14: Block("Q6_K", 256, 210, _q6_k),
    30: Block("BF16", 1, 2, _bf16),
}
"""Keyed by ggml's type number."""

_BY_NAME = {block.name: block for block in BLOCKS.values()}
