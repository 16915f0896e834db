"""Compare two models token by token on the same text.

One model is in memory at a time: the first one's logits of the judged tokens are kept (tokens ×
vocabulary × 4 bytes: 300 MB for 512 tokens of a vocabulary of 150,000).
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.utils import dequantize_model
from numpy.typing import NDArray

from backends.base import BadExample, Fidelity, TrainingConfig
from backends.base.failures import readable_errors
from backends.examples import read_lines
from backends.mlx.data.examples import Example
from backends.mlx.device import device_kind
from backends.mlx.files.loading import open_model, open_weights
from backends.mlx.kernels.quick import quicken

_MAX_LENGTH = 1024


def fidelity(
    base: Path, adapter: Path | None, converted: Path, examples: Path, most_tokens: int
) -> Fidelity:
    """See `backends.base.Backend.fidelity`."""
    with readable_errors("The device has too little memory to compare the models."):
        model, tokenizer, _ = open_model(base, adapter, lazy=True)
        chosen = _chosen(_examples(examples, tokenizer), most_tokens)
        original = list(_logits(model, chosen))
        del model
        gc.collect()
        mx.clear_cache()
        model, _ = open_weights(converted)
        return _compared(original, _logits(model, chosen), chosen)


def _examples(path: Path, tokenizer: Any) -> Iterator[Example]:
    """The examples of the JSON-lines file `path` that have an answer to judge, cut to length, one after
    the other. Raises BadExample, which names the file and the line."""
    config = TrainingConfig(learn="last_answer")

    def parse(value: Any, line: int) -> list[Example]:
        return Example.read(value, line, tokenizer, config)

    for found in read_lines(path, parse):
        yield from (fit for example in found if (fit := example.fit(_MAX_LENGTH)))


def _chosen(examples: Iterator[Example], most_tokens: int) -> list[Example]:
    """The first examples whose judged tokens fit, at least one of them; those after them are not
    read."""
    chosen: list[Example] = []
    left = most_tokens
    for example in examples:
        judged = len(example.tokens) - example.start
        if chosen and judged > left:
            continue
        if judged > left:
            example = replace(example, tokens=example.tokens[: example.start + left])
        chosen.append(example)
        left -= judged
        if left <= 0:
            break
    if not chosen or most_tokens < 1:
        raise BadExample("Comparing needs at least one token to judge.")
    return chosen


def _logits(model: Any, examples: list[Example]) -> Iterator[NDArray[np.float32]]:
    """Per example the logits `[judged, vocabulary]` that predict its judged tokens."""
    if device_kind() == "cpu":
        # The very same weights, unpacked: quantized products take twenty times as long here.
        model = dequantize_model(model)
        model.set_dtype(mx.float32)
        quicken(model)
    for example in examples:
        inputs = mx.array(example.tokens[:-1])[None]
        out: mx.array = model(inputs)[0, example.start - 1 :].astype(mx.float32)
        yield np.array(out)


def _compared(
    original: list[NDArray[np.float32]],
    converted: Iterator[NDArray[np.float32]],
    examples: list[Example],
) -> Fidelity:
    kl = same = loss = converted_loss = largest = 0.0
    tokens = 0
    for one, other, example in zip(original, converted, examples, strict=True):
        targets = np.array(example.tokens[example.start :])
        logp, logq = _log_softmax(one), _log_softmax(other)
        rows = np.arange(len(targets))
        kl += float((np.exp(logp) * (logp - logq)).sum())
        same += int((one.argmax(-1) == other.argmax(-1)).sum())
        loss -= float(logp[rows, targets].sum())
        converted_loss -= float(logq[rows, targets].sum())
        largest = max(largest, float(np.abs(one - other).max()))
        tokens += len(targets)
    return Fidelity(
        kl=max(0.0, kl / tokens),  # rounding can make it slightly negative
        top1=same / tokens,
        largest_difference=largest,
        perplexity=_perplexity(loss / tokens),
        converted_perplexity=_perplexity(converted_loss / tokens),
        tokens=tokens,
        examples=len(examples),
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    result: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return result


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
