"""What every backend promises about generation, asked of the fake and of MLX alike."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.base import (
    BackendError,
    Delta,
    Grammar,
    LoadedModel,
    PromptTooLong,
    Question,
    Sampling,
    UnsupportedModel,
)
from tests.backends.rows import QUESTIONS, TWELVE, Row, encode, run, write_adapter


def test_a_loaded_model_has_the_protocol(model: LoadedModel) -> None:
    assert isinstance(model, LoadedModel)


def test_a_step_without_rows_is_empty(model: LoadedModel) -> None:
    assert model.step() == []


def test_greedy_text_repeats(model: LoadedModel) -> None:
    first, second = run(model, Row())[0], run(model, Row())[0]
    assert first.text
    assert first.tokens == second.tokens
    assert first.text == second.text


def test_rows_that_come_and_go_say_what_they_say_alone(model: LoadedModel) -> None:
    lengths = (12, 3, 9, 15, 6)
    sampling = [Sampling(max_tokens=length) for length in lengths]
    alone = [run(model, Row(q, sampling=s))[0] for q, s in zip(QUESTIONS, sampling, strict=True)]
    together = run(
        model,
        *(
            Row(q, sampling=s, after=2 * n)
            for n, (q, s) in enumerate(zip(QUESTIONS, sampling, strict=True))
        ),
    )
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    assert [row.text for row in together] == [row.text for row in alone]


def test_strict_tools_change_no_text(model: LoadedModel) -> None:
    function = {"name": "note", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function | {"strict": True}}]
    assert model.strict_grammar([{"type": "function", "function": function}]) == (None, [])
    grammar, unheld = model.strict_grammar(tools)
    assert grammar is not None
    assert unheld == []
    asked: list[dict[str, Any]] = [{}, {"temperature": 1.0, "seed": 3}]
    for settings in asked:
        free = Sampling(max_tokens=12, **settings)
        rows = [
            Row(question, sampling=replace(free, grammar=grammar)) for question in QUESTIONS[:3]
        ]
        alone = [run(model, Row(row.question, sampling=free))[0] for row in rows]
        assert [row.tokens for row in run(model, *rows)] == [row.tokens for row in alone]


def test_a_removed_row_ends_and_others_continue(model: LoadedModel) -> None:
    expected = run(model, Row(QUESTIONS[1]))[0]
    model.insert("stays", encode(model, QUESTIONS[1]), None, TWELVE)
    model.insert("goes", encode(model, QUESTIONS[2]), None, Sampling(max_tokens=200))
    seen: list[Delta] = []
    while not any(delta.uid == "goes" for delta in seen):
        seen += model.step()
    model.remove("goes")
    before = len([delta for delta in seen if delta.uid == "goes"])
    while not any(delta.uid == "stays" and delta.finish_reason for delta in seen):
        seen += model.step()
    assert len([delta for delta in seen if delta.uid == "goes"]) == before
    assert [delta.token for delta in seen if delta.uid == "stays"] == expected.tokens
    assert model.step() == []


def test_a_row_can_be_removed_before_its_first_step(model: LoadedModel) -> None:
    model.insert("early", encode(model, QUESTIONS[2]), None, TWELVE)
    model.remove("early")
    assert model.step() == []


def test_removing_an_unknown_row_does_nothing(model: LoadedModel) -> None:
    model.remove("unknown")


def test_base_and_two_adapters_share_a_batch(
    model: LoadedModel, adapters: tuple[Path, Path]
) -> None:
    choices = (None, *adapters)
    alone = [run(model, Row(adapter=adapter))[0].text for adapter in choices]
    together = run(model, *(Row(adapter=a, after=n) for n, a in enumerate(choices * 2)))
    assert len(set(alone)) == 3
    assert [row.text for row in together] == alone * 2


def test_an_adapter_that_arrives_leaves_running_rows_alone(
    model: LoadedModel, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    expected = run(model, Row(adapter=adapters[0]))[0].tokens
    model.insert("running", encode(model, QUESTIONS[0]), adapters[0], TWELVE)
    tokens: list[int] = []
    late = None
    while len(tokens) < len(expected):
        tokens += [delta.token for delta in model.step()]
        if late is None and len(tokens) == 4:
            late = write_adapter(
                tmp_path / "late", {"model.layers.0.mlp.down_proj": (128, 64)}, rank=16, seed=3
            )
            model.add_adapter(late)
    assert tokens == expected
    assert run(model, Row(adapter=late))[0].tokens != expected


def test_a_folder_without_an_adapter_is_refused(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=tmp_path.name):
        model.add_adapter(tmp_path)


def test_a_stop_string_ends_the_text_before_it(model: LoadedModel) -> None:
    whole = run(model, Row(sampling=Sampling(max_tokens=20)))[0].text
    # It begins and ends inside words, so that it parts tokens on both sides.
    stop = whole[len(whole) // 2 : len(whole) // 2 + 5]
    row = run(model, Row(sampling=Sampling(max_tokens=20, stop=("never said", stop))))[0]
    assert row.text == whole[: whole.index(stop)]
    assert row.finish_reason == "stop"
    shown = ""
    for delta in row.deltas:
        shown += delta.text
        assert whole.startswith(shown)


def test_a_stop_string_that_never_comes_changes_nothing(model: LoadedModel) -> None:
    whole = run(model, Row())[0].text
    teaser = whole[-3:] + "\x00"
    assert run(model, Row(sampling=Sampling(max_tokens=12, stop=(teaser,))))[0].text == whole


def test_max_tokens_ends_a_row(model: LoadedModel) -> None:
    row = run(model, Row(sampling=Sampling(max_tokens=3)))[0]
    assert len(row.deltas) == 3
    assert [delta.finish_reason for delta in row.deltas] == [None, None, "length"]


def test_a_seed_draws_the_same_alone_and_in_a_batch(
    model: LoadedModel, adapters: tuple[Path, Path]
) -> None:
    warm = [Sampling(max_tokens=10, temperature=1.2, seed=seed) for seed in (1, 2)]
    alone = [run(model, Row(sampling=sampling))[0].tokens for sampling in warm]
    together = run(
        model,
        Row(QUESTIONS[2]),
        Row(sampling=warm[0], after=1),
        Row(QUESTIONS[3], sampling=Sampling(max_tokens=8, temperature=0.7, top_p=0.9)),
        Row(sampling=warm[1], after=3),
    )
    assert [together[1].tokens, together[3].tokens] == alone
    assert alone[0] != alone[1]


def test_no_delta_carries_half_a_character(model: LoadedModel) -> None:
    rows = run(
        model,
        *(
            Row(question, sampling=Sampling(max_tokens=n + 20))
            for n, question in enumerate(QUESTIONS)
        ),
    )
    for row in rows:
        for delta in row.deltas:
            delta.text.encode("utf-8")  # a lone surrogate would raise
            assert not delta.text.endswith("\ufffd")


def test_log_probabilities_are_finite_and_not_positive(model: LoadedModel) -> None:
    for delta in run(model, Row())[0].deltas:
        assert math.isfinite(delta.logprob)
        assert delta.logprob <= 0


def test_a_prompt_beyond_the_context_is_refused_with_both_lengths(model: LoadedModel) -> None:
    length = model.context_length
    with pytest.raises(PromptTooLong, match=rf"{length} tokens.*{length}"):
        model.insert("long", [5] * length, None, TWELVE)
    assert model.step() == []


@pytest.mark.parametrize("sampling", [TWELVE, Sampling(max_tokens=None)])
def test_a_reply_ends_where_the_context_does(model: LoadedModel, sampling: Sampling) -> None:
    model.insert("full", [5] * (model.context_length - 2), None, sampling)
    deltas: list[Delta] = []
    while not deltas or deltas[-1].finish_reason is None:
        deltas += model.step()
    assert len(deltas) == 2
    assert deltas[-1].finish_reason == "length"


def test_an_empty_prompt_is_refused(model: LoadedModel) -> None:
    with pytest.raises(BackendError, match="empty"):
        model.insert("nothing", [], None, TWELVE)


def test_two_rows_cannot_have_one_name(model: LoadedModel) -> None:
    model.insert("twin", encode(model, "Hi"), None, TWELVE)
    with pytest.raises(BackendError, match="twin"):
        model.insert("twin", encode(model, "Hi"), None, TWELVE)
    model.remove("twin")


def test_a_running_row_takes_memory_and_gives_it_back(model: LoadedModel) -> None:
    before = model.nbytes
    model.insert("row", encode(model, QUESTIONS[0]), None, TWELVE)
    while not model.step():
        pass
    assert model.nbytes > before
    model.remove("row")
    assert model.nbytes == before


def test_likelihoods_are_log_probabilities_and_repeat(
    model: LoadedModel, adapters: tuple[Path, Path]
) -> None:
    prompt = encode(model, QUESTIONS[0])
    found = model.likelihoods(prompt, ["yes", "no", "no idea"], None)
    assert all(value < 0 for value in found)
    assert model.likelihoods(prompt, ["no idea", "yes"], None) == pytest.approx(
        [found[2], found[0]], abs=1e-3
    )
    assert model.likelihoods(prompt, ["yes", "no", "no idea"], adapters[0]) != found


def test_a_text_fits_a_query_alike_alone_and_among_others(model: LoadedModel) -> None:
    asked = Question("a fox", "Find animals")
    pairs = [model.encode_pair(asked, text) for text in ("a fox and a crow", "the sea", "a fox")]
    found = model.relevances(pairs, None)
    assert all(0 <= value <= 1 for value in found)
    assert [model.relevances([one], None)[0] for one in pairs] == pytest.approx(found, abs=1e-3)
    assert model.needed_to_rank(pairs[:1]) > 0
    with pytest.raises(PromptTooLong):
        model.relevances([model.encode_pair(asked, "fox " * 3 * model.context_length)], None)


# Half characters: the fake spells words in two tokens, and the tiny model draws bytes at will.
WARM = Sampling(max_tokens=40, temperature=1.2, seed=11, logprobs=True, top_logprobs=4)


def test_the_bytes_of_all_tokens_are_the_answers(model: LoadedModel) -> None:
    halves = 0
    for seed in range(4):
        row = run(model, Row(sampling=replace(WARM, seed=seed)))[0]
        said = b"".join(delta.data for delta in row.deltas)
        # An answer that ends within a character leaves that out of its text.
        assert said.decode(errors="replace").rstrip("\ufffd") == row.text.rstrip("\ufffd")
        halves += sum("\ufffd" in delta.piece for delta in row.deltas)
        assert all(delta.data for delta in row.deltas[:-1])
    assert halves


def test_as_many_rivals_are_told_as_were_asked_for(model: LoadedModel) -> None:
    grammar = Grammar("json_schema", '{"enum": [7]}')
    for sampling in (WARM, replace(WARM, grammar=grammar)):
        row = run(model, Row(sampling=sampling))[0]
        assert {len(delta.top) for delta in row.deltas} == {4}
        assert all(math.isfinite(rival.logprob) for delta in row.deltas for rival in delta.top)


def test_a_prompts_tokens_are_told_with_how_likely_they_are(model: LoadedModel) -> None:
    prompt = model.encode_text("A fox and a crow, and a fox and a crow again, in the old forest.")
    told = [token for chunk in model.prompt_logprobs(prompt, None, 3) for token in chunk]
    assert [token.token for token in told] == prompt
    assert (told[0].logprob, told[0].top) == (None, ())
    for token in told[1:]:
        assert -50 < token.logprob < 0
        assert [one.logprob for one in token.top] == sorted(
            (one.logprob for one in token.top), reverse=True
        )
        assert len(token.top) == 3
        # The likeliest one has the very number that the list of rivals has.
        assert token.logprob <= token.top[0].logprob
        assert (token.logprob == token.top[0].logprob) == (token.token == token.top[0].token)
    assert model.decode(prompt).split()[:2] == ["A", "fox"]


def test_a_prompt_is_told_as_far_as_it_is_read(model: LoadedModel) -> None:
    """A reader that stops early leaves nothing behind."""
    reading = model.prompt_logprobs(encode(model, QUESTIONS[2]), None, 0)
    assert len(next(reading)) >= 1
    expected = run(model, Row())[0].tokens
    del reading
    assert run(model, Row())[0].tokens == expected


def test_an_empty_text_has_a_vector(model: LoadedModel) -> None:
    empty, text = model.embed([[], model.encode_text("A fox.")], None)
    assert sum(x * x for x in empty) == pytest.approx(1, abs=1e-5)
    assert empty != text
