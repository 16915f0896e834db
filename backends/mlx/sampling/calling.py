"""Answers that are free but for their calls: each follows a grammar from the mark on that begins it."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from backends.mlx.sampling.following import Allowed, Rule

_TAKEN_BACK = 64  # tokens at most


class Call(Rule, Protocol):
    """The rule of one call."""

    @property
    def ended(self) -> bool:
        """Whether it is written."""
        ...


class Opening:
    """How a call begins: with a `mark`, which may be one token or letters like all others.

    `decode` gives the bytes of a token, `start` the rule of a call after so many bytes of the mark, and then
    perhaps a token. One may end the mark and go on with what no call begins with: `masks` are the tokens that
    a text may have after each number of the mark's bytes, from none on.
    """

    def __init__(
        self,
        mark: bytes,
        decode: Callable[[int], bytes],
        start: Callable[..., Call],
        masks: Sequence[Allowed],
    ) -> None:
        self._mark, self._decode, self._start = mark, decode, start
        # What is no text anywhere, such as other marks, may come everywhere.
        refused = {read: masks[0] & ~mask for read, mask in enumerate(masks)}
        self.masks = {read: ~tokens for read, tokens in refused.items() if tokens.any()}
        self.after = functools.lru_cache(maxsize=16_384)(self._after)

    def _after(self, read: int, token: int) -> int | None:
        """How much of the mark the text ends with, after so much of it and one more token; None for all of it,
        wherever in the token it ends."""
        text = self._mark[:read] + self._decode(token)
        if self._mark in text:
            return None
        most = min(len(text), len(self._mark) - 1)
        return next(n for n in range(most, -1, -1) if text.endswith(self._mark[:n]))

    def call(self, read: int, token: int) -> Call:
        """The rule of the call that `token` begins."""
        text = self._mark[:read] + self._decode(token)
        if text.endswith(self._mark):
            return self._start(len(self._mark))
        return self._start(read, token)


class CallRule:
    """See `following.Rule`. Idle wherever a call neither is under way nor may begin wrongly."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._read = 0  # bytes of the mark, at the end of the text
        self._call: Call | None = None
        self._past: deque[tuple[int, Call | None]] = deque(maxlen=_TAKEN_BACK)

    @property
    def failed(self) -> bool:
        return self._call is not None and self._call.failed

    @property
    def idle(self) -> bool:
        return self._call is None and self._read not in self._opening.masks

    @property
    def open(self) -> bool:
        return self._call is None or self._call.open

    def follow(self, token: int) -> None:
        self._past.append((self._read, self._call))
        if self._call is not None:
            self._call.follow(token)
            if self._call.ended:
                self._call = None
        elif (read := self._opening.after(self._read, token)) is None:
            self._call, self._read = self._opening.call(self._read, token), 0
        else:
            self._read = read

    def undo(self) -> None:
        self._read, self._call = self._past.pop()
        if self._call is not None:
            self._call.undo()

    def allowed(self) -> Allowed | None:
        return self._call.allowed() if self._call else self._opening.masks.get(self._read)

    def forced(self) -> list[int]:
        return self._call.forced() if self._call else []

    def likely(self, most: int) -> tuple[list[int], list[float]]:
        return self._call.likely(most) if self._call else ([], [])

    def fitting(self, tokens: Sequence[int]) -> int:
        if self._call:
            return self._call.fitting(tokens)
        count, read = 0, self._read
        while read not in self._opening.masks and count < len(tokens):
            after = self._opening.after(read, tokens[count])
            if after is None or after in self._opening.masks:
                break
            count, read = count + 1, after
        return count

    def ahead(self, tokens: Sequence[int]) -> list[Allowed | None]:
        return self._call.ahead(tokens) if self._call else []
