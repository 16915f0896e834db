"""Columns with a question and its answer, and texts."""

from __future__ import annotations

import pytest

from tests.registry.datasets.public_rows.rows import Taken, check_taken, pair

TAKEN: dict[str, Taken] = {
    "dolly-15k": (
        {"instruction": "q", "context": "c", "response": "a", "category": "closed_qa"},
        "completions",
        pair("q\n\nc", "a"),
        ["category"],
    ),
    "alpaca": (
        {"instruction": "q", "input": "", "output": "a", "text": "Below is … q … a"},
        "completions",
        pair("q", "a"),
        ["text"],
    ),
    "code_alpaca": (
        {"output": "a", "input": "c", "instruction": "q"},
        "completions",
        pair("q\n\nc", "a"),
        [],
    ),
    "gsm8k": (
        {"question": "q", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
        "completions",
        pair("q", "1 + 1 = <<1+1=2>>2\n#### 2"),
        [],
    ),
    "squad": (
        {
            "id": "57",
            "title": "Peru",
            "context": "c",
            "question": "q",
            "answers": {"text": ["a"], "answer_start": [3]},
        },
        "completions",
        pair("q\n\nc", "a"),
        ["answers.answer_start", "id", "title"],
    ),
    "squad's validation": (
        {"context": "c", "question": "q", "answers": {"text": ["a", "a", "the a"]}},
        "completions",
        pair("q\n\nc", "a"),
        ["answers.text after the first"],
    ),
    "metamath": (
        {"type": "MATH", "query": "q", "original_question": "o", "response": "a"},
        "completions",
        pair("q", "a"),
        ["original_question", "type"],
    ),
    "orca-math": ({"question": "q", "answer": "a"}, "completions", pair("q", "a"), []),
    "codefeedback": (
        {"query": "q", "answer": "a", "resource": "r", "lang": "python"},
        "completions",
        pair("q", "a"),
        ["lang", "resource"],
    ),
    "numina-math": (
        {"source": "s", "problem": "q", "solution": "a", "messages": None},
        "completions",
        pair("q", "a"),
        ["source"],
    ),
    "aya": (
        {"inputs": "q", "targets": "a", "language": "Quechua"},
        "completions",
        pair("q", "a"),
        ["language"],
    ),
    "platypus": (
        {"input": "c", "output": "a", "instruction": "q", "data_source": "s"},
        "completions",
        pair("q\n\nc", "a"),
        ["data_source"],
    ),
    "helpsteer": (
        {"prompt": "q", "response": "a", "helpfulness": 4},
        "completions",
        pair("q", "a"),
        ["helpfulness"],
    ),
    "boolq": (
        {"question": "q", "passage": "p", "answer": True},
        "completions",
        pair("q\n\np", "true"),
        [],
    ),
    "a spreadsheet": (
        {"Context": "c", " Question ": "q", "Answer": "a", "Row No": 3},
        "completions",
        pair("q\n\nc", "a"),
        ["Row No"],
    ),
    "distilabel": (
        {"instruction": "q", "generation": "a", "model_name": "m"},
        "completions",
        pair("q", "a"),
        ["model_name"],
    ),
    "gemini's older form": (
        {"text_input": "q", "output": "a"},
        "completions",
        pair("q", "a"),
        [],
    ),
    "xsum": (
        {"document": "d", "summary": "s", "id": "1"},
        "completions",
        pair("d", "s"),
        ["id"],
    ),
    "a text and its answer": ({"text": "t", "output": "a"}, "completions", pair("t", "a"), []),
    "a text with its answer rendered below it": (
        {"text": "Below is …\n### Instruction:\nq\n\n### Response:\na", "output": "a"},
        "text",
        {"text": "Below is …\n### Instruction:\nq\n\n### Response:\na"},
        ["output"],
    ),
    "a rendered request without its answer": (
        {"text": "[INST] a or b? [/INST]", "output": "a"},
        "completions",
        pair("[INST] a or b? [/INST]", "a"),
        [],
    ),
    "an answer taken from its text": (
        {"text": "Alice went to Lima", "answer": "Lima"},
        "completions",
        pair("Alice went to Lima", "Lima"),
        [],
    ),
    "a headline": (
        {"text": "Rain. It rained.", "summary": "Rain."},
        "completions",
        pair("Rain. It rained.", "Rain."),
        [],
    ),
    "a poem and its category": (
        {"prompt": "Write a poem", "answer": "Roses are red", "category": "poetry"},
        "completions",
        pair("Write a poem", "Roses are red"),
        ["category"],
    ),
    "a solution and its topic": (
        {"question": "2 + 2?", "solution": "4", "topic": "algebra"},
        "completions",
        pair("2 + 2?", "4"),
        ["topic"],
    ),
    "a stance towards a target": (
        {"text": "t", "target": "X", "label": "against"},
        "completions",
        pair("t", "against"),
        ["target"],
    ),
    "a number and its name": (
        {"input": "t", "target": 1, "label_text": "pos"},
        "completions",
        pair("t", "pos"),
        [],
    ),
    "a passage with capitals": (
        {"User": "q", "Context": "c", "Assistant": "a"},
        "completions",
        pair("q\n\nc", "a"),
        [],
    ),
    "alpaca with one capital": (
        {"instruction": "q", "Input": "c", "output": "a", "Row No": 1},
        "completions",
        pair("q\n\nc", "a"),
        ["Row No"],
    ),
    "two columns of nearly one name": (
        {"Input": "d", "instruction": "q", "input": "c", "output": "a"},
        "completions",
        pair("q\n\nc", "a"),
        ["Input"],
    ),
    "a tweet and its author": (
        {"user": "alice", "text": "t", "assistant": "bob", "reply": "thanks!"},
        "text",
        {"text": "t"},
        ["assistant", "reply", "user"],
    ),
    "a reply and the bot's name": (
        {"question": "q", "bot": "claude", "reply": "a"},
        "completions",
        pair("q", "a"),
        ["bot"],
    ),
    "a translation": ({"src": "q", "tgt": "a"}, "completions", pair("q", "a"), []),
    "what is extracted": (
        {"input": "t", "output": {"name": "Ána", "age": None}},
        "completions",
        pair("t", '{"name": "Ána", "age": null}'),
        [],
    ),
    "several that are extracted": (
        {"prompt": "t", "completion": [{"name": "a"}, {"name": "b"}]},
        "completions",
        pair("t", '[{"name": "a"}, {"name": "b"}]'),
        [],
    ),
    "a number": ({"question": "1 + 1", "answer": 2}, "completions", pair("1 + 1", "2"), []),
    "snli": (
        {"premise": "p", "hypothesis": "h", "label": 1},
        "completions",
        pair("p\n\nh", "1"),
        [],
    ),
    "qnli": (
        {"question": "q", "sentence": "s", "label": "1.0", "idx": 4},
        "completions",
        pair("q\n\ns", "1"),
        ["idx"],
    ),
    "argilla's older records": (
        {"text": "t", "annotation": "pos", "prediction": None, "status": "Validated"},
        "completions",
        pair("t", "pos"),
        ["status"],
    ),
    "a class beside an answer": (
        {"question": "q", "answer": "a", "label": 1},
        "completions",
        pair("q", "a"),
        ["label"],
    ),
    "a class beside an answer in a spreadsheet": (
        {"instruction": "q", "output": "a", "label": "0"},
        "completions",
        pair("q", "a"),
        ["label"],
    ),
    "a text's truth": ({"text": "t", "label": False}, "completions", pair("t", "false"), []),
    "context beside prompt": (
        {"prompt": "q", "context": "c", "completion": "a"},
        "completions",
        pair("q\n\nc", "a"),
        [],
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_row_is_taken_for_what_it_means(name: str) -> None:
    check_taken(TAKEN[name])
