"""How likely a model finds a prompt, token by token, one chunk after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx

from backends.base import PromptToken
from backends.mlx.sampling.filters import likeliest
from backends.mlx.serving.rows import Pieces

_MOST_LOGITS = 2**24  # of one chunk: 64 MiB as float32, 110 tokens of a vocabulary of 152,000
_FEWEST = 16  # tokens of a chunk, whatever the vocabulary


def chunk_of(vocabulary: int, prefill: int) -> int:
    """Tokens that one pass reads, so that their logits take little memory."""
    return min(prefill, max(_FEWEST, _MOST_LOGITS // vocabulary))


def read(
    model: Any, tokens: Sequence[int], said: Sequence[int], caches: list[Any], top: int
) -> tuple[mx.array, mx.array, mx.array]:
    """(log-probability of each of `said`, the `top` likeliest tokens, theirs) after each of `tokens`,
    which `caches` hold afterwards. Raises what the device raises."""
    logits = model(mx.array([list(tokens)]), cache=caches)[0].astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    each = mx.take_along_axis(logprobs, mx.array(list(said))[:, None], axis=-1)[:, 0]
    numbers, found = likeliest(logprobs, top) if top else (mx.zeros((len(said), 0)),) * 2
    mx.eval(each, numbers, found, [cache.state for cache in caches])
    return each, numbers, found


def told(
    said: Sequence[int], read: tuple[mx.array, mx.array, mx.array], pieces: Pieces
) -> Iterator[PromptToken]:
    """What `read` found of the tokens `said`."""
    columns: list[Any] = [part.tolist() for part in read]
    for token, logprob, rivals, values in zip(said, *columns, strict=True):
        ranked = sorted(zip(rivals, values, strict=True), key=lambda pair: -pair[1])
        top = tuple(pieces.candidate(rival, value) for rival, value in ranked)
        yield PromptToken(token, pieces.text(token), pieces.spelling(token), logprob, top)
