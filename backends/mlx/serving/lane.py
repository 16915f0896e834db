"""Rows with one kind of cache, decoded together by mlx-lm's batch generator.

Almost all rows share one lane. Those with another kind of cache (a window, quantized) cannot be in
one batch with them, and get a lane of their own while there are any.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, GenerationBatch
from mlx_lm.models.cache import trim_prompt_cache

from backends.base import Delta
from backends.mlx.device import device_kind
from backends.mlx.sampling.following import RuleMask, async_eval
from backends.mlx.sampling.sampler import RandomSampler
from backends.mlx.serving.caches import BatchKVCache, Kind
from backends.mlx.serving.needs import MOST_PROMPTS, PREFILL
from backends.mlx.serving.prefix_cache import PrefixCache
from backends.mlx.serving.rows import Row

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
        self._generator: Any = BatchGenerator(
            model,
            stop_tokens=[[token] for token in sorted(ends)],
            completion_batch_size=_MAX_ROWS,
            prefill_batch_size=MOST_PROMPTS,
            prefill_step_size=self._chunk,
        )

    @property
    def stream(self) -> mx.Stream:
        stream: mx.Stream = self._generator.stream
        return stream

    @property
    def nbytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

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
        takes its next step at once, beside the step of the running rows that is under way."""
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
            with mx.stream(self.stream):
                batch = GenerationBatch(
                    generator.model,
                    [row.number],
                    mx.array(list(unread)),
                    [type(cache).merge([cache]) for cache in caches],
                    [list(read)],
                    [row.sampler],
                    generator.sampler,
                    [row.processors],
                    [generator._default_stop_sequences],
                    [left],
                )
                generator._generation_batch.extend(batch)

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

    def step(self) -> list[Delta]:
        prompts = sum(not row.started for row in self.rows.values())
        share = self._chunk_of_all // min(max(prompts, 1), MOST_PROMPTS)
        self._generator.prefill_step_size = min(self._chunk, share)
        if self._can_read_all:
            self._step_prompts_alone()
        deltas = self._step_all()
        if prompts or any(delta.finish_reason for delta in deltas):
            self._settle()
        return deltas

    def _step_all(self) -> list[Delta]:
        """The generator's responses end here: they hold on to the batch as it was before."""
        self._start_answers()
        _, responses = self._generator.next()
        self._start_answers()
        return [self._advance(self.rows[response.uid], response) for response in responses]

    def _settle(self) -> None:
        """Compute what the batch holds after rows came or went, one layer at a time. Left to the next
        pass, a CPU makes the new arrays of all layers before it frees the first old one."""
        if device_kind() == "cpu":
            for cache in self._generator._generation_batch.prompt_cache:
                if isinstance(cache, BatchKVCache) and cache.keys is not None:
                    mx.eval(cache.keys, cache.values)

    @property
    def _can_read_all(self) -> bool:
        """Whether rows run, and all prompts beside them are short enough to be read in one go.

        Then these come first: the running rows' next token is computed together with the second
        one of the new rows, instead of being waited for twice.
        """
        generator = self._generator
        unread = [entry[1] for entry in generator._unprocessed_sequences]
        unread += [entry[0] for entry in generator._currently_processing]
        most = min(MOST_PROMPTS, _MAX_ROWS - len(generator._generation_batch))
        return (
            len(generator._generation_batch) > 0
            and 0 < len(unread) <= most
            and all(len(p) == 2 and len(p[0]) <= generator.prefill_step_size for p in unread)
        )

    def _start_answers(self) -> None:
        """Start the answers whose prompts are read now, so that their first token does not wait for
        another step of the running rows. mlx-lm itself would step those first."""
        generator = self._generator
        unread = [entry[0] for entry in generator._currently_processing]
        read = [len(prompt) == 1 and len(prompt[0]) == 1 for prompt in unread]
        if read and all(read) and not generator._unprocessed_sequences:
            self._step_prompts_alone()

    def _step_prompts_alone(self) -> None:
        """Read prompts while the running rows, if there are any, wait."""
        generator = self._generator
        running = generator._generation_batch
        if not len(running):
            return
        generator._generation_batch = GenerationBatch.empty(generator.model, generator.sampler)
        generator.next()
        started, generator._generation_batch = generator._generation_batch, running
        if len(started):
            with mx.stream(self.stream):
                running.extend(started)

    def _drawn(self, row: Row) -> tuple[mx.array, int]:
        """While a step is built: the tokens of the step before, and the place of `row`."""
        running = self._generator._generation_batch
        return running._current_tokens, running.uids.index(row.number)

    def remove(self, row: Row) -> None:
        del self.rows[row.number]
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
        first = not row.started
        delta = row.add(response)
        ended = delta.finish_reason is not None
        if self._prefixes and (first or ended):
            self._keep_prefix(self._prefixes, row, response, ended=ended)
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
        if not holds_now:
            return
        if isinstance(row.sampler, RandomSampler):
            row.sampler.move(-1)
        with mx.stream(self.stream):
            logits = mask.ruled(running._next_logprobs[place][None])
            logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
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

    def _keep_prefix(self, prefixes: PrefixCache, row: Row, response: Any, *, ended: bool) -> None:
        """Put the row's cache into the prefix cache: its prompt at its first token, all of it at its end."""
        with mx.stream(self.stream):
            if response.prompt_cache is not None:
                tokens, caches = response.all_tokens, response.prompt_cache
            else:
                caches, tokens = self._generator.extract_cache([row.number])[row.number]
            prefixes.keep(row.root, tokens, caches[:-1], ended=ended)
