"""Rows with one kind of cache, decoded together by mlx-lm's batch generator.

Almost all rows share one lane. Those with another kind of cache (a window, quantized) cannot be in
one batch with them, and get a lane of their own while there are any.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, PromptProcessingBatch
from mlx_lm.generate import GenerationBatch as _GenerationBatch
from mlx_lm.models.cache import TokenBuffer as _TokenBuffer
from mlx_lm.models.cache import trim_prompt_cache

from backends.base import Delta
from backends.mlx.device import device_kind
from backends.mlx.kernels.exponential import log_probabilities
from backends.mlx.sampling.following import RuleMask, async_eval
from backends.mlx.sampling.sampler import RandomSampler
from backends.mlx.serving.adapters import RoutedModel
from backends.mlx.serving.caches import BatchKVCache, Kind, RowsCache
from backends.mlx.serving.needs import MOST_PROMPTS, PREFILL, growth
from backends.mlx.serving.prefix_cache import PrefixCache
from backends.mlx.serving.rows import Row

GenerationBatch: Any = _GenerationBatch  # untyped, as these are
TokenBuffer: Any = _TokenBuffer

_MAX_ROWS = 32  # decoded together; further rows wait their turn


class Lane:
    """`prefixes` is None where rows cannot share prefixes."""

    def __init__(
        self, model: Any, kind: Kind, ends: Sequence[int], prefixes: PrefixCache | None
    ) -> None:
        self.kind = kind
        self.rows: dict[int, Row] = {}
        self._ends = frozenset(ends)
        self._prefixes = prefixes
        self._chunk, self._chunk_of_all = PREFILL[device_kind()]
        self._given: set[int] = (
            set()
        )  # rows whose next token, which no step has read, is handed out
        self._unkept: list[Row] = []  # rows whose prompts are not in the prefix cache yet
        self._waited: set[int] = set()  # rows that had to wait for prompts in the last step
        self._changed = False  # rows came or went in the last step
        self._generator: Any = BatchGenerator(
            model,
            stop_tokens=[[token] for token in sorted(ends)],
            completion_batch_size=_MAX_ROWS,
            prefill_batch_size=MOST_PROMPTS,
            prefill_step_size=self._chunk,
        )
        self._generator._generation_batch = _Running.empty(model, self._generator.sampler)

    @property
    def stream(self) -> mx.Stream:
        stream: mx.Stream = self._generator.stream
        return stream

    @property
    def nbytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

    def growth(self, tokens: int) -> int:
        """Bytes that its running rows take beside `nbytes` while each writes so many more tokens."""
        return growth(self._generator._generation_batch.prompt_cache, tokens)

    def insert(self, row: Row, prompt: Sequence[int], cached: int, caches: list[Any]) -> None:
        """Add `row`, whose `caches` hold the first `cached` tokens of its prompt."""
        (row.number,) = self._generator.insert(
            [list(prompt[cached:])],
            max_tokens=[row.max_tokens],
            caches=[caches],
            all_tokens=[list(prompt[:cached])],
            samplers=[row.sampler],
            logits_processors=[row.processors],
        )
        if row.mask:
            row.mask.drawn = functools.partial(self._drawn, row)
        self.rows[row.number] = row

    def adopt(
        self,
        row: Row,
        caches: list[Any],
        read: Sequence[int],
        unread: Sequence[int],
        *,
        answered: bool,
    ) -> None:
        """Continue a row that ran elsewhere: `caches` hold its tokens `read`. One that is being `answered`
        joins the next step of the running rows."""
        left = row.max_tokens - row.tokens
        generator = self._generator
        (row.number,) = generator.insert(
            [list(unread)],
            max_tokens=[left],
            caches=[caches],
            all_tokens=[list(read)],
            samplers=[row.sampler],
            logits_processors=[row.processors],
        )
        if row.mask:
            row.mask.drawn = functools.partial(self._drawn, row)
        self.rows[row.number] = row
        if answered and len(unread) == 1:
            generator._unprocessed_sequences.pop()
            batch = GenerationBatch.empty(generator.model, generator.sampler)
            batch.uids, batch.tokens = [row.number], [list(read)]
            batch.samplers, batch.logits_processors = [row.sampler], [tuple(row.processors)]
            batch.stop_sequences = [generator._default_stop_sequences]
            batch.max_tokens = [left]
            batch._num_tokens = [-1]  # the token that is handed out is none of these
            batch._token_context = [TokenBuffer(list(read))]
            batch._matchers = [generator._default_stop_sequences.matcher()]
            with mx.stream(self.stream):
                batch.prompt_cache = [type(cache).merge([cache]) for cache in caches]
                batch._next_tokens = mx.array(list(unread), mx.uint32)
                batch._next_logprobs = [mx.zeros((1,))]  # nobody reads them again
                generator._generation_batch.extend(batch)
            self._given.add(row.number)

    def release(self, row: Row) -> tuple[Row, list[Any], list[int], mx.array, mx.array]:
        """Hand over a row that is being answered: itself, its caches, the tokens in them, and what the
        step under way draws, with its log-probabilities [1, vocabulary]."""
        running = self._generator._generation_batch
        place = running.uids.index(row.number)
        with mx.stream(self.stream):
            caches, tokens = running.extract_cache(place), running.tokens[place]
            drawn = running._next_tokens[place : place + 1]
            logprobs = running._next_logprobs[place][None]
            self._generator.remove([row.number])
        del self.rows[row.number]
        if row.mask:
            row.mask.leave()
        return row, caches, tokens, drawn, logprobs

    def may_leave(self, row: Row) -> bool:
        """Whether `release` can hand it over now: nothing that it has drawn is handed out already."""
        return row.started and row.number not in self._given

    def keep_prompts(self) -> None:
        """Put the prompts of the rows that have started into the prefix cache, where others find them. Not
        at once: first tokens would wait for the copies."""
        unkept, self._unkept = self._unkept, []
        for row in unkept:
            if self._prefixes and self.rows.get(row.number) is row:
                self._keep_prefix(self._prefixes, row)

    def step(self) -> list[Delta]:
        """The next token of the running rows and a piece of each new prompt; or, where all that is left
        of the prompts fits into one pass, the first tokens of these alone. The pass of the others is not
        even asked for until these are handed out: a CPU would compute most of it first. But the running
        rows go first each time they have waited, and where one of them has not started: its prompt was read
        beside a longer one."""
        prompts = sum(not row.started for row in self.rows.values())
        share = self._chunk_of_all // min(max(prompts, 1), MOST_PROMPTS)
        self._generator.prefill_step_size = min(self._chunk, share)
        self.keep_prompts()
        begins = self._can_begin
        deltas: list[Delta] = []
        running = self._generator._generation_batch.uids
        first = any(uid in self._waited or not self.rows[uid].started for uid in running)
        if first or not begins:
            self._make_room()
            deltas += self._run(alone=begins)
        if begins:
            deltas += self._begin()
        changed = prompts > 0 or any(delta.finish_reason for delta in deltas)
        self._changed = self._changed or changed
        return deltas

    def _run(self, *, alone: bool) -> list[Delta]:
        """A step of the running rows, and unless they run `alone` a piece of each prompt."""
        generator = self._generator
        self._waited.clear()
        if alone:
            with mx.stream(self.stream):
                responses = generator._generation_batch.next()
        else:
            _, responses = generator.next()
        # The responses end here: they hold on to the batch as it was before.
        fresh = [response for response in responses if response.uid not in self._given]
        self._given.clear()
        return [self._advance(self.rows[response.uid], response) for response in fresh]

    def settle(self) -> None:
        """Compute what the running rows hold after some came or went, one layer at a time."""
        for cache in self._generator._generation_batch.prompt_cache:
            if isinstance(cache, BatchKVCache) and cache.keys is not None:
                mx.eval(cache.keys, cache.values)

    def _make_room(self) -> None:
        """Before a step, where rows came or went or their arrays are full. Left to the next pass, a CPU
        makes the new arrays of all layers before it frees the first old one."""
        if device_kind() == "cpu":
            if self._changed:
                self.settle()
            for cache in self._generator._generation_batch.prompt_cache:
                if isinstance(cache, RowsCache) and cache.lengthen():
                    mx.eval(cache.keys, cache.values)
        self._changed = False

    @property
    def _can_begin(self) -> bool:
        """Whether there are prompts, and one pass can read all that is left of them."""
        generator = self._generator
        unread = [entry[1] for entry in generator._unprocessed_sequences]
        unread += [entry[0] for entry in generator._currently_processing]
        most = min(MOST_PROMPTS, _MAX_ROWS - len(generator._generation_batch))
        lengths = [sum(map(len, parts)) for parts in unread]
        if not (0 < len(unread) <= most and max(lengths) <= generator.prefill_step_size):
            return False
        # Without a head of its own, what stands before the last tokens is read first: of all rows.
        return bool(generator.model.is_headed) or (min(lengths) > 1) == (max(lengths) > 1)

    def _begin(self) -> list[Delta]:
        """Read what is left of all prompts in one pass, which also draws their first tokens, and hand
        these out."""
        generator = self._generator
        with mx.stream(self.stream):
            prompts = generator._prompt_batch
            prompts.extend(generator._make_batch(len(generator._unprocessed_sequences)))
            generator._prompt_batch = PromptProcessingBatch.empty(
                generator.model, generator.sampler, prefill_step_size=self._chunk
            )
            unread = [[*chain(*entry[0])] for entry in generator._currently_processing]
            generator._currently_processing = []
            for tokens, left in zip(prompts.tokens, unread, strict=True):
                tokens += left[:-1]
            # As if it were a step over the last tokens, as mlx-lm begins an answer.
            prompts.model = functools.partial(_read_all, generator.model, unread)
            batch = prompts.generate([left[-1:] for left in unread])
            batch.model = generator.model
            mx.eval(batch._next_tokens, batch._next_logprobs)
            deltas = self._hand_out(batch)
            running = generator._generation_batch
            self._waited = set(running.uids)
            running.extend(batch)
        for delta, uid in zip(deltas, batch.uids, strict=True):
            if delta.finish_reason is not None:
                row = self.rows[uid]
                if self._prefixes:
                    self._keep_prefix(self._prefixes, row, ended=True)
                self.remove(row)
        return deltas

    def _hand_out(self, batch: Any) -> list[Delta]:
        """What a batch has drawn that no step has read yet."""
        tokens = [int(token) for token in memoryview(batch._next_tokens)]
        chosen, deltas = [], []
        for place, (uid, token) in enumerate(zip(batch.uids, tokens, strict=True)):
            row = self.rows[uid]
            last = "length" if row.tokens + 1 >= row.max_tokens else None
            response = GenerationBatch.Response(
                uid=uid,
                token=token,
                logprobs=batch._next_logprobs[place],
                finish_reason="stop" if token in self._ends else last,
                prompt_cache=None,
                all_tokens=None,
            )
            drawn = row.complete(response, self._ends)
            chosen.append(drawn.token)
            if not row.started:
                self._unkept.append(row)
            deltas.append(row.add(drawn))
            self._given.add(uid)
            if row.mask:
                row.mask.came(drawn.token)
                row.mask.leave()
                batch.logits_processors[place] = tuple(row.processors)
        if chosen != tokens:
            batch._next_tokens = mx.array(chosen, batch._next_tokens.dtype)
        return deltas

    def _drawn(self, row: Row) -> tuple[mx.array, int]:
        """While a step is built: the tokens of the step before, and the place of `row`."""
        running = self._generator._generation_batch
        return running._current_tokens, running.uids.index(row.number)

    def remove(self, row: Row) -> None:
        del self.rows[row.number]
        self._given.discard(row.number)
        with mx.stream(self.stream):
            self._generator.remove([row.number])

    def close(self) -> None:
        """What runs is dropped. It must not fail where a step has: the error has been reported."""
        with suppress(RuntimeError):
            for row in list(self.rows.values()):
                self.remove(row)
        self.rows.clear()
        with suppress(RuntimeError):
            mx.synchronize(self.stream)
        self._generator.close()

    def _advance(self, row: Row, response: Any) -> Delta:
        """Add the generator's response to its row, and drop the row if it ended."""
        drawn = row.complete(response, self._ends)
        if drawn is not response:
            self._replace(row, response, drawn)
            response = drawn
        if not row.started:
            self._unkept.append(row)
        delta = row.add(response)
        ended = delta.finish_reason is not None
        if self._prefixes and ended:
            self._keep_prefix(self._prefixes, row, response, ended=True)
        if ended:
            if response.finish_reason is None:
                self.remove(row)
            else:
                del self.rows[row.number]
        elif row.mask:
            self._rule(row, row.mask, response.token)
        return delta

    def _rule(self, row: Row, mask: RuleMask, token: int) -> None:
        """Let the rule of a row know its `token`. Where it holds from that on, the next one, which the step
        under way has drawn without it, is drawn again from the same log-probabilities."""
        holds_now = mask.came(token)
        running = self._generator._generation_batch
        place = running.uids.index(row.number)
        running.logits_processors[place] = tuple(row.processors)
        if not holds_now or row.number in self._given:  # of which no next one is drawn
            return
        if isinstance(row.sampler, RandomSampler):
            row.sampler.move(-1)
        with mx.stream(self.stream):
            logits = mask.ruled(running._next_logprobs[place][None])
            logprobs = log_probabilities(logits)
            others, drawn = running._next_tokens, row.sampler(logprobs)
            parts = [others[:place], drawn.astype(others.dtype), others[place + 1 :]]
            running._next_tokens = mx.concatenate(parts)
            running._next_logprobs[place] = logprobs[0]
            async_eval(running._next_tokens, logprobs)

    def _replace(self, row: Row, response: Any, drawn: Any) -> None:
        """Replace the token that the generator drew: the row is inserted again, with its cache less
        the last token."""
        if row.mask:
            row.mask.replace(drawn.token)
        with mx.stream(self.stream):
            if response.prompt_cache is None:
                caches, tokens = self._generator.extract_cache([row.number])[row.number]
                self._generator.remove([row.number])
            else:
                caches, tokens = response.prompt_cache, response.all_tokens
            del tokens[-1]
            trim_prompt_cache(caches[:-1], 1)
            if isinstance(row.sampler, RandomSampler):
                row.sampler.move(-1)  # the draw of the step under way, which is dropped
            if drawn.finish_reason is not None:
                drawn.prompt_cache, drawn.all_tokens = caches, tokens
                return
            drawn.prompt_cache = None
            del self.rows[row.number]
            row.max_tokens -= 1  # the drawn token counts as generated
            self.adopt(row, caches, tokens, [drawn.token], answered=True)
            row.max_tokens += 1

    def _keep_prefix(
        self, prefixes: PrefixCache, row: Row, response: Any = None, *, ended: bool = False
    ) -> None:
        """Put the row's cache into the prefix cache: its prompt when it has started, all of it at its end."""
        with mx.stream(self.stream):
            if response is not None and response.prompt_cache is not None:
                tokens, caches = response.all_tokens, response.prompt_cache
            else:
                caches, tokens = self._generator.extract_cache([row.number])[row.number]
            prefixes.keep(row.root, tokens, caches[:-1], ended=ended)


class _Running(GenerationBatch):  # type: ignore[misc]
    """The rows that are being answered: mlx-lm's batch with a step that is faster on a CPU."""

    _next_tokens: Any
    _next_logprobs: Any

    def _step(self) -> tuple[list[int], list[mx.array]]:
        """Ask for the pass after the tokens that were drawn last; these, and their log-probabilities."""
        drawn, self._current_logprobs = self._next_tokens, self._next_logprobs
        self._current_tokens = drawn
        logits = self.model(drawn[:, None], cache=self.prompt_cache)[:, -1]
        contexts: list[mx.array] = []
        if any(self.logits_processors):
            each = [logits[row : row + 1] for row in range(len(self.uids))]
            for row, processors in enumerate(self.logits_processors):
                if processors:
                    contexts.append(self._token_context[row].update_and_fetch(drawn[row : row + 1]))
                    for processor in processors:
                        each[row] = processor(contexts[-1], each[row])
            logits = mx.concatenate(each)
        logprobs = log_probabilities(logits)
        if len({id(sampler) for sampler in self.samplers}) == 1:
            self._next_tokens = self.samplers[0](logprobs)
        else:
            draws = [draw(logprobs[row : row + 1]) for row, draw in enumerate(self.samplers)]
            self._next_tokens = mx.concatenate(draws)
        self._next_logprobs = list(logprobs)
        async_eval(self._next_tokens, self._next_logprobs, contexts)
        mx.eval(drawn, self._current_logprobs)
        tokens: list[int] = drawn.tolist()
        for held, token in zip(self.tokens, tokens, strict=True):
            held.append(token)
        return tokens, self._current_logprobs


def _read_all(
    model: RoutedModel, prompts: Sequence[Sequence[int]], _: mx.array, cache: list[Any]
) -> mx.array:
    """Logits [rows, 1, vocabulary] after the last token of each of `prompts`, which are read into
    `cache`."""
    if not model.is_headed:
        before = [prompt[:-1] for prompt in prompts]
        if any(before):
            _read(model, before, cache, lambda states: states)
        prompts = [prompt[-1:] for prompt in prompts]
        return model(mx.array(prompts), cache=cache)
    lengths = [len(prompt) for prompt in prompts]
    if min(lengths) == max(lengths):
        return _read(model, prompts, cache, lambda states: states[:, -1:])
    last = mx.array([[[length - 1]] for length in lengths])
    return _read(model, prompts, cache, lambda states: mx.take_along_axis(states, last, axis=1))


def _read(
    model: RoutedModel,
    prompts: Sequence[Sequence[int]],
    cache: list[Any],
    wanted: Callable[[mx.array], mx.array],
) -> mx.array:
    """One pass over prompts of different length."""
    lengths = [len(prompt) for prompt in prompts]
    padding = [max(lengths) - length for length in lengths]
    padded = [[*prompt, *[0] * count] for prompt, count in zip(prompts, padding, strict=True)]
    if not any(padding):
        return model(mx.array(padded), cache, wanted)
    for one in cache:
        one.prepare(lengths=lengths, right_padding=padding)
    logits = model(mx.array(padded), cache, wanted)
    for one in cache:
        one.finalize()
    return logits
