"""How tokens are drawn: penalties by their formulas, seeds alone and among others."""

from __future__ import annotations

import mlx.core as mx
import pytest

from backends.base import BackendError, LoadedModel, Sampling
from backends.mlx.penalties import make_processors
from tests.backends.builders import QUESTIONS, Row, run

LOGITS = [2.0, -1.0, 0.5, 0.0, 3.0]


def processed(tokens: list[int], prompt_tokens: int = 0, **sampling: object) -> list[float]:
    logits = mx.array([LOGITS])
    for process in make_processors(Sampling(**sampling), prompt_tokens, 5):  # type: ignore[arg-type]
        logits = process(mx.array(tokens), logits)
    return [round(float(x), 5) for x in logits[0].tolist()]  # type: ignore[arg-type,union-attr]


def test_repetition_divides_positive_and_multiplies_negative_logits() -> None:
    assert processed([0, 1, 1], repetition_penalty=2.0) == [1.0, -2.0, 0.5, 0.0, 3.0]


def test_repetition_forgets_what_is_long_ago() -> None:
    expected = [2.0, -1.0, 0.5, 0.0, 1.5]
    assert processed([0, 1, 4], repetition_penalty=2.0, repetition_context=1) == expected


def test_presence_and_frequency_look_at_the_answer_alone() -> None:
    tokens = [0, 0, 1, 4, 4, 4]
    assert processed(tokens, 2, presence_penalty=0.5) == [2.0, -1.5, 0.5, 0.0, 2.5]
    assert processed(tokens, 2, frequency_penalty=0.5) == [2.0, -1.5, 0.5, 0.0, 1.5]
    assert processed(tokens, 6, presence_penalty=0.5, frequency_penalty=0.5) == LOGITS


def test_bias_is_added() -> None:
    assert processed([], logit_bias=((0, -100.0), (3, 1.5))) == [-98.0, -1.0, 0.5, 1.5, 3.0]


@pytest.mark.parametrize("token", [5, -1])
def test_a_bias_beyond_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(BackendError, match=str(token)):
        processed([], logit_bias=((token, 1.0),))


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"top_k": 40}, {"min_p": 0.02}], ids=str)
def test_a_seed_draws_the_same_alone_and_among_others(
    model: LoadedModel, filters: dict[str, float]
) -> None:
    def seeded(seed: int, question: str) -> Row:
        sampling = Sampling(max_tokens=12, temperature=1.0, seed=seed, **filters)  # type: ignore[arg-type]
        return Row(question, sampling=sampling)

    alone = [run(model, seeded(n, question))[0].tokens for n, question in enumerate(QUESTIONS)]
    others = Row(QUESTIONS[1], sampling=Sampling(max_tokens=30, temperature=1.0))
    rows = run(model, others, *(seeded(n, question) for n, question in enumerate(QUESTIONS)))
    assert [row.tokens for row in rows[1:]] == alone
    assert run(model, seeded(99, QUESTIONS[0]))[0].tokens != alone[0]
