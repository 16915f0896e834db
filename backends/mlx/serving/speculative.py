"""Speculative decoding of a row that runs alone.

A smaller draft model proposes a few tokens, the model itself reads them all in one pass, and those
that it would have chosen are kept: several tokens for one reading of its weights. Each token is
drawn from the model's own distribution, so the text is what the model alone would have written. When
another row arrives, the row moves with its cache into the batch, where rows share the reading of the
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache

from backends.base import Delta, UnsupportedModel
from backends.mlx.sampling.nucleus import Logprobs
from backends.mlx.sampling.sampler import RandomSampler
from backends.mlx.serving.adapters import nbytes
from backends.mlx.serving.prefix_cache import PrefixCache
from backends.mlx.serving.rows import Row

_CHUNK = 256  # prompt tokens that one step reads


class Draft:
    """The smaller model, and how well it guessed: `accepted` of the `proposed` tokens."""

    def __init__(self, folder: Path, tokenizer: Any, tokens: int) -> None:
        """Raises UnsupportedModel when its tokenizer differs from `tokenizer`."""
        try:
            self.model, own, *_ = mlx_lm.load(str(folder), trust_remote_code=False)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise UnsupportedModel(f"The draft model {folder.name} could not be loaded.") from error
        if own.get_vocab() != tokenizer.get_vocab():
            raise UnsupportedModel(
                f"The draft model {folder.name} has another tokenizer; choose a smaller model of "
                "the same family."
            )
        if not can_trim_prompt_cache(make_prompt_cache(self.model)):
            raise UnsupportedModel(
                f"The draft model {folder.name} cannot undo its guesses; choose another."
            )
        self.tokens = max(1, tokens)
        self.nbytes = nbytes(self.model)
        self.proposed = 0
        self.accepted = 0


class SoloLane:
    """At most one row; takes the place of a `backends.mlx.serving.lane.Lane`."""

    def __init__(
        self,
        model: Any,
        draft: Draft,
        ends: Sequence[int],
        prefixes: PrefixCache | None,
        stream: Any,
    ) -> None:
        self.draft = draft
        self.row: Row | None = None
        self._model = model
        self._ends = frozenset(ends)
        self._prefixes = prefixes
        self._stream = stream
        self._caches: list[Any] = []
        self._draft_caches: list[Any] = []
        self._read: list[int] = []  # the tokens in the cache
        self._unread: list[int] = []  # the tokens after them
        self._draft_read = 0

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache in (*self._caches, *self._draft_caches))

    def insert(self, row: Row, prompt: Sequence[int], cached: int, caches: list[Any]) -> None:
        self.row = row
        self._caches = caches
        self._read = list(prompt[:cached])
        self._unread = list(prompt[cached:])

    def step(self) -> list[Delta]:
        """Read a chunk of the prompt, or add at least one token."""
        assert self.row
        with mx.stream(self._stream):
            if len(self._unread) > 1:
                count = min(_CHUNK, len(self._unread) - 1)
                self._model(mx.array([self._unread[:count]]), cache=self._caches)
                mx.eval([cache.state for cache in self._caches])
                self._read += self._unread[:count]
                del self._unread[:count]
                return []
            if not self.row.started:
                return self._emit(self.row, [], self._verify(self._unread))
            guesses = self._guess(self.row)
            return self._emit(self.row, guesses, self._verify([*self._unread, *guesses]))

    def release(self) -> tuple[Row, list[Any], list[int], list[int]]:
        """Hand over the row: itself, its caches, the tokens in them, and those still to be read."""
        assert self.row
        given = (self.row, self._caches, self._read, self._unread)
        self._clear()
        return given

    def remove(self, row: Row) -> None:
        self._clear()

    def _clear(self) -> None:
        self.row = None
        self._caches, self._draft_caches = [], []
        self._read, self._unread = [], []
        self._draft_read = 0

    def _guess(self, row: Row) -> list[int]:
        """The draft model's next tokens, after it has read what it has not read yet."""
        count = min(self.draft.tokens, row.max_tokens - row.tokens - 1)
        if count < 1:
            return []
        self._draft_caches = self._draft_caches or make_prompt_cache(self.draft.model)
        tokens = [*self._read, *self._unread][self._draft_read :]
        while len(tokens) > _CHUNK:
            self.draft.model(mx.array([tokens[:_CHUNK]]), cache=self._draft_caches)
            mx.eval([cache.state for cache in self._draft_caches])
            tokens = tokens[_CHUNK:]
        last, guesses = mx.array(tokens), []
        for _ in range(count):
            logits = self.draft.model(last[None], cache=self._draft_caches)
            last = mx.argmax(logits[:, -1], axis=-1)
            guesses.append(last)
        self._draft_read = len(self._read) + len(self._unread) + count - 1
        return [int(x) for x in memoryview(mx.concatenate(guesses))]

    def _verify(self, tokens: list[int]) -> mx.array:
        """The log-probabilities after each of `tokens`, which are read: [tokens, vocabulary]."""
        logits = self._model(mx.array([tokens]), cache=self._caches)[0]
        self._read += tokens
        logprobs: mx.array = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return logprobs

    def _emit(self, row: Row, guesses: list[int], logprobs: mx.array) -> list[Delta]:
        chosen, known = self._draw(row, logprobs)
        good = 0
        while good < len(guesses) and guesses[good] == chosen[good]:
            good += 1
        self.draft.proposed += len(guesses)
        self.draft.accepted += good
        self._undo(len(guesses) - good)
        self._unread = [chosen[good]]
        deltas: list[Delta] = []
        for position in range(good + 1):
            first = not row.started
            deltas.append(self._add(row, chosen[position], known[position]))
            ended = deltas[-1].finish_reason is not None
            if self._prefixes and (first or ended):
                self._prefixes.keep(row.root, self._read, self._caches[:-1])
            if ended:
                self._clear()
                break
        return deltas

    def _draw(self, row: Row, logprobs: mx.array) -> tuple[list[int], Logprobs]:
        """A token for each row of `logprobs`, and these in the host's memory."""
        drawn = row.sampler(logprobs)
        mx.eval(drawn, logprobs)
        chosen = [int(token) for token in memoryview(drawn)]
        known = np.asarray(memoryview(logprobs), np.float32)
        if isinstance(row.sampler, RandomSampler) and row.sampler.cuts:
            for n, token in enumerate(chosen):
                chosen[n] = row.sampler.complete(token, known[n], row.tokens + n)
        return chosen, known

    def _undo(self, count: int) -> None:
        """Remove the last `count` tokens, which were wrong guesses."""
        if count:
            trim_prompt_cache(self._caches[:-1], count)
            del self._read[-count:]
        # The draft model has read all guesses but the last one.
        if (wrong := self._draft_read - len(self._read)) > 0:
            trim_prompt_cache(self._draft_caches, wrong)
            self._draft_read -= wrong

    def _add(self, row: Row, token: int, logprobs: Logprobs) -> Delta:
        reason = "length" if row.tokens + 1 >= row.max_tokens else None
        if token in self._ends:
            reason = "stop"
        return row.add(SimpleNamespace(token=token, logprobs=logprobs, finish_reason=reason))
