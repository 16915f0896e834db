"""Vectors of texts: the model's last hidden states, averaged over the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import mlx.core as mx

from backends.base import UnsupportedModel
from backends.mlx.device import share_cores

_MOST_TOKENS = 4096  # that one pass reads, padding included


def embed(model: Any, name: str, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    """One vector of unit length for each prompt: the mean of the last hidden states.

    Raises UnsupportedModel for an architecture that does not expose them.
    """
    body = getattr(model, "model", None)
    if not callable(body):
        raise UnsupportedModel(
            f"The model {name} does not expose its hidden states; choose another architecture."
        )
    vectors: dict[int, list[float]] = {}
    share_cores(_MOST_TOKENS)
    for batch in _batches(prompts):
        means = _means(body, name, [prompts[n] for n in batch])
        vectors.update(zip(batch, means, strict=True))
    return [vectors[n] for n in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Numbers of prompts of like length, so that little is padding."""
    batch: list[int] = []
    for n in sorted(range(len(prompts)), key=lambda n: len(prompts[n])):
        if batch and len(prompts[n]) * (len(batch) + 1) > _MOST_TOKENS:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def _means(body: Any, name: str, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    longest = max(map(len, prompts))
    # Padding comes after a text, where a causal model's earlier states do not see it.
    tokens = mx.array([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    states = body(tokens)
    if not isinstance(states, mx.array) or states.ndim != 3:
        raise UnsupportedModel(
            f"The model {name} does not expose its hidden states; choose another architecture."
        )
    lengths = mx.array([[len(prompt)] for prompt in prompts])
    counted = (mx.arange(longest) < lengths)[..., None]
    total = mx.where(counted, states.astype(mx.float32), 0).sum(axis=1)
    vectors = total / mx.linalg.norm(total, axis=-1, keepdims=True)
    return cast(list[list[float]], vectors.tolist())
