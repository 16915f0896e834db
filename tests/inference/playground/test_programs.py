"""What a version's page gives to copy asks what its data set asks, in the form of each API."""

from __future__ import annotations

import ast
import json
import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from inference.playground.programs import anthropic_body, body_of, programs
from inference.playground.questions import Asked, asked_of, shape
from inference.v1.anthropic.schemas import MessagesIn
from inference.v1.openai.schemas import ChatCompletionIn
from registry.datasets.snapshots import register_dataset
from registry.models import ModelVersion
from registry.storage import paths
from tests.registry.build import make_model, write_jsonl

pytestmark = pytest.mark.any_database
ORIGIN = "http://127.0.0.1:8000"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
CALL = {
    "id": "call_7",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"town": "Bern"}'},
}


def asked_from(*rows: dict[str, Any], train: tuple[dict[str, Any], ...] = ()) -> Asked:
    """What is asked of a version that was trained on data with these rows held out."""
    folder = paths.root() / "source"
    for split, examples in (("train", train or rows), ("valid", rows), ("test", rows)):
        write_jsonl(folder / f"{split}.jsonl", list(examples))
    model = make_model()
    dataset = register_dataset("asked", folder)
    return asked_of(ModelVersion(model=model, version="0.1.0", dataset=dataset))


def chat(*said: str, system: str = "", **more: Any) -> dict[str, Any]:
    turns = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    turns += [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
    return {"messages": turns, **more}


@pytest.mark.django_db
def test_the_question_is_a_held_out_one_with_its_system_prompt_and_the_shape_of_answers() -> None:
    long = chat("A question with very many words in it", '{"n": 1}', system="Count.")
    short = chat("How many?", '{"n": 2, "unit": "kg"}', system="Count.")
    asked = asked_from(long, short, train=(long, short))
    assert asked.messages == [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "How many?"},
    ]
    assert (asked.split, asked.line) == ("test", 2)
    assert asked.schema == {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "unit": {"type": "string"}},
        "required": ["n"],
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "Two?", "completion": "2"}, [{"role": "user", "content": "Two?"}]),
        (
            {"prompt": "Two?", "chosen": "2", "rejected": "3"},
            [{"role": "user", "content": "Two?"}],
        ),
        ({"text": "Once upon a time"}, [{"role": "user", "content": "Once upon a time"}]),
        (
            {"prompt": "Two?", "completion": "2", "label": True},
            [{"role": "user", "content": "Two?"}],
        ),
    ],
)
def test_every_format_has_a_question(row: dict[str, Any], messages: list[Any]) -> None:
    asked = asked_from(row)
    assert asked.messages == messages
    assert asked.schema is None


@pytest.mark.django_db
def test_tools_and_earlier_calls_are_asked_in_each_api() -> None:
    row = chat("Weather in Bern?", system="Use tools.", tools=[WEATHER])
    row["messages"] += [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_7", "content": "Sunny"},
        {"role": "user", "content": "And tomorrow?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ]
    asked = asked_from(row)
    assert asked.tools == [WEATHER]
    assert asked.messages[-1] == {"role": "user", "content": "And tomorrow?"}
    made = {program.key: program for program in programs("m", asked, ORIGIN, False, FILES)}
    read = ChatCompletionIn.model_validate(arguments_of(made["python"].code))
    read.refuse_unsupported()
    assert read.tools
    assert len(read.messages) == 5
    body = arguments_of(made["anthropic"].code)
    assert MessagesIn.model_validate(body).chat()[-1]["content"] == "And tomorrow?"
    assert body["system"] == "Use tools."
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["tools"][0]["input_schema"] == WEATHER["function"]["parameters"]
    assert "tool_calls" in made["python"].code.rpartition("print")[2]
    assert made["mlx"].lacks == "mlx-lm has no way to pass the tools and earlier turns."


FILES = (Path("storage/base/tiny"), Path("storage/active/m/0.1.0"))
HARD = """It's "quoted", $HOME `id` \\n {x} 日本 🐱\n'''\"\"\"\ttab\u2028end\\"""


def arguments_of(program: str) -> dict[str, Any]:
    calls = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call)]
    create = next(c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "create")
    return {str(word.arg): ast.literal_eval(word.value) for word in create.keywords}


@pytest.mark.parametrize("text", ["Hello", HARD])
def test_all_send_the_same(text: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    system = {"role": "system", "content": text}
    asked = Asked([system, {"role": "user", "content": text}], schema=schema)
    body = body_of("calendar@0.1.0", asked)
    made = {p.key: p.code for p in programs("calendar@0.1.0", asked, ORIGIN, False, FILES)}
    assert list(made) == ["python", "anthropic", "javascript", "curl", "mlx"]
    assert arguments_of(made["python"]) == body
    assert arguments_of(made["anthropic"]) == anthropic_body(body)
    words = shlex.split(made["curl"].replace("\\\n", ""))
    assert json.loads(words[words.index("-d") + 1]) == body
    found = re.search(r"create\((.*)\);\nconsole", made["javascript"], re.DOTALL)
    assert found
    assert json.loads(found[1]) == body
    one = ChatCompletionIn.model_validate(body)
    other = MessagesIn.model_validate(anthropic_body(body))
    one.refuse_unsupported()
    other.refuse_unsupported()
    assert one.sampling().grammar == other.sampling().grammar
    assert other.chat() == asked.messages
    words = shlex.split(made["mlx"].replace("\\\n", ""))
    assert words[words.index("--system-prompt") + 1] == text == words[words.index("--prompt") + 1]


def test_a_key_comes_from_the_environment() -> None:
    asked = Asked([{"role": "user", "content": "Hello"}])
    for program in programs("m", asked, ORIGIN, keyed=True):
        assert "HUB_API_KEY" in program.code
        if program.key in ("python", "anthropic"):
            compile(program.code, program.key, "exec")


@pytest.mark.parametrize(
    "given",
    [
        [{"a": 1}, {"a": 2.5, "b": None}, {"b": "x"}],
        [{"a": [{"c": 1}, {"c": "x", "d": []}, None]}, {"a": []}, {"a": {"c": True}}],
        [{}, [], "x", None, False],
    ],
)
def test_a_shape_fits_all_that_it_was_made_of(given: list[Any]) -> None:
    schema = shape(given)
    for value in given:
        jsonschema.validate(value, schema)
    assert not jsonschema.Draft202012Validator(shape([{"a": 1}])).is_valid({"b": 1})


def test_mlx_lm_knows_the_options() -> None:
    files = metadata.files("mlx-lm") or []
    source = next(file for file in files if str(file) == "mlx_lm/generate.py")
    known = set(re.findall(r'"(--[a-z-]+)"', source.read_text()))
    asked = Asked([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}])
    command = programs("m", asked, ORIGIN, False, FILES)[-1].code
    assert set(re.findall(r"--[a-z-]+", command)) <= known
