"""Files of every kind and shape: what they hold becomes what training reads."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.datasets.dialects import canonical as dialects
from registry.datasets.dialects.parts import Unused
from registry.datasets.files.parquet import parquet_rows
from registry.datasets.files.values import BadLine
from registry.datasets.reading.file import Asked
from registry.datasets.reading.limited import read
from registry.datasets.snapshots import read_examples, register_dataset, register_hub_dataset
from registry.errors import Invalid, NotFound, Unavailable
from registry.models import Dataset
from tests.registry.build import chat, write_jsonl

pytestmark = pytest.mark.any_database

CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def canonical(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    _, found, example = dialects.canonical(row, {}, Unused())
    return found, example


def everything(dataset: Dataset) -> list[dict[str, Any]]:
    return [row for split in dataset.splits for row in read_examples(dataset, split, 0, 10_000)]


@pytest.mark.django_db
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_file_with_any_separator_is_read(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "".join(f'"what, {n}?\nreally"{separator}"it; is {n}"\r\n' for n in range(30))
    path.write_bytes(b"\xef\xbb\xbf" + f"question{separator}answer\r\n{text}".encode())
    dataset = register_dataset("table", path)
    assert dataset.format == "completions"
    assert {"prompt": "what, 7?\nreally", "completion": "it; is 7"} in everything(dataset)
    assert dataset.examples == 30


@pytest.mark.django_db
def test_a_csv_row_of_other_length_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\na,b\nc\n")
    with pytest.raises(Invalid, match=r"a\.csv line 3: does not have 2 columns"):
        register_dataset("table", path)


@pytest.mark.django_db
@pytest.mark.slow
def test_a_parquet_file_of_several_batches_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([chat(n) for n in range(3000)]), path, row_group_size=700)
    dataset = register_dataset("columns", path)
    assert (dataset.format, dataset.examples) == ("chat", 3000)
    assert chat(2999) in everything(dataset)


@pytest.mark.django_db
@pytest.mark.slow
def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(Invalid, match="not a readable Parquet file"):
        register_dataset("columns", path)


@pytest.mark.django_db
@pytest.mark.slow
def test_columns_that_are_not_used_may_hold_anything(tmp_path: Path) -> None:
    given = [
        {"prompt": f"q{n}", "completion": f"a{n}", "score": float("nan"), "image": b"\x00\xff"}
        for n in range(9)
    ]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(given), path)
    dataset = register_dataset("scored", path)
    assert {"prompt": "q3", "completion": "a3"} in everything(dataset)
    with pytest.raises(Invalid, match="line 1"):
        register_dataset("pictures", path, columns={"completion": "image"})
    with pytest.raises(Invalid, match="line 1"):
        register_dataset("scores", path, columns={"completion": "score"})


def shared(path: Path, rows: int, size: int) -> Path:
    """A file of some hundred bytes in which all rows share one text of that size."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * size])
    table = pa.table({"prompt": text, "completion": pa.array(["a"] * rows)})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 4000
    return path


@pytest.mark.slow
def test_a_small_file_that_unpacks_to_much_takes_little_memory(tmp_path: Path) -> None:
    path = shared(tmp_path / "a.parquet", rows=200, size=1_000_000)
    before = children_peak()
    size = sum(len(event.line) for event in read(path, Asked()) if event.line)
    assert 200_000_000 < size < 201_000_000
    assert children_peak() - before < 300e6


def test_a_parquet_file_larger_than_the_memory_is_read_in_pieces(tmp_path: Path) -> None:
    path, size = tmp_path / "a.parquet", 3 << 20
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for _ in range(12):
            texts = [os.urandom(size // 200).hex() for _ in range(100)]
            writer.write_table(pa.table({"text": texts}, schema=schema))
    before = most = pa.total_allocated_bytes()
    for _ in parquet_rows(path, lambda _: None, path.name):
        most = max(most, pa.total_allocated_bytes())
    assert most - before < 5 * size < 12 * size < path.stat().st_size


@pytest.mark.slow
def test_a_row_that_is_too_long_ends_the_reading(tmp_path: Path) -> None:
    path = shared(tmp_path / "a.parquet", rows=1024, size=17 << 20)
    [event, _] = list(read(path, Asked()))
    assert event.problem == "line 1: is longer than 16 MiB."


def children_peak() -> float:
    """Bytes that the largest child of this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


@pytest.mark.django_db
@pytest.mark.both_databases
def test_columns_are_mapped_by_hand(tmp_path: Path) -> None:
    asked = [{"ask": f"q{n}", "say": f"a{n}", "text": "distracts"} for n in range(9)]
    path = write_jsonl(tmp_path / "a.jsonl", asked)
    dataset = register_dataset("mapped", path, columns={"prompt": "ask", "completion": "say"})
    assert {"prompt": "q3", "completion": "a3"} in everything(dataset)
    with pytest.raises(Invalid, match='line 1: has no "asked"; it has ask, say, text'):
        register_dataset("other", path, columns={"prompt": "asked"})
    with pytest.raises(Invalid, match="'promt' cannot be mapped"):
        register_dataset("other", path, columns={"promt": "ask"})


def test_sharegpt_turns_become_messages() -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    found, row = canonical({"conversations": turns, "id": 3})
    assert found == "chat"
    assert row["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]


def test_an_instruction_takes_its_input_along() -> None:
    _, row = canonical({"instruction": "Add.", "input": "1, 2", "output": "3"})
    assert row == {"prompt": "Add.\n\n1, 2", "completion": "3"}


def test_tool_calls_make_a_tools_example_with_arguments_as_an_object() -> None:
    messages = [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ]
    found, row = canonical({"messages": messages, "tools": '[{"type": "function"}]'})
    assert found == "tools"
    assert row["messages"][1]["content"] == ""
    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert row["tools"] == [{"type": "function"}]


def test_preferences_are_texts_or_messages_and_share_their_beginning() -> None:
    found, row = canonical({"prompt": "q", "chosen": "a", "rejected": "b"})
    assert (found, row["chosen"]) == ("preference", "a")
    asked = {"role": "user", "content": "q"}
    good, bad = ({"role": "assistant", "content": text} for text in ("a", "b"))
    _, row = canonical({"chosen": [asked, good], "rejected": [asked, bad]})
    assert row == {"prompt": [asked], "chosen": [good], "rejected": [bad]}
    with pytest.raises(BadLine, match='"rejected" is missing'):
        canonical({"prompt": "q", "chosen": "a"})


@pytest.mark.django_db
def test_a_canonical_line_is_kept_byte_for_byte(tmp_path: Path) -> None:
    line = '{"text" :"b\\u00e9", "more": 1}'
    path = tmp_path / "train.jsonl"
    path.write_text(line + "\n")
    (tmp_path / "valid.jsonl").write_text(line + "\n")
    dataset = register_dataset("raw", tmp_path)
    from registry.datasets.snapshots import dataset_path

    assert (dataset_path(dataset) / "train.jsonl").read_text() == line + "\n"
    assert everything(dataset)[0] == json.loads(line)


@pytest.mark.django_db
def test_a_hub_id_is_checked_and_an_absent_hub_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Invalid, match="is not a hub id"):
        register_hub_dataset("far", "hub:../../etc")
    with pytest.raises((Unavailable, NotFound), match="cannot be reached"):
        register_hub_dataset("far", "hub:someone/something")
