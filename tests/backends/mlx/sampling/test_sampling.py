"""How tokens are drawn: penalties by their formulas, seeds alone and among others."""

from __future__ import annotations

import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from backends.base import BackendError, Grammar, LoadedModel, LoadOptions, Sampling
from backends.mlx.sampling.filters import apply_top_p, likeliest
from backends.mlx.sampling.following import RuleMask
from backends.mlx.sampling.nucleus import CANDIDATES
from backends.mlx.sampling.penalties import make_processors
from backends.mlx.sampling.sampler import RandomSampler, make_sampler
from tests.backends.rows import QUESTIONS, Row, encode, run
from tests.running import often

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


@pytest.mark.parametrize("size", [5, 1000, 4999, 49_152])
@pytest.mark.parametrize("count", [2, 40, 1097])
def test_the_likeliest_tokens_are_those_of_a_sort(size: int, count: int) -> None:
    """Few values, so that many tokens are equally likely, and impossible ones."""
    count = min(count, size - 1)
    random = np.random.default_rng(size)
    logprobs = -random.integers(1, 200, (3, size)).astype(np.float32)
    logprobs[1, random.random(size) < 0.99] = -np.inf
    tokens, values = (np.array(found) for found in likeliest(mx.array(logprobs), count))
    assert (np.sort(values) == np.sort(logprobs)[:, -count:]).all()
    assert (np.diff(tokens.astype(int)) >= 0).all()
    possible = np.isfinite(values)
    assert (np.take_along_axis(logprobs, tokens, 1)[possible] == values[possible]).all()
    for row, known in zip(tokens, possible, strict=True):
        assert len(set(row[known])) == known.sum()


@pytest.mark.parametrize("filters", [{"top_p": 0.9}, {"top_k": 40}, {"top_k": 40, "top_p": 0.9}])
def test_no_sampler_sorts_the_vocabulary(
    filters: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Metal and CUDA a partition is a whole sort."""
    sizes: list[int] = []
    for name in ("sort", "argsort", "partition", "argpartition"):

        def counting(
            array: mx.array, *args: object, real: object = getattr(mx, name), **more: object
        ) -> mx.array:
            sizes.append(array.shape[-1])
            return real(array, *args, **more)  # type: ignore[operator,no-any-return]

        monkeypatch.setattr(mx, name, counting)
    sampling = Sampling(temperature=1.0, **filters)  # type: ignore[arg-type]
    mx.eval(make_sampler(sampling, cuts=True)(mx.zeros((2, 128_256))))
    assert sizes
    assert max(sizes) < 128_256 / 4


@pytest.mark.parametrize("top_p", [0.0001, 0.5, 0.9, 0.99])
def test_top_p_keeps_what_its_definition_says_and_all_that_are_as_likely(top_p: float) -> None:
    random = np.random.default_rng(7)
    logits = random.integers(-20, 20, (4, 3000)).astype(np.float32) / 4
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    probs = np.exp(logprobs.astype(np.float64))
    likelier = np.array([[row[row > one].sum() for one in row] for row in probs])
    kept = np.isfinite(np.array(apply_top_p(mx.array(logprobs), top_p)))
    assert (kept == (likelier < top_p)).all()


def flat(tokens: int, spread: float) -> mx.array:
    """Log-probabilities [tokens] that fall linearly by `spread`, in a mixed order."""
    logits = mx.linspace(0, -spread, tokens)[mx.random.permutation(tokens, key=mx.random.key(1))]
    return logits - mx.logsumexp(logits)


def nucleus(logprobs: mx.array, top_p: float, temperature: float) -> np.ndarray:
    """The exact probabilities that top-p leaves, by the definition."""
    probs = np.exp(np.array(logprobs, np.float64))
    order = np.argsort(-probs, kind="stable")
    kept = order[: int(np.searchsorted(np.cumsum(probs[order]), top_p)) + 1]
    weights = np.zeros(len(probs))
    weights[kept] = probs[kept] ** (1 / temperature)
    return weights / weights.sum()


def draw(logprobs: mx.array, count: int, **filters: float) -> np.ndarray:
    """So many draws as a row makes them: cut to candidates, then completed."""
    sampler = make_sampler(Sampling(seed=3, **filters), cuts=True)  # type: ignore[arg-type]
    assert isinstance(sampler, RandomSampler)
    assert sampler.cuts
    drawn = np.array(sampler(mx.broadcast_to(logprobs, (count, logprobs.size))))
    known = np.array(logprobs)
    return np.array([sampler.complete(int(token), known, n) for n, token in enumerate(drawn)])


@pytest.mark.parametrize(
    ("spread", "temperature"),
    [(0.5, 1.0), (3.0, 0.7), (3.0, 1.5), (400.0, 1.0)],
    ids=["flat", "cold", "hot", "steep"],
)
def test_top_p_without_a_sort_has_the_same_distribution(spread: float, temperature: float) -> None:
    """A chi-square test over 40 groups of tokens, between which candidates end at none."""
    logprobs = flat(4 * CANDIDATES, spread)
    exact = nucleus(logprobs, 0.8, temperature)
    draws = draw(logprobs, often(1000, 4000), temperature=temperature, top_p=0.8)
    assert (exact[draws] > 0).all()
    order = np.argsort(-exact, kind="stable")
    mass = np.cumsum(exact[order])
    group = np.empty(len(exact), int)
    group[order] = np.minimum((mass * 40).astype(int), 39)
    expected = np.bincount(group, weights=exact, minlength=40) * len(draws)
    seen = np.bincount(group[draws], minlength=40)
    used = expected > 0
    chi = (((seen - expected) ** 2)[used] / expected[used]).sum()
    degrees = used.sum() - 1
    assert chi < degrees + 4 * (2 * degrees) ** 0.5 + 1


def test_rows_with_flat_distributions_continue_after_a_second_draw(
    tiny_base: Path,
) -> None:
    """The tiny model's logits are nearly flat: most draws fall beyond the candidates."""
    from backends.mlx.serving.generation import load_model

    loaded = load_model(tiny_base, options=LoadOptions(cache_bytes=2**22))
    sampling = Sampling(max_tokens=30, temperature=1.0, top_p=0.95, seed=5)
    alone = run(loaded, Row(sampling=sampling))[0]
    greedy = run(loaded, Row(QUESTIONS[1]))[0].tokens
    assert len(alone.tokens) == 30
    assert alone.finish_reason == "length"
    assert len(set(alone.tokens)) > 25
    others = [Row(QUESTIONS[1], after=n) for n in range(3)]
    rows = run(loaded, *others, Row(sampling=sampling, after=1))
    assert rows[-1].tokens == alone.tokens
    assert [row.tokens for row in rows[:-1]] == [greedy] * 3
    again = run(loaded, Row(prompt=encode(loaded, QUESTIONS[0]) + alone.tokens[:-1] + [7]))[0]
    fresh = load_model(tiny_base)
    prompt = encode(loaded, QUESTIONS[0]) + alone.tokens[:-1] + [7]
    assert again.tokens == run(fresh, Row(prompt=prompt))[0].tokens
    loaded.close()
    fresh.close()


def test_what_follows_the_answer_follows_a_second_draw(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grammar and a penalty that forbids every token to come twice, on logits so flat that most
    draws fall beyond the candidates."""
    from backends.mlx.serving.generation import load_model

    replaced: list[int] = []
    real = RuleMask.replace

    def counting(mask: RuleMask, token: int) -> None:
        replaced.append(token)
        real(mask, token)

    monkeypatch.setattr(RuleMask, "replace", counting)
    loaded = load_model(tiny_base)
    flat = {"max_tokens": 15, "temperature": 1.0, "top_p": 0.95, "seed": 5}
    once = Sampling(**flat, presence_penalty=99.0)  # type: ignore[arg-type]
    words = Sampling(**flat, grammar=Grammar("regex", "[a-z ]{400}"))  # type: ignore[arg-type]
    rows = [Row(sampling=once), Row(sampling=words), Row(QUESTIONS[1])]
    alone = [run(loaded, row)[0] for row in rows]
    assert len(set(alone[0].tokens)) == 15
    assert len(alone[1].tokens) == 15
    assert re.fullmatch("[a-z ]+", alone[1].text)
    again = [Row(row.question, sampling=row.sampling, after=n) for n, row in enumerate(rows)]
    assert [row.tokens for row in run(loaded, *again)] == [row.tokens for row in alone]
    assert len(replaced) > 3  # in the batch
    loaded.close()


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_the_last_bits_of_probabilities_do_not_move_a_seeded_draw(top_p: float) -> None:
    random = np.random.default_rng(0)
    for seed in range(100):
        logits = random.normal(scale=3, size=(1, 49_152)).astype(np.float32)
        logprobs = logits - np.log(np.exp(logits).sum())
        noisy = logprobs + random.normal(scale=1e-6, size=logits.shape).astype(np.float32)
        sampling = Sampling(temperature=1.0, top_p=top_p, seed=seed)
        drawn = [
            int(make_sampler(sampling, cuts=True)(mx.array(one)).item())
            for one in (logprobs, noisy)
        ]
        assert drawn[0] == drawn[1]
