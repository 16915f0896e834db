"""e to the power x by plain arithmetic, which MLX's fused kernels vectorize on the CPU, and the logarithm
of a sum of such powers."""

from __future__ import annotations

import mlx.core as mx

from backends.mlx.device import device_kind


def exp(x: mx.array) -> mx.array:
    """e to the power x for −60 ≤ x ≤ 88, relative error below 1e-7 (Cephes' expf).

    Splits x = n ln 2 + r and puts n into the exponent bits of a float. Below −60 the result stays
    9e-27, nothing beside a softmax's largest term: true values there become denormal numbers,
    with which a matrix product runs a hundred times slower.
    """
    mantissa, bits = _exp_parts(x)
    return mantissa * bits.view(mx.float32)


def log_probabilities(logits: mx.array) -> mx.array:
    """Of float32 logits [..., vocabulary], of which at least one is finite. MLX's own `logsumexp` takes
    twice as long on a CPU: 6.7 ms of processor time instead of 3.1 for 8 rows of 49,152 (2026-11)."""
    if device_kind() != "cpu" or logits.dtype != mx.float32:
        return logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    top = logits.max(axis=-1, keepdims=True)
    return logits - (top + mx.log(exp(logits - top).sum(axis=-1, keepdims=True)))


@mx.compile
def _exp_parts(x: mx.array) -> tuple[mx.array, mx.array]:
    x = mx.maximum(x, -60.0)
    # Adding 1.5 · 2^23 rounds to an integer; `floor` would not vectorize.
    n = (x * 1.4426950408889634 + 12582912.0) - 12582912.0
    r = (x - n * 0.693359375) + n * 2.12194440e-4
    p = r * 1.9875691500e-4 + 1.3981999507e-3
    p = p * r + 8.3334519073e-3
    p = p * r + 4.1665795894e-2
    p = p * r + 1.6666665459e-1
    p = p * r + 5.0000001201e-1
    return p * r * r + r + 1.0, (n.astype(mx.int32) + 127) << 23
