"""How likely given answers are, against a computation of its own: a whole forward pass for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.utils import load

from backends.base import LoadedModel, LoadOptions, PromptTooLong
from backends.mlx import MLXBackend
from backends.mlx.serving import likelihoods as module
from tests.backends.rows import encode

LABELS = ["bad", "good", "not good", "a complaint about the service", "b"]
QUESTION = "The soup was cold and the waiter told us so twice."


@pytest.fixture(scope="module")
def cached(lively_base: Path) -> Iterator[LoadedModel]:
    """With a prefix cache."""
    model = MLXBackend().load(lively_base, None, LoadOptions(cache_bytes=1 << 24))
    yield model
    model.close()


def alone(base: Path, adapter: Path | None, question: str, label: str) -> float:
    """The log-probability by one pass over prompt and label, without a cache."""
    model, tokenizer = load(str(base), adapter_path=str(adapter) if adapter else None)[:2]
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    answer = [*tokenizer.encode(label, add_special_tokens=False), tokenizer.eos_token_id]
    logits = model(mx.array([[*prompt, *answer]]))[0].astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    at = len(prompt) - 1
    return float(sum(logprobs[at + n, token].item() for n, token in enumerate(answer)))


def test_they_are_those_of_a_whole_pass_for_each(
    cached: LoadedModel, lively_base: Path, adapters: tuple[Path, Path]
) -> None:
    prompt = encode(cached, QUESTION)
    for adapter in (None, adapters[0]):
        expected = [alone(lively_base, adapter, QUESTION, label) for label in LABELS]
        # The second time its prompt comes from the prefix cache.
        for _ in range(2):
            found = cached.likelihoods(prompt, LABELS, adapter)
            assert found == pytest.approx(expected, abs=2e-3)


def test_batches_of_one_row_and_a_prompt_in_pieces_change_nothing(
    cached: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = encode(cached, QUESTION * 20)
    expected = cached.likelihoods(long, LABELS, None)
    monkeypatch.setattr(module, "_MOST_TOKENS", 1)
    cached.shrink_cache(0)
    assert cached.likelihoods(long, LABELS, None) == pytest.approx(expected, abs=2e-3)


def test_a_prompt_without_room_for_the_longest_answer_is_refused(cached: LoadedModel) -> None:
    with pytest.raises(PromptTooLong):
        cached.likelihoods([5] * 2046, LABELS, None)


def test_the_answers_of_running_rows_stay_the_same(
    cached: LoadedModel, adapters: tuple[Path, Path]
) -> None:
    from tests.backends.rows import TWELVE, Row, run

    expected = run(cached, Row())[0].tokens
    cached.insert("running", encode(cached, Row().question), None, TWELVE)
    tokens: list[int] = []
    while len(tokens) < len(expected):
        tokens += [delta.token for delta in cached.step()]
        cached.likelihoods(encode(cached, QUESTION), LABELS, adapters[1])
    assert tokens == expected
