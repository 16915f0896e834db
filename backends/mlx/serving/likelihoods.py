"""How likely a model finds given answers to one prompt, token by token.

The prompt is read once; the answers follow it side by side, in batches whose caches begin as
copies of the prompt's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import mlx.core as mx

_MOST_TOKENS = 4096  # of keys and values that one batch holds, prompts and padding included
_MOST_ROWS = 64


def read_prompt(model: Any, prompt: Sequence[int], caches: list[Any], chunk: int) -> mx.array:
    """Log-probabilities [vocabulary] of the token after `prompt`, whose tokens `caches` hold
    afterwards. They may hold a beginning of it before, but not its last token."""
    held = caches[0].offset if hasattr(caches[0], "offset") else 0
    for start in range(held, len(prompt) - 1, chunk):
        model(mx.array([prompt[start : min(start + chunk, len(prompt) - 1)]]), cache=caches)
        mx.eval([cache.state for cache in caches])
    return _log_softmax(model(mx.array([[prompt[-1]]]), cache=caches)[0, -1])


def likelihoods(
    model: Any, first: mx.array, caches: list[Any], length: int, answers: Sequence[Sequence[int]]
) -> list[float]:
    """The log-probability of each of `answers` (at least one token) after a prompt of `length`
    tokens: `first` is `read_prompt`'s result, `caches` are what it filled. In nats, summed over
    the tokens as float32."""
    found = cast(list[float], first[mx.array([answer[0] for answer in answers])].tolist())
    for batch in side_by_side([len(answer) for answer in answers], length):
        longest = max(len(answers[n]) for n in batch) - 1
        # Padding comes after an answer, where a causal model's earlier tokens do not see it.
        read = [[*answers[n][:-1], *[0] * longest][:longest] for n in batch]
        said = [[*answers[n][1:], *[0] * longest][:longest] for n in batch]
        counted = mx.array([[at < len(answers[n]) - 1 for at in range(longest)] for n in batch])
        rows = [type(cache).merge([cache] * len(batch)) for cache in caches]
        logprobs = _log_softmax(model(mx.array(read), cache=rows))
        each = mx.take_along_axis(logprobs, mx.array(said)[..., None], axis=-1).squeeze(-1)
        totals = cast(list[float], mx.where(counted, each, 0).sum(axis=1).tolist())
        for n, total in zip(batch, totals, strict=True):
            found[n] += total
    return found


def _log_softmax(logits: mx.array) -> mx.array:
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def side_by_side(lengths: Sequence[int], prompt: int) -> Iterator[list[int]]:
    """Numbers of answers of more than one token, of like length, after a prompt of so many."""
    long = sorted((n for n, length in enumerate(lengths) if length > 1), key=lengths.__getitem__)
    batch: list[int] = []
    for n in long:
        rows = len(batch) + 1
        if batch and (rows > _MOST_ROWS or rows * (prompt + lengths[n]) > _MOST_TOKENS):
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch
