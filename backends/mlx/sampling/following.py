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
    def idle(self) -> bool:
        """Whether everything may come next, and nothing depends on what it is but how `follow` continues."""
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
        """How many of `tokens` may come next, as far as can be said; of an idle rule those that leave it so."""
        ...

    def ahead(self, tokens: Sequence[int]) -> list[Allowed | None]:
        """What may come after each of `tokens`, all of which may come."""
        ...


class RuleMask:
    """The processor of one row while its rule is not idle.

    Whoever runs the row sets `drawn`: the tokens that the step before gave all rows, on the device,
    and the row's place among them. The processor's own argument holds the same token, but as part
    of an array that the device makes after the step under way.
    """

    drawn: Callable[[], tuple[mx.array, int]]

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._waiting = False  # for the token after the last mask
        self._followed = False  # the token that the host gets from the step under way

    @property
    def failed(self) -> bool:
        return self.rule.failed

    def __call__(self, _: mx.array, logits: mx.array) -> mx.array:
        if self._waiting:
            drawn, row = self.drawn()
            async_eval(drawn)  # joined from several, where a row began or ended since
            async_eval(logits)  # the device computes while the mask is made
            self.rule.follow(int(memoryview(drawn)[row]))
            self._followed = True
        return self.ruled(logits)

    def ruled(self, logits: mx.array) -> mx.array:
        """Those of the next token, which the rule has to know before the one after it."""
        self._waiting = not self.rule.idle
        allowed = self.rule.allowed() if self._waiting else None
        return logits if allowed is None else masked(logits, allowed)

    def came(self, token: int) -> bool:
        """The host has got `token`; whether the rule holds from it on, which the draw of the next one could
        not know."""
        followed, self._followed = self._followed, False
        if followed:
            return False
        self.rule.follow(token)
        return not self.rule.idle

    def leave(self) -> None:
        """From here on someone else follows the tokens, until the next call."""
        self._waiting = False

    def replace(self, token: int) -> None:
        """Follow `token` instead of the last one; the next step begins after it."""
        if self._followed:  # not while the rule was idle
            self.rule.undo()
            self.rule.follow(token)
        self._waiting = False


def masked(logits: mx.array, allowed: Allowed) -> mx.array:
    """Logits [..., vocabulary] without those that are not allowed, by the same shape."""
    width = logits.shape[-1]
    return mx.where(mx.array(allowed[..., :width]), logits, mx.array(-math.inf, logits.dtype))
