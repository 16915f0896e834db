"""A row of the running batch: one prompt and its answer, from the generator's responses to text,
log-probabilities and a finish reason."""

from __future__ import annotations

import functools
from collections.abc import Container
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from backends.base import Delta, FinishReason, Sampling, TokenLogprob
from backends.mlx.device import device_kind
from backends.mlx.sampling.following import RuleMask
from backends.mlx.sampling.penalties import Processor
from backends.mlx.sampling.sampler import RandomSampler, Sampler
from backends.mlx.sampling.spelling import spell
from backends.text import StopText

_UNLIKELY = -9999.0  # OpenAI's number for what is as good as impossible; JSON has no infinity


class Pieces:
    """Single tokens inside a text: their text, U+FFFD for parts of characters, and their bytes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        detokenizer = tokenizer.detokenizer
        self._spelled = getattr(detokenizer, "tokenmap", None)  # as the answer's text is made of
        self._ends = frozenset(tokenizer.eos_token_ids)
        # What mlx-lm's detokenizers do to the space before the first word of an answer.
        self.trims = self._spelled is not None and getattr(detokenizer, "trim_space", True)
        # Some tokenizers drop the space before the first word, so nothing is decoded first.
        self._before = list(tokenizer.encode("a", add_special_tokens=False))[-1:]
        self._skipped = len(tokenizer.decode(self._before))
        self.text = functools.lru_cache(maxsize=16_384)(self._text)
        self.spelling = functools.lru_cache(maxsize=16_384)(self._spelling)

    def _text(self, token: int) -> str:
        text: str = self._tokenizer.decode([*self._before, token])
        return text[self._skipped :]

    def data(self, token: int) -> bytes:
        """The bytes that it adds to an answer; what ends one adds none."""
        return b"" if token in self._ends else self.spelling(token)

    def _spelling(self, token: int) -> bytes:
        text = self.text(token)
        spelled = self._spelled
        if spelled is None:  # a tokenizer that mlx-lm only decodes whole
            [word] = self._tokenizer.convert_ids_to_tokens([token])
            data = spell(word) if isinstance(word, str) else b""
            return data if data.decode(errors="replace") == text else text.encode()
        word = spelled[token] if token < len(spelled) else "!"  # as mlx-lm writes it
        if isinstance(word, bytes):
            return word.replace("\u2581".encode(), b" ")
        return spell(word or "")

    def candidate(self, token: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(token, self.text(token), max(logprob, _UNLIKELY), self.data(token))


@dataclass(slots=True)
class Row:
    """`number` is the batch generator's name for the row. Rows with the same `root` share prefixes."""

    uid: str
    adapter: Path | None
    sampling: Sampling
    detokenizer: Any
    pieces: Pieces
    root: bytes
    mask: RuleMask | None
    stop: StopText
    sampler: Sampler
    max_tokens: int
    penalties: list[Processor]
    number: int = -1
    tokens: int = 0  # generated so far
    reads: bool = field(default_factory=lambda: device_kind() != "cuda")
    """Whether the host reads the log-probability of every token. CUDA moves the pages that the host
    reads, and back: there only when somebody asked for it."""

    @property
    def started(self) -> bool:
        return self.tokens > 0

    @property
    def processors(self) -> list[Processor | RuleMask]:
        """Of its logits. An idle rule is none: it costs its row no wait, and the others no kernel."""
        holds = self.mask is not None and not self.mask.rule.idle
        return [*self.penalties, *([self.mask] if self.mask and holds else [])]

    def complete(self, response: Any, ends: Container[int]) -> Any:
        """The response with the token of a draw from the whole vocabulary, which is nearly always
        the same one."""
        if not isinstance(self.sampler, RandomSampler) or not self.sampler.cuts:
            return response
        logprobs = np.asarray(memoryview(response.logprobs), np.float32)
        token = self.sampler.complete(response.token, logprobs, self.tokens)
        if token == response.token:
            return response
        last = "length" if self.tokens + 1 >= self.max_tokens else None
        return replace(response, token=token, finish_reason="stop" if token in ends else last)

    def add(self, response: Any) -> Delta:
        """What the generator's response adds. The row has ended when it has a finish reason."""
        self.tokens += 1
        reason: FinishReason | None = response.finish_reason
        text = ""
        if reason != "stop":  # "stop" is an end-of-sequence token, which is not text
            self.detokenizer.add_token(response.token)
            text = self.stop.push(self.detokenizer.last_segment)
        if reason is not None and not self.stop.stopped:
            # Text that was waiting for more tokens, without an unfinished UTF-8 character.
            self.detokenizer.finalize()
            text += self.stop.push(self.detokenizer.last_segment.rstrip("\ufffd"))
            text += self.stop.flush()
        if self.stop.stopped:
            reason = "stop"
        elif reason == "stop" and self.mask and self.mask.failed:
            reason = "length"  # the grammar could not continue: the answer is incomplete
        piece, data, top = self._told(response) if self.sampling.logprobs else ("", b"", ())
        # The row of log-probabilities is evaluated memory: reading it from the host costs 1 µs
        # and, unlike indexing in MLX, does not queue behind the step that already runs.
        logprob = 0.0
        if self.reads or self.sampling.logprobs:
            logprob = float(memoryview(response.logprobs)[response.token])
        stop = self.stop.found
        return Delta(self.uid, text, response.token, logprob, reason, piece, top, stop, data)

    def _told(self, response: Any) -> tuple[str, bytes, tuple[TokenLogprob, ...]]:
        """Text and bytes of the response's token, and the likeliest ones."""
        logprobs = np.asarray(memoryview(response.logprobs), np.float32)
        top = tuple(
            self.pieces.candidate(token, float(logprobs[token]))
            for token in largest(logprobs, self.sampling.top_logprobs)
        )
        text, data = self.pieces.text(response.token), self.pieces.data(response.token)
        if self.tokens == 1 and self.pieces.trims and data.startswith(b" "):
            text, data = text.removeprefix(" "), data[1:]
            chosen = (replace(one, text=text, data=data) for one in top)
            pairs = zip(top, chosen, strict=True)
            top = tuple(new if old.token == response.token else old for old, new in pairs)
        return text, data, top


def largest(logprobs: np.ndarray[Any, Any], count: int) -> list[int]:
    """The most likely tokens in order, impossible ones last."""
    count = min(count, len(logprobs))
    if count < 1:
        return []
    tokens = np.argpartition(logprobs, -count)[-count:]
    return [int(token) for token in tokens[np.argsort(-logprobs[tokens], kind="stable")]]


def vocabulary_size(model: Any) -> int:
    """How many logits the model returns."""
    return int(model(mx.array([[0]])).shape[-1])
