"""Replies that are a pure function of the prompt, the adapter's bytes and the seed."""

# ruff: noqa: S311 (pseudo-random on purpose: everything here must repeat)

from __future__ import annotations

import codecs
import hashlib
import math
import random
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from backends.base import (
    BackendError,
    CallReader,
    Context,
    Delta,
    FinishReason,
    Grammar,
    Guesses,
    ImportedModel,
    LoadOptions,
    Memory,
    Message,
    Pair,
    PromptToken,
    Question,
    Sampling,
    ThoughtMarks,
    TokenLogprob,
    ToolCall,
    UnsupportedModel,
    inputs,
)
from backends.base.call_pieces import HERMES, JSONCalls
from backends.fake import chat, grammar
from backends.prefixes import BLOCK, PrefixTree
from backends.prompts import room_after
from backends.text import StopText
from backends.thoughts import CLOSE

_WORDS = (
    "adapter amber anchor apple autumn basin birch bridge candle canyon café cedar circle cloud "
    "copper coral dawn delta dune eagle echo ember falcon fern field flint forest garden glacier "
    "granite harbor hazel hill island ivory jasmine kettle lake lantern maple meadow moon naïve "
    "north ocean olive orchard paper pebble pine quartz rain reed river saffron silver stone "
    "summer thistle tide valley 日本 willow winter 🐱"
)
WORDS = tuple(_WORDS.split())
END = 2  # the token that ends a reply
THOUGHT_END = 3
BYTES_PER_TOKEN = 64  # what a cache of a small model would hold
EMBEDDING = 32  # numbers of a vector


@dataclass
class _Row:
    uid: str
    pieces: Iterator[tuple[int, bytes]]  # token and the bytes it stands for
    root: bytes  # whose prefixes it shares
    sampling: Sampling
    room: int  # tokens that may still come
    tokens: list[int]  # held in the imagined cache
    stop: StopText
    randomness: random.Random
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")()
    )
    waiting: bool = True

    @property
    def nbytes(self) -> int:
        kept = min(len(self.tokens), self.sampling.max_kv_tokens or len(self.tokens))
        return BYTES_PER_TOKEN * kept


class FakeModel:
    """See `backends.base.LoadedModel`. A row's first token comes in its second step."""

    guesses = Guesses()  # none

    def __init__(
        self,
        model: ImportedModel,
        step_seconds: float,
        reply_words: int,
        adapter: Path | None = None,
        options: LoadOptions = LoadOptions(),
        reply: str = "",
    ) -> None:
        self.name = model.path.name
        self.context_length = model.context_length
        self._weight_bytes = sum(f.stat().st_size for f in model.path.glob("model*.safetensors"))
        self._step_seconds = step_seconds
        self._reply_words = reply_words
        self._reply = reply
        self._adapters: dict[Path, bytes] = {}
        self._rows: dict[str, _Row] = {}
        self._own = adapter
        self._prefixes: PrefixTree[None] = PrefixTree(options.cache_bytes)
        if adapter is not None:
            self.add_adapter(adapter)

    @property
    def memory(self) -> Memory:
        return Memory(
            weights=self._weight_bytes,
            adapters=sum(map(len, self._adapters.values())),
            contexts=sum(row.nbytes for row in self._rows.values()),
            prefixes=self.cache_bytes,
        )

    @property
    def nbytes(self) -> int:
        return self.memory.total

    @property
    def cache_bytes(self) -> int:
        return self._prefixes.nbytes

    def shrink_cache(self, most_bytes: int) -> None:
        self._prefixes.shrink(most_bytes)

    def limit_cache(self, most_bytes: int) -> None:
        self._prefixes.limit(most_bytes)

    def settle(self) -> None:
        """There is nothing to prepare."""

    def needed_for(self, contexts: Sequence[Context]) -> int:
        return BYTES_PER_TOKEN * sum(context.whole for context in contexts)

    def growth(self, tokens: int) -> int:
        return BYTES_PER_TOKEN * sum(min(tokens, row.room) for row in self._rows.values())

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] | None = None,
        template: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """One token per word or mark. It thinks when `enable_thinking` is true."""
        tools = list(map(inputs.shown, tools or ()))
        return chat.encode(messages, tools, thinks=bool((template or {}).get("enable_thinking")))

    def thought_marks(self, prompt: Sequence[int]) -> ThoughtMarks:
        return ThoughtMarks(opened=chat.thinks(prompt))

    def encode_text(self, text: str) -> list[int]:
        return chat.encode_text(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The words that are known, with a space between each two of them."""
        room_after(tokens, self.context_length, self.name)
        return chat.decode(tokens)

    def parse_tool_calls(
        self, text: str, tools: Sequence[dict[str, Any]]
    ) -> tuple[str, list[ToolCall]]:
        return chat.parse_tool_calls(text)

    def call_reader(self, tools: Sequence[dict[str, Any]]) -> CallReader | None:
        return JSONCalls(HERMES)

    def tool_grammar(
        self, tools: Sequence[dict[str, Any]], otherwise: Grammar | None = None
    ) -> Grammar:
        """One of the calls, whose arguments the tools' names decide."""
        if otherwise:
            return grammar.call_or(otherwise)
        return Grammar("regex", "|".join(re.escape(_call(tool)) for tool in tools))

    def strict_grammar(self, tools: Sequence[dict[str, Any]]) -> tuple[Grammar | None, list[str]]:
        """Its own calls fit their schemas in any case."""
        strict = list(filter(inputs.is_strict, tools))
        unheld = [tool["function"]["name"] for tool in strict if not _can_call(tool)]
        return Grammar("lark", mark="<tool_call>") if strict else None, unheld

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        """The more tokens two prompts share, the closer their vectors."""
        prompts = [prompt or [END] for prompt in prompts]
        for prompt in prompts:
            room_after(prompt, self.context_length, self.name)
        return [_embedding(prompt, self._adapter_digest(adapter)) for prompt in prompts]

    def needed_to_embed(self, prompts: Sequence[Sequence[int]]) -> int:
        return BYTES_PER_TOKEN * sum(map(len, prompts))

    def encode_pair(self, question: Question, text: str) -> Pair:
        first = chat.encode_text(f"{question.instruction} {question.query}".strip())
        return Pair([*first, *chat.encode_text(text)], len(first))

    def relevances(self, pairs: Sequence[Pair], adapter: Path | None) -> list[float]:
        """The share of the query's tokens that the text has, too."""
        for pair in pairs:
            room_after(pair.tokens, self.context_length, self.name)
        return [_share(set(tokens[:second]), tokens[second:]) for tokens, second in pairs]

    def needed_to_rank(self, pairs: Sequence[Pair]) -> int:
        return self.needed_to_embed([pair.tokens for pair in pairs])

    def needed_for_answers(self, prompt: Sequence[int], answers: Sequence[str]) -> int:
        return BYTES_PER_TOKEN * len(answers) * len(prompt)

    def likelihoods(
        self, prompt: Sequence[int], answers: Sequence[str], adapter: Path | None
    ) -> list[float]:
        """The fixed reply is the likeliest answer where it is one of them."""
        room_after(prompt, self.context_length, self.name)
        root = self._adapter_digest(adapter)
        return [
            -0.125 if answer == self._reply else -1 - 4 * _digest_share(prompt, root, answer)
            for answer in answers
        ]

    def prompt_logprobs(
        self, prompt: Sequence[int], adapter: Path | None, top: int
    ) -> Iterator[list[PromptToken]]:
        """Eight tokens at a time; about half of them are the likeliest ones."""
        room_after(prompt, self.context_length, self.name)
        root = self._adapter_digest(adapter)
        read = [_read(prompt, at, root, top) for at in range(len(prompt))]
        for start in range(0, len(read), 8):
            if self._step_seconds:
                time.sleep(self._step_seconds)
            yield read[start : start + 8]

    def add_adapter(self, path: Path) -> None:
        """Raises UnsupportedModel when the folder is no adapter."""
        if path in self._adapters:
            return
        try:
            (path / "adapter_config.json").read_bytes()
            self._adapters[path] = (path / "adapters.safetensors").read_bytes()
        except OSError as error:
            raise UnsupportedModel(
                f"The adapter {path.name} lacks adapters.safetensors or adapter_config.json."
            ) from error

    def insert(
        self, uid: str, prompt: Sequence[int], adapter: Path | None, sampling: Sampling
    ) -> int:
        if uid in self._rows:
            raise BackendError(f"The row {uid} is already running; give every row its own name.")
        room = room_after(prompt, self.context_length, self.name)
        root = self._adapter_digest(adapter)
        thinks = chat.thinks(prompt)
        asked = chat.unthinking(prompt) if thinks else prompt
        randomness = random.Random(_digest(asked, root, sampling))
        words = self._answer(asked, sampling, randomness)
        self._rows[uid] = _Row(
            uid=uid,
            pieces=chain(_thoughts(sampling), words) if thinks else words,
            root=root,
            sampling=sampling,
            room=sampling.most_tokens(room),
            tokens=list(prompt),
            stop=StopText(sampling.stop),
            randomness=randomness,
        )
        # The last token is always read again: the answer begins after it.
        held = self._prefixes.find(root, prompt[:-1])
        return BLOCK * sum(blocks for _, blocks in held)

    def step(self) -> list[Delta]:
        ready = [row for row in self._rows.values() if not row.waiting]
        for row in self._rows.values():
            if row.waiting:
                self._remember(row)
                row.waiting = False
        if ready and self._step_seconds:
            time.sleep(self._step_seconds)
        return [self._advance(row) for row in ready]

    def remove(self, uid: str) -> None:
        self._rows.pop(uid, None)

    def close(self) -> None:
        self._rows.clear()
        self._adapters.clear()
        self._prefixes.shrink(0)

    def _adapter_digest(self, adapter: Path | None) -> bytes:
        adapter = adapter or self._own
        if adapter is None:
            return hashlib.sha256(b"").digest()
        self.add_adapter(adapter)
        return hashlib.sha256(self._adapters[adapter]).digest()

    def _answer(
        self, prompt: Sequence[int], sampling: Sampling, randomness: random.Random
    ) -> Iterator[tuple[int, bytes]]:
        tool = chat.called_tool(prompt)
        otherwise = grammar.otherwise(sampling.grammar)
        wanted = otherwise or sampling.grammar
        if wanted and not wanted.mark and not (tool and otherwise):
            return _spell_text(grammar.write(wanted, randomness, WORDS))
        if self._reply:
            replies = self._reply.split("\f")
            return _spell_text(replies[min(chat.answers(prompt), len(replies) - 1)])
        if tool:
            schema = tool.get("parameters") or {"type": "object"}
            arguments = grammar.write_value(schema, randomness, WORDS)
            return _spell_text(chat.write_tool_call(tool["name"], arguments))
        return _spell(self._choose_words(sampling, randomness))

    def _choose_words(self, sampling: Sampling, randomness: random.Random) -> list[str]:
        count = self._reply_words or randomness.randint(8, 40)
        words = _allowed_words(sampling)
        penalties = (
            sampling.repetition_penalty > 1,
            sampling.presence_penalty > 0,
            sampling.frequency_penalty > 0,
        )
        if any(penalties):  # as with a strong penalty: no word twice
            return randomness.sample(words, min(count, len(words)))
        return [randomness.choice(words) for _ in range(count)]

    def _advance(self, row: _Row) -> Delta:
        token, data = next(row.pieces)
        row.tokens.append(token)
        row.room -= 1
        reason: FinishReason | None = None
        if token == END:
            reason = "stop"
        elif row.room == 0:
            reason = "length"
        text = row.stop.push(row.decoder.decode(data))
        if row.stop.stopped:
            reason = "stop"
        elif reason is not None:
            text += row.stop.flush()
        if reason is not None:
            del self._rows[row.uid]
            self._remember(row)
        logprob = math.log(1 - 0.4 * row.randomness.random())
        if not row.sampling.logprobs:
            return Delta(row.uid, text, token, logprob, reason, stop=row.stop.found)
        piece = data.decode(errors="replace")
        chosen = TokenLogprob(token, piece, logprob, data)
        top = _likeliest(chosen, row.sampling.top_logprobs, row.randomness)
        return Delta(row.uid, text, token, logprob, reason, piece, top, row.stop.found, data)

    def _remember(self, row: _Row) -> None:
        if not row.sampling.max_kv_tokens:
            self._prefixes.add(row.root, row.tokens, BYTES_PER_TOKEN, lambda start, stop: None)


def _thoughts(sampling: Sampling) -> Iterator[tuple[int, bytes]]:
    """Twelve words, or as many as the budget allows."""
    words = WORDS[:12] if sampling.thinking_budget is None else WORDS[: sampling.thinking_budget]
    *thoughts, _end = _spell(words[:12])
    yield from thoughts
    yield THOUGHT_END, f"{CLOSE}\n\n".encode()


def _digest(prompt: Sequence[int], adapter: bytes, sampling: Sampling) -> bytes:
    seed = 0 if sampling.temperature <= 0 else sampling.seed or 0
    parts = (",".join(map(str, prompt)).encode(), adapter, str(seed))
    return hashlib.sha256(repr(parts).encode()).digest()


def _digest_share(prompt: Sequence[int], adapter: bytes, answer: str) -> float:
    """A number from 0 to 1 that each of the three decides."""
    whole = repr((list(prompt), adapter, answer)).encode()
    return int.from_bytes(hashlib.sha256(whole).digest()[:4]) / 2**32


def _read(prompt: Sequence[int], at: int, root: bytes, top: int) -> PromptToken:
    """The token at a place of a prompt; all before it decides how likely it is."""
    token, text = prompt[at], ("" if at == 0 else " ") + chat.decode(prompt[at : at + 1])
    if at == 0:
        return PromptToken(token, text, text.encode())
    share, data = _digest_share(prompt[:at], root, text), text.encode()
    logprob = math.log(0.6 + 0.3 * share if share > 0.5 else 0.01 + share / 8)
    likeliest = TokenLogprob(token, text, logprob, data)
    if share <= 0.5:
        likeliest = TokenLogprob(_token("amber"), " amber", math.log(0.5), b" amber")
    return PromptToken(token, text, data, logprob, _likeliest(likeliest, top, random.Random(token)))


def _allowed_words(sampling: Sampling) -> list[str]:
    """The words that a bias of 50 or more asks for, else all that one of -50 or less leaves."""
    bias = dict(sampling.logit_bias)
    wanted = [word for word in WORDS if bias.get(_token(word), 0) >= 50]
    return wanted or [word for word in WORDS if bias.get(_token(word), 0) > -50] or list(WORDS)


def _likeliest(
    chosen: TokenLogprob, count: int, randomness: random.Random
) -> tuple[TokenLogprob, ...]:
    """`chosen`, then words that share what likelihood is left, each half of the one before."""
    others = [word for word in randomness.sample(WORDS, count) if _token(word) != chosen.token]
    left = 1 - math.exp(chosen.logprob)
    top = [chosen]
    for n, word in enumerate(others):
        logprob = math.log(left / 2 ** (n + 1) + 1e-30)
        top.append(TokenLogprob(_token(word), f" {word}", logprob, f" {word}".encode()))
    return tuple(top[:count])


def _embedding(prompt: Sequence[int], adapter: bytes) -> list[float]:
    """The mean of a random direction for each token, at unit length."""
    total = [0.0] * EMBEDDING
    for token in prompt:
        directions = random.Random(adapter + token.to_bytes(4))
        for n in range(EMBEDDING):
            total[n] += directions.gauss()
    length = math.sqrt(sum(x * x for x in total))
    return [x / length for x in total]


def _share(wanted: set[int], tokens: Sequence[int]) -> float:
    return len(wanted & set(tokens)) / max(1, len(wanted))


def _token(word: str) -> int:
    return 100 + 2 * WORDS.index(word)


def _spell(words: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """The reply's tokens. A word beyond ASCII is spelled in two that part a character."""
    for position, word in enumerate(words):
        token = _token(word)
        data = word.encode() if position == 0 else b" " + word.encode()
        cut = len(data) if word.isascii() else next(n for n, b in enumerate(data) if b >= 0x80) + 1
        yield token, data[:cut]
        if cut < len(data):
            yield token + 1, data[cut:]
    yield END, b""


def _call(tool: dict[str, Any]) -> str:
    function = tool["function"]
    try:
        schema = inputs.schema_of(tool) or {"type": "object"}
    except ValueError as error:
        raise BackendError(
            f"The grammar of {function['name']} cannot be followed: {error}."
        ) from error
    arguments = grammar.write_value(schema, random.Random(function["name"]), WORDS)
    return chat.write_tool_call(function["name"], arguments)


def _can_call(tool: dict[str, Any]) -> bool:
    try:
        _call(tool)
    except BackendError:
        return False
    return True


def _spell_text(text: str) -> Iterator[tuple[int, bytes]]:
    """A text that is fixed or that a grammar made: a token for each word, mark or space."""
    for piece in re.findall(r"\w+|[^\w]", text):
        yield 1000 + zlib.crc32(piece.encode()) % 48000, piece.encode()
    yield END, b""
