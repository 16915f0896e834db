"""Each kernel that the hub uses, on the default device in its own type, beside the CPU's stream in
float32 on the same numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from backends.base import Sampling
from backends.mlx.device import device_kind
from backends.mlx.sampling.sampler import make_sampler

TYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
fast: Any = mx.fast  # untyped
kernels: Any = mx


@dataclass(frozen=True)
class Compared:
    """`error` is the largest difference, as a share of the reference's largest value; infinite where
    the device gave something that is no number, None where it has no such kernel."""

    kernel: str
    dtype: str
    shape: str
    error: float | None


def matmul(sizes: Sequence[tuple[int, int, int]]) -> Iterator[Compared]:
    """Products of [rows, inputs] with [inputs, outputs], plain and with a sum, for each of `sizes`."""
    for dtype in TYPES:
        for rows, inputs, outputs in sizes:
            x, w = _normal(dtype, (rows, inputs), (inputs, outputs))
            y = _normal(dtype, (rows, outputs))[0]
            shape = f"{rows}x{inputs}x{outputs}"
            yield _compare("matmul", dtype, shape, lambda x, w: x @ w, x, w)
            yield _compare("addmm", dtype, shape, mx.addmm, y, x, w)


def quantized(sizes: Sequence[tuple[int, int, int]]) -> Iterator[Compared]:
    """Products with packed weights, as decoding (few rows) and prompts (many) have them."""
    for dtype in TYPES:
        for bits, group in ((4, 64), (4, 32), (8, 64)):
            for rows, inputs, outputs in sizes:
                x, w = _normal(dtype, (rows, inputs), (outputs, inputs))
                packed = Packed(bits, group)
                yield _compare(
                    f"quantized_matmul, {bits} bits, groups of {group}",
                    dtype,
                    f"{rows}x{inputs}x{outputs}",
                    packed.product,
                    x,
                    *mx.quantize(w, group_size=group, bits=bits),
                    reference=packed.reference,
                )


@dataclass(frozen=True)
class Packed:
    """Products of `x` with the transpose of packed weights `w`, of one matrix or of `picks` among
    several."""

    bits: int
    group: int
    picks: mx.array | None = None

    def product(self, x: mx.array, w: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        options = {"transpose": True, "group_size": self.group, "bits": self.bits}
        if self.picks is None:
            return mx.array(kernels.quantized_matmul(x, w, scales, biases, **options))
        return mx.array(kernels.gather_qmm(x, w, scales, biases, rhs_indices=self.picks, **options))

    def reference(self, x: mx.array, w: mx.array, scales: mx.array, biases: mx.array) -> mx.array:
        wide = mx.dequantize(w, scales, biases, group_size=self.group, bits=self.bits)
        wide = wide if self.picks is None else wide[self.picks]
        return x @ wide.swapaxes(-1, -2)


def gather(rows: int, inputs: int, outputs: int) -> Iterator[Compared]:
    """Each row with factors of its own, as adapters and experts have them."""
    picks = mx.array([row % 3 for row in range(rows)], mx.uint32)
    packed, shape = Packed(4, 64, picks), f"{rows}x{inputs}x{outputs}"
    for dtype in TYPES:
        x, w, turned = _normal(dtype, (rows, 1, inputs), (3, inputs, outputs), (3, outputs, inputs))
        yield _compare(
            "gather_mm",
            dtype,
            shape,
            lambda x, w: mx.gather_mm(x, w, rhs_indices=picks),
            x,
            w,
            reference=lambda x, w: x @ w[picks],
        )
        four_bit = mx.quantize(turned, group_size=64, bits=4)
        yield _compare(
            "gather_qmm", dtype, shape, packed.product, x, *four_bit, reference=packed.reference
        )


def attention(lengths: Sequence[tuple[int, int]], widths: Sequence[int]) -> Iterator[Compared]:
    """Of `lengths` (queries, keys) with heads of `widths`: causal, with a mask as padded batches have
    it, and without; and the norm and the positions around it."""
    for dtype in TYPES:
        for width in widths:
            for queries, keys in lengths:
                q, k, v = _normal(dtype, (2, 8, queries, width), *2 * [(2, 2, keys, width)])
                # The second row begins with padding, of a third of its keys.
                seen = mx.arange(keys)[None, :] >= mx.array([[0], [keys // 3]])
                causal = mx.arange(keys)[None] <= mx.arange(keys - queries, keys)[:, None]
                mask = causal[None, None] & seen[:, None, None, :]
                # A query that sees nothing has no answer.
                sees = mask.any(axis=-1, keepdims=True)
                for name, given, allowed in (
                    ("padded", mask, mask),
                    ("causal", "causal" if queries > 1 else None, causal[None, None]),
                ):
                    yield _compare(
                        f"attention, {name}, heads of {width}",
                        dtype,
                        f"{queries} of {keys}",
                        lambda q, k, v, m=given, s=sees: mx.where(
                            s,
                            fast.scaled_dot_product_attention(
                                q, k, v, scale=q.shape[-1] ** -0.5, mask=m
                            ),
                            0,
                        ),
                        q,
                        k,
                        v,
                        reference=lambda q, k, v, m=allowed, s=sees: mx.where(
                            s, _attention(q, k, v, m), 0
                        ),
                    )
        yield from _around(dtype, widths[0])


def _around(dtype: str, width: int) -> Iterator[Compared]:
    x, weight = _normal(dtype, (4, 33, 576), (576,))
    yield _compare(
        "rms_norm",
        dtype,
        "4x33x576",
        lambda x, w: fast.rms_norm(x, w, 1e-5),
        x,
        weight,
        reference=lambda x, w: x * mx.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w,
    )
    (x,) = _normal(dtype, (2, 8, 5, width))
    options = {"traditional": False, "base": 10000.0, "scale": 1.0, "offset": 37}
    yield _compare(
        "rope",
        dtype,
        f"2x8x5x{width}",
        lambda x: fast.rope(x, width, **options),
        x,
        reference=lambda x: _rope(x, 37),
    )


def _attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array) -> mx.array:
    repeats = q.shape[1] // k.shape[1]
    k, v = mx.repeat(k, repeats, axis=1), mx.repeat(v, repeats, axis=1)
    scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)
    return mx.softmax(mx.where(mask, scores, -1e30), axis=-1) @ v


def _rope(x: mx.array, offset: int) -> mx.array:
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-mx.arange(half) / half)
    angles = (offset + mx.arange(x.shape[-2]))[:, None] * frequencies
    one, two = x[..., :half], x[..., half:]
    cos, sin = mx.cos(angles), mx.sin(angles)
    return mx.concatenate([one * cos - two * sin, one * sin + two * cos], axis=-1)


def _normal(dtype: str, *shapes: tuple[int, ...]) -> list[mx.array]:
    """The same numbers on every device."""
    draw = np.random.default_rng(sum(map(sum, shapes)))
    return [
        mx.array(draw.standard_normal(shape, dtype=np.float32)).astype(TYPES[dtype])
        for shape in shapes
    ]


def _compare(
    kernel: str,
    dtype: str,
    shape: str,
    compute: Callable[..., mx.array],
    *arrays: mx.array,
    reference: Callable[..., mx.array] | None = None,
) -> Compared:
    mx.eval(arrays)
    try:
        found = np.array(compute(*arrays).astype(mx.float32))
    except RuntimeError as refusal:
        if "only supports" not in str(refusal):
            raise
        return Compared(kernel, dtype, shape, None)
    with mx.stream(mx.cpu):
        wide = [a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a for a in arrays]
        expected = np.array((reference or compute)(*wide))
    error = float(np.abs(found - expected).max() / max(1e-9, np.abs(expected).max()))
    return Compared(kernel, dtype, shape, error if np.isfinite(error) else float("inf"))


# ---------------------------------------------------------------------------- sampling


@dataclass(frozen=True)
class Drawn:
    """What top-p drew. `outside` counts tokens that it should not have kept, `alike` is the share of
    draws that the CPU's stream made, too, with the same seed, and `distance` how far many draws are
    from the distribution that they come from (0 to 1)."""

    draws: int
    outside: int
    alike: float
    distance: float


def top_p(vocabulary: int, rows: int) -> Drawn:
    """Draws with top-p from peaked and from flat distributions, and many from a small one."""
    draw = np.random.default_rng(3)
    logits = draw.standard_normal((rows, vocabulary), dtype=np.float32)
    logits *= np.linspace(0.5, 6.0, rows, dtype=np.float32)[:, None]  # flat ones first
    logprobs = logits - np.log(np.exp(logits, dtype=np.float64).sum(-1, keepdims=True))
    given = mx.array(logprobs.astype(np.float32))
    outside, alike, count = 0, 0, 0
    for seed, p in enumerate((0.3, 0.9, 0.99)):
        sampling = Sampling(temperature=1.0, top_p=p, seed=seed)
        found = np.array(make_sampler(sampling)(given))
        with mx.stream(mx.cpu):
            same = np.array(make_sampler(sampling)(given))
        for row, token in enumerate(found):
            likelier = logprobs[row][logprobs[row] > logprobs[row, token]]
            outside += bool(np.exp(likelier).sum() >= p + 1e-4)
        alike += int((found == same).sum())
        count += rows
    return Drawn(count, outside, alike / count, _distance())


def _distance() -> float:
    many, p = 4096, 0.9
    chances = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04], np.float32)
    given = mx.array(np.tile(np.log(chances), (many, 1)))
    found = np.array(make_sampler(Sampling(temperature=1.0, top_p=p))(given))
    kept = chances * (np.cumsum(chances) - chances < p - 1e-6)
    seen = np.bincount(found, minlength=len(chances)) / many
    return float(np.abs(seen - kept / kept.sum()).sum() / 2)


# ---------------------------------------------------------------------------- devices


@contextmanager
def as_on_a_gpu() -> Iterator[str]:
    """Within, everything is decided as on a GPU: on the GPU itself, where there is one, else computed
    on the CPU. Yields which: "metal", "cuda" or "assumed"."""
    kind = device_kind()
    if kind != "cpu":
        yield "assumed" if mx.default_device() == mx.cpu else kind
        return
    os.environ["HUB_ASSUMED_DEVICE"] = "metal"
    try:
        yield "assumed"
    finally:
        del os.environ["HUB_ASSUMED_DEVICE"]


@contextmanager
def as_on_the_cpu() -> Iterator[None]:
    """Within, everything is decided as on a CPU, and computed there."""
    assumed, device = os.environ.pop("HUB_ASSUMED_DEVICE", None), mx.default_device()
    mx.set_default_device(mx.cpu)
    try:
        yield
    finally:
        mx.set_default_device(device)
        if assumed is not None:
            os.environ["HUB_ASSUMED_DEVICE"] = assumed


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within, `mx.compile` leaves functions as they are."""
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()
