"""The memory that rows need, before they are let in: their contexts, and what passes take beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from backends.base import Context, LoadOptions
from backends.mlx.device import device_kind
from backends.mlx.embedding.passes import LATE, Passes, size
from backends.mlx.serving.caches import BatchKVCache, KVCache
from backends.mlx.serving.likelihoods import side_by_side

PREFILL = {"cpu": (128, 512), "metal": (512, 2048), "cuda": (2048, 8192)}
"""Prompt tokens that one step reads, at most: of one row, and of all rows together. Running rows wait
meanwhile, so a CPU, which reads a few hundred tokens a second, reads small chunks; below about 128
tokens its matrix products lose speed."""
MOST_PROMPTS = 8  # read together
_AHEAD = 400 << 20  # bytes of the ten command buffers that MLX hands to a GPU ahead of its work
_LOGITS = 4 * 4  # bytes a token of the vocabulary: of this step and the next, and their logarithms
WIDEST = (
    16  # tokens of a row that runs alone whose logits one pass makes: the next ones and guesses
)


class Needs:
    """Of one loaded model, by the arrays that it makes on this device. `config` is its config.json."""

    def __init__(self, model: Any, config: dict[str, Any], options: LoadOptions) -> None:
        caches = make_prompt_cache(model)
        model(mx.array([[0]]), cache=caches)  # never computed: shapes and types are known without
        found = [(getattr(one, "keys", None), getattr(one, "values", None)) for one in caches]
        parts = [part for pair in found for part in pair if isinstance(part, mx.array)]
        self.token_bytes = sum(part.nbytes // part.shape[2] for part in parts)
        self._width = parts[0].itemsize if parts else 2
        self._bits, self._after = options.kv_bits or 0, options.kv_after
        self._passes = Passes(config, self._width, self.token_bytes)
        self._vocabulary = size({**config, **(config.get("text_config") or {})}, "vocab_size")

    def of(self, rows: Sequence[Context]) -> int:
        """Bytes that rows take, and what passes need beside them."""
        contexts = [row.whole for row in rows]
        # As `MLXModel.insert` decides it: a row stays what it was when it began.
        packed = [row.whole for row in rows if self._bits and row.prompt >= self._after]
        plain = [row.whole for row in rows if not (self._bits and row.prompt >= self._after)]
        # Scale and bias of each 32 numbers lie beside the packed ones.
        share = self._bits / (8 * self._width) + 2 / 32
        batches = _batch(plain, self.token_bytes) + _batch(packed, int(share * self.token_bytes))
        wide = WIDEST if len(contexts) == 1 else len(contexts)
        logits = _LOGITS * wide * self._vocabulary
        return batches + logits + self._passing(contexts)

    def _passing(self, contexts: Sequence[int]) -> int:
        """The arrays of a pass over prompts."""
        of_one, of_all = PREFILL[device_kind()]
        read = min(of_all, len(contexts) * of_one)
        return self._passes.nbytes(read, max(contexts, default=0))

    def to_embed(self, prompts: Sequence[Sequence[int]]) -> int:
        """Bytes of the largest pass over texts whose vectors are wanted."""
        return self._passes.to_embed(prompts)

    def for_answers(self, length: int, answers: Sequence[int]) -> int:
        """Bytes of reading a prompt of `length` tokens and the answers, of so many tokens, after it."""
        rows = max((len(batch) for batch in side_by_side(answers, length)), default=0)
        longest = max(answers)
        logits = _LOGITS * rows * longest * self._vocabulary
        return logits + self.of([Context(length, length + longest)] * (1 + rows))


def growth(caches: Sequence[Any], tokens: int, *, by_layer: bool = True) -> int:
    """Bytes that the layers' `caches` take beside what they hold while so many tokens are added: whole
    blocks, and for a moment what is copied into longer arrays, `by_layer` on a CPU one layer at a time."""
    more, copied = 0, [0]
    for cache in caches:
        keys = getattr(cache, "keys", None)
        if keys is None or not isinstance(cache, (KVCache, BatchKVCache)):
            continue
        held = cache._idx if isinstance(cache, BatchKVCache) else cache.offset
        if (missing := held + tokens - keys.shape[2]) > 0:
            blocks = -(-missing // cache.step)
            more += cache.nbytes * blocks * cache.step // keys.shape[2]
            copied.append(cache.nbytes)
    if device_kind() == "cpu":
        return int(more + (max(copied) if by_layer else sum(copied)))
    return int(more + min(sum(copied), _AHEAD))


def _batch(contexts: Sequence[int], token_bytes: int) -> int:
    """A batch holds as many tokens of each row as of the longest one, in whole blocks; and what is put
    into it or cut out of it exists twice for a moment."""
    if not contexts:
        return 0
    step = int(BatchKVCache.step)
    row: int = -(-max(contexts) // step) * step * token_bytes
    batch = len(contexts) * row
    twice = min(len(contexts), MOST_PROMPTS) * row
    if device_kind() == "cpu":
        return batch + int(LATE * twice)
    return batch + twice + min(batch, _AHEAD)  # see `Lane.settle`
