"""Answers that follow a grammar: before each token, those that would break it are masked."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from backends.base import BackendError, Grammar
from backends.mlx.sampling.following import Allowed
from backends.mlx.schemas import enforceable

# A confused model may write white space forever, which any schema allows.
JSON_SPACES: Any = {"whitespace_pattern": r"[ \n\r\t]{0,16}"}
_NAMES = {
    "json_object": "JSON",
    "json_schema": "The JSON schema",
    "regex": "The regular expression",
    "lark": "The Lark grammar",
}


class Grammars:
    """The grammars of one model; its tokenizer is prepared on first use."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer = tokenizer  # mlx-lm's wrapper
        self._vocabulary = vocabulary
        self.compile = functools.lru_cache(maxsize=64)(self._compile)

    def start(self, grammar: Grammar) -> GrammarRule:
        """The rule of a new answer. Raises BackendError with the reason for a wrong grammar."""
        return GrammarRule(self.compile(grammar).deep_copy(), self._ends, self._vocabulary)

    def _compile(self, grammar: Grammar) -> LLMatcher:
        try:
            source = _source(grammar)
        except (ValueError, RecursionError) as error:
            raise _refusal(grammar, str(error)) from error
        # Compiled once: checking it first would cost as much again, 2 ms for each tool.
        matcher = LLMatcher(self._tokens, source, log_level=0)
        if matcher.is_error():
            raise _refusal(grammar, matcher.get_error())
        return matcher

    @property
    def _ends(self) -> list[int]:
        return sorted(self._tokenizer.eos_token_ids)

    @functools.cached_property
    def _tokens(self) -> LLTokenizer:
        """Raises BackendError for a tokenizer that llguidance does not know."""
        backend = getattr(self._tokenizer._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise BackendError("Grammars need a fast tokenizer, which this model does not have.")
        return _llguidance_tokenizer(backend.to_str(), self._vocabulary, tuple(self._ends))


@functools.lru_cache(maxsize=4)
def _llguidance_tokenizer(described: str, vocabulary: int, ends: tuple[int, ...]) -> LLTokenizer:
    """Takes a second or two and holds the GIL meanwhile: shared by all models of a process that
    have the same tokenizer."""
    try:
        return LLTokenizer(described, n_vocab=vocabulary, eos_token=list(ends))
    except (ValueError, RuntimeError) as error:
        raise BackendError(
            f"Grammars cannot be enforced with this model's tokenizer: {error}."
        ) from error


class GrammarRule:
    """See `following.Rule`. `failed` once the grammar cannot continue."""

    over = False

    def __init__(self, matcher: LLMatcher, ends: Sequence[int], vocabulary: int) -> None:
        self._matcher = matcher
        self._followed: list[bool] = []  # of each token, whether the matcher took it
        self._vocabulary = vocabulary
        self._only_ends = np.zeros(vocabulary, bool)
        self._only_ends[list(ends)] = True

    @property
    def failed(self) -> bool:
        return bool(self._matcher.is_error())

    def follow(self, token: int) -> None:
        # After an end mlx-lm still computes one step, whose token is discarded.
        self._followed.append(not self._matcher.is_stopped())
        if self._followed[-1]:
            self._matcher.consume_token(token)

    def undo(self) -> None:
        if self._followed.pop():
            self._matcher.rollback(1)

    def allowed(self) -> Allowed:
        if self._matcher.is_stopped() or self.failed:
            return self._only_ends
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(mask, bitorder="little")[: self._vocabulary].astype(bool)
        # A mask without any token would make every logit infinite.
        return allowed if allowed.any() else self._only_ends


def _source(grammar: Grammar) -> str:
    """The grammar in llguidance's notation. Raises ValueError."""
    match grammar.kind:
        case "json_object":
            return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=JSON_SPACES)
        case "json_schema":
            schema = json.loads(grammar.source)
            if not isinstance(schema, (dict, bool)):
                raise ValueError("it is not a JSON object")
            plain = json.dumps(enforceable(schema))
            return LLMatcher.grammar_from_json_schema(plain, overrides=JSON_SPACES)
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.source)
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.source)


def _refusal(grammar: Grammar, reason: str) -> BackendError:
    first, *rest = reason.strip().splitlines()
    if first.startswith("regex parse error") and rest:  # the pattern, a pointer into it, and why
        first = f"the pattern {rest[0].strip()}: {rest[-1].removeprefix('error: ')}"
    line = first.rstrip(".")
    return BackendError(f"{_NAMES[grammar.kind]} cannot be enforced: {line}.")
