"""Tool calls in answers, in the notation of the model's template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlx_lm.tool_parsers import json_tools
from mlx_lm.utils import load_tokenizer

from backends.base import BackendError, Grammar, Message, ToolCall
from backends.mlx.chat import chat_tokens
from backends.mlx.sampling.grammar import Grammars
from backends.mlx.tool_calls import parse_tool_calls, tool_grammar
from tests.backends.mlx.data.templates import CHATML, FIELD_ONLY, NO_SYSTEM
from tests.backends.mlx.tool_template import TEMPLATE, TOOLS, Marked, with_template

pytestmark = pytest.mark.any_database
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(with_template(tiny_base, tmp_path_factory.mktemp("t") / "b", TEMPLATE))


def read(tokenizer: Any, text: str) -> tuple[str, list[ToolCall]]:
    return parse_tool_calls(tokenizer, "tiny", text, TOOLS)


def test_words_and_calls_are_separated(tokenizer: Any) -> None:
    rest, calls = read(tokenizer, f"I look.\n{CALL}\n{CALL.replace('Oslo', 'Rome')}")
    assert rest == "I look."
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Rome"}),
    ]


def test_earlier_thoughts_reach_a_template_as_it_reads_them(
    tiny_base: Path, tmp_path: Path
) -> None:
    """In the field where it reads that, in the text where training has them for all others."""
    said: list[Message] = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two.", "reasoning_content": "One more."},
    ]
    for name, template, expected in (
        ("plain", CHATML, "<think>\nOne more.\n</think>\n\nTwo."),
        (
            "reads",
            FIELD_ONLY.replace("m.thinking", "m.reasoning_content"),
            "[thinks] One more. [says] Two.",
        ),
    ):
        folder = with_template(tiny_base, tmp_path / name, template)
        loaded = load_tokenizer(folder)
        assert expected in loaded.decode(chat_tokens(loaded, "tiny", said))


def test_an_answer_without_calls_is_text(tokenizer: Any) -> None:
    assert read(tokenizer, "It rains <b>today</b>.") == ("It rains <b>today</b>.", [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CALL[:30], "cut off"),
        ("<tool_call>weather(Oslo)</tool_call>", "cannot be read"),
        ('<tool_call>{"name": "weather", "arguments": "Oslo"}</tool_call>', "cannot be read"),
        ('<tool_call>{"arguments": {}}</tool_call>', "cannot be read"),
    ],
)
def test_a_call_that_cannot_be_read_is_an_error(tokenizer: Any, text: str, reason: str) -> None:
    with pytest.raises(BackendError, match=reason):
        read(tokenizer, text)


def test_arguments_sent_as_json_text_reach_the_template_as_an_object(tokenizer: Any) -> None:
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    messages: list[Message] = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "clear", "tool_call_id": "1"},
    ]
    text = tokenizer.decode(chat_tokens(tokenizer, "tiny", messages, TOOLS))
    assert CALL in text
    assert "The weather of a city" in text


def called(arguments: str, number: str = "1") -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"id": number, "type": "function", "function": function}


def test_arguments_that_were_cut_off_are_the_text_that_they_were(tokenizer: Any) -> None:
    calls = [called('{"city": "Oslo"}'), called('{"city": "Ro', "2")]
    messages: list[Message] = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "content": "clear", "tool_call_id": "1"},
        {"role": "tool", "content": "These arguments are no JSON.", "tool_call_id": "2"},
    ]
    text = tokenizer.decode(chat_tokens(tokenizer, "tiny", messages, TOOLS))
    cut = '<tool_call>\n{"name": "weather", "arguments": {"city": "Ro<|im_end|>'
    assert f"assistant\nI look.\n{CALL}\n{cut}" in text
    assert "These arguments are no JSON.\n</tool_response><|im_end|>" in text


# ------------------------------------------------------------ templates that know no tools

TALK: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Oslo and Rome?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [called('{"city": "Oslo"}'), called('{"city": "Rome"}', "2")],
    },
    {"role": "tool", "content": "clear", "tool_call_id": "1", "name": "weather"},
    {"role": "tool", "content": "rain", "tool_call_id": "2", "name": "weather"},
    {"role": "user", "content": "Thanks."},
]
# As Gemma's, which takes no system message, or leaves it out.
REFUSES = NO_SYSTEM
DROPS = "{% for m in messages %}{% if m.role != 'system' %}" + CHATML.split("%}", 1)[1].replace(
    "{% endfor %}", "{% endif %}{% endfor %}", 1
)


@pytest.fixture(scope="module", params=["chatml", "refuses", "drops"])
def plain(
    request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    template = {"chatml": CHATML, "refuses": REFUSES, "drops": DROPS}[request.param]
    return load_tokenizer(with_template(tiny_base, tmp_path_factory.mktemp("p") / "b", template))


def test_tools_are_written_in_words_where_the_template_knows_none(plain: Any) -> None:
    text = plain.decode(chat_tokens(plain, "plain", TALK, TOOLS))
    assert json.dumps(TOOLS[0]) in text
    assert "<tool_call></tool_call>" in text
    assert text.index("Be brief.") < text.index("The weather of a city") < text.index("Oslo and")
    rome = CALL.replace("Oslo", "Rome")
    results = "<tool_response>\n{}\n</tool_response>"
    both = f"{results.format('clear')}\n{results.format('rain')}\n\nThanks."
    assert text.index(f"{CALL}\n{rome}") < text.index(both)


def test_earlier_calls_stay_without_tools(plain: Any) -> None:
    text = plain.decode(chat_tokens(plain, "plain", TALK[1:]))
    assert CALL in text
    assert "clear" in text
    assert "# Tools" not in text


def test_a_chat_without_tools_is_as_the_template_writes_it(plain: Any) -> None:
    chat: list[Message] = [{"role": "user", "content": "Hello"}]
    told = plain.apply_chat_template(chat, add_generation_prompt=True)
    assert chat_tokens(plain, "plain", chat) == told


def test_calls_in_words_are_read_and_enforced_as_any(plain: Any) -> None:
    rest, [call] = parse_tool_calls(plain, "plain", f"I look.\n{CALL}", TOOLS)
    assert (rest, call.name, json.loads(call.arguments)) == ("I look.", "weather", {"city": "Oslo"})
    with pytest.raises(BackendError, match="cut off"):
        read(plain, CALL[:30])
    assert tool_grammar(plain, "plain", TOOLS).kind == "lark"


def test_a_system_message_begins_the_users_turn_where_the_template_refuses_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    gemma = load_tokenizer(with_template(tiny_base, tmp_path / "b", NO_SYSTEM))
    text = gemma.decode(chat_tokens(gemma, "gemma", TALK[:2]))
    assert "user\nBe brief.\n\nWeather in Oslo and Rome?" in text


def test_a_notation_of_the_vocabulary_alone_is_not_the_templates(tokenizer: Any) -> None:
    class Lost:
        chat_template = CHATML
        has_tool_calling = True
        tool_call_start, tool_call_end, tool_parser = "<|tool_call_start|>", "", None

    assert parse_tool_calls(Lost(), "lost", CALL, TOOLS)[1] == read(tokenizer, CALL)[1]


# ------------------------------------------------------------ grammars of calls

DAY: dict[str, Any] = {"type": "object", "properties": {"day": {"enum": ["Friday"]}}}
DAY |= {"required": ["day"], "additionalProperties": False}
CITY: Any = {
    "type": "function",
    "function": {
        "name": "city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/City"}},
            "$defs": {"City": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CITY_CALL = CALL.replace("weather", "city")
OTHERWISE = [
    Grammar("json_schema", json.dumps(DAY)),
    Grammar("json_object"),
    Grammar("regex", r'\{"day": "[F/]riday"\}'),
    Grammar("regex", r'\{"day": "[F\/]riday\\?"\}'),
]


def keeps(tokenizer: Any, grammar: Grammar, text: str) -> bool:
    """Whether `grammar` allows `text` as a whole answer."""
    vocabulary = len(tokenizer.get_vocab())
    rule = Grammars(tokenizer, vocabulary).start(grammar)
    for token in tokenizer.encode(text, add_special_tokens=False):
        if not rule.allowed()[token]:
            return False
        rule.follow(token)
    return bool(rule.allowed()[min(tokenizer.eos_token_ids)])


def test_a_call_is_enforced_with_the_definitions_in_its_schema(tokenizer: Any) -> None:
    forced = tool_grammar(tokenizer, "tiny", [*TOOLS, CITY])
    assert keeps(tokenizer, forced, CALL)
    assert keeps(tokenizer, forced, CITY_CALL)
    assert not keeps(tokenizer, forced, CITY_CALL.replace("Oslo", "Paris"))
    assert not keeps(tokenizer, forced, f"Well. {CALL}")
    assert not keeps(tokenizer, forced, '{"day": "Friday"}')


def test_arguments_are_an_object_and_a_tool_has_a_name(tokenizer: Any) -> None:
    bare = {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}
    forced = tool_grammar(tokenizer, "tiny", [bare])
    assert keeps(tokenizer, forced, CALL)
    assert not keeps(tokenizer, forced, CALL.replace('{"city": "Oslo"}', "3"))
    with pytest.raises(BackendError, match="no name"):
        tool_grammar(tokenizer, "tiny", [{"type": "function"}])


@pytest.mark.parametrize("otherwise", OTHERWISE, ids=lambda grammar: grammar.kind)
def test_an_answer_is_calls_or_what_another_grammar_describes(
    tokenizer: Any, otherwise: Grammar
) -> None:
    either = tool_grammar(tokenizer, "tiny", [*TOOLS, CITY], otherwise)
    for text in ('{"day": "Friday"}', CALL, f"{CALL}\n{CITY_CALL}"):
        assert keeps(tokenizer, either, text), text
    for text in ("Friday", CITY_CALL.replace("Oslo", "Paris"), '{"day": "Friday"} ' + CALL):
        assert not keeps(tokenizer, either, text), text


_HERMES = "<tool_call>", "</tool_call>", json_tools.parse_tool_call


def test_a_mark_is_the_token_that_models_learned(tokenizer: Any) -> None:
    qwen = Marked(tokenizer, *_HERMES)
    [mark] = qwen.encode("<tool_call>", add_special_tokens=False)
    forced = tool_grammar(qwen, "qwen", TOOLS)
    rule = Grammars(qwen, len(qwen.get_vocab())).start(forced)
    assert [int(token) for token in rule.allowed().nonzero()[0]] == [mark]
    assert keeps(qwen, forced, CALL)


def test_beside_a_format_any_notation_will_do(tokenizer: Any) -> None:
    other = Marked(tokenizer, "<|tool_call_start|>", "<|tool_call_end|>", None)
    either = tool_grammar(other, "other", TOOLS, OTHERWISE[0])
    called = '<|tool_call_start|>[weather(city="Oslo")]<|tool_call_end|>'
    assert keeps(other, either, called)
    assert keeps(other, either, '{"day": "Friday"}')
    assert not keeps(other, either, "Friday")
    with pytest.raises(BackendError, match="cannot be enforced"):
        tool_grammar(other, "other", TOOLS)


def test_every_notation_that_can_be_read_is_held_back_in_a_stream() -> None:
    import importlib
    import pkgutil

    from mlx_lm import tool_parsers

    from inference.engine.requests.text import MARKERS

    for found in pkgutil.iter_modules(tool_parsers.__path__):
        parser = importlib.import_module(f"mlx_lm.tool_parsers.{found.name}")
        assert parser.tool_call_start.startswith(MARKERS), found.name
