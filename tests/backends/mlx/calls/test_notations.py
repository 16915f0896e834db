"""Every notation of mlx-lm: what its grammar allows is read back by its own parser, and so is what streams."""

from __future__ import annotations

import importlib
import itertools
import json
import pkgutil
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from mlx_lm import tool_parsers
from mlx_lm.tool_parsers import (
    function_gemma,
    gemma4,
    glm47,
    json_tools,
    kimi_k2,
    kimi_k3,
    longcat,
    minicpm5,
    minimax_m2,
    mistral,
    muse_spark,
    pythonic,
    qwen3_coder,
)
from mlx_lm.utils import load_tokenizer

from backends.base import BackendError, Delta, Grammar, ToolCall
from backends.mlx.calls.notations import Notation, notation_of
from backends.mlx.calls.reading import streams
from backends.mlx.sampling.following import Rule
from backends.mlx.sampling.grammar import GrammarRule, Grammars
from backends.mlx.tool_calls import call_reader, parse_tool_calls, strict_grammar, tool_grammar
from inference.engine.requests.text import AnswerText
from inference.protocol import ToolUseFailed
from tests.backends.mlx.tool_template import Marked

pytestmark = pytest.mark.any_database
PARSERS = sorted(one.name for one in pkgutil.iter_modules(tool_parsers.__path__))
PROPERTIES: dict[str, Any] = {
    "city": {"type": "string"},
    "unit": {"enum": ["C", "F", "Kelvin (K)"]},
    "days": {"type": "integer", "minimum": 1, "maximum": 99},
    "exact": {"type": "boolean"},
    "where": {
        "type": "object",
        "properties": {
            "lat": {"type": "number", "minimum": -90, "maximum": 90},
            "tag": {"$ref": "#/$defs/Tag"},
        },
        "required": ["lat"],
        "additionalProperties": False,
    },
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "level": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]},
    "code": {"type": "string", "pattern": r"^[A-Z]{2}\d$"},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": PROPERTIES,
    "required": ["city", "days", "exact", "note"],
    "$defs": {"Tag": {"type": "string", "maxLength": 20}},
}
FLAT = SCHEMA | {
    "properties": {name: one for name, one in PROPERTIES.items() if name not in ("where", "tags")}
}


def tool(schema: Any, name: str = "weather") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def strictly(tool: dict[str, Any]) -> dict[str, Any]:
    return {**tool, "function": {**tool["function"], "strict": True}}


def tools_for(notation: Notation) -> list[dict[str, Any]]:
    schema = FLAT if notation.nested == "never" else SCHEMA
    return [tool(schema), tool({"type": "object", "properties": {}}, "stop")]


@pytest.fixture(scope="module")
def plain(tiny_base: Path) -> Any:
    return load_tokenizer(tiny_base)


def marks_of(notation: Notation) -> list[str]:
    forms = [text.form for text in notation.texts]
    return re.findall(r"<[^<>$]+>|\[[A-Z_]+\]", " ".join([*vars_of(notation), *forms]))


def vars_of(notation: Notation) -> list[str]:
    return [notation.whole, notation.call, notation.pair]


class Said:
    """A tokenizer for one notation; with `tokens`, its marks are tokens of their own, as they mostly are."""

    def __init__(self, plain: Any, module: Any, *, tokens: bool, template: str = "") -> None:
        self.parser = module.parse_tool_call
        marks = module.tool_call_start, module.tool_call_end
        self.tokenizer = Marked(plain, *marks, self.parser, added=())
        self.tokenizer.chat_template += template
        found = notation_of(self.tokenizer, self.parser)
        assert found is not None
        self.notation = found
        if tokens:
            added = marks_of(found)
            self.tokenizer = Marked(plain, *marks, self.parser, added=added)
            self.tokenizer.chat_template += template
        self.grammars = Grammars(self.tokenizer, len(self.tokenizer.get_vocab()))

    def rule(
        self, tools: Sequence[dict[str, Any]], otherwise: Grammar | None = None
    ) -> GrammarRule:
        rule = self.grammars.start(tool_grammar(self.tokenizer, "m", tools, otherwise))
        assert isinstance(rule, GrammarRule)
        return rule

    def strict(self, tools: Sequence[dict[str, Any]]) -> tuple[Rule | None, list[str]]:
        compiled = self.grammars.compile
        grammar, unheld = strict_grammar(self.tokenizer, "m", tools, compiled)
        return self.grammars.start(grammar) if grammar else None, unheld

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def keeps(self, tools: Sequence[dict[str, Any]], text: str) -> bool:
        rule = self.rule(tools)
        for token in self.tokens(text):
            if (allowed := rule.allowed()) is None or not allowed[token]:
                return False
            rule.follow(token)
        allowed = rule.allowed()
        return allowed is not None and bool(allowed[min(self.tokenizer.eos_token_ids)])

    def read(self, tools: Sequence[dict[str, Any]], text: str) -> list[ToolCall]:
        return parse_tool_calls(self.tokenizer, "m", text, tools)[1]

    def streamed(
        self, tools: Sequence[dict[str, Any]], text: str, seed: int
    ) -> list[tuple[str, str]]:
        """(name, arguments) of the calls, put together from the pieces of a text that is cut anywhere."""
        reader = call_reader(self.tokenizer, tools)
        assert reader is not None
        draw = random.Random(seed)
        ends = list(itertools.accumulate(draw.randint(1, 9) for _ in text))
        calls: list[tuple[str, str]] = []
        for start, end in zip([0, *ends], ends, strict=False):
            for piece in reader.push(text[start:end]):
                if piece.number == len(calls):
                    calls.append((piece.name, ""))
                name, arguments = calls[piece.number]
                calls[piece.number] = (name, arguments + piece.arguments)
        return calls


def wandered(said: Said, rule: Rule, seed: int) -> str:
    """A text of random tokens among those allowed, in which marks are tried often, and so it ends, or the
    rule has nothing more to say."""
    draw = random.Random(seed)
    endings = ["</", '"', "}", "]", "null", ' "a', "\n", "<", "]]>"]
    endings += [mark for text in said.notation.texts for mark in text.never]
    endings += [f"\n{mark}" for mark in said.notation.never] + list(said.notation.never)
    tried = [said.tokens(ending) for ending in endings]
    written: list[int] = []
    for _ in range(1500):
        allowed = rule.allowed()
        end = min(said.tokenizer.eos_token_ids)
        if allowed is None:
            return str(said.tokenizer.decode(written))
        if allowed[end] and (draw.random() < 0.5 or allowed.sum() == 1):
            return str(said.tokenizer.decode(written))
        allowed[end] = False
        chosen = [int(draw.choice(allowed.nonzero()[0]))]
        if draw.random() < 0.4 and (ending := draw.choice(tried)):
            chosen = ending if rule.fitting(ending) == len(ending) else chosen
        elif draw.random() < 0.2 and (forced := rule.forced()):
            rule.ahead(forced)  # as a row that runs alone does, and takes it back
            chosen = forced
        for token in chosen:
            rule.follow(token)
            written.append(token)
    raise AssertionError(f"no end: {said.tokenizer.decode(written)[:400]!r}")


def wanderings(said: Said, tools: list[dict[str, Any]], seeds: int) -> Iterator[tuple[str, int]]:
    """Texts of one call, and of several."""
    otherwise = Grammar("regex", "no call at all")
    for seed in range(seeds):
        yield wandered(said, said.rule(tools, otherwise if seed % 2 else None), seed), seed


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "letters"])
@pytest.mark.parametrize("name", PARSERS)
def test_calls_within_a_text_are_held_one_after_another(
    plain: Any, name: str, tokens: bool
) -> None:
    said = Said(plain, importlib.import_module(f"mlx_lm.tool_parsers.{name}"), tokens=tokens)
    tools = [strictly(one) for one in tools_for(said.notation)]
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    rule, unheld = said.strict(tools)
    assert rule is not None
    assert unheld == []
    text = ""
    for seed, words in enumerate(("<words> of it, ", "\nand more <: ")):
        for token in said.tokens(words):
            assert rule.allowed() is None
            rule.follow(token)
        mark = said.tokens(said.tokenizer.tool_call_start)
        for token in mark:
            allowed = rule.allowed()
            assert allowed is None or allowed[token]
            rule.follow(token)
        for _ in mark:
            rule.undo()
        assert rule.fitting([*mark, *mark]) < len(mark)
        for token in mark:
            rule.follow(token)
        assert not rule.idle
        text += words + said.tokenizer.tool_call_start + wandered(said, rule, seed)
        assert rule.idle is bool(said.tokenizer.tool_call_end)
        if not rule.idle:  # all that follows is read as a call
            break
    calls = said.read(tools, text)
    assert len(calls) > seed, text
    for call in calls:
        Draft202012Validator(schemas[call.name]).validate(json.loads(call.arguments))


WORDS = {4000: ">Ċ", 4001: ">!", 4002: "l>ĊĊ"}  # tokens that end a mark of letters and go on


@pytest.fixture(scope="module")
def crossing(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Said:
    folder = shutil.copytree(tiny_base, tmp_path_factory.mktemp("crossing") / "base")
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    vocabulary = described["model"]["vocab"]
    names = {number: word for word, number in vocabulary.items()}
    for number, word in WORDS.items():
        vocabulary.pop(word, None)
        vocabulary[word] = vocabulary.pop(names[number])
        vocabulary[word] = number
    merges = described["model"]["merges"]
    pairs = [m if isinstance(m, list) else m.split(" ") for m in merges]
    described["model"]["merges"] = [pair for pair in pairs if "".join(pair) in vocabulary]
    path.write_text(json.dumps(described))
    return Said(load_tokenizer(folder), json_tools, tokens=False)


def test_a_token_that_ends_the_mark_and_goes_on_must_fit(crossing: Said) -> None:
    rule, _ = crossing.strict([tool(SCHEMA), strictly(tool(FLAT, "ask"))])
    assert rule is not None
    for token in crossing.tokens("a <tool_ca"):
        assert rule.allowed() is None
        rule.follow(token)
    for sign, refused in (("l", 4002), ("l", 4001)):
        rule.follow(crossing.tokens(sign)[0])
        allowed = rule.allowed()
        assert allowed is not None
        assert np.flatnonzero(~allowed).tolist() == [refused]
        assert rule.fitting([4000]) == 0  # a guess waits for the token before it
    rule.follow(4000)
    assert wandered(crossing, rule, 1).startswith('{"name": "')


BEHIND = {"type": "string", "pattern": "(?<=a)b"}  # what llguidance alone knows that it cannot


@pytest.mark.parametrize("code", [BEHIND, {"not": {"type": "string"}}], ids=["pattern", "not"])
def test_a_schema_that_cannot_be_enforced_leaves_the_others_held(plain: Any, code: Any) -> None:
    said = Said(plain, json_tools, tokens=True)
    bad = tool({"type": "object", "properties": {"code": code}}, "bad")
    rule, unheld = said.strict([strictly(bad), strictly(tool(SCHEMA)), tool(FLAT, "ask")])
    assert unheld == ["bad"]
    assert said.strict([bad, strictly(tool(SCHEMA))])[1] == []
    assert rule is not None
    for text, fits in (
        ('{"name": "bad", "arguments": {"code": 5}}', True),
        ('{"name": "weather", "arguments": {"code": 5}}', False),
        ('{"name": "none"', False),
    ):
        [mark, *tokens] = said.tokens(f"<tool_call>\n{text}\n</tool_call>")
        rule.follow(mark)
        assert (rule.fitting(tokens) == len(tokens)) is fits
        rule.undo()


def test_without_json_a_schema_that_cannot_be_enforced_leaves_all_calls_free(plain: Any) -> None:
    said = Said(plain, qwen3_coder, tokens=True)
    bad = tool({"type": "object", "properties": {"code": BEHIND}}, "bad")
    assert said.strict([strictly(tool(SCHEMA)), bad]) == (None, ["weather"])
    anything = tool({"type": "object"}, "anything")  # of which it could write nothing
    assert said.strict([strictly(tool(SCHEMA)), anything]) == (None, ["weather"])


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "letters"])
@pytest.mark.parametrize("name", PARSERS)
def test_whatever_a_grammar_allows_is_read_back_and_streams_alike(
    plain: Any, name: str, tokens: bool
) -> None:
    said = Said(plain, importlib.import_module(f"mlx_lm.tool_parsers.{name}"), tokens=tokens)
    tools = tools_for(said.notation)
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    found = 0
    for text, seed in wanderings(said, tools, 4):
        if text == "no call at all":
            continue
        calls = said.read(tools, text)
        assert calls, text
        for call in calls:
            Draft202012Validator(schemas[call.name]).validate(json.loads(call.arguments))
        if not said.notation.pair or streams(said.notation):
            assert said.streamed(tools, text, seed) == [(c.name, c.arguments) for c in calls], text
        found += len(calls)
    assert found > 1


# ------------------------------------------------------------ right and wrong texts, by hand

ASK = tool(
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "sure": {"type": "boolean"},
        },
        "required": ["city"],
    },
    "ask",
)
OSLO = {"city": "Oslo", "days": 3, "sure": True}
HAND: list[tuple[Any, str, str]] = [
    (
        qwen3_coder,
        "",
        "<tool_call>\n<function=ask>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>"
        "\n<parameter=sure>\nTrue\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        glm47,
        "",
        "<tool_call>ask<arg_key>city</arg_key><arg_value>Oslo</arg_value><arg_key>days</arg_key><arg_value>3"
        "</arg_value><arg_key>sure</arg_key><arg_value>true</arg_value></tool_call>",
    ),
    (
        glm47,
        "",
        "<tool_call>ask\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>3</arg_value>\n<arg_key>sure</arg_key>\n<arg_value>true</arg_value>\n</tool_call>",
    ),
    (
        longcat,
        "",
        "<longcat_tool_call>ask\n<longcat_arg_key>city</longcat_arg_key>\n<longcat_arg_value>Oslo"
        "</longcat_arg_value>\n<longcat_arg_key>days</longcat_arg_key>\n<longcat_arg_value>3"
        "</longcat_arg_value>\n<longcat_arg_key>sure</longcat_arg_key>\n<longcat_arg_value>true"
        "</longcat_arg_value>\n</longcat_tool_call>",
    ),
    (
        minimax_m2,
        "",
        '<minimax:tool_call>\n<invoke name="ask">\n<parameter name="city">Oslo</parameter>\n<parameter '
        'name="days">3</parameter>\n<parameter name="sure">true</parameter>\n</invoke>\n'
        "</minimax:tool_call>",
    ),
    (
        muse_spark,
        "",
        '<atem:function_calls>\n<atem:invoke name="ask">\n<atem:parameter name="city">Oslo</atem:parameter>'
        '\n<atem:parameter name="days">3</atem:parameter>\n<atem:parameter name="sure">true'
        "</atem:parameter>\n</atem:invoke>\n</atem:function_calls>",
    ),
    (
        minicpm5,
        "",
        '<function name="ask"><param name="city">Oslo</param><param name="days">3</param><param name="sure">'
        "true</param></function>",
    ),
    (
        kimi_k3,
        "",
        '<|open|>tools<|sep|><|open|>call tool="ask" index="1"<|sep|><|open|>argument key="city" '
        'type="string"<|sep|>Oslo<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3'
        '<|close|>argument<|sep|><|open|>argument key="sure" type="boolean"<|sep|>true<|close|>argument'
        "<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    (
        kimi_k2,
        "",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.ask:0<|tool_call_argument_begin|>"
        '{"city": "Oslo", "days": 3, "sure": true}<|tool_call_end|><|tool_calls_section_end|>',
    ),
    (
        mistral,
        "",
        '[TOOL_CALLS] [{"name": "ask", "arguments": {"city": "Oslo", "days": 3, "sure": true}}]',
    ),
    (mistral, "[ARGS]", '[TOOL_CALLS]ask[ARGS]{"city": "Oslo", "days": 3, "sure": true}'),
    (
        mistral,
        "[CALL_ID][ARGS]",
        '[TOOL_CALLS]ask[CALL_ID]abcdefgh1[ARGS]{"city": "Oslo", "days": 3, "sure": true}',
    ),
    (
        mistral,
        "",
        '[TOOL_CALLS][{"name": "ask", "arguments": {"city": "Oslo", "days": 3, "sure": true}, "id": '
        '"abcdefgh1"}]',
    ),
    (
        pythonic,
        "",
        "<|tool_call_start|>[ask(city='Oslo', days=3, sure=True)]<|tool_call_end|>",
    ),
    (
        pythonic,
        "",
        '<|tool_call_start|>[ask(city="Oslo", days=3, sure=True)]<|tool_call_end|>',
    ),
    (gemma4, "", '<|tool_call>call:ask{city:<|"|>Oslo<|"|>,days:3,sure:true}<tool_call|>'),
    (
        function_gemma,
        "",
        "<start_function_call>call:ask{city:<escape>Oslo<escape>,days:3,sure:true}<end_function_call>",
    ),
]


by_hand = pytest.mark.parametrize(
    ("module", "template", "text"),
    HAND,
    ids=[f"{one[0].__name__.rpartition('.')[2]}{n}" for n, one in enumerate(HAND)],
)


@by_hand
def test_a_call_as_the_template_writes_it_is_right_and_others_are_not(
    plain: Any, module: Any, template: str, text: str
) -> None:
    said = Said(plain, module, tokens=True, template=template)
    tools = [ASK, tool({"type": "object"}, "stop")]
    assert said.keeps(tools, text)
    [call] = said.read(tools, text)
    assert (call.name, json.loads(call.arguments)) == ("ask", OSLO)
    if module is not pythonic:
        assert said.streamed(tools, text, 1) == [(call.name, call.arguments)]
    for right, wrong in (
        ("ask", "asks"),  # a name that no tool has
        ("city", "town"),
        ("days", "city"),
        ("3", "three"),
        ("rue", "ruly"),  # of true and True
    ):
        assert not said.keeps(tools, text.replace(right, wrong)), wrong
    assert not said.keeps(tools, f"I look. {text}")
    assert not said.keeps(tools, text[:-1])
    assert said.keeps([tool(ASK["function"]["parameters"] | {"required": []}, "ask")], text)
    strict = {"city": {"enum": ["Rome"]}, "days": {"type": "integer"}, "sure": {"type": "boolean"}}
    rome = [tool({"type": "object", "properties": strict}, "ask")]
    assert not said.keeps(rome, text)
    assert said.keeps(rome, text.replace("Oslo", "Rome"))


@by_hand
def test_a_text_with_calls_as_the_template_writes_them_is_let_through(
    plain: Any, module: Any, template: str, text: str
) -> None:
    said = Said(plain, module, tokens=True, template=template)
    tools = [strictly(ASK), strictly(tool({"type": "object"}, "stop"))]

    def keeps(written: str) -> bool:
        rule, _ = said.strict(tools)
        assert rule is not None
        for token in said.tokens(written):
            if (allowed := rule.allowed()) is not None and not allowed[token]:
                return False
            rule.follow(token)
        return True

    only_a_list = said.notation.whole != "$calls" and not said.tokenizer.tool_call_end
    assert keeps(f"I look. {text}")
    assert keeps(f"{text}{text}") is not only_a_list
    assert keeps(f"{text} And so on.") is bool(said.tokenizer.tool_call_end)
    assert not keeps(f"I look. {text.replace('ask', 'asks')}")
    assert not keeps(text.replace("city", "town"))


TEXTS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"minLength": 2, "maxLength": 4}, ["ab", "a\nbc"], ["a", "abcde"]),
    ({"pattern": "b+"}, ["abba", "b"], ["aa", ""]),
    ({"pattern": r"^(?:a|/[)$]\$)$"}, ["a", "/$$"], ["ab", "b"]),
    ({"format": "date"}, ["2026-11-30"], ["2026-13-30", "today"]),
    ({"format": "nobody-knows"}, ["anything </b> & more"], []),
    ({}, ["", "a </parametes> b"], ["a\n</parameter>\n b", "null", "a</tool_call>"]),
]


@pytest.mark.parametrize(("asked", "right", "wrong"), TEXTS)
def test_texts_without_quotes_keep_to_what_is_asked_of_them(
    plain: Any, asked: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    said = Said(plain, qwen3_coder, tokens=False)
    tools = [
        tool(
            {"type": "object", "properties": {"a": {"type": "string", **asked}}, "required": ["a"]}
        )
    ]
    form = "<tool_call>\n<function=weather>\n<parameter=a>\n{}\n</parameter>\n</function>\n</tool_call>"
    for text in right:
        assert said.keeps(tools, form.format(text)), text
        [call] = said.read(tools, form.format(text))
        assert json.loads(call.arguments) == {"a": text}
    for text in wrong:
        assert not said.keeps(tools, form.format(text)), text


@pytest.mark.parametrize(
    ("module", "schema", "name", "reason"),
    [
        (function_gemma, {"a": {"type": "array"}}, "f", "'a', which is a list"),
        (function_gemma, {"a": {"type": "object"}}, "f", "'a', which is an object"),
        (gemma4, {"a": {"allOf": [{}, {"minimum": 1}]}}, "f", "'a', which is of no one type"),
        (gemma4, {"a": {"enum": [[1]]}}, "f", "'a', which is a choice of objects or lists"),
        (gemma4, {"a b": {"type": "string"}}, "f", "no way to write the parameter 'a b'"),
        (gemma4, {"a": {"enum": ['<|"|>']}}, "f", "no way to write '<|\"|>' as 'a'"),
        (function_gemma, {}, "f-g", "no way to write the name 'f-g'"),
        (pythonic, {"from": {"type": "string"}}, "f", "no way to write the parameter 'from'"),
        (qwen3_coder, {"a": {"enum": ["null"]}}, "f", "no way to write 'null' as 'a'"),
        (qwen3_coder, {"a": {"type": "string", "format": "ipv6"}}, "f", '"ipv6" is not supported'),
        (qwen3_coder, {"a": {"type": "string", "pattern": "a$|b"}}, "f", "which is not supported"),
        (glm47, {"a": {"$ref": "#/$defs/None"}}, "f", "leads nowhere"),
    ],
)
def test_what_a_notation_cannot_write_is_refused_in_a_sentence(
    plain: Any, module: Any, schema: Any, name: str, reason: str
) -> None:
    said = Said(plain, module, tokens=False)
    tools = [tool({"type": "object", "properties": schema}, name)]
    with pytest.raises(BackendError, match=re.escape(reason)) as error:
        said.rule(tools)
    assert re.match(
        rf"A call of {name} cannot be enforced: .*, or send tool_choice", str(error.value)
    )
    # Beside a format whatever begins as a call may come.
    assert said.rule(tools, Grammar("json_object")).allowed().any()


# ------------------------------------------------------------ what is read


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        (
            minimax_m2,
            '<minimax:tool_call>\n<invoke name="f">\n<parameter name="id">007</parameter>\n<parameter name="n">7'
            "</parameter>\n</invoke>\n</minimax:tool_call>",
            {"id": "007", "n": 7},
        ),
        (
            qwen3_coder,
            "<tool_call>\n<function=f>\n<parameter=id>\n007\n</parameter>\n<parameter=n>\n7\n</parameter>\n"
            "</function>\n</tool_call>",
            {"id": "007", "n": 7},
        ),
        (
            glm47,
            "<tool_call>f<arg_key>id</arg_key><arg_value>null</arg_value><arg_key>n</arg_key><arg_value>null"
            "</arg_value></tool_call>",
            {"id": None, "n": None},
        ),
        (longcat, "<longcat_tool_call>f\n</longcat_tool_call>", {}),
        (glm47, "<tool_call>f</tool_call>", {}),
    ],
)
def test_types_said_with_references_and_null_are_read_as_meant(
    plain: Any, module: Any, text: str, expected: dict[str, Any]
) -> None:
    schema = {
        "type": "object",
        "properties": {
            "id": {"anyOf": [{"$ref": "#/$defs/Id"}, {"type": "null"}], "default": None},
            "n": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "$defs": {"Id": {"type": "string"}},
    }
    [call] = Said(plain, module, tokens=False).read([tool(schema, "f")], text)
    assert (call.name, json.loads(call.arguments)) == ("f", expected)


def test_arguments_streams_come_before_the_call_has_ended(plain: Any) -> None:
    said = Said(plain, qwen3_coder, tokens=False)
    reader = call_reader(said.tokenizer, [ASK])
    assert reader is not None
    assert reader.push("I look. <tool_call>\n<function=as") == []
    [named] = reader.push("k>\n<parameter=city>\nNu")
    assert (named.name, named.arguments) == ("ask", "")  # it may yet be null
    assert [one.arguments for one in reader.push('uk "\n')] == ['{"city": "Nuuk \\"']
    assert [one.arguments for one in reader.push("</parameter>\n<parameter=days>\n3")] == ['"']
    ended = reader.push("\n</parameter>\n</function>\n</tool_call>")
    assert [one.arguments for one in ended] == [', "days": 3', "}"]


def test_a_parameter_given_twice_is_refused_once_its_first_value_was_sent(plain: Any) -> None:
    said = Said(plain, glm47, tokens=False)
    pair = "<arg_key>city</arg_key><arg_value>{}</arg_value>"
    text = f"<tool_call>ask{pair.format('Oslo')}{pair.format('Rome')}</tool_call>"
    with pytest.raises(BackendError, match="cannot be read"):
        said.read([ASK], text)


@pytest.mark.parametrize("end", ["<arg_key>ci", "<arg_key>city</arg_key>\n<arg_value>Os"])
def test_a_call_that_is_cut_off_within_a_parameter_is_not_one_without_it(
    plain: Any, end: str
) -> None:
    said = Said(plain, glm47, tokens=False)
    with pytest.raises(BackendError, match="was cut off"):
        said.read([ASK], f"<tool_call>ask\n{end}")
    [call] = said.read(
        [ASK], "<tool_call>ask\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>"
    )
    assert json.loads(call.arguments) == {"city": "Oslo"}


class Model:
    """What reads an answer's calls."""

    def __init__(self, said: Said) -> None:
        self._said = said

    def parse_tool_calls(self, text: str, tools: Any) -> Any:
        return parse_tool_calls(self._said.tokenizer, "m", text, tools)


def answered(
    said: Said, tools: list[dict[str, Any]], parts: Sequence[str]
) -> tuple[dict[int, str], list[str]]:
    """(arguments by number as they were sent in pieces, those of the calls in the end)."""
    model: Any = Model(said)
    answer = AnswerText(tools, with_logprobs=False, reader=call_reader(said.tokenizer, tools))
    chunks = [answer.take(Delta("r", part, 0, 0.0)) for part in parts]
    last, called = answer.finish(model, "stop")
    sent: dict[int, str] = {}
    for chunk in [*chunks, last]:
        for piece in chunk.calls if chunk else ():
            sent[piece["number"]] = sent.get(piece["number"], "") + piece["arguments"]
    return sent, [call["arguments"] for call in called]


def test_of_a_call_that_is_written_otherwise_the_rest_comes_at_the_end(plain: Any) -> None:
    """Its reader stops at what it does not know; the notation's parser does not."""
    said = Said(plain, minimax_m2, tokens=False)
    parts = [
        '<minimax:tool_call><invoke name="ask"><parameter name="city">Oslo</parameter>',
        "-" * 600,
        "<parameter name=days>3</parameter></invoke></minimax:tool_call>",
    ]
    sent, [called] = answered(said, [ASK], parts)
    assert sent[0] == called == '{"city": "Oslo", "days": 3}'


@pytest.mark.parametrize("module", [qwen3_coder, glm47, minimax_m2, minicpm5, kimi_k3, gemma4])
def test_what_was_sent_of_garbled_calls_is_what_they_are_in_the_end_or_an_error(
    plain: Any, module: Any
) -> None:
    said = Said(plain, module, tokens=False)
    tools = tools_for(said.notation)
    kept = 0
    for seed in range(2):
        text = wandered(said, said.rule(tools), seed)[:600]
        for number in range(15):
            draw = random.Random(number)
            at, end = sorted(draw.choices(range(len(text)), k=2))
            mark = draw.choice([*said.notation.never, *said.notation.texts[0].never, "null", '"'])
            garbled = draw.choice(
                [
                    text[:at] + mark + text[at:],
                    text[:end] + text[at:],
                    text[:at] + text[min(end, at + 20) :],
                ]
            )
            try:
                sent, calls = answered(said, tools, list(garbled))
            except ToolUseFailed:
                continue
            kept += len(calls)
            for which, arguments in sent.items():
                assert arguments == calls[which], garbled
    assert kept > 3
