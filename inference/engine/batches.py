"""What the generation thread computes: rows in the batches of the models in memory.

Everything here runs on that thread; other threads read the figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from backends.base import Question
from inference.engine.failures import failure, no_room_for_texts, out_of_budget, too_late
from inference.engine.memory.residents import Resident, Residents
from inference.engine.requests.places import Place
from inference.engine.requests.rendering import Rendering
from inference.engine.requests.row import Row
from inference.protocol import Count, Event

_MEMORY_EVERY_S = 0.25


class Batches:
    """Each model in memory has one batch. Events go to `send`, which must not wait."""

    def __init__(self, residents: Residents, send: Callable[[Row, Event], None]) -> None:
        self._residents = residents
        self._send = send
        self._memory_checked = 0.0
        self.rendering = Rendering()
        self.row_seconds = 1.0  # that a request takes, lately
        self.counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[Resident, Row]]:
        """The rows that run, each with its model."""
        return iter([(one, row) for one in self._residents for row in tuple(one.rows.values())])

    def __len__(self) -> int:
        return sum(len(resident.rows) for resident in self._residents)

    def keys(self) -> Counter[str]:
        """How many rows of each key run."""
        return Counter(row.key for _, row in self)

    def insert(self, row: Row, may_wait: bool) -> bool:
        """Put a row into its model's batch, or end it with an error; False when it has to wait for
        memory."""
        try:
            began, held = time.perf_counter(), self._residents.holds(row.place)
            resident = self._residents.get(row.place)
            if not held:
                row.waited_for_model(began)
            model = resident.model
            prompt = self.rendering.limited(lambda: row.encode(model))
            context = row.context
            fits_context = len(prompt) < model.context_length  # else `insert` says why
            labels = row.request.labels
            if labels and fits_context:
                needed = model.needed_for_answers(prompt, labels)
                if not self._residents.has_room_aside(resident, needed):
                    if may_wait:
                        return False
                    raise no_room_for_texts(needed, self._residents.taken)
            elif fits_context and not self._residents.has_room_for(resident, context):
                if may_wait:
                    return False
                # One whose length nobody chose ends where the memory does.
                least = context._replace(whole=context.prompt)
                may_begin = row.request.cut_late and self._residents.has_room_for(resident, least)
                if not may_begin:
                    raise out_of_budget(context.whole, self._residents.taken)
            if labels:
                # Between two steps, as vectors are: the other rows wait for it.
                cached, started = 0, row.started(0)
                found = model.likelihoods(prompt, labels, row.place.shared_adapter)
                events = [started, *row.choose(found)]
                resident.touch()
                resident.measure()  # the prompt may be in the cache now
            elif row.request.prompt_logprobs is not None:
                shown, cached = row.shown(model), 0
                row.start_reading(model)
                resident.rows[row.uid] = row
                events = [row.started(0), *shown]
            elif row.request.sampling.max_tokens == 0:
                shown, cached = row.shown(model), 0
                events = [row.started(0), *shown, *row.finish("length", model)]
            else:
                shown, cached = row.shown(model), self._answer(resident, row, prompt)
                events = [row.started(cached), *shown]
        except Exception as error:
            self.fail(row, error)
            return True
        for event in events:
            self._send(row, event)
        self.counts["requests"] += 1
        self.counts["prompt_tokens"] += len(prompt)
        self.counts["cached_tokens"] += cached
        self.counts["cache_hits"] += cached > 0
        return True

    def _answer(self, resident: Resident, row: Row, prompt: list[int]) -> int:
        """Put a prompt into its model's batch; how many of its tokens were in the cache."""
        sampling = row.sampling(resident.model)
        cached = resident.model.insert(row.uid, prompt, row.place.shared_adapter, sampling)
        resident.rows[row.uid] = row
        return cached

    def _read(self, resident: Resident) -> None:
        """One pass over a prompt whose log-probabilities are wanted, of one row at a time: the rows
        that are being answered wait for it."""
        row = next((row for row in resident.rows.values() if row.reading), None)
        if row is None:
            return
        try:
            if (read := row.read()) is not None:
                self._send(row, read)
                return
            del resident.rows[row.uid]
            prompt = row.end_reading()
            if row.request.sampling.max_tokens != 0:
                self._answer(resident, row, prompt)
                return
            for event in row.finish("length", resident.model):
                self._send(row, event)
            resident.measure()  # the prompt may be in the cache now
        except Exception as error:
            resident.rows.pop(row.uid, None)
            self.fail(row, error)

    def step(self) -> None:
        """One step of each batch: the next tokens, and what ends with them."""
        for resident in self._residents:
            if not resident.rows:
                continue
            self._read(resident)
            try:
                deltas = resident.model.step()
            except Exception as error:
                # The batch is in an unknown state; the next request loads the model again.
                self._fail_all(resident, error)
                continue
            moment = time.perf_counter()
            self.counts["steps"] += 1
            self._count_guesses(resident)
            resident.touch()
            for delta in deltas:
                row = resident.rows.get(delta.uid)
                if row is None:
                    continue
                self.counts["tokens"] += 1
                if (chunk := row.take(delta, moment)) is not None:
                    self._send(row, chunk)
                if delta.finish_reason is not None:
                    del resident.rows[row.uid]
                    resident.measure()  # its context is gone, or a prefix in the cache now
                    self.row_seconds += (row.seconds - self.row_seconds) / 8
                    try:
                        for event in row.finish(delta.finish_reason, resident.model):
                            self._send(row, event)
                    except Exception as error:
                        self.fail(row, error)

    def _count_guesses(self, resident: Resident) -> None:
        known, resident.guesses = resident.guesses, resident.model.guesses
        names = ("drafted_tokens", "accepted_tokens", "forced_tokens")
        for name, before, now in zip(names, known, resident.guesses, strict=True):
            self.counts[name] += now - before

    def keep_within_budget(self) -> None:
        """Rows grow: give back prefixes and idle models, and at last the newest rows, before their next
        tokens take what is not there; but no rows for the sake of other processes, whose memory was free
        when the rows started."""
        now = time.monotonic()
        if now - self._memory_checked < _MEMORY_EVERY_S:
            return
        self._memory_checked = now
        residents = self._residents
        residents.keep_room()
        while (
            not residents.make_room(soon := residents.soon_bytes)
            and residents.nbytes + soon > residents.budget_bytes
            and len(self)
        ):
            resident, row = max(self, key=lambda pair: -pair[1].seconds)
            self._remove(resident, row)
            resident.measure()
            tokens = row.prompt_tokens + row.completion_tokens
            if row.may_be_cut:
                self._cut(row, resident)
            else:
                self.fail(row, out_of_budget(tokens, residents.taken))

    def drop(self, row: Row) -> None:
        """Take a row out without a word, if it runs."""
        for resident in self._residents:
            if resident.rows.get(row.uid) is row:
                self._remove(resident, row)

    def drop_late(self, row: Row) -> None:
        """Take out a row that missed its deadline: what it wrote is its answer, if that may be."""
        found = [resident for resident, one in self if one is row]
        self.drop(row)
        if row.may_be_cut and found:
            self._cut(row, found[0])
        else:
            self._send(row, too_late(row))

    def _cut(self, row: Row, resident: Resident) -> None:
        try:
            for event in row.finish("length", resident.model):
                self._send(row, event)
        except Exception as error:
            self.fail(row, error)

    def fail(self, row: Row, error: Exception) -> None:
        self._send(row, failure(error, row))

    def _remove(self, resident: Resident, row: Row) -> None:
        resident.model.remove(row.uid)
        del resident.rows[row.uid]

    def _fail_all(self, resident: Resident, error: Exception) -> None:
        for row in resident.rows.values():
            self.fail(row, error)
        resident.rows.clear()
        self._residents.evict(resident)

    # ------------------------------------------------------------- between two steps

    def load(self, place: Place, pin: bool | None) -> Resident:
        resident = self._residents.get(place)
        if pin is not None:
            (self._residents.pinned.add if pin else self._residents.pinned.discard)(place.key)
        return resident

    def embed(
        self, place: Place, texts: Sequence[str], question: Question | None
    ) -> tuple[list[list[float]], int]:
        """Vectors, or with a question how well each text answers it, and how many tokens were read.
        Texts for which there is no memory together are read one by one. Raises Unavailable where it
        has none for one of them."""
        resident, adapter = self._residents.get(place), place.shared_adapter
        model = resident.model
        if question:
            render = [partial(model.encode_pair, question, text) for text in texts]
            pairs = [self.rendering.limited(pair) for pair in render]
            prompts = [pair.tokens for pair in pairs]
            ranked = partial(model.relevances, adapter=adapter)
            scores = self._in_memory(resident, pairs, prompts, model.needed_to_rank, ranked)
            found = [[score] for score in scores]
        else:
            prompts = [model.encode_text(text) for text in texts]
            embedded = partial(model.embed, adapter=adapter)
            found = self._in_memory(resident, prompts, prompts, model.needed_to_embed, embedded)
        resident.touch()
        tokens = sum(map(len, prompts))
        self.counts["requests"] += 1
        self.counts["prompt_tokens"] += tokens
        return found, tokens

    def _in_memory[Item, Found](
        self,
        resident: Resident,
        items: Sequence[Item],
        prompts: Sequence[Sequence[int]],
        needed: Callable[[Sequence[Item]], int],
        read: Callable[[Sequence[Item]], list[Found]],
    ) -> list[Found]:
        """What `read` finds in the items, whose tokens are `prompts`."""
        # Those that are too long are refused by the model, which says so.
        most = resident.model.context_length
        short = [item for item, prompt in zip(items, prompts, strict=True) if len(prompt) <= most]
        if self._residents.has_room_aside(resident, needed(short)):
            return read(items)
        if len(items) == 1:
            raise no_room_for_texts(needed(items), self._residents.taken)
        each = zip(items, prompts, strict=True)
        return [self._in_memory(resident, [one], [tokens], needed, read)[0] for one, tokens in each]

    def count(self, place: Place, chat: Count) -> int:
        """How many tokens a chat has."""
        model = self._residents.get(place).model
        render = partial(model.encode, chat.messages, chat.tools or None, chat.template)
        return len(self.rendering.limited(render))
