from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.base import BadExample, Learn
from backends.examples import Split
from backends.mlx.data import examples
from tests.backends.mlx.data.reading import read_split


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(tiny_base)


def write(folder: Path, *values: Any) -> Path:
    path = folder / "train.jsonl"
    path.write_text("\n".join(v if isinstance(v, str) else json.dumps(v) for v in values) + "\n")
    return path


def chat(request: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": request},
            {"role": "assistant", "content": answer},
        ]
    }


def read(
    path: Path, tokenizer: Any, limit: int = 2048, learn: Learn = "answers"
) -> Split[examples.Example]:
    return read_split(path, tokenizer, limit, learn)


def test_a_masked_prompt_is_token_for_token_what_inference_sends(
    tmp_path: Path, tokenizer: Any
) -> None:
    example = read(write(tmp_path, chat("Hello?", '{"a":1}')), tokenizer).examples[0]
    messages = chat("Hello?", "")["messages"][:-1]
    sent = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert example.tokens[: example.start] == sent


def test_the_answer_ends_with_the_token_that_stops_generation(
    tmp_path: Path, tokenizer: Any
) -> None:
    example = read(write(tmp_path, chat("Hello?", "Yes.")), tokenizer).examples[0]
    answer = example.tokens[example.start :]
    assert tokenizer.decode(answer[:-1]) == "Yes."
    assert answer[-1] in tokenizer.eos_token_ids


def test_without_masking_the_whole_chat_is_learnt(tmp_path: Path, tokenizer: Any) -> None:
    example = read(write(tmp_path, chat("Hello?", "Yes.")), tokenizer, learn="everything").examples[
        0
    ]
    assert example.start == 1


def test_completions_and_texts_are_read(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path, {"prompt": "Two plus two?", "completion": "Four."}, {"text": "Once."})
    completion, text = read(path, tokenizer).examples
    assert tokenizer.decode(completion.tokens[completion.start : -1]) == "Four."
    assert tokenizer.decode(text.tokens[:-1]) == "Once."


def test_long_examples_are_cut_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    long_answer = chat("Hi", "word " * 100)
    long_request = chat("word " * 100, "Yes.")
    split = read(write(tmp_path, chat("Hi", "Yes."), long_answer, long_request), tokenizer, 60)
    assert (split.truncated, split.dropped) == (2, 1)
    assert [len(example.tokens) <= 60 for example in split.examples] == [True, True]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: not a JSON object"),
        ({"question": "x"}, "line 2: needs"),
        ({"prompt": "x"}, "line 2: the field 'completion' is missing"),
        ({"messages": [{"role": "user", "content": "x"}]}, "line 2: needs a request and an answer"),
        ({"messages": chat("x", "y")["messages"][:2]}, "line 2: the last message"),
        (chat("x", " "), "line 2: the assistant's answer is empty"),
        ({"messages": [{"role": "user", "content": 3}, 4]}, "line 2: every message"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, tokenizer: Any, line: Any, reason: str) -> None:
    with pytest.raises(BadExample, match=reason):
        read(write(tmp_path, chat("Hi", "Yes."), line), tokenizer)


def test_a_missing_split_is_named(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(BadExample, match=r"no valid\.jsonl"):
        read(tmp_path / "valid.jsonl", tokenizer)
