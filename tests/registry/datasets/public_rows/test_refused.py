"""Rows that are refused with what to change."""

from __future__ import annotations

import math

import pytest

from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.parts import Unused
from registry.datasets.files.values import BadLine
from tests.registry.datasets.public_rows.rows import Row, chat, gpt, human, said, user

REFUSED: dict[str, tuple[Row, str]] = {
    "oasst": (
        {
            "message_id": "m",
            "parent_id": None,
            "text": "q",
            "role": "prompter",
            "lang": "en",
            "message_tree_id": "t",
        },
        'has a "role" beside "text", so it is one message of a chat',
    ),
    "squad_v2": (
        {"context": "c", "question": "q", "answers": {"text": [], "answer_start": []}},
        "leave out questions without an answer",
    ),
    "ultrafeedback": (
        {"source": "s", "instruction": "q", "models": ["m"], "completions": [{"response": "a"}]},
        "has none of",
    ),
    "stack-exchange-paired": (
        {"question": "q", "response_j": "a", "response_k": "b"},
        "map its columns",
    ),
    "mmlu": (
        {"question": "q", "choices": ["a", "b"], "answer": 1},
        "has a choice of answers in choices; write it into the question",
    ),
    "mmlu's csv": (
        {"Question": "q", "A": "w", "B": "x", "C": "y", "D": "z", "Answer": "B"},
        "has a choice of answers in A, B, C, D; write it into the question",
    ),
    "llava": (
        {"image": "a.jpg", "conversations": [human("<image>\nq"), gpt("a")]},
        'asks about what is in "image"; only text can be learned',
    ),
    "axolotl's masked parts": (
        chat(user("q"), said("a", train_detail=[{"begin_offset": 0, "train": False}])),
        "message 2 has train_detail, which learns parts of a message; give the whole message",
    ),
    "a weight and its opposite": (
        chat(user("q"), said("a", weight=1, train=False)),
        "weight and train that say different things; keep one",
    ),
    "two ways to train": (
        chat(user("q"), said("a", train=0.5)),
        "has the train 0.5; a weight is 1",
    ),
    "llama-factory's ranked answers": (
        {"instruction": "q", "input": "", "output": ["a", "b"]},
        '"output" holds a list; make it one text, or name a better and a worse answer',
    ),
    "a dictionary of columns": (
        {"prompt": ["q", "r"], "completion": ["a", "b"]},
        '"prompt" must be a non-empty text',
    ),
    "pandas' columns": ({"x": {"0": "q", "1": "r"}, "y": {"0": "a"}}, 'orient="records"'),
    "a dictionary of splits": (
        {"train": [{"prompt": "q"}], "test": [{"prompt": "q"}]},
        "each split into a file of its own",
    ),
    "a message as a row": (user("q"), "is one message of a chat; put all messages of a chat"),
    "two thoughts": (
        {"question": "q", "reasoning": "hm", "thinking": "oh", "answer": "a"},
        "has different thoughts in reasoning and thinking; keep one of them",
    ),
    "no label": ({"text": "t", "label": "NaN"}, '"label" is NaN, which stands for no label'),
    "an odd speaker": (chat({"role": "narrator", "content": "q"}), "not 'narrator'"),
    "no speaker": ({"conversations": [{"id": 1}]}, "turn 1 does not say who speaks"),
    "messages of pandas": (
        {"messages": "[{'role': 'user', 'content': 'q'}]"},
        "in Python's notation; write them as JSON",
    ),
    "gemini's images": (
        {"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]},
        "message 1 has a part of the type 'inlineData'; only text",
    ),
    "a thought of gemini's user": (
        {"contents": [{"role": "user", "parts": [{"text": "hm", "thought": True}]}]},
        "message 1 has a thought among its parts; only an answer has thoughts",
    ),
    "a question without its answer": (
        {"question": "q", "solution": None, "topic": "algebra"},
        "map its columns yourself: question, solution, topic",
    ),
    "an author and a reply": (
        {"user": "alice", "reply": "thanks!"},
        "map its columns yourself: user, reply",
    ),
    "an origin and its text": (
        {"source": "wikipedia", "target": "Bonjour"},
        "map its columns yourself: source, target",
    ),
    "no number": (
        {"question": "q", "answer": math.nan},
        '"answer" is nan, which is no answer; leave the row out',
    ),
    "no number within an object": (
        {"question": "q", "answer": {"share": math.inf}},
        "holds NaN or an infinite number",
    ),
    "an empty row": ({}, "it has nothing"),
    "hotpot": (
        {"question": "q", "answer": "a", "context": {"title": []}},
        '"context" must be a text',
    ),
    "lima's questions": ({"conversations": ["q"]}, "must be the assistant's answer"),
    "another prompt than both answers have": (
        {"prompt": "other", "chosen": [user("q"), said("a")], "rejected": [user("q"), said("b")]},
        '"prompt" is not among them; leave out one of the two',
    ),
    "xlam without a call": ({"query": "q", "answers": "[]", "tools": "[]"}, "calls nothing"),
    "xlam's answers as a text": (
        {"query": "q", "answers": '["a"]', "tools": "[]"},
        "a list of calls",
    ),
    "glaive's broken call": (
        {"chat": "USER: q\n\n\nASSISTANT: <functioncall> add(1)"},
        "message 2: what follows <functioncall> must be an object",
    ),
    "an unanswered transcript": (
        {"text": "### Human: q### Assistant: a### Human: r"},
        "must be the assistant's answer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_with_what_to_change(name: str) -> None:
    row, reason = REFUSED[name]
    with pytest.raises(BadLine) as caught:
        canonical(row, {}, Unused())
    assert reason in str(caught.value)
