"""A row that runs alone gets tokens without a step of their own, and no other tokens for it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from backends.base import Grammar, LoadOptions, Sampling
from backends.mlx.sampling.sampler import make_sampler
from backends.mlx.serving import lookup
from backends.mlx.serving import rows as serving_rows
from backends.mlx.serving.generation import MLXModel, load_model
from backends.mlx.serving.lookup import Costs, LookUp
from backends.mlx.serving.speculative import SoloLane
from backends.text import StopText
from tests.backends.rows import QUESTIONS, Row, encode, run
from tests.running import often

SCHEMA = Grammar(
    "json_schema",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "date_of_birth": {"enum": ["yesterday", "tomorrow"]},
                "organisation": {"type": "boolean"},
            },
            "required": ["date_of_birth", "organisation"],
            "additionalProperties": False,
        }
    ),
)
REPEATS = [*random.Random(5).choices(range(100, 4_000), k=20)] * 3


ASSUMED, MEASURE = lookup._assumed, Costs.add


@pytest.fixture(scope="module", autouse=True, params=["cpu", "metal"])
def cheap(request: pytest.FixtureRequest) -> Iterator[None]:
    """Guesses are worth their while, whatever this machine measures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_ASSUMED_DEVICE", request.param)
        patch.setattr(lookup, "_assumed", lambda width: 1.0)
        patch.setattr(Costs, "add", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def model(cheap: None, lively_base: Path) -> Iterator[MLXModel]:
    yield from loaded(lively_base)


@pytest.fixture(scope="module")
def plain(cheap: None, lively_base: Path) -> Iterator[MLXModel]:
    yield from loaded(lively_base, prompt_lookup=False)


@pytest.fixture(scope="module")
def parrot(cheap: None, tiny_base: Path) -> Iterator[MLXModel]:
    """A model that repeats its input."""
    yield from loaded(tiny_base)


def loaded(base: Path, **options: Any) -> Iterator[MLXModel]:
    found = load_model(base, options=LoadOptions(cache_bytes=2**22, **options))
    assert isinstance(found, MLXModel)
    yield found
    found.close()


def in_a_batch(model: MLXModel, row: Row) -> Row:
    """The same row beside another one."""
    other = Row(QUESTIONS[2], sampling=Sampling(max_tokens=row.sampling.max_tokens))
    beside = Row(row.question, row.adapter, row.sampling, prompt=row.prompt)
    return run(model, other, beside)[1]


def steps_of(model: MLXModel, row: Row) -> int:
    """Passes until a row has ended, its prompt's included."""
    model.insert("row", row.prompt or encode(model, row.question), None, row.sampling)
    for step in range(1, 200):
        for delta in model.step():
            row.deltas.append(delta)
            if delta.finish_reason:
                return step
    raise AssertionError("it did not end")


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 1.0, "seed": 3}, {"temperature": 1.0, "seed": 3, "top_p": 0.9}]
)
def test_what_a_grammar_forces_takes_no_step(model: MLXModel, how: dict[str, Any]) -> None:
    sampling = Sampling(max_tokens=60, grammar=SCHEMA, logprobs=True, top_logprobs=2, **how)
    row, before = Row(sampling=sampling), model.guesses
    steps = steps_of(model, row)
    without = sum(model.guesses[1:]) - sum(before[1:])
    assert model.guesses.forced > before.forced
    assert without >= 10
    assert steps <= len(row.tokens) - without + 2
    assert set(json.loads(row.text)) == {"date_of_birth", "organisation"}
    beside = in_a_batch(model, Row(sampling=sampling))
    assert (row.tokens, row.text, row.finish_reason) == (
        beside.tokens,
        beside.text,
        beside.finish_reason,
    )
    for alone, batched in zip(row.deltas, beside.deltas, strict=True):
        assert alone.logprob == pytest.approx(batched.logprob, abs=1e-3)
        assert (alone.piece, alone.data) == (batched.piece, batched.data)
        assert [one.token for one in alone.top[:1]] == [one.token for one in batched.top[:1]]


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0, "seed": 5, "top_p": 0.9}])
def test_texts_inside_a_schema_are_what_they_are_in_a_batch(
    model: MLXModel, how: dict[str, Any]
) -> None:
    text = {"type": "string", "minLength": 12, "maxLength": 20}
    schema = {"type": "object", "properties": {"a": text, "b": text}, "required": ["a", "b"]}
    grammar = Grammar("json_schema", json.dumps({**schema, "additionalProperties": False}))
    sampling = Sampling(max_tokens=80, grammar=grammar, **how)
    first, second = (run(model, Row(sampling=sampling))[0] for _ in range(2))
    assert first.tokens == second.tokens == in_a_batch(model, Row(sampling=sampling)).tokens
    assert set(json.loads(first.text)) == {"a", "b"}


def test_a_second_answer_is_guessed_by_the_first(model: MLXModel) -> None:
    schema = {"type": "object", "properties": {"of_another_kind": {"type": "boolean"}}}
    grammar = Grammar("json_schema", json.dumps(schema | {"required": ["of_another_kind"]}))
    sampling = Sampling(max_tokens=30, temperature=1.0, seed=1, grammar=grammar)
    first, second = Row(sampling=sampling), Row(sampling=sampling)
    assert steps_of(model, first) > steps_of(model, second)
    assert first.tokens == second.tokens


def test_the_token_limit_ends_what_is_forced(model: MLXModel) -> None:
    whole = run(model, Row(sampling=Sampling(max_tokens=60, grammar=SCHEMA)))[0]
    for most in range(1, 9):
        row = run(model, Row(sampling=Sampling(max_tokens=most, grammar=SCHEMA)))[0]
        assert (row.tokens, row.finish_reason) == (whole.tokens[:most], "length")


def test_a_stop_string_ends_what_is_forced(model: MLXModel) -> None:
    sampling = Sampling(max_tokens=60, grammar=SCHEMA, stop=("isat",))
    row, beside = run(model, Row(sampling=sampling))[0], in_a_batch(model, Row(sampling=sampling))
    assert row.text.endswith("organ")
    assert (row.text, row.tokens, row.deltas[-1].stop) == (beside.text, beside.tokens, "isat")
    assert row.finish_reason == "stop"


@pytest.mark.parametrize("prompt", [None, REPEATS], ids=["chat", "repeats"])
def test_greedy_tokens_are_the_plain_ones(
    model: MLXModel, plain: MLXModel, adapters: tuple[Path, Path], prompt: list[int] | None
) -> None:
    for adapter in (None, adapters[0]):
        for extra in ({}, {"repetition_penalty": 1.3, "frequency_penalty": 0.2}):
            sampling = Sampling(max_tokens=often(24, 40), **extra)  # type: ignore[arg-type]
            row = run(model, Row(adapter=adapter, sampling=sampling, prompt=prompt))[0]
            expected = in_a_batch(plain, Row(adapter=adapter, sampling=sampling, prompt=prompt))
            assert row.tokens == expected.tokens
            assert [delta.logprob for delta in row.deltas] == pytest.approx(
                [delta.logprob for delta in expected.deltas], abs=1e-3
            )


def test_what_repeats_takes_few_steps(parrot: MLXModel) -> None:
    row = Row(prompt=REPEATS, sampling=Sampling(max_tokens=64))
    steps = steps_of(parrot, row)
    assert parrot.guesses.accepted > 40
    assert steps < 24
    assert row.tokens == in_a_batch(parrot, row).tokens


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"top_k": 40}])
def test_a_seed_draws_the_same_with_guesses(
    parrot: MLXModel, plain: MLXModel, model: MLXModel, filters: dict[str, Any]
) -> None:
    sampling = Sampling(max_tokens=30, temperature=0.7, seed=11, **filters)
    before = parrot.guesses.proposed
    row = run(parrot, Row(prompt=REPEATS, sampling=sampling))[0]
    assert parrot.guesses.proposed > before
    assert row.tokens == in_a_batch(parrot, row).tokens
    row = run(model, Row(prompt=REPEATS, sampling=sampling))[0]
    assert row.tokens == run(plain, Row(prompt=REPEATS, sampling=sampling))[0].tokens


def test_without_the_setting_nothing_is_guessed(plain: MLXModel) -> None:
    run(plain, Row(prompt=REPEATS, sampling=Sampling(max_tokens=20)))
    assert plain.guesses.proposed == 0


@pytest.mark.parametrize("grammar", [None, SCHEMA], ids=["free", "schema"])
def test_a_row_moves_into_the_batch_at_any_step(model: MLXModel, grammar: Grammar | None) -> None:
    sampling = Sampling(max_tokens=24, temperature=1.0, seed=2, grammar=grammar)
    alone = run(model, Row(prompt=REPEATS, sampling=sampling))[0]
    for after in (0, 1, 3, 2, 5)[: often(3, 5)]:
        joins = Row(QUESTIONS[1], sampling=Sampling(max_tokens=6), after=after)
        row = run(model, Row(prompt=REPEATS, sampling=sampling), joins)[0]
        assert (row.tokens, row.text) == (alone.tokens, alone.text)


def test_a_row_whose_company_has_gone_is_guessed_for_again(parrot: MLXModel) -> None:
    long = Row(prompt=REPEATS, sampling=Sampling(max_tokens=60))
    short = Row(QUESTIONS[1], sampling=Sampling(max_tokens=5))
    before = parrot.guesses.accepted
    rows = run(parrot, long, short)
    assert parrot.guesses.accepted - before > 20
    assert rows[0].tokens == run(parrot, Row(prompt=REPEATS, sampling=long.sampling))[0].tokens


def test_a_row_that_was_removed_while_it_moved_says_nothing_more(model: MLXModel) -> None:
    model.insert("goes", encode(model, QUESTIONS[0]), None, Sampling(max_tokens=40))
    while not model.step():
        pass
    model.insert("stays", encode(model, QUESTIONS[1]), None, Sampling(max_tokens=4))
    model.remove("goes")
    deltas = [delta for _ in range(12) for delta in model.step()]
    assert {delta.uid for delta in deltas} == {"stays"}
    assert model.step() == []


# ------------------------------------------------------------------ the distribution

TABLE = np.random.default_rng(0).normal(0, 1.5, (5, 5)).astype(np.float32)


class Chain:
    """A model of five tokens whose next one depends on the last one alone."""

    is_headed = False

    def __call__(self, inputs: mx.array, cache: list[Any]) -> mx.array:
        cache[0].offset += inputs.shape[1]
        return mx.array(TABLE)[inputs]


class Held:
    """A cache that holds nothing."""

    nbytes = offset = 0
    state: tuple[mx.array, ...] = ()

    def is_trimmable(self) -> bool:
        return True

    def trim(self, count: int) -> int:
        self.offset -= count
        return count


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.8}])
def test_draws_with_guesses_follow_the_distribution(filters: dict[str, Any]) -> None:
    """Of each token after each other one, by chi-squared; guesses are always made, mostly wrong ones."""
    sampling = Sampling(max_tokens=often(2000, 4000), temperature=0.8, **filters)
    lane = SoloLane(Chain(), [], None, mx.default_stream(mx.default_device()), looks_up=True)
    word = SimpleNamespace(add_token=lambda _: None, finalize=lambda: None, last_segment="")
    row = serving_rows.Row(
        *("row", None, sampling, word, SimpleNamespace(), b"", None, StopText(())),
        *(make_sampler(sampling), sampling.max_tokens, []),
    )
    lane.insert(row, [0, 1, 2, 3], 0, [Held(), SimpleNamespace(nbytes=0, state=())])
    tokens = [3]
    while lane.row:
        tokens += [delta.token for delta in lane.step()]
    assert often(150, 300) < lane.accepted < lane.proposed
    seen = Counter(pairwise(tokens))
    for last in range(5):
        expected = allowed(TABLE[last] - np.logaddexp.reduce(TABLE[last]), **filters)
        counts = np.array([seen[last, token] for token in range(5)])
        assert counts[expected == 0].sum() == 0
        counts, expected = counts[expected > 0], expected[expected > 0] * counts.sum()
        assert ((counts - expected) ** 2 / expected).sum() < 24  # 1 in 10,000 with four freedoms


def allowed(logprobs: Any, top_k: int = 5, top_p: float = 1.0) -> Any:
    """The probability of each token after the filters, at the temperature of the test."""
    order = np.argsort(-logprobs)
    kept = order[:top_k]
    mass = np.cumsum(np.exp(logprobs[order]))
    kept = kept[: int(np.searchsorted(mass, top_p)) + 1] if top_p < 1 else kept
    weights = np.zeros(5)
    weights[kept] = np.exp(logprobs[kept] / 0.8)
    return weights / weights.sum()


# ------------------------------------------------------------------ what is guessed


def test_what_followed_before_is_guessed() -> None:
    source = LookUp([1, 2, 3, 4, 5, 6, 9, 1, 2, 3])
    assert source.guess(4) == [4, 5, 6, 9]
    assert source.guess(9) == [4, 5, 6, 9, 1, 2, 3, 4, 5]
    source.add(4)
    assert source.guess(2) == [5, 6]


def test_a_replaced_token_does_not_end_a_copy() -> None:
    source = LookUp([1, 2, 3, 4, 5, 6, 9, 1, 2, 3])
    source.add(7)  # instead of 4
    assert source.guess(2) == [5, 6]


def test_nothing_is_guessed_of_what_never_came() -> None:
    source = LookUp([1, 2, 3, 4])
    assert (source.guess(3), source.chances(3)) == ([], [])


def test_wrong_guesses_are_given_up() -> None:
    costs, source = Costs(), LookUp([1, 2, 3, 4, 5] * 4)
    assert costs.best(source.chances(15))[0] > 0
    for token in range(100, 140):  # as if the model said something else each time
        source.add(token)
    assert costs.best(source.chances(15))[0] == 0


def test_guesses_pay_by_what_passes_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_assumed", ASSUMED)
    monkeypatch.setattr(Costs, "add", MEASURE)
    costs = Costs()
    for _ in range(30):
        costs.add(1, 0.010)
        costs.add(4, 0.011)
        costs.add(16, 0.100)
    assert costs.best([0.9] * 15)[0] in (3, 7)
    assert costs.best([0.05] * 15) == (0, 1.0)
    for _ in range(30):
        costs.add(4, 0.050)
        costs.add(8, 0.070)
        costs.add(2, 0.050)
    assert costs.best([0.9] * 15) == (0, 1.0)
    for _ in range(40):  # rows later it is tried again
        costs.relax()
    assert costs.best([0.9] * 15)[0] > 0
