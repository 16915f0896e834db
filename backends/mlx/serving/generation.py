"""Serving one base model and all its adapters from one running batch.

A row is one prompt and its answer. mlx-lm's BatchGenerator does the continuous batching: each step
decodes one token for every running row and prefills one chunk of the waiting prompts. This module
adds chat templates, adapters, sampling, streamed text and readable errors. It knows nothing of
requests, threads or time.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from backends.base import (
    BackendError,
    CallReader,
    Context,
    Delta,
    Grammar,
    Guesses,
    LoadedModel,
    LoadOptions,
    Memory,
    Message,
    Pair,
    PromptToken,
    PromptTooLong,
    Question,
    Sampling,
    ThoughtMarks,
    ToolCall,
    UnsupportedModel,
)
from backends.base.failures import readable_errors
from backends.base.inputs import is_strict
from backends.mlx.chat import chat_tokens, text_tokens, thought_marks
from backends.mlx.data.examples import whole_answer
from backends.mlx.device import device_kind, free_memory, keep_wired
from backends.mlx.embedding.vectors import causal, embed
from backends.mlx.files.config import find_context_length
from backends.mlx.files.identity import identity
from backends.mlx.files.loading import open_model
from backends.mlx.kernels.quick import quicken
from backends.mlx.sampling.following import Rule, RuleMask
from backends.mlx.sampling.grammar import Grammars
from backends.mlx.sampling.penalties import make_processors
from backends.mlx.sampling.sampler import make_sampler
from backends.mlx.sampling.thinking import MarkTokens, ThinkingRule
from backends.mlx.serving import ranking
from backends.mlx.serving.adapters import BASE, AdapterBank, AdapterRows, RoutedModel, nbytes
from backends.mlx.serving.caches import Kind, check_packing
from backends.mlx.serving.lane import Lane
from backends.mlx.serving.likelihoods import likelihoods, read_prompt
from backends.mlx.serving.needs import PREFILL, Needs
from backends.mlx.serving.prefix_cache import PrefixCache
from backends.mlx.serving.prefix_files import PrefixFiles
from backends.mlx.serving.reading import chunk_of, read, told
from backends.mlx.serving.rows import Pieces, Row, vocabulary_size
from backends.mlx.serving.speculative import Draft, SoloLane
from backends.mlx.threads import clear_streams_at_end
from backends.mlx.tool_calls import call_reader, parse_tool_calls, strict_grammar, tool_grammar
from backends.prompts import room_after
from backends.text import StopText

_MEMORY = "The device is out of memory; unload another model or use a smaller one."
_WORTH_LEAVING = 8  # tokens still to come of a row that leaves its batch, which copies its cache
_DISK_SHARE = 4  # prefixes may take this many times their memory on disk

_open_models = 0


def load_model(
    base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
) -> LoadedModel:
    """Load the MLX model folder `base`.

    An `adapter` of any type becomes part of the model, as mlx-lm applies it. `prepare()` must have
    run. Raises UnsupportedModel, OutOfMemory.
    """
    clear_streams_at_end()
    with readable_errors(_MEMORY):
        model, tokenizer, config = open_model(base, adapter)
        if device_kind() == "cpu":
            quicken(model)  # measured: 16 rows of a base, 161 ms a step instead of 209
        if options.kv_bits:
            check_packing(model, base.name, options.kv_bits)
        files = None
        if options.cache_dir and options.cache_bytes:
            folders = [base] if adapter is None else [base, adapter]
            name = hashlib.sha256(b"".join(map(identity, folders))).digest()
            files = PrefixFiles(options.cache_dir, name, _DISK_SHARE * options.cache_bytes)
        prefixes = PrefixCache(model, options.cache_bytes, files)
        loaded = MLXModel(
            base.name, model, tokenizer, find_context_length(config), options, prefixes, config
        )
    free_memory()  # what reading files and the tokenizer left: 60 MB for the bundled model
    return loaded


class MLXModel:
    """A model in memory; see `backends.base.LoadedModel`."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        context_length: int,
        options: LoadOptions = LoadOptions(),
        prefixes: PrefixCache | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.context_length = context_length
        self._model = model
        self._tokenizer = tokenizer
        self._adapters = AdapterBank(model)
        self._prefixes = prefixes or PrefixCache(model, 0)
        self._vocabulary = vocabulary_size(model)
        self._grammars = Grammars(tokenizer, self._vocabulary)
        # An agent sends the same tools with every request; thirty of them took 80 ms to write down.
        self._calls = functools.lru_cache(maxsize=32)(
            lambda tools, otherwise: tool_grammar(
                tokenizer, self.name, json.loads(tools), otherwise
            )
        )
        self._strict = functools.lru_cache(maxsize=32)(
            lambda tools: strict_grammar(
                tokenizer, self.name, json.loads(tools), self._grammars.compile
            )
        )
        self._think_tokens = MarkTokens.of(tokenizer, self._vocabulary)
        self._answers = functools.lru_cache(maxsize=1024)(
            functools.partial(whole_answer, tokenizer)
        )
        self._pieces = Pieces(tokenizer)
        self._weight_bytes = nbytes(model)
        self._rows: dict[str, Row] = {}
        if not all(hasattr(cache, "merge") for cache in make_prompt_cache(model)):
            raise UnsupportedModel(
                f"The model {name} keeps a kind of cache that cannot be batched; "
                "choose another architecture."
            )
        self._options = options
        self._needs = Needs(model, config or {}, options)
        self._ends = sorted(tokenizer.eos_token_ids)
        self._routed = RoutedModel(model, self._adapters.routing)
        self._lanes = {Kind(): self._make_lane(Kind())}
        self._stream = self._lanes[Kind()].stream
        self._solo: SoloLane | None = None
        self._early: list[Delta] = []  # of a pass that was under way when its row moved
        if self._prefixes.plain:
            self._solo = SoloLane(
                self._routed,
                self._ends,
                self._prefixes if self._prefixes.usable else None,
                self._stream,
                draft=Draft(options.draft, tokenizer, options.draft_tokens)
                if options.draft
                else None,
                looks_up=options.prompt_lookup,
            )
        _count_open(1)

    def settle(self) -> None:
        """Run short rows of different length through the kernels of prefill, padding and decoding; on
        Linux MLX compiles them with g++ on a machine's first use, which takes seconds. One follows
        a grammar: the first of a process reads the whole vocabulary, a quarter of a second for 49,000
        tokens, which would hold up every other row."""
        for uid, length in (("one", 2), ("two", 3)):
            self.insert(uid, [0] * length, None, Sampling(max_tokens=2))
        with suppress(BackendError):  # a tokenizer for which grammars cannot be enforced
            sampling = Sampling(max_tokens=2, grammar=Grammar("json_object"))
            self.insert("three", [0] * 4, None, sampling)
        while self._rows:
            self.step()
        free_memory()  # what reading the vocabulary left: 50 MB for the bundled model

    def insert(
        self, uid: str, prompt: Sequence[int], adapter: Path | None, sampling: Sampling
    ) -> int:
        if uid in self._rows:
            raise BackendError(f"The row {uid} is already running; give every row its own name.")
        room = self._room(prompt)
        if sampling.max_kv_tokens:
            kind = Kind(window=sampling.max_kv_tokens)
        elif self._options.kv_bits and len(prompt) >= self._options.kv_after:
            kind = Kind(bits=self._options.kv_bits)
        else:
            kind = Kind()
        rule = self._rule(prompt, sampling)
        mask = RuleMask(rule) if rule else None
        # A token may change afterwards only where the cache can forget it.
        cuts = self._prefixes.plain and not kind.window
        can_run_alone = kind == Kind()
        with readable_errors(_MEMORY), mx.stream(self._stream):
            slot = BASE if adapter is None else self._adapters.add(adapter)
            row = Row(
                uid=uid,
                adapter=adapter,
                sampling=sampling,
                detokenizer=self._tokenizer.detokenizer,
                pieces=self._pieces,
                root=self._adapters.identity(slot) + bytes([kind.bits]),
                mask=mask,
                stop=StopText(sampling.stop),
                sampler=make_sampler(sampling, cuts=cuts),
                max_tokens=sampling.most_tokens(room),
                penalties=make_processors(sampling, len(prompt), self._vocabulary),
            )
            caches = kind.row_caches(self._model)
            cached = 0
            if self._prefixes.usable and not kind.window:
                self._keep_prompts()
                cached = self._prefixes.restore(row.root, prompt, caches)
            caches.append(AdapterRows([slot]))
            if self._solo and not self._rows and can_run_alone:
                self._solo.insert(row, prompt, cached, caches)
            else:
                if self._solo and self._solo.row:  # it is no longer alone: it joins the batch
                    self._early += self._solo.settle()
                    if self._solo.row:
                        moved, *held = self._solo.release()
                        self._lanes[Kind()].adopt(moved, *held, answered=moved.started)
                if kind not in self._lanes:
                    self._lanes[kind] = self._make_lane(kind)
                self._lanes[kind].insert(row, prompt, cached, caches)
        self._rows[uid] = row
        return cached

    def step(self) -> list[Delta]:
        """Raises OutOfMemory."""
        deltas, self._early = self._early, []
        with readable_errors(_MEMORY):
            if self._solo and self._solo.row:
                deltas += self._solo.step()
            for lane in list(self._lanes.values()):
                if lane.rows:
                    deltas += lane.step()
                elif lane.kind != Kind():
                    lane.close()
                    del self._lanes[lane.kind]
        for delta in deltas:
            if delta.finish_reason is not None:
                del self._rows[delta.uid]
        if self._solo and not self._solo.row and len(self._rows) == 1:
            self._leave_alone(self._solo, *self._rows.values())
        return deltas

    def _keep_prompts(self) -> None:
        """What was read just now is found by the next prompt, too."""
        for lane in (*self._lanes.values(), self._solo):
            if lane:
                lane.keep_prompts()

    def _leave_alone(self, solo: SoloLane, row: Row) -> None:
        """The others of its batch have ended: a row that will still run for a while leaves it."""
        lane = self._lanes[Kind()]
        lasts = row.max_tokens - row.tokens > _WORTH_LEAVING
        if lasts and lane.rows.get(row.number) is row and lane.may_leave(row):
            with readable_errors(_MEMORY):
                solo.resume(*lane.release(row))

    def remove(self, uid: str) -> None:
        row = self._rows.pop(uid, None)
        if row is None:
            return
        if self._solo and self._solo.row is row:
            self._solo.remove(row)
            return
        self._early = [delta for delta in self._early if delta.uid != uid]
        for lane in self._lanes.values():
            if lane.rows.get(row.number) is row:
                lane.remove(row)
                with readable_errors(_MEMORY):
                    lane.settle()  # what it held is free now, and not with the next step

    def close(self) -> None:
        """Streams stay, for other models of this thread; `backends.mlx.threads` ends them."""
        for lane in self._lanes.values():
            lane.close()
        self._prefixes.close()
        _count_open(-1)
        self._rows.clear()
        del self._lanes, self._solo, self._adapters, self._prefixes, self._routed, self._model
        gc.collect()  # a model and its modules refer to each other
        with suppress(RuntimeError):  # of work that failed, which was reported by its step
            mx.synchronize()
        mx.clear_cache()

    @property
    def memory(self) -> Memory:
        weights, contexts = self._weight_bytes, sum(lane.nbytes for lane in self._lanes.values())
        if self._solo:
            weights += self._solo.draft.nbytes if self._solo.draft else 0
            contexts += self._solo.nbytes
        return Memory(int(weights), int(self._adapters.nbytes), int(contexts), self.cache_bytes)

    @property
    def nbytes(self) -> int:
        return self.memory.total

    def needed_for(self, contexts: Sequence[Context]) -> int:
        return self._needs.of(contexts)

    def growth(self, tokens: int) -> int:
        alone = self._solo.growth(tokens) if self._solo else 0
        return alone + sum(lane.growth(tokens) for lane in self._lanes.values())

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] | None = None,
        template: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Raises BackendError when the model has no chat template, or one that refuses."""
        return chat_tokens(self._tokenizer, self.name, messages, tools, template)

    def thought_marks(self, prompt: Sequence[int]) -> ThoughtMarks:
        return thought_marks(self._tokenizer, prompt)

    def encode_text(self, text: str) -> list[int]:
        return text_tokens(self._tokenizer, text)

    def decode(self, tokens: Sequence[int]) -> str:
        self._room(tokens)
        return str(self._tokenizer.decode(list(tokens)))

    def parse_tool_calls(
        self, text: str, tools: Sequence[dict[str, Any]]
    ) -> tuple[str, list[ToolCall]]:
        return parse_tool_calls(self._tokenizer, self.name, text, tools)

    def call_reader(self, tools: Sequence[dict[str, Any]]) -> CallReader | None:
        return call_reader(self._tokenizer, tools)

    def tool_grammar(
        self, tools: Sequence[dict[str, Any]], otherwise: Grammar | None = None
    ) -> Grammar:
        return self._calls(json.dumps(tools), otherwise)

    def strict_grammar(self, tools: Sequence[dict[str, Any]]) -> tuple[Grammar | None, list[str]]:
        if not any(map(is_strict, tools)):
            return None, []
        return self._strict(json.dumps(tools))

    def _rule(self, prompt: Sequence[int], sampling: Sampling) -> Rule | None:
        """What decides which tokens may come next, if anything does."""
        grammar = self._grammars.start(sampling.grammar) if sampling.grammar else None
        bounded = grammar is not None or sampling.thinking_budget is not None
        if self._think_tokens is None or not (bounded and sampling.may_think):
            return grammar
        marks = self.thought_marks(prompt)
        if marks.closed:
            return grammar
        return ThinkingRule(self._think_tokens, marks, sampling.thinking_budget, grammar)

    def _room(self, prompt: Sequence[int]) -> int:
        """Tokens that fit after `prompt`. Raises PromptTooLong, and BackendError for a token beyond
        the embedding, whose row would be read from memory that is not the model's."""
        room = room_after(prompt, self.context_length, self.name)
        if (highest := max(prompt)) >= self._vocabulary:
            raise BackendError(
                f"The prompt has the token {highest}, but {self.name} ends at "
                f"{self._vocabulary - 1}: it is no token of this model, or one of its tokenizer that "
                "was never trained."
            )
        return room

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        # An empty text is one that ends at once.
        prompts = [prompt or self._ends[:1] for prompt in prompts]
        for prompt in prompts:
            self._room(prompt)
        with readable_errors(_MEMORY), mx.stream(self._stream):
            slot = BASE if adapter is None else self._adapters.add(adapter)
            with self._selected(slot):
                return embed(causal(self._model, self.name), prompts)

    def needed_to_embed(self, prompts: Sequence[Sequence[int]]) -> int:
        return self._needs.to_embed(prompts)

    def likelihoods(
        self, prompt: Sequence[int], answers: Sequence[str], adapter: Path | None
    ) -> list[float]:
        written = [self._answers(answer) for answer in answers]
        if self._room(prompt) < max(map(len, written)):
            raise PromptTooLong(
                f"The prompt leaves no room for its answer in the context of {self.name}; "
                "shorten it."
            )
        with readable_errors(_MEMORY), mx.stream(self._stream):
            slot = BASE if adapter is None else self._adapters.add(adapter)
            with self._selected(slot):
                caches = Kind().row_caches(self._model)
                first = self._after(prompt, slot, caches)
                return likelihoods(self._model, first, caches, len(prompt), written)

    def _after(
        self,
        prompt: Sequence[int],
        slot: int,
        caches: list[Any] | None = None,
        *,
        keep: bool = True,
    ) -> mx.array:
        """Log-probabilities [vocabulary] of the token after `prompt`, whose tokens the empty `caches`
        hold afterwards, and with `keep` the prefix cache."""
        caches = caches or Kind().row_caches(self._model)
        root = self._adapters.identity(slot) + bytes([Kind().bits])
        if self._prefixes.usable:
            self._prefixes.restore(root, prompt, caches)
        first = read_prompt(self._model, prompt, caches, PREFILL[device_kind()][0])
        if keep and self._prefixes.usable:
            self._prefixes.keep(root, prompt, caches)
        return first

    def needed_for_answers(self, prompt: Sequence[int], answers: Sequence[str]) -> int:
        return self._needs.for_answers(len(prompt), [len(self._answers(one)) for one in answers])

    def encode_pair(self, question: Question, text: str) -> Pair:
        chat = ranking.asked(self._tokenizer, question, text)
        return Pair(self.encode(chat, None, ranking.TEMPLATE), 0)

    def relevances(self, pairs: Sequence[Pair], adapter: Path | None) -> list[float]:
        for pair in pairs:
            self._room(pair.tokens)
        yes, no = ranking.yes_and_no(self._tokenizer, self.name)
        with readable_errors(_MEMORY), mx.stream(self._stream):
            slot = BASE if adapter is None else self._adapters.add(adapter)
            with self._selected(slot):
                # What the first has in common with the others, they find in the prefix cache.
                said = (self._after(pair.tokens, slot, keep=not n) for n, pair in enumerate(pairs))
                return [ranking.chance(logprobs, yes, no) for logprobs in said]

    def needed_to_rank(self, pairs: Sequence[Pair]) -> int:
        return max((self._needs.for_answers(len(tokens), [1]) for tokens, _ in pairs), default=0)

    def prompt_logprobs(
        self, prompt: Sequence[int], adapter: Path | None, top: int
    ) -> Iterator[list[PromptToken]]:
        self._room(prompt)
        with readable_errors(_MEMORY), mx.stream(self._stream):
            slot = BASE if adapter is None else self._adapters.add(adapter)
            caches = Kind().row_caches(self._model)
        first, pieces = prompt[0], self._pieces
        yield [PromptToken(first, pieces.text(first), pieces.spelling(first))]
        size = chunk_of(self._vocabulary, PREFILL[device_kind()][0])
        for start in range(0, len(prompt) - 1, size):
            said = prompt[start + 1 : start + 1 + size]
            with readable_errors(_MEMORY), mx.stream(self._stream), self._selected(slot):
                tokens = prompt[start : start + len(said)]
                found = read(self._model, tokens, said, caches, min(top, self._vocabulary))
            yield list(told(said, found, pieces))
        if self._prefixes.usable and len(prompt) > 1:
            root = self._adapters.identity(slot) + bytes([Kind().bits])
            with mx.stream(self._stream):
                self._prefixes.keep(root, prompt[:-1], caches)

    @contextmanager
    def _selected(self, slot: int) -> Generator[None]:
        """Compute with the adapter of `slot` outside of a batch."""
        self._adapters.routing.selection = slot
        try:
            yield
        finally:
            self._adapters.routing.selection = BASE

    @property
    def cache_bytes(self) -> int:
        return self._prefixes.nbytes

    def shrink_cache(self, most_bytes: int) -> None:
        self._prefixes.shrink(most_bytes)

    def limit_cache(self, most_bytes: int) -> None:
        self._prefixes.limit(most_bytes)

    def add_adapter(self, path: Path) -> None:
        """Raises UnsupportedModel when `path` is not a LoRA adapter for this base."""
        with readable_errors(_MEMORY):
            self._adapters.add(path)

    def remove_adapter(self, path: Path) -> None:
        """Unload an adapter. Unknown paths are ignored. Raises BackendError while a row uses it."""
        if any(row.adapter == path for row in self._rows.values()):
            raise BackendError(f"The adapter {path.name} is in use; try again when it is idle.")
        self._adapters.remove(path)

    @property
    def guesses(self) -> Guesses:
        solo = self._solo
        return Guesses(solo.proposed, solo.accepted, solo.forced) if solo else Guesses()

    def _make_lane(self, kind: Kind) -> Lane:
        prefixes = self._prefixes if self._prefixes.usable and not kind.window else None
        lane = Lane(self._routed, kind, self._ends, prefixes)
        keep_wired()
        return lane


def _count_open(change: int) -> None:
    """Keep Metal's wired limit raised while any model is open.

    A generator that closes restores the limit from before that generator.
    """
    global _open_models
    _open_models += change
    if change < 0 and _open_models > 0:
        keep_wired()
