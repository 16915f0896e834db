"""The host waits for a GPU once a step, and in no layer of the model by itself. A CPU is asked to make
the arrays of a changed batch layer by layer, which is no waiting for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from backends.base import Grammar, LoadOptions, Sampling
from backends.mlx.sampling import following
from backends.mlx.serving.generation import MLXModel, load_model
from tests.backends.mlx.counting import counted_waits

ONE_READ = Counter(eval=1, tolist=1)  # mlx-lm's, of the tokens that the step before gave
PROMPTS = {"a": [*range(100, 140)], "b": [*range(200, 230)], "c": [*range(300, 335)]}


@pytest.fixture(scope="module", autouse=True)
def as_on_a_gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_ASSUMED_DEVICE", "metal")
        yield


@pytest.fixture(scope="module")
def model(tiny_base: Path, as_on_a_gpu: None) -> Iterator[MLXModel]:
    loaded = load_model(tiny_base, options=LoadOptions(cache_bytes=2**22))
    assert isinstance(loaded, MLXModel)
    yield loaded
    loaded.close()


def steps(model: MLXModel, count: int) -> list[tuple[set[str], Counter[str]]]:
    """Of so many steps: the rows that got a token, and the waits."""
    found = []
    for _ in range(count):
        with counted_waits() as waits:
            deltas = model.step()
        found.append(({delta.uid for delta in deltas}, waits))
    return found


def test_a_step_reads_once_also_when_rows_end(model: MLXModel) -> None:
    """Rows of different length, so that those which end leave padding behind."""
    for uid, tokens in zip(PROMPTS, (12, 4, 8), strict=True):
        model.insert(uid, PROMPTS[uid], None, Sampling(max_tokens=tokens))
    assert len(model.step()) == 3  # the prompts, and the first tokens
    seen = steps(model, 12)  # the first one asks for the second tokens
    assert [len(uids) for uids, _ in seen] == [0] + [3] * 3 + [2] * 4 + [1] * 4
    assert [waits for _, waits in seen] == [ONE_READ] * 12


@pytest.mark.parametrize("window", [0, 64])
def test_a_row_that_begins_waits_for_its_prompt_alone(model: MLXModel, window: int) -> None:
    """Its prompt is read in one pass, which gives its first token; and mlx-lm looks at the prompt's last
    token, which is the host's own."""
    model.insert("a", PROMPTS["a"], None, Sampling(max_tokens=20, max_kv_tokens=window))
    while not model.step():
        pass
    model.insert("b", PROMPTS["b"], None, Sampling(max_tokens=2, max_kv_tokens=window))
    seen = steps(model, 3)
    assert [uids - {"a"} for uids, _ in seen] == [{"b"}, set(), {"b"}]
    assert seen[0][1] == ONE_READ + Counter(eval=1)
    assert [waits for _, waits in seen[1:]] == [ONE_READ] * 2
    model.remove("a")


def test_a_grammar_waits_for_its_token_and_not_for_the_step_under_way(
    model: MLXModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads was asked for before the step whose logits it masks, and is no new array, which
    the device would make after that step."""
    asked: list[mx.array] = []
    read: list[mx.array] = []

    def ask(array: mx.array) -> None:
        asked.append(array)
        mx.async_eval(array)  # type: ignore[no-untyped-call]

    def look(array: mx.array) -> Any:
        read.append(array)
        return memoryview(array)

    monkeypatch.setattr(following, "async_eval", ask)
    monkeypatch.setattr(following, "memoryview", look, raising=False)
    sampling = Sampling(max_tokens=6, grammar=Grammar("json_object"))
    model.insert("plain", PROMPTS["a"], None, Sampling(max_tokens=6))
    model.insert("json", PROMPTS["b"], None, sampling)
    while not model.step():
        pass
    asked.clear()
    model.step()
    assert not asked  # the first token was handed out before: the rule knows it
    read.clear()
    running = model._lanes[next(iter(model._lanes))]._generator._generation_batch
    for _ in range(3):
        drawn = running._next_tokens
        with counted_waits() as waits:
            model.step()
        assert waits == ONE_READ
        assert asked[-2] is drawn
        assert asked[-1] is not drawn  # the logits
        assert read[-1] is drawn
    model.remove("plain")
    model.remove("json")


def test_a_draft_costs_one_read_for_all_tokens_of_a_step(lively_base: Path) -> None:
    """Beside that of the guesses, which the model must have in order to read them."""
    options = LoadOptions(draft=lively_base, draft_tokens=3)
    loaded = load_model(lively_base, options=options)
    assert isinstance(loaded, MLXModel)
    loaded.insert("row", PROMPTS["a"], None, Sampling(max_tokens=30))
    while not loaded.step():
        pass
    with counted_waits() as waits:
        assert len(loaded.step()) == 4
    assert waits == Counter(eval=1)
    loaded.close()


def test_likelihoods_of_many_answers_are_read_together(model: MLXModel) -> None:
    prompt = PROMPTS["a"]
    model.likelihoods(prompt, ["red", "green"], None)  # the prompt is held now
    counts = []
    for answers in (["red", "green"], ["red", "green", "blue", "black", "white", "yellow"]):
        with counted_waits() as waits:
            model.likelihoods(prompt, answers, None)
        counts.append(waits)
    assert counts[0] == counts[1]
