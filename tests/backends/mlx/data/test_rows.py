"""What each row measures, and one row token for token, with a real tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends import get_backend
from backends.base import MEASURED, BadExample, RowFlag

pytestmark = pytest.mark.any_database


def chat(asked: str, said: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    }


ROWS = [
    chat("One two three", "four"),
    chat("Short", "a very long answer " * 12),
    chat("a very long question " * 12, "yes"),
    chat("Say <|im_end|> to me", "no"),
    {"prompt": [{"role": "user", "content": "Hi"}], "chosen": "ok", "rejected": "no " * 60},
    {"messages": []},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def test_every_row_is_measured_against_the_limit(tiny_base: Path, data: Path) -> None:
    get_backend("mlx").measure(tiny_base, data, 64, data)
    found = list(MEASURED.iter_unpack((data / "train.measured").read_bytes()))
    flags = [RowFlag(flag) for _, flag in found]
    assert flags == [
        RowFlag(0),
        RowFlag.CUT | RowFlag.UNENDED,
        RowFlag.CUT | RowFlag.UNLEARNED,
        RowFlag.TYPED,
        RowFlag.CUT | RowFlag.UNENDED,  # by its rejected answer
        RowFlag.WRONG,
    ]
    lengths = [tokens for tokens, _ in found]
    assert 0 < lengths[0] < 64 < min(lengths[1], lengths[2], lengths[4])
    assert lengths[5] == 0


def test_a_row_is_shown_token_for_token(tiny_base: Path, data: Path) -> None:
    row = chat("Größe und 😀?", "été 😀")
    line = json.dumps(row, ensure_ascii=False) + "\n"
    (data / "valid.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + line)
    offset = len(json.dumps(ROWS[0])) + 1
    shown = get_backend("mlx").render(tiny_base, data / "valid.jsonl", offset, 2048)
    (example,) = shown.examples
    assert sum(piece.tokens for piece in example.pieces) == example.tokens
    text = "".join(piece.text for piece in example.pieces)
    assert "user\nGröße und 😀?<|im_end|>" in text
    assert "".join(p.text for p in example.pieces if p.trained) == "été 😀<|im_end|>"
    assert not any("\ufffd" in piece.text for piece in example.pieces)
    beyond = get_backend("mlx").render(tiny_base, data / "valid.jsonl", offset, 8).examples[0]
    assert [piece.cut for piece in beyond.pieces].count(False) == 8


def test_a_preference_shows_both_answers_and_a_wrong_row_says_why(
    tiny_base: Path, data: Path
) -> None:
    lines = (data / "train.jsonl").read_bytes().splitlines(keepends=True)
    offsets = [sum(map(len, lines[:number])) for number in range(len(lines))]
    backend = get_backend("mlx")
    both = backend.render(tiny_base, data / "train.jsonl", offsets[4], 2048).examples
    said = ["".join(piece.text for piece in one.pieces if piece.trained) for one in both]
    assert said[0].startswith("ok")
    assert said[1].startswith("no no")
    with pytest.raises(BadExample, match="cannot be trained on: needs a request and an answer"):
        backend.render(tiny_base, data / "train.jsonl", offsets[5], 2048)
