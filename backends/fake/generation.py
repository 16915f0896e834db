"""Replies that are a pure function of the prompt, the adapter's bytes and the seed."""

# ruff: noqa: S311 (pseudo-random on purpose: everything here must repeat)

from __future__ import annotations

import codecs
import hashlib
import json
import random
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import (
    BackendError,
    Delta,
    FinishReason,
    ImportedModel,
    Message,
    Sampling,
    UnsupportedModel,
)
from backends.prompts import room_after
from backends.text import StopText

_WORDS = (
    "adapter amber anchor apple autumn basin birch bridge candle canyon café cedar circle cloud "
    "copper coral dawn delta dune eagle echo ember falcon fern field flint forest garden glacier "
    "granite harbor hazel hill island ivory jasmine kettle lake lantern maple meadow moon naïve "
    "north ocean olive orchard paper pebble pine quartz rain reed river saffron silver stone "
    "summer thistle tide valley 日本 willow winter 🐱"
)
WORDS = tuple(_WORDS.split())
END = 2  # the token that ends a reply
_BYTES_PER_TOKEN = 64  # what a cache of a small model would hold


@dataclass
class _Row:
    uid: str
    pieces: Iterator[tuple[int, bytes]]  # token and the bytes it stands for
    room: int  # tokens that may still come
    tokens: int  # held in the imagined cache
    decoder: codecs.IncrementalDecoder
    stop: StopText
    randomness: random.Random
    waiting: bool = True


class FakeModel:
    """See `backends.base.LoadedModel`. A row's first token comes in its second step."""

    def __init__(
        self,
        model: ImportedModel,
        step_seconds: float,
        reply_words: int,
        adapter: Path | None = None,
    ) -> None:
        self.name = model.path.name
        self.context_length = model.context_length
        self._weight_bytes = sum(f.stat().st_size for f in model.path.glob("model*.safetensors"))
        self._step_seconds = step_seconds
        self._reply_words = reply_words
        self._adapters: dict[Path, bytes] = {}
        self._rows: dict[str, _Row] = {}
        self._own = adapter
        if adapter is not None:
            self.add_adapter(adapter)

    @property
    def nbytes(self) -> int:
        tokens = sum(row.tokens for row in self._rows.values())
        return (
            self._weight_bytes + sum(map(len, self._adapters.values())) + _BYTES_PER_TOKEN * tokens
        )

    def encode(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        """One token per word or mark."""
        return encode(messages, tools)

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
    ) -> None:
        if uid in self._rows:
            raise BackendError(f"The row {uid} is already running; give every row its own name.")
        room = room_after(prompt, self.context_length, self.name)
        adapter = adapter or self._own
        if adapter is not None:
            self.add_adapter(adapter)
        randomness = random.Random(self._digest(prompt, adapter, sampling))
        self._rows[uid] = _Row(
            uid=uid,
            pieces=_spell(self._choose_words(randomness)),
            room=max(1, min(sampling.max_tokens, room)),
            tokens=len(prompt),
            decoder=codecs.getincrementaldecoder("utf-8")(),
            stop=StopText(sampling.stop),
            randomness=randomness,
        )

    def step(self) -> list[Delta]:
        ready = [row for row in self._rows.values() if not row.waiting]
        for row in self._rows.values():
            row.waiting = False
        if ready and self._step_seconds:
            time.sleep(self._step_seconds)
        return [self._advance(row) for row in ready]

    def remove(self, uid: str) -> None:
        self._rows.pop(uid, None)

    def close(self) -> None:
        self._rows.clear()
        self._adapters.clear()

    def _digest(self, prompt: Sequence[int], adapter: Path | None, sampling: Sampling) -> bytes:
        weights = b"" if adapter is None else self._adapters[adapter]
        seed = 0 if sampling.temperature <= 0 else sampling.seed or 0
        parts = (",".join(map(str, prompt)).encode(), hashlib.sha256(weights).digest(), str(seed))
        return hashlib.sha256(repr(parts).encode()).digest()

    def _choose_words(self, randomness: random.Random) -> list[str]:
        count = self._reply_words or randomness.randint(8, 40)
        return [randomness.choice(WORDS) for _ in range(count)]

    def _advance(self, row: _Row) -> Delta:
        token, data = next(row.pieces)
        row.tokens += 1
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
        return Delta(row.uid, text, token, -3 * row.randomness.random(), reason)


def encode(messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None) -> list[int]:
    """The fake's chat template and tokenizer."""
    described = f"<|tools|>{json.dumps(tools)}\n" if tools else ""
    turns = "".join(f"<|{m['role']}|>{m['content']}\n" for m in messages)
    text = f"{described}{turns}<|assistant|>"
    return [1000 + zlib.crc32(piece.encode()) % 48000 for piece in re.findall(r"\w+|\S", text)]


def _spell(words: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """The reply's tokens. A word beyond ASCII is spelled in two that part a character."""
    for position, word in enumerate(words):
        token = 100 + 2 * WORDS.index(word)
        data = word.encode() if position == 0 else b" " + word.encode()
        cut = len(data) if word.isascii() else next(n for n, b in enumerate(data) if b >= 0x80) + 1
        yield token, data[:cut]
        if cut < len(data):
            yield token + 1, data[cut:]
    yield END, b""
