"""Better and worse answers, beside each other or each with a label."""

from __future__ import annotations

import pytest

from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.parts import Unused
from tests.registry.datasets.public_rows.rows import (
    CHAT,
    SYSTEM,
    Taken,
    check_taken,
    gpt,
    human,
    said,
    user,
)

TAKEN: dict[str, Taken] = {
    "ultrafeedback_binarized": (
        {
            "prompt": "q",
            "prompt_id": "1",
            "chosen": [user("q"), said("a")],
            "rejected": [user("q"), said("b")],
            "messages": [user("q"), said("a")],
            "score_chosen": 9.0,
            "score_rejected": 3.0,
        },
        "preference",
        {"prompt": [user("q")], "chosen": [said("a")], "rejected": [said("b")]},
        ["messages", "prompt_id", "score_chosen", "score_rejected"],
    ),
    "orpo-dpo-mix": (
        {
            "source": "x",
            "prompt": "q2",
            "question": "q2",
            "chosen": [user("q"), said("a"), user("q2"), said("c")],
            "rejected": [user("q"), said("a"), user("q2"), said("d")],
        },
        "preference",
        {
            "prompt": [user("q"), said("a"), user("q2")],
            "chosen": [said("c")],
            "rejected": [said("d")],
        },
        ["question", "source"],
    ),
    "hh-rlhf": (
        {
            "chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q2\n\nof two\n\nAssistant: c",
            "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q2\n\nof two\n\nAssistant: d",
        },
        "preference",
        {
            "prompt": [user("q"), said("a"), user("q2\n\nof two")],
            "chosen": [said("c")],
            "rejected": [said("d")],
        },
        [],
    ),
    "rm-static": (
        {
            "prompt": "\n\nHuman: q\n\nAssistant:",
            "response": " a",
            "chosen": " a",
            "rejected": " b",
        },
        "preference",
        {"prompt": [user("q")], "chosen": " a", "rejected": " b"},
        ["response"],
    ),
    "answers of several turns": (
        {
            "prompt": [user("q")],
            "chosen": [said("a"), user("r"), said("b")],
            "rejected": [said("a"), user("r"), said("c")],
        },
        "preference",
        {
            "prompt": [user("q")],
            "chosen": [said("a"), user("r"), said("b")],
            "rejected": [said("a"), user("r"), said("c")],
        },
        [],
    ),
    "orca_dpo_pairs": (
        {"system": "s", "question": "q", "chosen": "a", "rejected": "b"},
        "preference",
        {"prompt": [SYSTEM, user("q")], "chosen": "a", "rejected": "b"},
        [],
    ),
    "distilabel-orca-dpo": (
        {"system": "s", "input": "q", "chosen": "a", "rejected": "b", "rating": [9, 2]},
        "preference",
        {"prompt": [SYSTEM, user("q")], "chosen": "a", "rejected": "b"},
        ["rating"],
    ),
    "llama-factory's kto": (
        {"conversations": [human("q"), gpt("a"), human("r"), gpt("b")], "kto_tag": False},
        "labelled",
        {
            "prompt": [user("q"), said("a"), user("r")],
            "completion": [said("b")],
            "label": False,
        },
        [],
    ),
    "llama-factory's kto as alpaca": (
        {"instruction": "q", "input": "", "output": "a", "kto_tag": 1},
        "labelled",
        {"prompt": "q", "completion": "a", "label": True},
        [],
    ),
    "llama-factory's ranking": (
        {"conversations": [human("q")], "chosen": gpt("a"), "rejected": gpt("b")},
        "preference",
        {"prompt": [user("q")], "chosen": [said("a")], "rejected": [said("b")]},
        [],
    ),
    "a bad answer by other names": (
        {"question": "q", "answer": "a", "label": "undesirable", "id": 1},
        "labelled",
        {"prompt": "q", "completion": "a", "label": False},
        ["id"],
    ),
    "a bad answer in a german spreadsheet": (
        {"prompt": "q", "completion": "a", "label": "FALSCH"},
        "labelled",
        {"prompt": "q", "completion": "a", "label": False},
        [],
    ),
    "a bad chat": (
        {**CHAT, "label": False},
        "labelled",
        {"prompt": [user("q")], "completion": [said("a")], "label": False},
        [],
    ),
    "a good answer under other names": (
        {"User": "q", "Assistant": "a", "Context": "c", "Label": "good", "Row No": 1},
        "labelled",
        {"prompt": "q\n\nc", "completion": "a", "label": True},
        ["Row No"],
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_row_is_taken_for_what_it_means(name: str) -> None:
    check_taken(TAKEN[name])


def test_two_texts_of_a_preference_are_whole_chats_only_together() -> None:
    row = {"prompt": "q", "chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "b"}
    assert canonical(row, {}, Unused())[2] == row
