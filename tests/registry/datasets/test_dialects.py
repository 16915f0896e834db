"""Rows of every dialect: what people meant is what is learned, and nothing is dropped unsaid."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.parts import Unused
from registry.datasets.dialects.table import DIALECTS, Dialect
from registry.datasets.files.values import BadLine
from registry.datasets.formats import FIELDS
from registry.datasets.snapshots import read_examples, register_dataset
from registry.errors import Invalid
from registry.models import Dataset
from tests.characters import CHARACTERS
from tests.registry.build import write_jsonl
from tests.running import often

pytestmark = pytest.mark.any_database

ASKED = {"role": "user", "content": "q"}
SAID = {"role": "assistant", "content": "a"}
FUNCTION = {"name": "add", "parameters": {"type": "object"}}


def read(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    _, found, example = canonical(row, {}, Unused())
    return found, example


def unused(row: dict[str, Any]) -> list[str]:
    names = Unused()
    canonical(row, {}, names)
    return list(names)


def registered(folder: Path, rows: list[Any]) -> Dataset:
    return register_dataset("rows", write_jsonl(folder / "a.jsonl", rows))


def everything(dataset: Dataset) -> list[dict[str, Any]]:
    return [row for split in dataset.splits for row in read_examples(dataset, split, 0, 10_000)]


def test_the_formats_are_those_of_the_table() -> None:
    assert set(FIELDS) == set(Dataset.Format.values)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_an_example_is_read_as_its_own_dialect_and_uses_every_field(dialect: Dialect) -> None:
    names = Unused()
    found, _, _ = canonical(dialect.example, {}, names)
    assert (found.name, list(names)) == (dialect.name, [])


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(CHARACTERS, max_size=5),
    lambda values: (
        st.lists(values, max_size=2) | st.dictionaries(st.text(CHARACTERS, max_size=3), values)
    ),
    max_leaves=4,
)
READ = {"name", "role", "from", "value", "content", "tool_calls", "function_call", "weight"} | {
    field for dialect in DIALECTS for field in dialect.fields
}
NAMES = st.text(f"{ascii_lowercase}_", min_size=1, max_size=12).filter(
    lambda name: name not in READ
)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
@settings(max_examples=often(5, 15), deadline=None)
@given(name=NAMES, value=JSON)
def test_a_column_that_nothing_reads_is_named(dialect: Dialect, name: str, value: Any) -> None:
    assert unused({**dialect.example, name: value}) == [name]
    assert unused({**dialect.example, name: None}) == []


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
@settings(max_examples=often(5, 15), deadline=None)
@given(name=NAMES, value=JSON)
def test_a_field_within_a_message_that_nothing_reads_is_named(
    dialect: Dialect, name: str, value: Any
) -> None:
    row = {key: _decoded(dialect.example[key]) for key in dialect.example}
    for number in range(len(_objects(row, dialect))):
        other = json.loads(json.dumps(row))
        _objects(other, dialect)[number].setdefault(name, value)
        [found] = unused(other)
        assert found.endswith(f".{name}")


def test_a_field_of_a_call_that_nothing_reads_is_named() -> None:
    called = {"name": "add", "arguments": "{}", "mood": "glad"}
    older = {"role": "assistant", "content": None, "function_call": called}
    assert unused({"messages": [ASKED, older]}) == ["messages.function_call.mood"]
    turns = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": json.dumps(called)},
    ]
    assert unused({"conversations": turns}) == ["conversations.value.mood"]


def _decoded(value: Any) -> Any:
    """What a text of JSON holds, which the dialects read as well as the text."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return found if isinstance(found, list | dict) else value


def _objects(row: dict[str, Any], dialect: Dialect) -> list[dict[str, Any]]:
    """The messages, turns, blocks, parts and calls of an example."""
    return [found for key in dialect.needs if key != "tools" for found in _within(row[key])]


def _within(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for item in value for found in _within(item)]
    if not isinstance(value, dict):
        return []
    return [value, *_within(value.get("messages")), *_within(value.get("content"))]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"question": "q", "context": "c", "answer": "a"}, "q\n\nc"),
        ({"instruction": "q", "context": "c", "response": "a"}, "q\n\nc"),
        ({"instruction": "q", "input": "c", "output": "a"}, "q\n\nc"),
        ({"question": "q", "context": ["c", "d"], "answer": "a"}, "q\n\nc\n\nd"),
        ({"question": "q", "context": " ", "answer": "a"}, "q"),
    ],
)
def test_the_context_of_a_question_is_part_of_the_prompt(row: dict[str, Any], prompt: str) -> None:
    assert read(row) == ("completions", {"prompt": prompt, "completion": "a"})
    assert unused(row) == []


@pytest.mark.django_db
def test_the_context_is_part_of_the_prompt_in_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = "".join(f"q{n},c{n},a{n}\n" for n in range(9))
    path.write_text(f"question,context,answer\n{lines}")
    dataset = register_dataset("asked", path)
    assert {"prompt": "q3\n\nc3", "completion": "a3"} in everything(dataset)
    assert dataset.read_as == ["Question and answer (question, answer, context)"]


def test_a_context_that_is_no_text_is_refused() -> None:
    with pytest.raises(BadLine, match='"context" must be a text'):
        read({"question": "q", "context": {"a": 1}, "answer": "a"})


def test_alpacas_system_and_history_make_a_chat() -> None:
    row: dict[str, Any] = {
        "instruction": "q",
        "input": "",
        "output": "a",
        "system": "s",
        "history": [["q0", "a0"]],
    }
    assert read(row) == (
        "chat",
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q0"},
                {"role": "assistant", "content": "a0"},
                ASKED,
                SAID,
            ]
        },
    )
    with pytest.raises(BadLine, match='"history" must be a list of pairs'):
        read({**row, "history": ["q0"]})


@pytest.mark.django_db
def test_some_rows_with_history_make_all_of_them_chats(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"instruction": f"q{n}", "output": f"a{n}", "history": []} for n in range(20)
    ]
    rows[7]["history"] = [["before", "answered"]]
    dataset = registered(tmp_path, rows)
    assert dataset.format == "chat"
    examples = everything(dataset)
    assert sorted(len(example["messages"]) for example in examples) == [2] * 19 + [4]


@pytest.mark.django_db
def test_history_that_comes_late_is_refused_with_what_to_do(tmp_path: Path) -> None:
    rows: list[Any] = [{"instruction": f"q{n}", "output": "a"} for n in range(130)]
    rows[120]["history"] = [["before", "answered"]]
    with pytest.raises(
        Invalid, match=r"line 121: has a system prompt or earlier turns.*among them"
    ):
        registered(tmp_path, rows)


@pytest.mark.parametrize(
    ("label", "good"),
    [
        (True, True),
        (1, True),
        ("true", True),
        (False, False),
        (0, False),
        ("False", False),
        ("0", False),
    ],
)
def test_an_answer_of_kto_keeps_its_label(label: Any, good: bool) -> None:
    row = {"prompt": "q", "completion": "a", "label": label}
    assert read(row) == ("labelled", {"prompt": "q", "completion": "a", "label": good})
    assert unused(row) == []


def test_labelled_answers_may_be_messages_with_what_belongs_to_their_prompt() -> None:
    row: dict[str, Any] = {"prompt": "q", "completion": "a", "label": True}
    assert read(row)[1] is row
    chat = {"prompt": [ASKED], "completion": [SAID], "label": False}
    assert read(chat) == ("labelled", chat)
    assert read({**row, "label": "no", "prompt": [ASKED]}) == ("labelled", chat)
    turns = [ASKED, SAID, ASKED]
    assert read({**chat, "prompt": turns})[1]["prompt"] == turns
    system = {"role": "system", "content": "s"}
    _, found = read({**row, "system": "s", "history": [["q", "a"]]})
    assert found == {"prompt": [system, ASKED, SAID, ASKED], "completion": [SAID], "label": True}
    tools = [{"type": "function", "function": FUNCTION}]
    assert read({**chat, "tools": [FUNCTION]})[1] == {**chat, "tools": tools}
    assert unused({**row, "label": "positive"}) == ["label"]  # a class, not KTO's
    columns = {"prompt": "ask", "completion": "say", "label": "liked"}
    given = {"ask": "q", "say": "a", "liked": "yes"}
    assert canonical(given, columns, Unused())[1:] == ("labelled", row)


@pytest.mark.django_db
@pytest.mark.both_databases
def test_labels_are_counted_and_those_of_one_kind_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a", "label": n % 3 == 0} for n in range(30)]
    dataset = registered(tmp_path, rows)
    assert (dataset.format, dataset.schema["labels"]) == ("labelled", {"true": 10, "false": 20})
    assert dataset.notes == []
    one_sided = registered(tmp_path, [{**row, "label": "1"} for row in rows])
    assert one_sided.notes == [
        "All answers have the label true, and KTO learns from good and bad ones; add some with the "
        "label false."
    ]
    mixed: list[Any] = [*rows, {"prompt": "q", "completion": "a"}]
    with pytest.raises(
        Invalid, match="line 31: is a completions example in a data set of labelled"
    ):
        registered(tmp_path, mixed)


def test_a_weight_is_kept_and_none_but_0_and_1_is_taken() -> None:
    messages = [ASKED, {**SAID, "weight": 0}, ASKED, {**SAID, "weight": 1}]
    row = {"messages": messages}
    assert read(row)[1] is row
    assert read({"messages": [ASKED, {**SAID, "weight": 1.0}]})[1]["messages"][1]["weight"] == 1
    assert read({"messages": [ASKED, {**SAID, "weight": None}]})[1] == {"messages": [ASKED, SAID]}
    for wrong in (0.5, 2, "0", True):
        with pytest.raises(BadLine, match=r"message 2 has the weight .* or 0 \(not learned\)\."):
            read({"messages": [ASKED, {**SAID, "weight": wrong}]})


def test_a_chat_in_which_nothing_is_learned_is_refused() -> None:
    ignored = {**SAID, "weight": 0}
    for row in (
        {"messages": [ASKED, ignored]},
        {"messages": [ASKED, ignored, ASKED, ignored]},
        {"prompt": [ASKED], "completion": [ignored]},
        {"prompt": [ASKED], "chosen": [ignored], "rejected": "b"},
    ):
        with pytest.raises(BadLine, match="leaves nothing to learn"):
            read(row)


@pytest.mark.django_db
def test_chats_with_and_without_tools_are_one_set(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    used: list[Any] = [ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]
    without: list[dict[str, Any]] = [{}, {"tools": None}, {"tools": []}, {"tools": "[]"}]
    rows: list[dict[str, Any]] = [
        {"messages": [{**ASKED, "content": f"q{n}"}, SAID], **more}
        for n, more in enumerate(without * 3)
    ]
    plain = registered(tmp_path, rows)
    assert plain.format == "chat"
    rows.insert(5, {"messages": used, "tools": [{"type": "function", "function": FUNCTION}]})
    mixed = registered(tmp_path, rows)
    assert (mixed.format, mixed.examples) == ("tools", 13)


def test_sharegpt_calls_and_their_results_are_tool_calls() -> None:
    found, example = read(
        {
            "system": "s",
            "tools": json.dumps([FUNCTION]),
            "conversations": [
                {"from": "human", "value": "1+1"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "a", "weight": 1},
            ],
        }
    )
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert found == "tools"
    assert example == {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "1+1"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "2", "tool_call_id": "call_1", "name": "add"},
            {**SAID, "weight": 1},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
    }


def test_a_function_call_that_is_no_call_is_refused() -> None:
    for value in ("add", "3", "[]", '{"arguments": {}}'):
        turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": value}]
        with pytest.raises(BadLine, match="function_call"):
            read({"conversations": turns})


def test_developer_parts_and_deprecated_functions_are_read_as_v1_does() -> None:
    parts = [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]
    found, example = read(
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": parts},
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "add", "arguments": '{"a": 1}'},
                },
                {"role": "function", "name": "add", "content": "2"},
                SAID,
            ],
            "functions": [FUNCTION],
        }
    )
    assert found == "tools"
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert example == {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q!"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": "add", "content": "2", "tool_call_id": "call_1"},
            SAID,
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
    }


def test_parts_that_are_no_text_are_refused() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    with pytest.raises(BadLine, match=r"message 1 has a part of the type 'image_url'; only text"):
        read({"messages": [{"role": "user", "content": [image]}, SAID]})


def test_openais_preferences_are_pairs() -> None:
    row = {
        "input": {"messages": [ASKED], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [SAID],
        "non_preferred_output": [{**SAID, "content": "b"}],
    }
    assert read(row) == (
        "preference",
        {"prompt": [ASKED], "chosen": [SAID], "rejected": [{**SAID, "content": "b"}]},
    )
    assert unused(row) == ["input.parallel_tool_calls"]


def test_preferences_keep_their_tools_their_system_prompt_and_their_turns() -> None:
    answers = {"chosen": "a", "rejected": "b"}
    _, example = read({"prompt": [ASKED], "tools": [FUNCTION], **answers})
    assert example["tools"] == [{"type": "function", "function": FUNCTION}]
    _, example = read({"system": "s", "question": "q", "context": "c", **answers})
    asked = {"role": "user", "content": "q\n\nc"}
    assert example == {"prompt": [{"role": "system", "content": "s"}, asked], **answers}
    said = {key: {"from": "gpt", "value": value} for key, value in answers.items()}
    _, example = read({"conversations": [{"from": "human", "value": "q"}], **said})
    assert example["prompt"] == [ASKED]
    assert example["chosen"] == [SAID]
    assert unused({"prompt": "q", "messages": [ASKED], "context": "c", **answers}) == [
        "context",
        "messages",
    ]


def test_anthropics_blocks_are_messages_calls_and_results() -> None:
    row = {
        "system": [{"type": "text", "text": "s"}],
        "tools": [{"name": "add", "description": "d", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "1+1"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm!"}]},
                    {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": "2"}],
                    },
                    {"type": "text", "text": "well?"},
                ],
            },
            {"role": "assistant", "content": "a"},
        ],
    }
    found, example = read(row)
    described = {"name": "add", "description": "d", "parameters": {"type": "object"}}
    call = {"id": "t", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert found == "tools"
    assert example == {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "1+1"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [call],
                "reasoning_content": "hm\n\nhm!",
            },
            {"role": "tool", "content": "2", "tool_call_id": "t", "name": "add"},
            {"role": "user", "content": "well?"},
            SAID,
        ],
        "tools": [{"type": "function", "function": described}],
    }
    assert unused(row) == ["messages.content.redacted_thinking"]
    asked = {"role": "user", "content": [{"type": "thinking", "thinking": "hm"}]}
    with pytest.raises(BadLine, match="only an assistant message has thinking"):
        read({"messages": [asked, SAID]})


def test_thoughts_beside_an_answer_have_one_name_in_every_dialect() -> None:
    thought = {**SAID, "reasoning_content": "hm"}
    row = {"messages": [ASKED, thought]}
    assert read(row) == ("chat", row)
    assert read(row)[1] is row
    for name in ("reasoning", "thinking"):
        for written in (
            {"messages": [ASKED, {**SAID, name: "hm"}]},
            {
                "conversations": [
                    {"from": "human", "value": "q"},
                    {"from": "gpt", "value": "a", name: "hm"},
                ]
            },
            {"prompt": [ASKED], "completion": [{**SAID, name: "hm", "reasoning_content": None}]},
        ):
            assert read(written) == ("chat", row)
            assert unused(written) == []
    _, pair = read({"prompt": "q", "chosen": [{**SAID, "reasoning": "hm"}], "rejected": [SAID]})
    assert pair["chosen"] == [thought]
    within = {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": "<think>hm</think>a"},
        ]
    }
    assert read(within)[1]["messages"][1]["content"] == "<think>hm</think>a"


def test_thoughts_that_are_no_text_or_not_an_answers_are_named() -> None:
    assert unused({"messages": [{**ASKED, "reasoning": "hm"}, SAID]}) == ["messages.reasoning"]
    row = {"messages": [ASKED, {**SAID, "thinking": True}]}
    assert (read(row)[1], unused(row)) == ({"messages": [ASKED, SAID]}, ["messages.thinking"])
    for both in (
        {"reasoning_content": "hm", "reasoning": "oh"},
        {"reasoning_content": "hm", "content": "<think>oh</think>a"},
    ):
        with pytest.raises(BadLine, match=r"message 2: an answer has .* keep one of them\."):
            read({"messages": [ASKED, {**SAID, **both}]})


def test_two_different_system_prompts_are_refused() -> None:
    messages = [{"role": "system", "content": "s"}, ASKED, SAID]
    assert read({"system": "s", "messages": messages})[1]["messages"] == messages
    with pytest.raises(BadLine, match="two system prompts"):
        read({"system": "other", "messages": messages})


def test_trls_prompt_messages_are_not_learned() -> None:
    row = {"prompt": [ASKED, SAID, ASKED], "completion": [SAID], "tools": None}
    assert read(row) == ("chat", {"messages": [ASKED, {**SAID, "weight": 0}, ASKED, SAID]})
    assert read({"prompt": [ASKED], "completion": "a"})[1] == {"messages": [ASKED, SAID]}


@pytest.mark.django_db
def test_a_first_row_of_another_format_does_not_decide(tmp_path: Path) -> None:
    rows = [{"text": "odd"}, *({"prompt": f"q{n}", "completion": "a"} for n in range(9))]
    with pytest.raises(Invalid, match="line 1: is a text example in a data set of completions"):
        registered(tmp_path, rows)


@pytest.mark.django_db
def test_columns_mapped_by_hand_leave_the_others_unused_and_named(tmp_path: Path) -> None:
    rows = [{"ask": f"q{n}", "say": "a", "note": "n"} for n in range(9)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    dataset = register_dataset("mapped", path, columns={"prompt": "ask", "completion": "say"})
    assert dataset.unused == ["note"]
    assert dataset.read_as == ["Prompt and completion (prompt, completion)"]


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_names_of_unused_columns_are_bounded(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", **{f"{n}-{m}\0" + "x" * 99: 1 for m in range(40)}} for n in range(9)]
    dataset = registered(tmp_path, rows)
    assert len(dataset.unused) == 50
    assert max(map(len, dataset.unused)) == 61


def test_messages_written_as_text_are_messages_and_other_json_stays_a_text() -> None:
    row = {"prompt": json.dumps([ASKED]), "completion": json.dumps([SAID])}
    assert read(row) == ("chat", {"messages": [ASKED, SAID]})
    _, example = read({"prompt": "q", "chosen": json.dumps([SAID]), "rejected": "b"})
    assert example["chosen"] == [SAID]
    for answer in (
        '[{"role": "admin"}]',
        '{"role": "user", "content": "x"}',
        '[{"value": 3}]',
        "[{",
    ):
        assert read({"prompt": "q", "completion": answer})[1]["completion"] == answer
    with pytest.raises(BadLine, match='"prompt" holds messages in Python\'s notation'):
        read({"prompt": str([ASKED]), "completion": "a"})
    preferred = {"preferred_output": [SAID], "non_preferred_output": [{**SAID, "content": "b"}]}
    texts = {key: json.dumps(value) for key, value in preferred.items()}
    _, example = read({"input": json.dumps({"messages": [ASKED]}), **texts})
    assert (example["prompt"], example["chosen"]) == ([ASKED], [SAID])


def test_columns_that_are_null_in_a_row_decide_nothing_and_are_not_kept() -> None:
    empty = dict.fromkeys(("messages", "chosen", "rejected", "text"))
    row = {**empty, "prompt": "q", "completion": "a"}
    assert read(row) == ("completions", {"prompt": "q", "completion": "a"})
    assert read({"text": "t", "prompt": None, "tools": None}) == (
        "text",
        {"text": "t", "tools": None},
    )
    for odd in ({"messages": [ASKED, SAID], "chosen": "a"}, {"text": "t", "rejected": "b"}):
        with pytest.raises(BadLine, match='needs both "chosen" and "rejected"'):
            read(odd)
