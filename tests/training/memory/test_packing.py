"""Whether packing is said to be faster, from lengths alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends import get_backend
from backends.base import TrainingConfig
from tests.training.build import make_config, make_job
from training.memory import admission, packing
from training.memory.estimate import Base, Dimensions

SMOL = Base(
    Dimensions(layers=30, hidden=576, intermediate=1536, heads=9, kv=192, vocabulary=49152),
    nbytes=538_060_032,
    on_cpu=True,
    head_in_pieces=True,
    sparing=True,
)
ON_A_GPU = replace(SMOL, on_cpu=False, head_in_pieces=False, sparing=False)


def lengths(kind: str) -> Any:
    draw = random.Random(5)
    if kind == "equal":
        return np.array([64] * 512)
    if kind == "one long, many short":
        return np.array([*[20] * 15, 300])
    return np.array([int(min(max(draw.lognormvariate(6, 0.8), 30), 2048)) for _ in range(512)])


@pytest.mark.parametrize(
    ("kind", "on_cpu", "on_a_gpu"),
    [
        ("equal", (0.95, 1.05), (0.8, 1.0)),  # a GPU masks what packed rows compute in vain
        ("one long, many short", (0.95, 1.05), (2.0, 6.0)),  # a CPU cuts such a batch in pieces
        ("log-normal and long", (0.5, 0.95), (0.5, 0.95)),
    ],
)
def test_what_is_faster_follows_from_the_lengths(
    kind: str, on_cpu: tuple[float, float], on_a_gpu: tuple[float, float]
) -> None:
    config = TrainingConfig(batch_size=8)
    for base, (least, most) in ((SMOL, on_cpu), (ON_A_GPU, on_a_gpu)):
        assert least <= packing.gain(base, config, lengths(kind)) <= most


def test_the_faster_choice_is_proposed_in_words() -> None:
    padded, packed = TrainingConfig(), TrainingConfig(packing=True)
    less = "With these lengths steps take about 20 % less time packed than padded."
    more = "With these lengths steps take about 25 % more time packed than padded."
    assert packing.sentence(1.25, padded) == f"{less} Switch packing on."
    assert packing.sentence(1.25, packed) == less
    assert packing.sentence(0.8, packed) == f"{more} Switch packing off."
    assert packing.sentence(0.8, padded) == more
    alike = "Packed or padded, steps take about as long with these lengths."
    assert packing.sentence(1.02, padded) == packing.sentence(0.97, packed) == alike


@pytest.mark.django_db
def test_the_plan_says_it_where_lengths_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    assert admission.foresee(job.model, job.dataset, make_config()).packing == ""
    known = lengths("equal")
    monkeypatch.setattr(type(get_backend("fake")), "token_lengths", lambda *_: known)
    assert "packed" in admission.foresee(job.model, job.dataset, make_config()).packing.lower()
    pairs = make_config(objective="dpo")
    assert admission.foresee(job.model, job.dataset, pairs).packing == ""
