"""docs/first-token.md matches what its script computes, and the arithmetic is correct."""

from __future__ import annotations

import pytest

from benchmarks import first_token_model as paper
from hub.selftest.tried import bound

pytestmark = pytest.mark.any_database


def test_the_papers_tables_are_the_scripts() -> None:
    text = paper.DOCUMENT.read_text()
    assert paper.written(text) == text
    assert all(make() in text for make in paper.TABLES.values())


def test_the_models_have_their_published_sizes() -> None:
    sizes = {model.name: model.blocks + 2 * model.head for model in paper.MODELS}
    published = {"Llama 2 7B": 6.738e9, "Mistral 7B v0.3": 7.248e9, "Qwen2.5 7B": 7.616e9}
    assert sizes == pytest.approx(published, rel=0.001)  # norms and biases are left out


def test_the_expectation_is_calibrated_on_the_published_run() -> None:
    llama = paper.LLAMA
    assert 1 / bound.step_s(llama, paper.EXPECTED) == pytest.approx(paper.PUBLISHED_DECODE)
    assert 512 / bound.read_s(llama, paper.EXPECTED, 512) == pytest.approx(paper.PUBLISHED_PROMPT)
    assert paper.EXPECTED.bandwidth < paper.BOUND.bandwidth
    assert paper.EXPECTED.flops < paper.BOUND.flops


@pytest.mark.parametrize("model", paper.MODELS, ids=lambda model: model.name)
def test_the_longest_prompt_is_the_last_within_the_limit(model: bound.Model) -> None:
    def seconds(tokens: int) -> float:
        return bound.first_token_s(model, paper.EXPECTED, tokens, 0, bound.OVERHEAD_S)

    most = paper.longest(seconds)
    assert seconds(most) <= bound.LIMIT_S < seconds(most + 1)


def test_a_cached_prefix_costs_less_than_reading_it() -> None:
    for model in paper.MODELS:
        cold = bound.first_token_s(model, paper.EXPECTED, 2048)
        warm = bound.first_token_s(model, paper.EXPECTED, 32, 2016)
        assert warm < cold / 20


def test_nothing_fits_when_even_one_token_takes_too_long() -> None:
    assert paper.longest(lambda tokens: 1.0) == 0
