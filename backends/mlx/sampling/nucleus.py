"""Top-p without sorting the vocabulary, and still exactly top-p.

A sampler draws from the `CANDIDATES` likeliest tokens only, which nearly always hold the whole
mass that top-p keeps. When they do not (a very flat distribution), the draw was one of top-p,
given that it falls among the candidates. Then, once the step's log-probabilities are in
the host's memory anyway, a second draw decides whether it should have fallen outside, and where.
Tokens likelier than e^-7 are fewer than the candidates, so one comparison settles most steps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backends.mlx.device import device_kind

CANDIDATES = 1097  # e^7 and one more
_LIKELY = -7.0
type Logprobs = np.ndarray[Any, np.dtype[np.float32]]


def holds(logprobs: Logprobs, top_p: float) -> bool:
    """Whether the candidates have the mass `top_p`."""
    if len(logprobs) <= CANDIDATES:
        return True
    if np.exp(logprobs[logprobs > _LIKELY]).sum() >= top_p:
        return True
    likeliest = np.partition(logprobs, -CANDIDATES)[-CANDIDATES:]
    return bool(np.exp(likeliest, dtype=np.float64).sum() >= top_p)


def complete(
    token: int, logprobs: Logprobs, top_p: float, temperature: float, seed: tuple[int, int]
) -> int:
    """`token`, which was drawn from candidates that do not hold `top_p`, or one outside of them, so
    that the result is distributed as if it were drawn from all."""
    order = np.argsort(-logprobs, kind="stable")
    mass = np.cumsum(np.exp(logprobs[order], dtype=np.float64))
    kept = order[: int(np.searchsorted(mass, top_p)) + 1]
    weights = np.exp(logprobs[kept].astype(np.float64) / temperature)
    beyond = weights[CANDIDATES:].sum()
    dice = np.random.Generator(np.random.Philox(key=np.array(seed, np.uint64)))
    if dice.random() * weights.sum() >= beyond:
        return token
    # By noise of each token's own, not by a place in their order: in a batch the last bits of
    # near-equal log-probabilities differ, and with them the order.
    noise = dice.gumbel(size=len(logprobs))
    others = kept[CANDIDATES:]
    return int(others[np.argmax(logprobs[others] / temperature + noise[others])])


def is_useful(temperature: float, top_p: float, top_k: int, min_p: float) -> bool:
    """Whether cutting to candidates helps with these filters: the others limit themselves. On CUDA it
    does not, because the host would read all log-probabilities at every step."""
    if device_kind() == "cuda":
        return False
    return temperature > 0 and 0 < top_p < 1 and top_k <= 0 and min_p <= 0 and math.isfinite(top_p)
