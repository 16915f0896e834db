"""A prompt read in two halves side by side, each with half of the cores.

On the CPU MLX computes everything but matrix products on one thread, and that is a third of what reading
a prompt takes. A token attends only to those before it, so the second half of a prompt can follow the
first through the layers on a stream (a thread) of its own. Measured on two cores, SmolLM2-135M: 58
tokens in 181 ms instead of 221, 230 in 513 instead of 674 (2026-11-30).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models import base
from mlx_lm.models.cache import BatchKVCache, KVCache

from backends import devices
from backends.mlx.device import device_kind, share_cores
from backends.mlx.kernels.head import HEADED
from backends.mlx.kernels.quick import QuickAttention
from backends.mlx.threads import second_stream

create_attention_mask: Any = base.create_attention_mask  # untyped
_FEWEST = 8  # tokens of a row: below, halves are no faster


def has_halves(model: Any) -> bool:
    """Whether `read` computes what the body of `model` does, and gains by it here."""
    return (
        device_kind() == "cpu"
        and devices.threads() > 1
        and getattr(model, "model_type", None) in HEADED
        and all(isinstance(layer.self_attn, QuickAttention) for layer in model.layers)
    )


def are_worth_it(length: int, caches: Sequence[Any]) -> bool:
    """Whether to read rows of `length` tokens so: a cache with a window would keep other tokens."""
    return length >= _FEWEST and all(isinstance(one, KVCache | BatchKVCache) for one in caches)


def read(model: Any, inputs: mx.array, caches: Sequence[Any]) -> mx.array:
    """The body's states [rows, length, width] after `inputs` [rows, length], which `caches` hold then."""
    share_cores(1)
    body, middle = model.model, inputs.shape[1] // 2
    streams = mx.default_stream(mx.cpu), second_stream()
    parts = inputs[:, :middle], inputs[:, middle:]
    states: list[mx.array] = []
    masks: list[Any] = []
    for stream, part in zip(streams, parts, strict=True):
        with mx.stream(stream):
            states.append(body.embed_tokens(part))
    for layer, cache in zip(body.layers, caches, strict=True):
        for half, stream in enumerate(streams):
            with mx.stream(stream):
                if len(masks) == half:  # of the second half, once the first is in the first cache
                    masks.append(create_attention_mask(states[half], cache))
                states[half] = layer(states[half], masks[half], cache=cache)
    whole: mx.array = body.norm(mx.concatenate(states, axis=1))
    return whole
