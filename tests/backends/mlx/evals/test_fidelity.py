"""What two models are compared on: the first examples, however long the file is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.base import BadExample
from backends.mlx.data.tokenizing import open_tokenizer
from backends.mlx.evals import fidelity

pytestmark = pytest.mark.any_database


def test_only_as_much_of_the_file_is_read_as_is_judged(tiny_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    bad = {"prompt": "q", "completion": "wrong", "label": False}
    lines = [json.dumps(bad)]
    lines += [json.dumps({"prompt": f"q{n}", "completion": "word " * 9}) for n in range(3)]
    path.write_text("\n".join([*lines, "no example"]))
    tokenizer = open_tokenizer(tiny_base)

    def chosen(tokens: int) -> list[int]:
        found = fidelity._chosen(fidelity._examples(path, tokenizer), tokens)
        return [example.line for example in found]

    assert chosen(1) == [2]
    with pytest.raises(BadExample, match=r"test\.jsonl, line 5"):
        chosen(100_000)
