"""How likely given answers are, against a computation of its own: a whole forward pass for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from mlx_lm.models import gemma3_text, mamba
from mlx_lm.utils import load

from backends.base import LoadedModel, LoadOptions, PromptTooLong
from backends.mlx import MLXBackend
from backends.mlx.serving import likelihoods as module
from backends.mlx.serving.caches import Kind
from tests.backends.rows import TWELVE, Row, encode, run

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
    expected = run(cached, Row())[0].tokens
    cached.insert("running", encode(cached, Row().question), None, TWELVE)
    tokens: list[int] = []
    while len(tokens) < len(expected):
        tokens += [delta.token for delta in cached.step()]
        cached.likelihoods(encode(cached, QUESTION), LABELS, adapters[1])
    assert tokens == expected


def window_model() -> Any:
    """Random, every second layer sees 8 tokens."""
    return gemma3_text.Model(
        gemma3_text.ModelArgs(
            model_type="gemma3_text", hidden_size=32, num_hidden_layers=3, intermediate_size=64,
            num_attention_heads=2, head_dim=16, num_key_value_heads=1, vocab_size=100,
            sliding_window=8, sliding_window_pattern=2,
        )
    )  # fmt: skip


def state_model() -> Any:
    """Random, with recurrent states in its layers."""
    return mamba.Model(
        mamba.ModelArgs(
            model_type="mamba", vocab_size=100, hidden_size=32, intermediate_size=64, state_size=8,
            num_hidden_layers=2, conv_kernel=4, use_bias=False, use_conv_bias=True,
            time_step_rank=4,
        )
    )  # fmt: skip


@pytest.mark.parametrize("make", [window_model, state_model])
def test_windows_and_states_are_continued_by_every_answer(make: Callable[[], Any]) -> None:
    mx.random.seed(1)
    model = make()
    model.update(tree_map(lambda a: 8 * a if a.ndim == 2 else a, model.parameters()))
    prompt = [(7 * n) % 97 + 1 for n in range(21)]
    answers = [[5, 2], [6, 7, 8, 2], [9, 2], [3, 3, 2], [1]]
    expected = []
    for answer in answers:
        logits = model(mx.array([prompt + answer]))[0].astype(mx.float32)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        at = len(prompt) - 1
        expected.append(sum(logprobs[at + n, t].item() for n, t in enumerate(answer)))
    caches = Kind().row_caches(model)
    first = module.read_prompt(model, prompt, caches, 6)
    found = module.likelihoods(model, first, caches, len(prompt), answers)
    assert found == pytest.approx(expected, abs=1e-3)
