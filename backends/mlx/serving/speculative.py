"""A row that runs alone, which may get several tokens of one pass.

What is certain is not computed: tokens that a grammar leaves no choice about are read with the next
pass. What is probable is guessed, by a smaller draft model or by what stands in the prompt and the
answer, read in the same pass, and kept as far as the row draws the same tokens itself: from its own
distribution, so the text is what it would have been without guesses. Without either, the next pass is
under way before the last token is known, as in a batch. When another row arrives, the row moves with
its cache into the batch, where rows share the reading of the weights.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache

from backends.base import Delta, UnsupportedModel
from backends.mlx.device import device_kind
from backends.mlx.kernels.exponential import log_probabilities
from backends.mlx.sampling.following import Allowed, Rule, masked
from backends.mlx.sampling.sampler import RandomSampler
from backends.mlx.serving.adapters import nbytes
from backends.mlx.serving.lookup import Costs, LookUp
from backends.mlx.serving.needs import PREFILL, WIDEST, growth
from backends.mlx.serving.prefix_cache import PrefixCache
from backends.mlx.serving.rows import Row

async_eval: Any = mx.async_eval  # untyped

_LAST = 32  # tokens of a prompt whose logits may all be made for the last one's sake

_CHUNK = 256  # tokens that a draft model reads at a time
_WAITED = 1.1  # what a pass of one token takes that starts when its token is known, in others


class Draft:
    """The smaller model, and what it has read of the row that runs alone."""

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
        self._nbytes = nbytes(self.model)
        self._caches: list[Any] = []
        self._read = 0  # tokens in them

    @property
    def nbytes(self) -> int:
        """Of its weights."""
        return int(self._nbytes)

    @property
    def context_bytes(self) -> int:
        return sum(cache.nbytes for cache in self._caches)

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """Its next tokens after `tokens`, of which it reads what it has not read yet."""
        count = min(self.tokens, most)
        if count < 1:
            return []
        self._caches = self._caches or make_prompt_cache(self.model)
        unread = list(tokens[self._read :])
        while len(unread) > _CHUNK:
            self.model(mx.array([unread[:_CHUNK]]), cache=self._caches)
            mx.eval([cache.state for cache in self._caches])
            unread = unread[_CHUNK:]
        last, guesses = mx.array(unread), []
        for _ in range(count):
            logits = self.model(last[None], cache=self._caches)
            last = mx.argmax(logits[:, -1], axis=-1)
            guesses.append(last)
        self._read = len(tokens) + count - 1
        return [int(x) for x in memoryview(mx.concatenate(guesses))]

    def forget_after(self, count: int) -> None:
        """What follows the first `count` tokens was guessed wrongly."""
        if (wrong := self._read - count) > 0:
            trim_prompt_cache(self._caches, wrong)
            self._read -= wrong

    def clear(self) -> None:
        self._caches, self._read = [], 0


@dataclass
class _Pass:
    """A pass under way over `width` tokens, the last ones of which are `guesses`: what is `drawn` after
    each of these and before them [1 + guesses] from `logprobs` [1 + guesses, vocabulary]."""

    width: int
    guesses: list[int]
    drawn: mx.array
    logprobs: mx.array


class SoloLane:
    """At most one row; takes the place of a `backends.mlx.serving.lane.Lane`. It guesses by `draft`, or
    by looking up if it `looks_up`."""

    def __init__(
        self,
        model: Any,
        ends: Sequence[int],
        prefixes: PrefixCache | None,
        stream: Any,
        *,
        draft: Draft | None = None,
        looks_up: bool = False,
    ) -> None:
        self.draft = draft
        self.row: Row | None = None
        self.costs = Costs()
        self.proposed = 0  # guesses so far
        self.accepted = 0
        self.forced = 0  # tokens that took no choice
        self._model = model
        self._ends = frozenset(ends)
        self._prefixes = prefixes
        self._stream = stream
        self._looks_up = looks_up
        self._chunk = PREFILL[device_kind()][0]
        # Tokens of a prompt that are read in the pass after which its answer begins.
        self._most_at_first = self._chunk if model.is_headed else _LAST
        self._waits_at_first = device_kind() == "cpu"
        self._unkept = False  # its prompt is not in the prefix cache yet
        self._caches: list[Any] = []
        self._tokens: list[int] = []  # of the prompt and the answer
        self._held = 0  # tokens in the caches, when all passes under way are done
        self._rule: Rule | None = None
        self._source: LookUp | None = None
        self._pass: _Pass | None = None  # over the last token, which is known

    @property
    def nbytes(self) -> int:
        drafted = self.draft.context_bytes if self.draft else 0
        return int(sum(cache.nbytes for cache in self._caches)) + drafted

    def growth(self, tokens: int) -> int:
        """Bytes that its row takes beside `nbytes` while it writes so many more tokens."""
        return growth(self._caches, tokens, by_layer=False)

    def insert(self, row: Row, prompt: Sequence[int], cached: int, caches: list[Any]) -> None:
        self.row = row
        self._caches = caches
        self._tokens, self._held = list(prompt), cached
        self._rule = row.mask.rule if row.mask else None
        self._source = LookUp(prompt) if self._looks_up else None
        self.costs.relax()

    def resume(
        self,
        row: Row,
        caches: list[Any],
        tokens: list[int],
        drawn: mx.array,
        logprobs: mx.array,
    ) -> None:
        """Continue a row of a batch; see `backends.mlx.serving.lane.Lane.release`."""
        self.insert(row, tokens, len(tokens), caches)
        self._pass = _Pass(1, [], drawn, logprobs)

    def step(self) -> list[Delta]:
        """Read a chunk of the prompt, or add at least one token."""
        row, began = self.row, time.perf_counter()
        assert row
        with mx.stream(self._stream):
            unread = len(self._tokens) - self._held
            if not row.started and unread > self._most_at_first:
                self._read(min(self._chunk, unread - 1), 0)
                mx.eval([cache.state for cache in self._caches])
                return []
            self.keep_prompts()
            begins, under_way = not row.started, self._pass
            done = under_way or self._start(row)
            ahead = self._run_ahead(row, done) if self._may_run_ahead(row, done) else None
            deltas = self._take(row, done, ahead)
        if begins:
            return deltas
        if (under_way is None and done.width > 1) or (under_way and self._pass):
            self.costs.add(done.width, time.perf_counter() - began)
        return deltas

    def settle(self) -> list[Delta]:
        """Wait for the pass that is under way: afterwards the row, unless it has ended, can move."""
        assert self.row
        if self._pass is None:
            return []
        with mx.stream(self._stream):
            self.keep_prompts()
            return self._take(self.row, self._pass, None)

    def keep_prompts(self) -> None:
        """Put the prompt of a row that has started into the prefix cache. Not at once: its first token would
        wait for the copies."""
        if self._unkept and self._prefixes and self.row:
            with mx.stream(self._stream):
                held = self._tokens[: self._held]
                self._prefixes.keep(self.row.root, held, self._caches[:-1], ended=False)
        self._unkept = False

    def release(self) -> tuple[Row, list[Any], list[int], list[int]]:
        """Hand over the row: itself, its caches, the tokens in them, and those still to be read."""
        assert self.row
        assert self._pass is None
        held = self._held
        given = (self.row, self._caches, self._tokens[:held], self._tokens[held:])
        self._clear()
        return given

    def remove(self, row: Row) -> None:
        self._clear()

    def _clear(self) -> None:
        self.row = self._rule = self._source = self._pass = None
        self._caches, self._tokens, self._held = [], [], 0
        self._unkept = False
        if self.draft:
            self.draft.clear()

    # ----------------------------------------------------------------------- passes

    def _read(self, count: int, last: int) -> mx.array:
        """Read the next `count` tokens: the logits after the `last` of them [last, vocabulary]."""
        tokens = mx.array([self._tokens[self._held : self._held + count]])
        self._held += count
        if self._model.is_headed:
            wanted = functools.partial(_after, count - last)
            ends: mx.array = self._model(tokens, self._caches, wanted)[0]
            return ends
        logits: mx.array = self._model(tokens, cache=self._caches)[0]
        return logits[count - last :]

    def _start(self, row: Row) -> _Pass:
        """Start a pass over the tokens that are known, and over guesses."""
        most = WIDEST if row.started else self._most_at_first
        while (unread := len(self._tokens) - self._held) > most:
            self._read(min(unread - 1, self._chunk), 0)  # of a long stretch without a choice
        guesses = self._guess(row, unread)
        self._tokens += guesses
        logits = self._read(unread + len(guesses), 1 + len(guesses))
        del self._tokens[len(self._tokens) - len(guesses) :]
        return self._draw(row, logits, unread + len(guesses), guesses)

    def _guess(self, row: Row, unread: int) -> list[int]:
        most = min(row.max_tokens - row.tokens - 1, WIDEST - unread)
        guesses: list[int] = []
        if most > 0 and self.draft and row.started:
            guesses = self.draft.guess(self._tokens, most)
        elif most > 0 and self._source:
            guesses = self._cheap_guesses(self._source, most)
        if guesses and self._rule:
            guesses = guesses[: self._rule.fitting(guesses)]
        return guesses

    def _cheap_guesses(self, source: LookUp, most: int) -> list[int]:
        """What usually follows in the rule, or what followed before, whichever promises more."""
        usual, chances = self._rules.likely(most) if self._rules else ([], [])
        habitual, rate = self.costs.best(chances)
        found, faster = self.costs.best(source.chances(most))
        return usual[:habitual] if rate > faster else source.guess(found)

    @property
    def _rules(self) -> Rule | None:
        """The rule, while it says anything."""
        return None if self._rule is None or self._rule.idle else self._rule

    def _draw(self, row: Row, logits: mx.array, width: int, guesses: list[int]) -> _Pass:
        """Draw after the last token and after each guess."""
        if row.penalties:
            logits = self._penalized(row.penalties, logits, mx.array(self._tokens), guesses)
        return self._drawn(row, self._ruled(logits, guesses), width, guesses)

    def _ruled(self, logits: mx.array, guesses: list[int]) -> mx.array:
        """Logits without what may not come, after the last token and after each guess."""
        if (rule := self._rules) is None:
            return logits
        async_eval(logits)  # the device computes while the mask is made
        return _masked(logits, [rule.allowed(), *rule.ahead(guesses)])

    def _drawn(self, row: Row, logits: mx.array, width: int, guesses: list[int]) -> _Pass:
        logprobs = log_probabilities(logits)
        drawn = row.sampler(logprobs)
        async_eval(drawn, logprobs)
        return _Pass(width, guesses, drawn, logprobs)

    def _may_run_ahead(self, row: Row, done: _Pass) -> bool:
        """Whether the next pass may start before it is known after what."""
        if self.draft or done.guesses or row.tokens + 1 >= row.max_tokens:
            return False
        if self._waits_at_first and not row.started:
            return False  # MLX's CPU computes most of the next pass before it returns to the host
        if self._rules and not self._rules.open:
            return False
        if self._source is None:
            return True
        right, *others = self._source.chances(WIDEST) or [0.0]
        _, rate = self.costs.best(others)
        return right * rate + (1 - right) / _WAITED <= 1

    def _run_ahead(self, row: Row, done: _Pass) -> _Pass | mx.array:
        """Start the pass after the token that `done` draws; its logits alone where a rule must know the
        token before another one is drawn."""
        logits: mx.array = self._model(done.drawn[None], cache=self._caches)[0]
        self._held += 1
        if self._rules:
            async_eval(logits)
            return logits
        if row.penalties:
            known = mx.concatenate([mx.array(self._tokens), done.drawn.astype(mx.int32)])
            logits = self._penalized(row.penalties, logits, known, [])
        return self._drawn(row, logits, 1, [])

    def _penalized(
        self, penalties: list[Any], logits: mx.array, known: mx.array, guesses: list[int]
    ) -> mx.array:
        """Logits after the tokens that are `known` and after each guess."""
        after = []
        for count in range(len(guesses) + 1):
            one = logits[count : count + 1]
            tokens = mx.concatenate([known, mx.array(guesses[:count], known.dtype)])
            for penalty in penalties:
                one = penalty(tokens, one)
            after.append(one)
        return mx.concatenate(after)

    # ----------------------------------------------------------------------- tokens

    def _take(self, row: Row, done: _Pass, ahead: _Pass | mx.array | None) -> list[Delta]:
        """Add what `done` has drawn, as far as its guesses were right; `ahead` is what was started after
        it."""
        drawn, chosen, known = self._known(row, done)
        if ahead is not None and chosen != drawn:  # started after another token
            self._forget(row, 1, drawn=isinstance(ahead, _Pass))
            ahead = None
        self._pass = ahead if isinstance(ahead, _Pass) else None
        guesses, good = done.guesses, 0
        while good < len(guesses) and guesses[good] == chosen[good]:
            good += 1
        self.proposed += len(guesses)
        self.accepted += good
        self._forget(row, len(guesses) - good)
        deltas: list[Delta] = []
        for token, logprobs in zip(chosen[: good + 1], known, strict=False):
            if self._add(row, token, logprobs, deltas):
                return deltas
        unruled = ahead if isinstance(ahead, _Pass) and self._rules else None
        if unruled:  # the rule holds from the last token on, after which was drawn without it
            self._pass = None
            if isinstance(row.sampler, RandomSampler):
                row.sampler.move(-1)
        if self._force(row, done.logprobs.shape[-1], deltas) == 0:
            if isinstance(ahead, mx.array):
                self._pass = self._draw(row, ahead, 1, [])
            elif unruled:
                self._pass = self._drawn(row, self._ruled(unruled.logprobs, []), 1, [])
        return deltas

    def _known(self, row: Row, done: _Pass) -> tuple[list[int], list[int], Any]:
        """A token for each row of log-probabilities, as it was drawn and as it is to be, and these in
        the host's memory if it reads them."""
        mx.eval(done.drawn, done.logprobs)
        drawn = [int(token) for token in memoryview(done.drawn)]
        if not (row.reads or row.sampling.logprobs):
            return drawn, drawn, [None] * len(drawn)
        known = np.asarray(memoryview(done.logprobs), np.float32)
        chosen = drawn
        if isinstance(row.sampler, RandomSampler) and row.sampler.cuts:
            draws = enumerate(drawn)
            chosen = [row.sampler.complete(one, known[n], row.tokens + n) for n, one in draws]
        return drawn, chosen, known

    def _forget(self, row: Row, count: int, drawn: bool = True) -> None:
        """The last `count` tokens in the caches were guessed wrongly, and others `drawn` after them."""
        if count:
            trim_prompt_cache(self._caches[:-1], count)
            self._held -= count
            if drawn and isinstance(row.sampler, RandomSampler):
                row.sampler.move(-count)
        if self.draft:
            self.draft.forget_after(self._held)

    def _force(self, row: Row, vocabulary: int, deltas: list[Delta]) -> int:
        """Add the tokens that the rule leaves no choice about, which the next pass reads; how many."""
        count = 0
        while self._rules and (tokens := self._rules.forced()):
            for token in tokens:
                self.forced += 1
                count += 1
                if isinstance(row.sampler, RandomSampler):
                    row.sampler.move(1)
                certain = np.full(vocabulary, -np.inf, np.float32)
                certain[token] = 0
                if self._add(row, token, certain, deltas):
                    return count
        return count

    def _add(self, row: Row, token: int, logprobs: Any, deltas: list[Delta]) -> bool:
        """Add one token to the row; whether it has ended by it."""
        first = not row.started
        self._tokens.append(token)
        if self._source:
            self._source.add(token)
        if self._rule:
            self._rule.follow(token)
        reason = "length" if row.tokens + 1 >= row.max_tokens else None
        if token in self._ends:
            reason = "stop"
        response = SimpleNamespace(token=token, logprobs=logprobs, finish_reason=reason)
        deltas.append(row.add(response))
        ended = deltas[-1].finish_reason is not None
        self._unkept = self._unkept or first
        if self._prefixes and ended:
            held = self._tokens[: self._held]
            self._prefixes.keep(row.root, held, self._caches[:-1], ended=True)
        if ended:
            self._clear()
        return ended


def _after(count: int, states: mx.array) -> mx.array:
    """Those after the first `count` tokens."""
    return states[:, count:]


def _masked(logits: mx.array, allowed: Sequence[Allowed | None]) -> mx.array:
    """Logits [tokens, vocabulary], each masked by its own of `allowed`."""
    if all(one is None for one in allowed):
        return logits
    everything = np.ones(logits.shape[-1], bool)
    return masked(logits, np.stack([everything if one is None else one for one in allowed]))
