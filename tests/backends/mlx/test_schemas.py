"""Schemas as clients send them: what asks for nothing passes, what cannot be enforced is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlx_lm.utils import load_tokenizer

from backends.base import BackendError, Grammar, inputs
from backends.mlx.sampling.grammar import Grammars
from backends.mlx.tool_calls import tool_grammar
from tests.backends.mlx.tool_template import TEMPLATE, with_template
from tests.backends.test_inputs import GOOD, PATCH

DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"  # as pydantic 2.12 and 2.13 write it


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return load_tokenizer(tiny_base)


@pytest.fixture(scope="module")
def grammars(tokenizer: Any) -> Grammars:
    return Grammars(tokenizer, len(tokenizer.get_vocab()))


def with_a(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"]}


def takes(grammars: Grammars, tokenizer: Any, schema: Any, value: Any) -> bool:
    """Whether the whole of `value`, as JSON, is an answer that the grammar allows."""
    rule = grammars.start(Grammar("json_schema", json.dumps(schema)))
    for token in tokenizer.encode(json.dumps(value), add_special_tokens=False):
        if not rule.allowed()[token]:
            return False
        rule.follow(token)
    return bool(rule.allowed()[list(tokenizer.eos_token_ids)].any())


PASSED_OVER = {
    "an unknown format": with_a(type="string", format="currency"),
    "OpenAPI's formats": with_a(type="integer", format="int64"),
    "items that may repeat": with_a(type="array", items={"type": "string"}, uniqueItems=False),
    "anything unevaluated": {**with_a(type="string"), "unevaluatedProperties": True},
    "an unknown draft": {"$schema": "http://json-schema.org/schema#", **with_a(type="string")},
    "a known draft": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **with_a(type="string"),
    },
    "words for people": with_a(
        type="string", title="A", description="d", examples=["x"], default="y", deprecated=True
    ),
    "OpenAPI's words": with_a(
        type="string", example="x", xml={"name": "a"}, externalDocs={"url": "u"}, readOnly=True
    ),
    "rules of nothing": with_a(
        type="string", dependentRequired={}, propertyNames=True, then={"const": 1}, minContains=2
    ),
    "a property that is called like a rule": {
        "type": "object",
        "properties": {"not": {"type": "string"}, "uniqueItems": {"const": True}},
    },
    "a default that looks like a schema": with_a(type="string", default={"uniqueItems": True}),
    "a definition": {
        **with_a(**{"$ref": "#/$defs/A"}),
        "$defs": {"A": {"type": "array", "uniqueItems": False, "items": {"format": "x"}}},
    },
}


@pytest.mark.parametrize("kind", PASSED_OVER)
def test_what_asks_for_nothing_is_passed_over(grammars: Grammars, kind: str) -> None:
    grammars.start(Grammar("json_schema", json.dumps(PASSED_OVER[kind])))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (with_a(type="array", uniqueItems=True), '"uniqueItems": true is not supported at'),
        (with_a(type="array", contains={"const": 1}), "properties.a"),
        (with_a(**{"not": {"const": 1}}), '"not"'),
        ({"anyOf": [{"type": "null"}, {"dependentRequired": {"a": ["b"]}}]}, "anyOf.1"),
        (
            {"allOf": [with_a(type="string")], "unevaluatedProperties": False},
            '"unevaluatedProperties": false',
        ),
        (with_a(type="string", pattern="a(?=b)"), "look-a"),
        (with_a(type="nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_enforced_is_named(grammars: Grammars, schema: Any, words: str) -> None:
    with pytest.raises(BackendError, match="cannot be enforced") as caught:
        grammars.start(Grammar("json_schema", json.dumps(schema)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (with_a(type="string", nullable=True), [{"a": None}, {"a": "x"}], [{"a": 1}]),
        (
            with_a(type="integer", minimum=3, exclusiveMinimum=True, maximum=5),
            [{"a": 4}, {"a": 5}],
            [{"a": 3}, {"a": 6}],
        ),
        (
            with_a(anyOf=[{"type": "number"}, {"type": "string", "pattern": DECIMAL}]),
            [{"a": 1.5}, {"a": "-1.50"}, {"a": ".5"}, {"a": "007"}],
            [{"a": "-"}, {"a": "."}, {"a": ""}, {"a": "x"}],
        ),
        (
            {**with_a(type="string"), "unevaluatedProperties": False},
            [{"a": "x"}],
            [{"a": "x", "b": 1}],
        ),
    ],
)
def test_other_dialects_mean_what_they_say(
    grammars: Grammars, tokenizer: Any, schema: Any, right: list[Any], wrong: list[Any]
) -> None:
    assert [value for value in right if not takes(grammars, tokenizer, schema, value)] == []
    assert [value for value in wrong if takes(grammars, tokenizer, schema, value)] == []


def test_pydantics_own_decimal(grammars: Grammars, tokenizer: Any) -> None:
    from decimal import Decimal

    from pydantic import BaseModel

    class Price(BaseModel):
        a: Decimal

    for mode in ("validation", "serialization"):
        schema = Price.model_json_schema(mode=mode)  # type: ignore[arg-type]
        assert takes(grammars, tokenizer, schema, {"a": "1.50"})


def test_a_forced_calls_arguments_are_read_alike(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(with_template(tiny_base, tmp_path / "base", TEMPLATE))
    parameters = with_a(type="array", items={"type": "string"}, uniqueItems=False)
    tool = {"type": "function", "function": {"name": "say", "parameters": parameters}}
    Grammars(tokenizer, len(tokenizer.get_vocab())).start(tool_grammar(tokenizer, "tiny", [tool]))
    parameters["properties"]["a"]["uniqueItems"] = True
    with pytest.raises(
        BackendError, match=r'"uniqueItems": true is not supported at properties\.a'
    ):
        tool_grammar(tokenizer, "tiny", [tool])


def call_is_taken(tokenizer: Any, tool: dict[str, Any], text: str) -> bool:
    """Whether a forced call of a custom tool may have that input."""
    name = tool["function"]["name"]
    said = json.dumps({"name": name, "arguments": {"input": text}}, ensure_ascii=False)
    grammars = Grammars(tokenizer, len(tokenizer.get_vocab()))
    rule = grammars.start(tool_grammar(tokenizer, "tiny", [tool]))
    for token in tokenizer.encode(f"<tool_call>\n{said}\n</tool_call>", add_special_tokens=False):
        if not rule.allowed()[token]:
            return False
        rule.follow(token)
    return bool(rule.allowed()[next(iter(tokenizer.eos_token_ids))])


def test_a_custom_tools_input_follows_its_grammar(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(with_template(tiny_base, tmp_path / "base", TEMPLATE))
    patch = inputs.described("patch", "", {"syntax": "lark", "definition": PATCH})
    assert call_is_taken(tokenizer, patch, GOOD)
    assert not call_is_taken(tokenizer, patch, GOOD.replace("@@ ", "@ "))
    digits = {"syntax": "regex", "definition": r'"\d+"|\p{Greek}\n'}
    tool = inputs.described("digits", "", digits)
    assert call_is_taken(tokenizer, tool, '"12"')
    assert call_is_taken(tokenizer, tool, "π\n")
    assert not call_is_taken(tokenizer, tool, "12")
    free = inputs.described("say", "", {})
    assert call_is_taken(tokenizer, free, GOOD)
    endless = {"syntax": "lark", "definition": 'start: "(" start? ")"'}
    with pytest.raises(
        BackendError, match=r"grammar of sums cannot be enforced: its rule start ref"
    ):
        tool_grammar(tokenizer, "tiny", [inputs.described("sums", "", endless)])
