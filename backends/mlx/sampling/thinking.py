"""Thoughts before an answer: they end within their budget, and a grammar waits until they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from backends.base import ThoughtMarks
from backends.mlx.sampling.following import Allowed, Rule


@dataclass(frozen=True)
class MarkTokens:
    """The tokens between which a model thinks, and those that end an answer."""

    open: tuple[int, ...]
    close: tuple[int, ...]
    ends: tuple[int, ...]
    vocabulary: int

    @classmethod
    def of(cls, tokenizer: Any, vocabulary: int) -> MarkTokens | None:
        """None for a model that has no marks of its own."""
        if not tokenizer.has_thinking:
            return None
        ends = tuple(sorted(tokenizer.eos_token_ids))
        return cls(
            tuple(tokenizer.think_start_tokens), tuple(tokenizer.think_end_tokens), ends, vocabulary
        )

    def one(self, token: int) -> Allowed:
        """This token alone."""
        allowed = np.zeros(self.vocabulary, bool)
        allowed[token] = True
        return allowed


class _State(NamedTuple):
    where: Literal["before", "thinking", "closing", "words"]
    thoughts: int = 0  # tokens
    last: tuple[int, ...] = ()  # of them, as many as the closing mark has at most
    written: int = 0  # tokens of the closing mark


class ThinkingRule:
    """See `following.Rule`. After `budget` tokens of thoughts the closing mark is the only way on;
    `then` holds for what comes after the thoughts, or for all of an answer that has none."""

    def __init__(
        self, tokens: MarkTokens, marks: ThoughtMarks, budget: int | None, then: Rule | None
    ) -> None:
        self._tokens, self._budget, self._then = tokens, budget, then
        self._before = self._state = (
            self._counted(_State("thinking")) if marks.opened else _State("before")
        )
        self._then_followed = False

    @property
    def failed(self) -> bool:
        return self._then is not None and self._then.failed

    @property
    def over(self) -> bool:
        return self._state.where == "words" and self._then is None

    def follow(self, token: int) -> None:
        self._before, self._then_followed = self._state, False
        where = self._state.where
        if where == "before" and token == self._tokens.open[0]:
            self._state = self._counted(_State("thinking"))
        elif where in ("before", "words"):
            self._state = _State("words")
            if self._then is not None:
                self._then.follow(token)
                self._then_followed = True
        elif where == "closing":
            self._state = self._closing(self._state.written + 1)
        else:
            close = self._tokens.close
            last = (*self._state.last, token)[-len(close) :]
            if last == close:
                self._state = _State("words")
            else:
                self._state = self._counted(_State("thinking", self._state.thoughts + 1, last))

    def undo(self) -> None:
        self._state = self._before
        if self._then_followed and self._then is not None:
            self._then.undo()

    def allowed(self) -> Allowed | None:
        tokens, then = self._tokens, self._then
        match self._state.where:
            case "closing":
                return tokens.one(tokens.close[self._state.written])
            case "thinking":
                if then is None:
                    return None
                return ~_any_of(tokens.ends, tokens.vocabulary)  # there is no answer yet
            case "words":
                return then.allowed() if then else None
        allowed = then.allowed() if then else None
        if self._budget == 0:
            thinks = tokens.one(tokens.open[0])
            return ~thinks if allowed is None else allowed & ~thinks
        return None if allowed is None else allowed | tokens.one(tokens.open[0])

    def _counted(self, state: _State) -> _State:
        """`state`, or the closing mark where the budget is used up."""
        if self._budget is None or state.thoughts < self._budget:
            return state
        written = next(
            n
            for n in range(len(self._tokens.close), -1, -1)
            if _ends_with(state.last, self._tokens.close[:n])
        )
        return self._closing(written)

    def _closing(self, written: int) -> _State:
        whole = written >= len(self._tokens.close)
        return _State("words") if whole else _State("closing", written=written)


def _ends_with(tokens: Sequence[int], wanted: Sequence[int]) -> bool:
    return list(tokens[len(tokens) - len(wanted) :]) == list(wanted)


def _any_of(tokens: Sequence[int], vocabulary: int) -> Allowed:
    allowed = np.zeros(vocabulary, bool)
    allowed[list(tokens)] = True
    return allowed
