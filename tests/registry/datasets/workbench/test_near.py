"""Near-duplicates share most of their phrases; rows of a language, most of its letters."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from registry.background.progress import SILENT
from registry.datasets.workbench import languages
from registry.datasets.workbench.near import Signatures

pytestmark = pytest.mark.any_database


def like(folder: Path, texts: list[str]) -> list[int]:
    """For each text the number (from 1) of the one that it is like, 0 for none."""
    signatures = Signatures(folder / "signatures.npy", len(texts))
    for row, text in enumerate(texts):
        signatures.add(row, [text])
    near, share = signatures.find(SILENT)
    assert all((percent >= 80) == (number > 0) for number, percent in zip(near, share, strict=True))
    return [int(number) for number in near]


def words(seed: int, count: int = 100) -> list[str]:
    pick = random.Random(seed)
    return [f"word{pick.randrange(5000)}" for _ in range(count)]


def test_a_changed_word_makes_a_near_duplicate_and_many_do_not(tmp_path: Path) -> None:
    text = words(1)
    one = [*text[:50], "other", *text[51:]]
    half = [*text[:50], *words(2, 50)]
    found = like(tmp_path, [" ".join(row) for row in (text, words(3), one, half)])
    assert found == [0, 0, 1, 0]


def test_case_and_punctuation_do_not_matter_but_rows_without_words_are_not_alike(
    tmp_path: Path,
) -> None:
    rows = ["Yes, please do that!", "...", "yes PLEASE do that", "?!", "", "no"]
    assert like(tmp_path, rows) == [0, 0, 1, 0, 0, 0]


def test_scripts_without_spaces_are_compared_by_characters(tmp_path: Path) -> None:
    text = "今天天气很好我们去公园散步然后一起吃饭聊天晚上再回家看电影休息明天继续上班工作学习"
    assert like(tmp_path, [text, f"{text}吧", "完全不同的一句话没有什么相同的地方"]) == [0, 1, 0]


def test_every_copy_of_many_is_like_an_earlier_one(tmp_path: Path) -> None:
    text = words(4)
    rows = [" ".join([*text[:at], f"x{at}", *text[at + 1 :]]) for at in range(0, 100, 5)]
    found = like(tmp_path, rows)
    assert found[0] == 0
    assert all(0 < number <= row for row, number in enumerate(found[1:], start=1))


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["Good day, I would like to cancel my order and get my money back, please."], {"en"}),
        (["Guten Tag, ich möchte meine Bestellung stornieren und mein Geld zurück."], {"de"}),
        (["Lima.", "Yes", "42"], set()),
        (
            ['{"title": "lunch", "day": "friday", "start": "09:00", "with": "Ana Maria Lopez"}'],
            set(),
        ),
    ],
)
def test_a_language_is_told_only_when_it_is_certain(texts: list[str], found: set[str]) -> None:
    assert languages.written_in(texts) == found
