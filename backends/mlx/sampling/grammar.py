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
_HABITS: tuple[Any, ...] = (
    {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
    {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"},
)
"""The ways in which JSON is usually written on one line, each a part of what JSON_SPACES allows."""
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
        matcher, *habits = (matcher.deep_copy() for matcher in self.compile(grammar))
        return GrammarRule(matcher, self._ends, self._vocabulary, habits)

    def _compile(self, grammar: Grammar) -> list[LLMatcher]:
        """The matcher of a grammar, and those of the ways in which it is usually kept to."""
        try:
            source, *habits = _sources(grammar)
        except (ValueError, RecursionError) as error:
            raise _refusal(grammar, str(error)) from error
        # Compiled once: checking it first would cost as much again, 2 ms for each tool.
        matcher = LLMatcher(self._tokens, source, log_level=0)
        if matcher.is_error():
            raise _refusal(grammar, matcher.get_error())
        return [matcher, *(LLMatcher(self._tokens, habit, log_level=0) for habit in habits)]

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
    """See `following.Rule`. `failed` once the grammar cannot continue. `habits` take a part of what it
    allows."""

    over = False

    def __init__(
        self,
        matcher: LLMatcher,
        ends: Sequence[int],
        vocabulary: int,
        habits: Sequence[LLMatcher] = (),
    ) -> None:
        self._matcher = matcher
        self._habits = list(habits)  # that the answer keeps to so far
        self._unread: list[int] = []  # tokens of the answer that these have not followed
        self._followed: list[bool] = []  # of each token, whether the matcher took it
        self._vocabulary = vocabulary
        self._ends = list(ends)
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
            self._unread.append(token)

    def undo(self) -> None:
        if self._followed.pop():
            self._matcher.rollback(1)
            if self._unread:
                self._unread.pop()
            else:
                self._habits = []

    def forced(self) -> list[int]:
        if self._matcher.is_stopped() or self.failed:
            return self._ends if len(self._ends) == 1 else []
        return list(self._matcher.compute_ff_tokens())

    def likely(self) -> list[int]:
        for habit in self._habits:
            habit.consume_tokens(self._unread)
        self._unread = []
        self._habits = [habit for habit in self._habits if not habit.is_error()]
        return list(self._habits[0].compute_ff_tokens()) if self._habits else []

    def fitting(self, tokens: Sequence[int]) -> int:
        return 0 if self._matcher.is_stopped() else self._matcher.validate_tokens(list(tokens))

    def ahead(self, tokens: Sequence[int]) -> list[Allowed]:
        found = []
        for token in tokens:
            self.follow(token)
            found.append(self.allowed())
        for _ in found:
            self.undo()
        return found

    def allowed(self) -> Allowed:
        if self._matcher.is_stopped() or self.failed:
            return self._only_ends
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(mask, bitorder="little")[: self._vocabulary].astype(bool)
        # A mask without any token would make every logit infinite.
        return allowed if allowed.any() else self._only_ends


def _sources(grammar: Grammar) -> list[str]:
    """The grammar in llguidance's notation, and the ways in which it is usually kept to. Raises
    ValueError."""
    match grammar.kind:
        case "json_object" | "json_schema":
            schema = json.loads(grammar.source) if grammar.source else {"type": "object"}
            if not isinstance(schema, (dict, bool)):
                raise ValueError("it is not a JSON object")
            plain = json.dumps(enforceable(schema))
            written = LLMatcher.grammar_from_json_schema
            return [written(plain, overrides=how) for how in (JSON_SPACES, *_HABITS)]
        case "regex":
            return [LLMatcher.grammar_from_regex(grammar.source)]
        case "lark":
            return [LLMatcher.grammar_from_lark(grammar.source)]


def _refusal(grammar: Grammar, reason: str) -> BackendError:
    first, *rest = reason.strip().splitlines()
    if first.startswith("regex parse error") and rest:  # the pattern, a pointer into it, and why
        first = f"the pattern {rest[0].strip()}: {rest[-1].removeprefix('error: ')}"
    line = first.rstrip(".")
    return BackendError(f"{_NAMES[grammar.kind]} cannot be enforced: {line}.")
