"""A model's head: of chosen states alone, and its loss without logits that ever stand whole."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from backends.mlx.kernels.custom import custom
from backends.mlx.kernels.exponential import exp

TOKENS, ENTRIES = 128, 2048
"""Of the targets and of the vocabulary, whose logits exist at a time: 1 MB, which stays in the cache of
the processor."""


HEADED = frozenset({"llama", "qwen2", "qwen3", "mistral"})
"""Architectures whose logits are exactly head(model.model(inputs)), checked in mlx-lm 0.32.2."""


def head_of(model: Any) -> tuple[Any, bool]:
    """The last layer of a model whose architecture is one of `HEADED`, and whether that is its embedding,
    tied."""
    tied = bool(model.args.tie_word_embeddings)
    return (model.model.embed_tokens if tied else model.lm_head), tied


def logits_of(model: Any, states: mx.array) -> mx.array:
    """What the head makes of hidden states [..., width]: [..., vocabulary]."""
    head, tied = head_of(model)
    logits: mx.array = head.as_linear(states) if tied else head(states)
    return logits


def head_losses(hidden: mx.array, weight: mx.array, targets: mx.array, *, slopes: bool) -> mx.array:
    """Cross-entropy `[n]` of targets `[n]` under the logits hidden `[n, d]` @ weight.T, for a
    frozen weight `[vocabulary, d]`.

    Logits are the largest arrays of a step. Here a piece of them exists at a time, in buffers
    that the next one reuses: memory that is new to the process costs page faults. With
    `slopes` the gradient for `hidden` is computed at once, so that a step computes logits once;
    without, only when it is needed.
    """

    def forward(hidden: mx.array, targets: mx.array) -> tuple[mx.array, ...]:
        return _by_chunks(hidden, weight, targets, slopes)

    def gradient(
        primals: tuple[mx.array, ...],
        cotangents: tuple[mx.array, ...],
        outputs: tuple[mx.array, ...],
    ) -> tuple[mx.array, mx.array]:
        hidden, targets = primals
        found = outputs if slopes else _by_chunks(hidden, weight, targets, slopes=True)
        return cotangents[0][:, None] * found[1], mx.zeros_like(targets)

    computed: Any = custom(forward, gradient)(hidden, targets)
    losses: mx.array = computed[0]
    return losses


def _by_chunks(
    hidden: mx.array, weight: mx.array, targets: mx.array, slopes: bool
) -> tuple[mx.array, ...]:
    """See `_head_chunk`."""
    found: list[tuple[mx.array, ...]] = []
    for at in range(0, len(targets), TOKENS):
        rows = hidden[at : at + TOKENS]
        if found:
            # One after the other, or all logits would be in memory at once.
            rows = mx.depends([rows], [found[-1][-1]])[0]
        found.append(_head_chunk(rows, weight, targets[at : at + TOKENS], slopes))
    return tuple(mx.concatenate(list(parts)) for parts in zip(*found, strict=True))


def _head_chunk(
    hidden: mx.array, weight: mx.array, targets: mx.array, slopes: bool
) -> tuple[mx.array, ...]:
    """Losses `[n]` and, where asked for, their slopes `[n, d]`."""
    # Few sizes, so that buffers can be reused.
    missing = -len(hidden) % 8
    rows = mx.pad(hidden, [(0, missing), (0, 0)])
    count, width = rows.shape
    top = mx.full((count, 1), -1e30)
    total, mean = mx.zeros((count, 1)), mx.zeros((count, width if slopes else 1))
    for at in range(0, len(weight), ENTRIES):
        entries = weight[at : at + ENTRIES]
        logits = rows @ entries.T
        highest = mx.maximum(top, logits.max(axis=-1, keepdims=True))
        e = exp(logits - highest)
        lower = exp(top - highest)  # what was summed so far stood beside a lower top
        total = total * lower + e.sum(axis=-1, keepdims=True)
        mean = mean * lower + e @ entries if slopes else total
        top = highest
        rows = mx.depends([rows], [mean])[0]
    aim = weight[targets]
    kept = len(hidden)
    losses = (mx.log(total) + top)[:kept, 0] - (hidden * aim).sum(axis=-1)
    if not slopes:
        return (losses,)
    return losses, (mean / total)[:kept] - aim
