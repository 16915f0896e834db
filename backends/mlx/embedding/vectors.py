"""Vectors of texts, a few texts in one pass through a model, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from backends.base import Embedder, Pair, UnsupportedModel
from backends.mlx.device import share_cores

MOST_TOKENS = 4096  # that one pass reads of several texts, padding included
CHUNK = 1024  # tokens of each text that a causal model reads at once

_MEAN = Embedder()

States = Iterator[tuple[int, mx.array]]
Reader = Callable[[mx.array, mx.array], States]
"""From tokens [rows, n] and lengths [rows, 1] to hidden states [rows, m, width], each with where its
tokens begin. Padding comes after a text."""


def causal(model: Any, name: str) -> Reader:
    """Reads with a model of mlx-lm, whose earlier states do not see padding. Raises UnsupportedModel for
    an architecture that does not expose its states."""
    body = getattr(model, "model", None)
    refused = UnsupportedModel(
        f"The model {name} does not expose its hidden states; choose another architecture."
    )
    if not callable(body):
        raise refused

    def read(tokens: mx.array, lengths: mx.array) -> States:
        whole = tokens.shape[1] <= CHUNK
        caches = [] if whole else make_prompt_cache(model)
        for start in range(0, tokens.shape[1], CHUNK):
            part = tokens[:, start : start + CHUNK]
            states = body(part) if whole else body(part, cache=caches)
            if not isinstance(states, mx.array) or states.ndim != 3:
                raise refused
            yield start, states
            mx.eval([cache.state for cache in caches])

    return read


def encoder(model: Any) -> Reader:
    """Reads with a model in which every token sees every other one."""

    def read(tokens: mx.array, lengths: mx.array) -> States:
        counted = mx.arange(tokens.shape[1]) < lengths
        yield 0, model(tokens, counted[:, None, None, :])

    return read


def embed(
    read: Reader, prompts: Sequence[Sequence[int]], how: Embedder = _MEAN
) -> list[list[float]]:
    """One vector for each prompt (at least one token), made as `how` says."""
    vectors: dict[int, list[float]] = {}
    share_cores(MOST_TOKENS)
    for batch in batches(prompts):
        found = _pooled(read, [prompts[n] for n in batch], how)
        vectors.update(zip(batch, found, strict=True))
    return [vectors[n] for n in range(len(prompts))]


def ranked(model: Any, pairs: Sequence[Pair]) -> list[float]:
    """What an encoder's head says of each pair, between 0 and 1."""
    scores: dict[int, float] = {}
    share_cores(MOST_TOKENS)
    for batch in batches([pair.tokens for pair in pairs]):
        longest = len(pairs[batch[-1]].tokens)
        places = mx.arange(longest)
        tokens = mx.array(
            [[*pairs[n].tokens, *[0] * (longest - len(pairs[n].tokens))] for n in batch]
        )
        counted = places < mx.array([[len(pairs[n].tokens)] for n in batch])
        kinds = (places >= mx.array([[pairs[n].second] for n in batch])) & counted
        states = model(tokens, counted[:, None, None, :], kinds.astype(mx.int32))
        found = mx.sigmoid(model.score(states).astype(mx.float32))
        scores.update(zip(batch, cast(list[float], found.tolist()), strict=True))
    return [scores[n] for n in range(len(pairs))]


def batches(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Numbers of prompts of like length, so that little is padding; the last is the longest."""
    batch: list[int] = []
    for n in sorted(range(len(prompts)), key=lambda n: len(prompts[n])):
        if batch and len(prompts[n]) * (len(batch) + 1) > MOST_TOKENS:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def _pooled(read: Reader, prompts: Sequence[Sequence[int]], how: Embedder) -> list[list[float]]:
    longest = max(map(len, prompts))
    tokens = mx.array([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    lengths = mx.array([[len(prompt)] for prompt in prompts])
    total = mx.array(0.0)
    for start, states in read(tokens, lengths):
        places = mx.arange(start, start + states.shape[1])
        if how.pooling == "mean":
            counted = places < lengths
        elif how.pooling == "last":
            counted = places == lengths - 1
        else:
            counted = (places == 0) & (lengths > 0)
        total = total + mx.where(counted[..., None], states.astype(mx.float32), 0).sum(axis=1)
        mx.eval(total)
    if how.normalized:
        total = total / mx.maximum(mx.linalg.norm(total, axis=-1, keepdims=True), 1e-12)
    elif how.pooling == "mean":
        total = total / lengths
    return cast(list[list[float]], total.tolist())
