"""From log-probabilities to tokens. This module knows nothing of rows, batches or adapters.

Draws come from a counter-based key of the sampler's own and never from MLX's global random
state: that state belongs to the thread which touched it last, and a seeded row must draw the
same tokens alone and among others.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable

import mlx.core as mx

from backends.base import Sampling
from backends.mlx.sampling.filters import apply_min_p, apply_top_p, likeliest
from backends.mlx.sampling.nucleus import CANDIDATES, Logprobs, complete, holds, is_useful

Sampler = Callable[[mx.array], mx.array]


def make_sampler(sampling: Sampling, *, cuts: bool = False) -> Sampler:
    """A function from log-probabilities [rows, vocabulary] to tokens [rows].

    Equal requests without a seed get the same object, which lets mlx-lm sample a batch in one
    call; a seeded request gets one of its own. With `cuts`, call its `complete` on what it draws.
    """
    if sampling.temperature <= 0 or sampling.top_k == 1 or sampling.top_p <= 0:
        return greedy
    filters = (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p)
    if sampling.seed is None:
        return _shared_sampler(*filters, cuts)
    return RandomSampler(*filters, stream=_fold(sampling.seed), seeded=True, cuts=cuts)


def greedy(logprobs: mx.array) -> mx.array:
    return mx.argmax(logprobs, axis=-1)


class RandomSampler:
    """Draws from the distribution that top-k, top-p and min-p leave, at one temperature.

    The filters look at the untempered distribution, as mlx-lm's do. A sampler that `cuts` relies
    on `backends.mlx.sampling.nucleus` to complete draws from flat distributions.

    A seeded one draws with noise per token. MLX's draw is a position in the running sum of all
    probabilities, where the last bits of any of them can move it to a neighbouring token: with
    49,152 tokens about one draw in 150, and in a batch the last bits differ.
    """

    def __init__(
        self,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        *,
        stream: int,
        seeded: bool = False,
        cuts: bool = False,
    ) -> None:
        self.temperature = temperature
        self.top_p = top_p
        self._top_k = top_k
        self._min_p = min_p
        self.cuts = cuts and is_useful(temperature, top_p, top_k, min_p)
        self._stream = stream
        self._seeded = seeded
        self._draws = 0

    def __call__(self, logprobs: mx.array) -> mx.array:
        candidates, shape = None, logprobs.shape
        count = CANDIDATES if self.cuts else self._top_k
        if 0 < count < logprobs.shape[-1]:
            # The other two filters look at these few only, which spares a sort of all tokens.
            candidates, logprobs = likeliest(logprobs, count)
        if 0 < self._min_p <= 1:
            logprobs = apply_min_p(logprobs, self._min_p)
        if self.top_p < 1:
            logprobs = apply_top_p(logprobs, self.top_p)
        logits = logprobs * (1 / self.temperature)
        if self._seeded:
            noise = self._noise(*shape)
            if candidates is not None:
                noise = mx.take_along_axis(noise, candidates, axis=-1)
            drawn = mx.argmax(logits + _gumbel(noise), axis=-1)
        else:
            drawn = mx.random.categorical(logits, key=self._next_key())
        if candidates is None:
            return drawn
        return mx.take_along_axis(candidates, drawn[..., None], axis=-1).squeeze(-1)

    def complete(self, token: int, logprobs: Logprobs, position: int) -> int:
        """`token`, or the one that a draw without the cut gives; `position` is its place in the answer."""
        if not self.cuts or holds(logprobs, self.top_p):
            return token
        seed = (self._stream, position)
        return complete(token, logprobs, self.top_p, self.temperature, seed)

    def move(self, draws: int) -> None:
        """Go on by `draws` that were not needed, or back by those that were in vain: the n-th token of a
        seeded answer is drawn with the n-th key, however it was computed."""
        if self._seeded:
            self._draws += draws

    def _noise(self, draws: int, vocabulary: int) -> mx.array:
        """[draws, vocabulary], of which each draw has its own key."""
        each = [
            mx.random.uniform(shape=(1, vocabulary), key=self._next_key()) for _ in range(draws)
        ]
        return each[0] if draws == 1 else mx.concatenate(each)

    def _next_key(self) -> mx.array:
        self._draws += 1
        return mx.array([self._stream, self._draws & 0xFFFFFFFF], dtype=mx.uint32)


@functools.lru_cache(maxsize=256)
def _shared_sampler(
    temperature: float, top_p: float, top_k: int, min_p: float, cuts: bool
) -> Sampler:
    stream = secrets.randbits(32)
    return RandomSampler(temperature, top_p, top_k, min_p, stream=stream, cuts=cuts)


def _gumbel(uniform: mx.array) -> mx.array:
    """Gumbel noise from numbers in [0, 1): the most likely tokens come from the smallest of them,
    where float32 is finest."""
    return -mx.log(-mx.log1p(-mx.maximum(uniform, 2.0**-33)))


def _fold(seed: int) -> int:
    """Any integer as 32 bits; those below 2^32 stay distinct."""
    return (seed ^ (seed >> 32)) & 0xFFFFFFFF
