"""A draft model changes how fast a text comes, never the text."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.base import LoadOptions, Sampling, UnsupportedModel
from backends.mlx.device import device_kind
from backends.mlx.serving.generation import MLXModel, load_model
from backends.mlx.serving.needs import PREFILL
from tests.backends.rows import QUESTIONS, TWELVE, Row, encode, run
from tests.running import often

FORTY = Sampling(max_tokens=40)


@pytest.fixture(scope="module")
def plain(lively_base: Path) -> Iterator[MLXModel]:
    loaded = load_model(lively_base)
    assert isinstance(loaded, MLXModel)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module", params=["same", "other"])
def drafted(
    request: pytest.FixtureRequest, lively_base: Path, tiny_base: Path
) -> Iterator[MLXModel]:
    """A model with itself as its draft, which guesses everything right, or with a stranger."""
    draft = lively_base if request.param == "same" else tiny_base
    options = LoadOptions(draft=draft, draft_tokens=3, cache_bytes=2**22)
    loaded = load_model(lively_base, options=options)
    assert isinstance(loaded, MLXModel)
    yield loaded
    loaded.close()


def test_greedy_text_is_the_plain_one(plain: MLXModel, drafted: MLXModel) -> None:
    for question in QUESTIONS:
        expected = run(plain, Row(question, sampling=FORTY))[0]
        row = run(drafted, Row(question, sampling=FORTY))[0]
        assert row.tokens == expected.tokens
        assert row.text == expected.text
        assert row.finish_reason == expected.finish_reason
        assert [d.logprob for d in row.deltas] == pytest.approx(
            [d.logprob for d in expected.deltas], abs=1e-3
        )


def test_a_good_draft_saves_steps(lively_base: Path) -> None:
    loaded = load_model(lively_base, options=LoadOptions(draft=lively_base, draft_tokens=3))
    assert isinstance(loaded, MLXModel)
    loaded.insert("row", encode(loaded, QUESTIONS[0]), None, Sampling(max_tokens=41))
    tokens = steps = 0
    while tokens < 41:
        tokens += len(loaded.step())
        steps += 1
    proposed, accepted, _ = loaded.guesses
    assert accepted == proposed == 30
    assert steps == 11  # the prompt with the first token, ten times four
    loaded.close()


def test_adapters_are_guessed_for_too(
    plain: MLXModel, drafted: MLXModel, adapters: tuple[Path, Path]
) -> None:
    for adapter in adapters:
        expected = run(plain, Row(adapter=adapter, sampling=FORTY))[0].tokens
        assert run(drafted, Row(adapter=adapter, sampling=FORTY))[0].tokens == expected


def test_a_row_moves_into_the_batch_when_others_come(plain: MLXModel, drafted: MLXModel) -> None:
    long = random.Random(1).choices(range(100, 4_000), k=700)
    prompts = [long, encode(plain, QUESTIONS[1]), encode(plain, QUESTIONS[2])]
    expected = [run(plain, Row(prompt=tokens, sampling=FORTY))[0].tokens for tokens in prompts]
    for after in (1, 4, 2, 6)[: often(2, 4)]:
        drafted.shrink_cache(0)
        first, *others = (Row(prompt=tokens, sampling=FORTY) for tokens in prompts)
        for other in others:
            other.after = after
        rows = run(drafted, first, *others)
        assert [row.tokens for row in rows] == expected


def test_stop_strings_and_prefixes_work_as_ever(plain: MLXModel, drafted: MLXModel) -> None:
    whole = run(plain, Row(sampling=FORTY))[0]
    stop = whole.text[20:26]
    row = run(drafted, Row(sampling=Sampling(max_tokens=40, stop=(stop,))))[0]
    assert (row.text, row.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")
    prompt = random.Random(2).choices(range(100, 4_000), k=150)
    first = run(drafted, Row(prompt=prompt, sampling=FORTY))[0]
    second = Row(prompt=prompt + first.tokens + [9] * 30, sampling=FORTY)
    assert run(drafted, second)[0].cached == 150 + 39  # the last was not read
    assert second.tokens == run(plain, Row(prompt=second.prompt, sampling=FORTY))[0].tokens


@pytest.mark.parametrize("steps", [1, 2])
def test_a_short_prompt_is_read_in_the_pass_that_begins_its_answer(
    plain: MLXModel, drafted: MLXModel, steps: int
) -> None:
    length = PREFILL[device_kind()][0] + steps - 1
    prompt = random.Random(length).choices(range(100, 4_000), k=length)
    drafted.shrink_cache(0)
    drafted.insert("short", prompt, None, FORTY)
    said = [drafted.step() for _ in range(steps)]
    drafted.remove("short")
    assert [bool(deltas) for deltas in said] == [False] * (steps - 1) + [True]
    assert said[-1][0].token == run(plain, Row(prompt=prompt, sampling=FORTY))[0].tokens[0]


def test_a_removed_row_leaves_room_for_the_next(plain: MLXModel, drafted: MLXModel) -> None:
    held = drafted.nbytes - drafted.cache_bytes
    drafted.insert("goes", encode(drafted, QUESTIONS[2]), None, FORTY)
    for _ in range(3):
        drafted.step()
    drafted.remove("goes")
    assert drafted.step() == []
    assert drafted.nbytes - drafted.cache_bytes == held
    assert run(drafted, Row())[0].tokens == run(plain, Row())[0].tokens


def test_a_seeded_row_draws_what_it_draws_in_a_batch(plain: MLXModel, drafted: MLXModel) -> None:
    seeded = Sampling(max_tokens=20, temperature=1.0, seed=4)
    expected = run(plain, Row(sampling=seeded))[0].tokens
    assert run(drafted, Row(sampling=seeded))[0].tokens == expected
    assert run(drafted, Row(sampling=seeded), Row(QUESTIONS[1]))[0].tokens == expected


def test_an_unseeded_draw_comes_to_its_end(drafted: MLXModel) -> None:
    row = run(drafted, Row(sampling=Sampling(max_tokens=20, temperature=1.0, top_p=0.9)))[0]
    assert len(row.tokens) == 20


def test_another_tokenizer_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_base, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(
        tokenizer["added_tokens"][0] | {"id": 49_152, "content": "<|new|>"}
    )
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UnsupportedModel, match="another tokenizer"):
        load_model(tiny_base, options=LoadOptions(draft=other))


def test_the_prompt_of_a_lonely_row_is_read_in_chunks(drafted: MLXModel) -> None:
    drafted.shrink_cache(0)
    drafted.insert("long", random.Random(3).choices(range(100, 4_000), k=900), None, TWELVE)
    chunks = 899 // PREFILL[device_kind()][0]
    assert [drafted.step() for _ in range(chunks)] == [[]] * chunks
    assert drafted.step() != []
    drafted.remove("long")
