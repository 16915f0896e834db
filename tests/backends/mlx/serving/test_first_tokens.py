"""What a first token waits for: one pass over what is left of its prompt, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.base import Grammar, LoadOptions, Sampling
from backends.mlx.serving.adapters import RoutedModel
from backends.mlx.serving.caches import RowsCache
from backends.mlx.serving.generation import MLXModel, load_model
from backends.mlx.serving.lane import Lane
from backends.mlx.serving.needs import PREFILL
from backends.mlx.serving.prefix_cache import PrefixCache
from tests.backends.rows import QUESTIONS, Row, encode, run

GREEDY = Sampling(max_tokens=20)
HOWS = {
    "greedy": GREEDY,
    "seeded": Sampling(max_tokens=20, temperature=0.8, seed=4),
    "cut": Sampling(max_tokens=20, temperature=1.5, top_p=0.99, seed=4),
    "penalized": Sampling(max_tokens=20, repetition_penalty=1.3),
    "schema": Sampling(max_tokens=20, grammar=Grammar("json_object")),
}


@pytest.fixture(scope="module", autouse=True, params=["cpu", "metal"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_ASSUMED_DEVICE", request.param)
        yield request.param


@pytest.fixture(scope="module")
def model(kind: str, lively_base: Path) -> Iterator[MLXModel]:
    found = load_model(lively_base, options=LoadOptions(cache_bytes=2**22, prompt_lookup=False))
    assert isinstance(found, MLXModel)
    yield found
    found.close()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """(rows, tokens) of each pass of the model, in the order in which they are asked for."""
    seen: list[tuple[int, ...]] = []
    real = RoutedModel.__call__

    def call(self: RoutedModel, inputs, *args, **options):  # type: ignore[no-untyped-def]
        seen.append(inputs.shape)
        return real(self, inputs, *args, **options)

    monkeypatch.setattr(RoutedModel, "__call__", call)
    return seen


def prompt(length: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(100, 4_000), k=length)


def begin(model: MLXModel, uid: str, tokens: list[int], most: int = 60) -> list[list[str]]:
    """Who gets tokens, step by step, until `uid` does."""
    model.insert(uid, tokens, None, Sampling(max_tokens=most))
    steps: list[list[str]] = []
    while not steps or uid not in steps[-1]:
        steps.append([delta.uid for delta in model.step()])
    return steps


def clear(model: MLXModel) -> None:
    for uid in list(model._rows):
        model.remove(uid)


@pytest.mark.parametrize("running", [0, 1, 2])
def test_a_short_prompt_costs_one_pass(
    model: MLXModel, kind: str, passes: list[tuple[int, ...]], running: int
) -> None:
    for number in range(running):
        begin(model, f"running {number}", prompt(30, number))
    for _ in range(3):
        model.step()
    passes.clear()
    steps = begin(model, "new", prompt(90, 11))
    ahead = [(1, 1)] if kind == "metal" and not running else []  # which a GPU does not wait for
    assert passes == [(1, 90), *ahead]
    assert len(steps) == 1
    clear(model)


def test_a_long_prompt_leaves_steps_to_the_others(
    model: MLXModel, kind: str, passes: list[tuple[int, ...]]
) -> None:
    """One for each piece but the last, after which the answer begins."""
    piece = PREFILL[kind][0]  # type: ignore[index]
    begin(model, "running", prompt(30, 1))
    passes.clear()
    steps = begin(model, "new", prompt(2 * piece + 40, 12))
    assert passes[-5:] == [(1, 1), (1, piece), (1, 1), (1, piece), (1, 40)]
    assert steps[1:] == [["running"], ["new"]]
    clear(model)


def test_the_others_get_room_for_more_after_it(
    model: MLXModel, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that had run alone comes into the batch with full arrays: their copies wait for its next step."""
    copied: list[bool] = []
    lengthen, settle = RowsCache.lengthen, Lane.settle

    def note_lengthen(cache: RowsCache) -> bool:
        copied.append(lengthen(cache))
        return copied[-1]

    def note_settle(lane: Lane) -> None:
        copied.append(True)
        settle(lane)

    monkeypatch.setattr(RowsCache, "lengthen", note_lengthen)
    monkeypatch.setattr(Lane, "settle", note_settle)
    begin(model, "running", prompt(30, 1))
    model.step()
    begin(model, "new", prompt(40, 14))
    assert not any(copied)
    model.step()
    assert any(copied) == (kind == "cpu")
    monkeypatch.undo()
    clear(model)


def test_a_row_that_waited_and_was_removed_delays_nobody(
    model: MLXModel, passes: list[tuple[int, ...]]
) -> None:
    for _ in range(2):
        model.shrink_cache(0)
        begin(model, "running", prompt(30, 1))
        model.step()
        passes.clear()
        begin(model, "new", prompt(50, 13))
        assert passes == [(1, 50)]
        clear(model)


def test_the_others_have_a_step_between_two_that_begin(model: MLXModel) -> None:
    begin(model, "running", prompt(30, 1))
    model.step()
    said = [step for n in range(4) for step in begin(model, f"new {n}", prompt(40, 20 + n))]
    assert sum(step.count("running") for step in said) >= 3
    clear(model)


@pytest.mark.parametrize("how", HOWS)
def test_rows_that_begin_together_or_later_say_what_they_say_alone(
    model: MLXModel, how: str
) -> None:
    lengths = {"one": (50, 0), "two": (7, 0), "three": (90, 0), "four": (33, 4), "five": (300, 6)}
    asked = {uid: (prompt(length, length), after) for uid, (length, after) in lengths.items()}
    model.shrink_cache(0)
    together = [Row(prompt=p, sampling=HOWS[how], after=a) for p, a in asked.values()]
    run(model, *together)
    for row in together:
        model.shrink_cache(0)
        assert row.tokens == run(model, Row(prompt=row.prompt, sampling=HOWS[how]))[0].tokens


def test_a_model_that_is_more_than_body_and_head_says_the_same(
    model: MLXModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row(prompt=prompt(length, 3), sampling=GREEDY) for length in (20, 1, 70)]
    run(model, *rows)
    monkeypatch.setattr(RoutedModel, "is_headed", False)
    model.shrink_cache(0)
    again = [Row(prompt=row.prompt, sampling=GREEDY) for row in rows]
    run(model, *again)
    assert [row.tokens for row in again] == [row.tokens for row in rows]


@pytest.mark.parametrize("running", [0, 1])
def test_a_first_token_may_be_the_last(model: MLXModel, running: int) -> None:
    expected = run(model, Row(prompt=prompt(30, 1), sampling=GREEDY))[0].tokens
    for number in range(running):
        begin(model, f"running {number}", prompt(30, 1), most=20)
    model.insert("new", prompt(40, 2), None, Sampling(max_tokens=1))
    model.insert("other", prompt(30, 1), None, GREEDY)
    deltas = [delta for _ in range(25) for delta in model.step()]
    assert [delta.finish_reason for delta in deltas if delta.uid == "new"] == ["length"]
    assert [delta.token for delta in deltas if delta.uid == "other"] == expected
    assert not model._rows


@pytest.mark.parametrize("running", [False, True])
def test_prompts_are_kept_after_their_first_token_and_before_the_next_prompt(
    model: MLXModel, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    model.shrink_cache(0)
    kept: list[int] = []
    real = PrefixCache.keep

    def keep(self: PrefixCache, root: bytes, tokens: list[int], *args, **options):  # type: ignore[no-untyped-def]
        kept.append(len(tokens))
        real(self, root, tokens, *args, **options)

    monkeypatch.setattr(PrefixCache, "keep", keep)
    if running:
        begin(model, "running", prompt(30, 1))
        model.step()
        kept.clear()
    shared = prompt(70, 30)
    begin(model, "first", shared)
    assert kept == []
    assert model.insert("second", shared, None, GREEDY) == 64
    assert kept
    clear(model)


def test_it_moves_into_a_batch_and_out_of_it_with_the_same_tokens(model: MLXModel) -> None:
    expected = run(model, Row(QUESTIONS[1], sampling=Sampling(max_tokens=40)))[0].tokens
    for after in range(1, 6):
        model.insert("row", encode(model, QUESTIONS[1]), None, Sampling(max_tokens=40))
        deltas = [delta for _ in range(after) for delta in model.step()]
        model.insert("passing", prompt(40, after), None, Sampling(max_tokens=after))
        deltas += [delta for _ in range(60) for delta in model.step()]
        assert [delta.token for delta in deltas if delta.uid == "row"] == expected
