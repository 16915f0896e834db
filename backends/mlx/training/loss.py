"""A model's log-probabilities, and how a step spreads over the processor's cores.

On the CPU MLX runs everything but matrix products on one thread. So a batch is divided into
lanes, each on an MLX stream (a thread) of its own with single-threaded products: two cores do
the work of two, and a busy neighbour slows one lane instead of every product's barrier. On
Metal and CUDA there is one lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn

from backends import devices
from backends.base import Arithmetic
from backends.mlx.data import batching
from backends.mlx.data.batching import Batch, Padding, Span
from backends.mlx.data.examples import Example
from backends.mlx.data.packing import Segments
from backends.mlx.device import blas_threads, device_kind
from backends.mlx.kernels.fused import fused_cross_entropy
from backends.mlx.kernels.head import HEADED, head_losses, head_of, logits_of
from backends.mlx.kernels.quick import cross_entropy, quicken
from backends.schedule import Measured, balance, cut, cut_packed, divide

nn: Any = mlx.nn  # MLX types its core only

STEP_TOKENS = 512
"""Of all lanes on the CPU, where more tokens at a time are no faster."""

type Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class Lanes:
    """Streams that share a step's work; their number changes the last bits of a result."""

    streams: tuple[Any, ...]
    padding: Padding
    most: int | None = None
    """Tokens, with padding, that a lane computes at a time, if it is limited."""

    @classmethod
    @contextmanager
    def open(cls, arithmetic: Arithmetic = "masters") -> Iterator[Lanes]:
        """The lanes that suit this device, for the calling thread."""
        if device_kind() != "cpu":
            padding = batching.ladder if arithmetic == "masters" else batching.multiples(32)
            yield cls((mx.default_stream(mx.default_device()),), padding)
            return
        with blas_threads(devices.MOST_LANES) as count:
            streams = [mx.default_stream(mx.cpu)]
            streams += [mx.new_stream(mx.cpu) for _ in range(count - 1)]
            yield cls(tuple(streams), batching.multiples(1), STEP_TOKENS // count)
            mx.synchronize()

    def prepare(self, model: Any) -> None:
        """Swap in the CPU's faster parts, where this is the CPU."""
        if device_kind() == "cpu":
            quicken(model)

    def pieces[T: Measured](
        self, items: Sequence[T], *, rows: int = 1, packed: bool = False
    ) -> list[list[T]]:
        """`items` in as few groups of like length as let no lane compute more than `most` tokens at a
        time (or those of the longest), so that a large batch needs no more memory than a small one. Each item has
        `rows` rows."""
        if self.most is None:
            return [list(items)]
        most, lanes = self.most // rows, len(self.streams)
        return (cut_packed if packed else cut)(items, lanes, most)

    def at_most(self, tokens: int, longest: int) -> int:
        """How many of a batch's `tokens` are computed at a time, where a row has up to `longest`."""
        if self.most is None:
            return tokens
        return min(tokens, len(self.streams) * max(self.most, longest))

    def batches(self, examples: Sequence[Example], capacity: int | None = None) -> list[Batch]:
        """`examples` divided over the lanes, packed into rows of `capacity` if that is given."""
        if capacity is None:
            groups = divide(examples, len(self.streams))
            return [batching.make_batch(group, self.padding) for group in groups]
        return [
            batching.make_packed(group, self.padding, capacity)
            for group in balance(examples, len(self.streams))
        ]


def to_arrays(batch: Batch) -> Arrays:
    """What of a batch the loss computes with."""
    names = ("inputs", "positions", "targets", "weights", "owners", "segments")
    found = {name: getattr(batch, name) for name in names}
    return {name: mx.array(value) for name, value in found.items() if value is not None}


def log_probabilities(
    model: Any, arrays: Arrays, spans: tuple[tuple[Span, ...], ...] = ()
) -> mx.array:
    """log p `[n]` of each target, 0 on padding."""
    cache = None
    if "segments" in arrays:
        cache = [Segments(arrays["segments"], spans)] * len(model.layers)
    losses = _losses(model, arrays["inputs"], arrays["positions"], arrays["targets"], cache)
    return -losses * arrays["weights"]


def _losses(
    model: Any, inputs: mx.array, positions: mx.array, targets: mx.array, cache: Any
) -> mx.array:
    """Cross-entropy `[n]` of `targets` at the flat `positions` alone: the head is the most
    expensive layer."""
    if model.model_type not in HEADED:
        everywhere: mx.array = model(inputs, cache=cache)
        return _cross_entropy(everywhere.reshape(-1, everywhere.shape[-1])[positions], targets)
    hidden = model.model(inputs, cache)
    hidden = hidden.reshape(-1, hidden.shape[-1])[positions]
    head, _ = head_of(model)
    if device_kind() == "cpu" and type(head) in (nn.Embedding, nn.Linear):
        plain = hidden.dtype == head.weight.dtype == mx.float32 and "bias" not in head
        if plain:
            return head_losses(hidden, head.weight, targets, slopes=model.training)
    return _cross_entropy(logits_of(model, hidden), targets)


def _cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    logits = logits.astype(mx.float32)
    if device_kind() == "cpu":
        return cross_entropy(logits, targets)
    return fused_cross_entropy(logits, targets)
