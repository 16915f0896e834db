"""Guesses without a second model: what followed the last tokens where they came before.

Extractions, edits and code repeat what stands in the prompt or in the answer so far. This module
finds the place, keeps count of how often such a guess is right (also of guesses that nobody used),
and knows from measured passes how many are worth their reading. It knows no arrays.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from backends.mlx.serving.needs import WIDEST

_KEY = 3  # tokens that must come again before anything is guessed
_MOST = 32_768  # tokens of a prompt that are looked at, the last ones: some 30 ms
_LONGEST = 8  # tokens of agreement from which on all counts are one
_EXPECTED = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85)
"""The share of right guesses by the tokens of agreement before them, until it is known of a row."""
_WEIGHT = 3  # guesses that count as much as this expectation
WIDTHS = (2, 4, 8, WIDEST)
"""Tokens of a pass: what lies between two of these counts as the larger. Few, so that each is soon
measured."""
WORTH = 1.1
"""Times as many tokens a second as single ones that guesses must promise: they are computed while
nothing else is, and the next token has to be known first."""


class LookUp:
    """Of one row: `tokens` of its prompt and its answer, the source of its guesses."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}
        self._at: int | None = None  # the place of the token that is guessed
        self._agreed = 0  # tokens before it that were the same here
        self._right = [_WEIGHT * share for share in _EXPECTED]
        self._tried = [float(_WEIGHT)] * len(_EXPECTED)
        for token in tokens[-_MOST:]:
            self._learn(token)
        self._find()

    def add(self, token: int) -> None:
        """The token that came: counts whether it would have been guessed."""
        if (at := self._at) is not None:
            right = self._tokens[at] == token
            level = min(self._agreed, _LONGEST)
            self._tried[level] += 1
            self._right[level] += right
            self._at, self._agreed = at + 1, self._agreed + 1 if right else 0
        self._learn(token)
        if not self._agreed:
            self._find()

    def guess(self, most: int) -> list[int]:
        """The next tokens, if they are as they were before. What repeats itself keeps repeating."""
        if (at := self._at) is None:
            return []
        guesses: list[int] = []
        for place in range(at, at + most):
            beyond = place - len(self._tokens)
            guesses.append(self._tokens[place] if beyond < 0 else guesses[beyond])
        return guesses

    def chances(self, most: int) -> list[float]:
        """How likely each of so many guesses is right, given that those before it are."""
        if self._at is None:
            return []
        levels = (min(self._agreed + n, _LONGEST) for n in range(most))
        return [self._right[level] / self._tried[level] for level in levels]

    def _learn(self, token: int) -> None:
        self._tokens.append(token)
        if len(self._tokens) > _KEY:  # the last tokens themselves are not found
            self._places[tuple(self._tokens[-_KEY - 1 : -1])] = len(self._tokens) - 1

    def _find(self) -> None:
        """Another place where the last tokens stand; without one, a replaced token is assumed."""
        tokens = self._tokens
        at = self._places.get(tuple(tokens[-_KEY:]))
        if at is None:
            return
        agreed = _KEY
        while agreed < min(at, _LONGEST) and tokens[at - agreed - 1] == tokens[-agreed - 1]:
            agreed += 1
        self._at, self._agreed = at, agreed


class Costs:
    """What passes of several tokens take, in passes of one that follow each other closely."""

    def __init__(self) -> None:
        self._single = 0.0  # seconds
        self._ratios = [_assumed(width) for width in WIDTHS]

    def add(self, width: int, seconds: float) -> None:
        """A pass of `width` tokens took so long. Outliers count twice the average at most."""
        if width == 1:
            known = self._single or seconds
            self._single = known + 0.1 * (min(seconds, 2 * known) - known)
        elif self._single and width <= WIDTHS[-1]:
            place = bisect_left(WIDTHS, width)
            known = self._ratios[place]
            self._ratios[place] += 0.2 * (min(seconds / self._single, 2 * known) - known)

    def relax(self) -> None:
        """What was slow at one time is tried again at another."""
        assumed = map(_assumed, WIDTHS)
        self._ratios = [a + 0.1 * (b - a) for a, b in zip(self._ratios, assumed, strict=True)]

    def best(self, chances: Sequence[float]) -> tuple[int, float]:
        """(how many guesses to read with the next token, how many times as fast as single tokens),
        given how likely each is right if those before it are."""
        best, tokens, likely = (0, 1.0), 1.0, 1.0
        for count, chance in enumerate(chances[: WIDTHS[-1] - 1], 1):
            likely *= chance
            tokens += likely
            rate = tokens / self._ratios[bisect_left(WIDTHS, count + 1)]
            if rate > max(best[1], WORTH):
                best = (count, rate)
        return best


def _assumed(width: int) -> float:
    """The cost of a pass of so many tokens until it is measured."""
    return 1 + 0.1 * (width - 1)
