"""Grammars, penalties, log-probabilities, tools and vectors: asked of the fake and of MLX alike."""

from __future__ import annotations

import json
import math
import random
import re
from typing import Any

import pytest

from backends.base import BackendError, Grammar, LoadedModel, PromptTooLong, Sampling
from tests.backends.rows import QUESTIONS, TWELVE, Row, encode, run


def ask(model: LoadedModel, **sampling: Any) -> Row:
    return run(model, Row(sampling=Sampling(**{"max_tokens": 12} | sampling)))[0]


# ------------------------------------------------------------------------ log-probabilities


def test_log_probabilities_come_likeliest_first(model: LoadedModel) -> None:
    row = ask(model, logprobs=True, top_logprobs=5)
    for delta in row.deltas:
        assert len(delta.top) == 5
        assert len({one.token for one in delta.top}) == 5
        assert [one.logprob for one in delta.top] == sorted(
            (one.logprob for one in delta.top), reverse=True
        )
        chosen = delta.top[0]  # greedy
        assert (chosen.token, chosen.text) == (delta.token, delta.piece)
        assert chosen.logprob == pytest.approx(delta.logprob)
        assert sum(math.exp(one.logprob) for one in delta.top) <= 1.0001


def test_pieces_are_the_text(model: LoadedModel) -> None:
    row = ask(model, logprobs=True)
    pieces = "".join(delta.piece for delta in row.deltas if delta.finish_reason != "stop")
    whole = pieces.partition("\ufffd")[0]  # up to a character that tokens part
    assert row.text.lstrip().startswith(whole.lstrip())
    assert "\ufffd" in pieces or len(whole.lstrip()) == len(row.text.lstrip())
    assert all(delta.top == () for delta in row.deltas)


def test_log_probabilities_change_no_text(model: LoadedModel) -> None:
    plain = ask(model)
    assert all(delta.piece == "" for delta in plain.deltas)
    assert ask(model, logprobs=True, top_logprobs=3).tokens == plain.tokens


# ------------------------------------------------------------------------ bias and penalties


def test_a_token_can_be_ruled_out_and_forced(model: LoadedModel) -> None:
    first, *_ = ask(model).tokens
    banned = ask(model, logit_bias=((first, -100.0),))
    assert first not in banned.tokens
    forced = ask(model, logit_bias=((first, 100.0),), max_tokens=4)
    assert forced.tokens == [first] * 4


@pytest.mark.parametrize(
    "penalty", [{"presence_penalty": 100.0}, {"frequency_penalty": 100.0}], ids=str
)
def test_a_strong_penalty_repeats_nothing(model: LoadedModel, penalty: dict[str, float]) -> None:
    tokens = ask(model, **penalty, max_tokens=40).tokens
    assert len(set(tokens)) == len(tokens)


def test_rows_that_ask_for_nothing_stay_as_they_are(model: LoadedModel) -> None:
    alone = [run(model, Row(question))[0].tokens for question in QUESTIONS]
    asking = Sampling(
        12, repetition_penalty=1.3, presence_penalty=1.0, grammar=Grammar("json_object")
    )
    rows = run(model, *(Row(question) for question in QUESTIONS), Row(sampling=asking, after=2))
    assert [row.tokens for row in rows[:-1]] == alone


# ------------------------------------------------------------------------ grammars


def random_schema(dice: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema whose values are short, so that a random model comes to an end."""
    kinds = ["string", "integer", "boolean", "enum", "null"]
    kind = dice.choice([*kinds, "object", "array"] if depth < 2 else kinds)
    match kind if depth else "object":
        case "object":
            names = dice.sample(["name", "age", "city", "tags", "größe", "ok"], dice.randint(1, 4))
            return {
                "type": "object",
                "properties": {name: random_schema(dice, depth + 1) for name in names},
                "required": names,
                "additionalProperties": False,
            }
        case "array":
            low = dice.randint(0, 2)
            items = random_schema(dice, depth + 1)
            return {"type": "array", "items": items, "minItems": low, "maxItems": low + 1}
        case "string":
            return {"type": "string", "minLength": 1, "maxLength": dice.randint(1, 8)}
        case "integer":
            return {"type": "integer", "minimum": 0, "maximum": dice.randint(1, 500)}
        case "enum":
            return {"enum": dice.sample(["red", "green", "blue", 3, None], 2)}
        case other:
            return {"type": other}


def check(schema: dict[str, Any], value: Any) -> None:
    """What `random_schema` can ask for, asserted."""
    if "enum" in schema:
        assert value in schema["enum"]
        return
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    assert type(value) is kinds.get(schema["type"], type(None))
    if schema["type"] == "object":
        assert set(value) == set(schema["required"])
        for name, part in value.items():
            check(schema["properties"][name], part)
    elif schema["type"] == "array":
        assert schema["minItems"] <= len(value) <= schema["maxItems"]
        for part in value:
            check(schema["items"], part)
    elif schema["type"] == "string":
        assert 1 <= len(value) <= schema["maxLength"]
    elif schema["type"] == "integer":
        assert 0 <= value <= schema["maximum"]


def test_twenty_schemas_are_kept_by_a_random_model(model: LoadedModel) -> None:
    schemas = [random_schema(random.Random(seed)) for seed in range(20)]
    rows = run(
        model,
        *(
            Row(
                QUESTIONS[n % len(QUESTIONS)],
                sampling=Sampling(
                    max_tokens=600,
                    temperature=n % 2,
                    seed=n,
                    grammar=Grammar("json_schema", json.dumps(schema)),
                ),
                after=n,
            )
            for n, schema in enumerate(schemas)
        ),
        limit=4000,
    )
    for schema, row in zip(schemas, rows, strict=True):
        assert row.finish_reason == "stop"
        check(schema, json.loads(row.text))


def test_a_regular_expression_is_kept(model: LoadedModel) -> None:
    row = ask(model, grammar=Grammar("regex", "[a-c]{4}-(yes|no)"), temperature=1.0)
    assert re.fullmatch("[a-c]{4}-(yes|no)", row.text)
    assert row.finish_reason == "stop"


def test_a_cut_answer_says_so(model: LoadedModel) -> None:
    schema = {"type": "string", "minLength": 200, "maxLength": 300}
    row = ask(model, grammar=Grammar("json_schema", json.dumps(schema)), max_tokens=2)
    assert row.finish_reason == "length"


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar("json_schema", '{"type": "objekt"}'), "objekt"),
        (Grammar("json_schema", "{"), "line 1"),
        (Grammar("json_schema", '{"$ref": "#/nowhere"}'), "nowhere"),
        (Grammar("regex", "(a"), "cannot be"),
    ],
    ids=lambda value: value.source if isinstance(value, Grammar) else None,
)
def test_a_wrong_grammar_is_refused_with_its_reason(
    model: LoadedModel, grammar: Grammar, reason: str
) -> None:
    with pytest.raises(BackendError, match=reason) as refused:
        model.insert("row", encode(model, "Hi"), None, Sampling(grammar=grammar))
    assert "\n" not in str(refused.value)
    assert model.step() == []


# ------------------------------------------------------------------------ tools and texts


def test_a_text_is_no_chat(model: LoadedModel) -> None:
    assert 0 < len(model.encode_text("Hi")) < len(encode(model, "Hi"))


# ------------------------------------------------------------------------ vectors


def test_vectors_have_unit_length_and_do_not_depend_on_neighbours(model: LoadedModel) -> None:
    prompts = [encode(model, question) for question in QUESTIONS]
    vectors = model.embed(prompts, None)
    for prompt, vector in zip(prompts, vectors, strict=True):
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)
        assert model.embed([prompt], None)[0] == pytest.approx(vector, abs=1e-4)
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-3)


def test_a_text_that_is_too_long_has_no_vector(model: LoadedModel) -> None:
    with pytest.raises(PromptTooLong, match=str(model.context_length)):
        model.embed([[5] * (model.context_length + 1)], None)


def test_rows_run_on_beside_vectors(model: LoadedModel) -> None:
    expected = run(model, Row())[0].tokens
    model.insert("row", encode(model, QUESTIONS[0]), None, TWELVE)
    tokens: list[int] = []
    while len(tokens) < len(expected):
        tokens += [delta.token for delta in model.step()]
        model.embed([[5, 6, 7]], None)
    assert tokens == expected
