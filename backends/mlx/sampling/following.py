"""A logits processor that follows the tokens of one answer and masks those that may not come next.

mlx-lm builds a step before the last token is known, so a row with a rule waits for that token here,
though not for the step itself, which is under way by then: the mask is computed meanwhile. Rows
without a rule are not affected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

async_eval: Any = mx.async_eval  # untyped
type Allowed = np.ndarray[Any, np.dtype[np.bool_]]
"""Of each token of the vocabulary whether it may come next."""


class Rule(Protocol):
    """What may come next in one answer."""

    @property
    def failed(self) -> bool:
        """Whether the answer cannot be completed any more."""
        ...

    @property
    def over(self) -> bool:
        """Whether everything may come from here on."""
        ...

    @property
    def open(self) -> bool:
        """Whether so many tokens may come next, by the last `allowed`, that nothing will be forced after
        most of them."""
        ...

    def follow(self, token: int) -> None: ...

    def undo(self) -> None:
        """Forget the last token."""
        ...

    def allowed(self) -> Allowed | None:
        """What may come next; None for everything."""
        ...

    def forced(self) -> list[int]:
        """The tokens of the only way on, as far as there is only one."""
        ...

    def likely(self, most: int) -> tuple[list[int], list[float]]:
        """At most so many tokens that usually follow, as far as there is a usual way on, and how likely
        each is right if those before it are."""
        ...

    def fitting(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` may come next, as far as can be said."""
        ...

    def ahead(self, tokens: Sequence[int]) -> list[Allowed]:
        """What may come after each of `tokens`, all of which may come."""
        ...


class RuleMask:
    """The processor of one row.

    Whoever runs the row sets `drawn`: the tokens that the step before gave all rows, on the device,
    and the row's place among them. The processor's own argument holds the same token, but as part
    of an array that the device makes after the step under way.
    """

    drawn: Callable[[], tuple[mx.array, int]]

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._waiting = False  # for the token after the last mask

    @property
    def failed(self) -> bool:
        return self.rule.failed

    def __call__(self, _: mx.array, logits: mx.array) -> mx.array:
        if self.rule.over:
            self._waiting = False
            return logits
        if self._waiting:
            drawn, row = self.drawn()
            async_eval(drawn)  # joined from several, where a row began or ended since
            async_eval(logits)  # the device computes while the mask is made
            self.rule.follow(int(memoryview(drawn)[row]))
        self._waiting = True
        allowed = self.rule.allowed()
        return logits if allowed is None else masked(logits, allowed)

    def leave(self) -> None:
        """From here on someone else follows the tokens, until the next call."""
        self._waiting = False

    def replace(self, token: int) -> None:
        """Follow `token` instead of the last one; the next step begins after it."""
        if not self._waiting:  # the rule was over before the last one
            return
        self.rule.undo()
        self.rule.follow(token)
        self._waiting = False


def masked(logits: mx.array, allowed: Allowed) -> mx.array:
    """Logits [..., vocabulary] without those that are not allowed, by the same shape."""
    width = logits.shape[-1]
    return mx.where(mx.array(allowed[..., :width]), logits, mx.array(-math.inf, logits.dtype))
