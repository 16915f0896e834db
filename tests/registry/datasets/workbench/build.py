"""A small data set with one of each problem, checked once a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from registry.datasets.examination import examine
from registry.datasets.snapshots import register_dataset
from registry.datasets.workbench.findings import Findings, find
from registry.models import Dataset
from tests.registry.build import make_base, write_jsonl

LIMIT = 64
_MANY = "the quick brown fox jumps over the lazy dog while seven wizards quietly examine their maps"
NEAR = f"{_MANY} and then they all walk home together through the old dark forest by the river"
GERMAN = "Guten Tag, ich möchte meine Bestellung stornieren und mein Geld zurück bekommen, bitte."
ENGLISH = "Good day, I would like to cancel my order and get my money back as soon as possible."


def chat(asked: str, said: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    }


TRAIN = [
    chat("plain question", "plain answer"),  # 1
    chat("plain question", "plain answer"),  # 2: duplicate
    chat(NEAR, "yes"),  # 3
    chat(f"{NEAR} today", "yes"),  # 4: near
    chat("long", "word " * 100),  # 5: cut
    chat("say </s> now", "no"),  # 6: special tokens
    chat("write to ana.lopez@example.com", "I did"),  # 7: mail
    chat("call (212) 736-5000 today", "I called +49 30 901820"),  # 8: phone
    chat("pay with 4111 1111 1111 1111", "paid"),  # 9: card
    chat(ENGLISH, GERMAN),  # 10: languages
]
VALID = [chat("Plain  QUESTION", "another answer"), chat("fresh", "new")]  # 1: leak
TEST = [
    chat("unseen", "words"),
    {"messages": [*chat("a", "")["messages"], *chat("b", "c")["messages"]]},
]


def make_troubled(folder: Path, name: str = "troubled") -> Dataset:
    for split, rows in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        write_jsonl(folder / f"{split}.jsonl", rows)
    return register_dataset(name, folder)


def make_findings(folder: Path) -> Findings:
    return find(examine(make_troubled(folder), make_base(), LIMIT))
