"""Penalties and biases on logits, for the rows that request them.

A processor gets the row's tokens so far [tokens] and its logits [1, vocabulary], both not yet
computed, and nothing here reads their values: it never waits for the device. This module knows
nothing of samplers or grammars.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from backends.base import BackendError, Sampling

Processor = Callable[[mx.array, mx.array], mx.array]


def make_processors(sampling: Sampling, prompt_tokens: int, vocabulary: int) -> list[Processor]:
    """The processors that `sampling` needs, in the order in which they are applied.

    Raises BackendError for a bias on a token that the model does not have.
    """
    processors: list[Processor] = []
    if sampling.repetition_penalty != 1:
        processors.append(_repetition(sampling.repetition_penalty, sampling.repetition_context))
    if sampling.presence_penalty or sampling.frequency_penalty:
        processors.append(
            _occurrence(sampling.presence_penalty, sampling.frequency_penalty, prompt_tokens)
        )
    if sampling.logit_bias:
        processors.append(_bias(sampling.logit_bias, vocabulary))
    return processors


def _repetition(penalty: float, context: int) -> Processor:
    """Divide the logits of recent tokens, prompt included; multiply negative ones."""

    def process(tokens: mx.array, logits: mx.array) -> mx.array:
        recent = tokens[-context:] if context else tokens
        chosen = logits[:, recent]
        chosen = mx.where(chosen < 0, chosen * penalty, chosen / penalty)
        logits[:, recent] = chosen  # a token that came twice gets the same value twice
        return logits

    return process


def _occurrence(presence: float, frequency: float, prompt_tokens: int) -> Processor:
    """Subtract `presence` for a token that the answer contains, and `frequency` for each time."""

    def process(tokens: mx.array, logits: mx.array) -> mx.array:
        answer = tokens[prompt_tokens:]
        if answer.size == 0:
            return logits
        counts = mx.zeros(logits.shape[-1], logits.dtype).at[answer].add(1)
        return logits - presence * (counts > 0) - frequency * counts

    return process


def _bias(bias: tuple[tuple[int, float], ...], vocabulary: int) -> Processor:
    # An index beyond the vocabulary would write out of bounds.
    unknown = [token for token, _ in bias if not 0 <= token < vocabulary]
    if unknown:
        raise BackendError(
            f"logit_bias names the token {unknown[0]}, but the model's tokens end at "
            f"{vocabulary - 1}."
        )
    tokens = mx.array([token for token, _ in bias])
    amounts = mx.array([amount for _, amount in bias])

    def process(_: mx.array, logits: mx.array) -> mx.array:
        return logits.at[:, tokens].add(amounts.astype(logits.dtype))

    return process
