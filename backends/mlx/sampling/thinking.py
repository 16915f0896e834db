"""Thoughts before an answer: they end within their budget, and a grammar waits until they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from backends.base import ThoughtMarks
from backends.mlx.sampling.following import Allowed, Rule

_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
# Those that mlx-lm does not know, by the tokens that they are of: of Magistral and Ministral, Seed, Kimi-VL,
# and gpt-oss, which begins its words with a mark in any case.
_MORE = {
    ("[THINK]", "[/THINK]"): ThoughtMarks("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"): ThoughtMarks("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"): ThoughtMarks("◁think▷", "◁/think▷"),
    (_CHANNEL, _MESSAGE, "<|start|>", "<|end|>"): ThoughtMarks(
        f"{_CHANNEL}analysis{_MESSAGE}",
        f"<|end|><|start|>assistant{_CHANNEL}final{_MESSAGE}",
        f"{_CHANNEL}final{_MESSAGE}",
    ),
}


_own: WeakKeyDictionary[Any, ThoughtMarks | None] = WeakKeyDictionary()  # a vocabulary is made anew


def own_marks(tokenizer: Any) -> ThoughtMarks | None:
    """Those of the model's vocabulary; None where it has none."""
    if tokenizer.has_thinking:
        return ThoughtMarks(tokenizer.think_start, tokenizer.think_end)
    if tokenizer not in _own:
        known = tokenizer.get_vocab().keys()
        found = (marks for needed, marks in _MORE.items() if known >= set(needed))
        _own[tokenizer] = next(found, None)
    return _own[tokenizer]


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
        marks = own_marks(tokenizer)
        if marks is None:
            return None
        opening, closing = tokenizer.think_start_tokens, tokenizer.think_end_tokens
        if not tokenizer.has_thinking:
            opening, closing = (_tokens(tokenizer, mark) for mark in (marks.open, marks.close))
        ends = tuple(sorted(tokenizer.eos_token_ids))
        return cls(tuple(opening), tuple(closing), ends, vocabulary)

    def one(self, token: int) -> Allowed:
        """This token alone."""
        allowed = np.zeros(self.vocabulary, bool)
        allowed[token] = True
        return allowed


def _tokens(tokenizer: Any, mark: str) -> list[int]:
    """A mark that is one token stands alone, whatever the tokenizer writes before a text."""
    known = tokenizer.get_vocab()
    return [known[mark]] if mark in known else tokenizer.encode(mark, add_special_tokens=False)


class _State(NamedTuple):
    """`mark` are the tokens of a mark that is being written; `last` the last ones of the thoughts, as
    many as the closing mark has at most; `shared` whether `then` takes the opening mark's so far, too."""

    where: Literal["before", "opening", "thinking", "closing", "words"]
    mark: tuple[int, ...] = ()
    thoughts: int = 0
    last: tuple[int, ...] = ()
    shared: bool = False


class ThinkingRule:
    """See `following.Rule`. After `budget` tokens of thoughts the closing mark is the only way on;
    `then` holds for what comes after the thoughts, or for all of an answer that has none."""

    def __init__(
        self, tokens: MarkTokens, marks: ThoughtMarks, budget: int | None, then: Rule | None
    ) -> None:
        self._tokens, self._budget, self._then = tokens, budget, then
        self._state = self._counted(_State("thinking")) if marks.opened else _State("before")
        self._undo: list[Callable[[], None]] = []  # what takes the last token back from `then`
        self._before = self._state

    @property
    def failed(self) -> bool:
        return self._then is not None and self._then.failed

    @property
    def idle(self) -> bool:
        return not self._is_asked and (self._state.where == "words" or self._budget is None)

    @property
    def _is_asked(self) -> bool:
        """Whether `then` has something to say."""
        return self._then is not None and not self._then.idle

    @property
    def open(self) -> bool:
        where = self._state.where
        return where == "thinking" or (where == "words" and (self._then is None or self._then.open))

    def follow(self, token: int) -> None:
        self._before, self._undo = self._state, []
        state, tokens = self._state, self._tokens
        match state.where:
            case "before" | "opening":
                self._state = self._opening(state, token)
            case "thinking":
                last = (*state.last, token)[-len(tokens.close) :]
                thought = _State("thinking", thoughts=state.thoughts + 1, last=last)
                self._state = _State("words") if last == tokens.close else self._counted(thought)
            case "closing":
                self._state = self._closing((*state.mark, token))
            case "words":
                self._hand_on(token)

    def undo(self) -> None:
        self._state = self._before
        for take_back in reversed(self._undo):
            take_back()
        self._undo = []

    def allowed(self) -> Allowed | None:
        tokens, then, state = self._tokens, self._then, self._state
        match state.where:
            case "closing":
                return tokens.one(tokens.close[len(state.mark)])
            case "thinking":
                # There is no answer yet that could end.
                return ~_any_of(tokens.ends, tokens.vocabulary) if self._is_asked else None
            case "words":
                return then.allowed() if then else None
        opening = tokens.one(tokens.open[len(state.mark)])
        if state.where == "opening" and self._is_asked and not state.shared:
            return opening
        allowed = then.allowed() if then else None
        if self._budget == 0:
            if len(state.mark) + 1 < len(tokens.open):  # another mark may begin alike
                return allowed
            return ~opening if allowed is None else allowed & ~opening
        return None if allowed is None else allowed | opening

    def forced(self) -> list[int]:
        match self._state.where:
            case "closing":
                return list(self._tokens.close[len(self._state.mark) :])
            case "words":
                return self._then.forced() if self._then else []
        return []

    def likely(self, most: int) -> tuple[list[int], list[float]]:
        words = self._state.where == "words"
        return self._then.likely(most) if self._then and words else ([], [])

    def fitting(self, tokens: Sequence[int]) -> int:
        if self._state.where == "thinking" and self.idle:  # up to where they may end
            last = self._tokens.close[-1]
            return tokens.index(last) + 1 if last in tokens else len(tokens)
        if self._state.where == "words" or self.idle:
            return self._then.fitting(tokens) if self._then else len(tokens)
        return 0

    def ahead(self, tokens: Sequence[int]) -> list[Allowed | None]:
        return self._then.ahead(tokens) if self._then else []

    def _opening(self, state: _State, token: int) -> _State:
        """After one more token that may be of the opening mark; if it is not, all of them are words."""
        written = (*state.mark, token)
        if written != self._tokens.open[: len(written)]:
            for one in (token,) if state.shared else written:
                self._hand_on(one)
            return _State("words")
        if written == self._tokens.open:
            if state.shared and self._then is not None:
                for one in reversed(state.mark):
                    self._then.undo()
                    self._undo.append(partial(self._then.follow, one))
            return self._counted(_State("thinking"))
        shared = (state.shared or not state.mark) and self._takes(token)
        if shared:
            self._hand_on(token)
        return _State("opening", mark=written, shared=shared)

    def _takes(self, token: int) -> bool:
        """Whether `then` takes it for words."""
        allowed = self._then.allowed() if self._is_asked and self._then else None
        return self._then is not None and (allowed is None or bool(allowed[token]))

    def _hand_on(self, token: int) -> None:
        if self._then is not None:
            self._then.follow(token)
            self._undo.append(self._then.undo)

    def _counted(self, state: _State) -> _State:
        """`state`, or the closing mark where the budget is used up."""
        if self._budget is None or state.thoughts < self._budget:
            return state
        close = self._tokens.close
        written = next(n for n in range(len(close), -1, -1) if _ends_with(state.last, close[:n]))
        return self._closing(close[:written])

    def _closing(self, written: tuple[int, ...]) -> _State:
        whole = len(written) >= len(self._tokens.close)
        return _State("words") if whole else _State("closing", mark=written)


def _ends_with(tokens: Sequence[int], wanted: Sequence[int]) -> bool:
    return list(tokens[len(tokens) - len(wanted) :]) == list(wanted)


def _any_of(tokens: Sequence[int], vocabulary: int) -> Allowed:
    allowed = np.zeros(vocabulary, bool)
    allowed[list(tokens)] = True
    return allowed
