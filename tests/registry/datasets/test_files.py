"""Files as spreadsheets, pandas and people write them: read with the right values, or refused with
what to change."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.datasets.reading import limited
from registry.datasets.reading.file import Asked
from registry.datasets.snapshots import register_dataset
from registry.errors import Invalid

pytestmark = pytest.mark.any_database

ROWS = [{"prompt": "q", "completion": "a"}, {"prompt": "é", "completion": "b"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(path: Path, content: bytes | str) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """The examples, the problems and the unused columns of a file with this content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    *events, last = limited.read(path, Asked())
    assert last.found
    examples = [json.loads(event.line) for event in events if event.line]
    return examples, [event.problem for event in events if event.problem], last.found.unused


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "\ufeff" + LINES),
        ("a.jsonl", LINES.replace("\n", "\r\n") + "\r\n \r\n"),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.ndjson", LINES),
        ("a.jsonlines", LINES),
        ("a.json", json.dumps({"records": ROWS}).encode("utf-16")),
        ("a.csv", "\ufeffprompt,completion\r\nq,a\r\né,b\r\n"),
        ("a.csv", "prompt\tcompletion\nq\ta\né\tb\n".encode("utf-16")),
        ("a.csv", "sep=;\r\nprompt;completion\r\nq;a\r\né;b\r\n"),
        ("a.csv", "prompt,completion,,\nq,a,,\n,,,\né,b,,\n,,,\n"),
        ("a.csv", 'prompt, completion\n"q", a\né, "b"\n'),
        ("a.csv", "Prompt;Completion\nq;a\né;b;;\n"),
        ("a.tab", "prompt\tcompletion\nq\ta\né\tb\n"),
    ],
)
def test_a_file_is_read_as_it_is_meant(name: str, content: bytes | str, tmp_path: Path) -> None:
    assert read(tmp_path / name, content) == (ROWS, [], [])


@pytest.mark.slow
def test_a_long_text_of_utf16_is_read_whole(tmp_path: Path) -> None:
    rows = [{"text": f"{n} é😀 " + "x" * 300} for n in range(900)]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read(tmp_path / "a.jsonl", content.encode("utf-16")) == (rows, [], [])
    packed = gzip.compress(content.encode("utf-16-be").join([b"\xfe\xff", b""]))
    assert read(tmp_path / "a.jsonl.gz", packed) == (rows, [], [])
    with pytest.raises(Invalid, match="is not the UTF-16 text that it begins as"):
        read(tmp_path / "a.jsonl", "{".encode("utf-16") + b"\x00\xd8\x00")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (
            '"prompt, in short";completion\nq, r;a\n',
            [{"prompt, in short": "q, r", "completion": "a"}],
        ),
        ('"a; b; c",label\nq,a\n', [{"a; b; c": "q", "label": "a"}]),
        (
            "text;score\nq;1,5\nr;0,5\n",
            [{"text": "q", "score": "1,5"}, {"text": "r", "score": "0,5"}],
        ),
        ("text\nhello, world\nbye\n", [{"text": "hello, world"}, {"text": "bye"}]),
        (",text\n0,q\n", [{"column 1": "0", "text": "q"}]),
    ],
)
def test_columns_are_divided_where_the_records_agree(
    content: str, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    from registry.datasets.files.rows import rows as rows_of

    path = tmp_path / "a.csv"
    path.write_text(content)
    assert [row for _, row in rows_of(path)] == rows


def test_a_quote_between_tabs_is_a_character(tmp_path: Path) -> None:
    content = 'text\tlabel\nhe said "hi"\tpos\n"no end\tneg\n'
    rows, problems, _ = read(tmp_path / "a.tsv", content)
    assert [row["prompt"] for row in rows] == ['he said "hi"', '"no end']
    assert problems == []
    quoted = 'text\tlabel\n"two\nlines"\tpos\n'
    assert read(tmp_path / "a.tsv", quoted)[0] == [{"prompt": "two\nlines", "completion": "pos"}]


def test_a_broken_quote_among_quoted_texts_is_told_and_none_is_learned_with_its_quotes(
    tmp_path: Path,
) -> None:
    rows = [f'"text {n}"\t"pos"\n' for n in range(3)]
    content = "".join(["text\tlabel\n", *rows, '"he said "hi""\tneg\n'])
    found, [problem], _ = read(tmp_path / "a.tsv", content)
    assert found == [{"prompt": f"text {n}", "completion": "pos"} for n in range(3)]
    assert problem.startswith("line 5: is not CSV")


@pytest.mark.slow
def test_a_number_that_is_none_is_no_answer_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"question": ["1.5?", "0 / 0?"], "answer": [1.5, float("nan")]})
    pq.write_table(table, path)
    rows, [problem], _ = read(path, path.read_bytes())
    assert rows == [{"prompt": "1.5?", "completion": "1.5"}]
    assert problem.startswith('line 2: "answer" is nan, which is no answer')


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.csv",
            "prompt,completion,note\nq,a\n",
            "line 2: does not have 3 columns; write a text with a , in",
        ),
        ("a.csv", 'prompt,completion\n"x" y,b\n', "line 2: is not CSV (',' expected after"),
        ("a.jsonl", '{"text": "a"},\n', "line 1: ends with a comma; leave it out."),
        ("a.jsonl", '{"text": "a"}{"text": "b"}', "line 1: holds several objects; write each"),
        ("a.jsonl", "{'text': 'a'}\n", "line 1: is in Python's notation; write it as JSON"),
        ("a.jsonl", '{"text": NaN}\n', "line 1: holds NaN, which is not JSON; write null."),
        ("a.json", "[[1]]", "item 1: is a list and not a JSON object; write a chat as"),
        ("a.json", '{"x": {"0": "q"}, "y": {"0": "a"}}', "line 1: holds many rows in one object"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_what_to_do(
    name: str, content: str, problem: str, tmp_path: Path
) -> None:
    [found] = read(tmp_path / name, content)[1]
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", '"text" x,label\nq,a\n', "a.csv needs a header line with column names."),
        ("a.csv", "“q”,a\n".encode("cp1252"), "save it as UTF-8 (Excel: CSV UTF-8)"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "a.jsonl is a gzip file; call it .gz"),
        ("a.jsonl", b"PAR1\0", "a.jsonl is a Parquet file; call it .parquet."),
        ("a.zip", b"PK\x03\x04\0", "a.zip is a ZIP archive; unpack it"),
        (
            "a.csv",
            b"PK\x03\x04[Content_Types].xml",
            "a.csv is an Excel file; save it as CSV UTF-8.",
        ),
        (
            "a.jsonl.gz",
            gzip.compress(b"\0" * 257 + b"ustar", mtime=0),
            "a.jsonl.gz is a tar archive; unpack",
        ),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("a.json", "\n<!DOCTYPE html><html>", "a.json is a web page; download the file"),
        ("a.txt", "Once upon a time", "a.txt is not a kind of file that the hub reads; write"),
    ],
)
@pytest.mark.slow
def test_a_file_of_another_kind_is_refused_with_what_to_do(
    name: str, content: bytes | str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(Invalid) as caught:
        read(tmp_path / name, content)
    assert said in str(caught.value)


def test_lines_with_a_list_named_data_are_examples_each(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a", "data": [{"text": "t"}]} for n in range(2)]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert read(tmp_path / "a.jsonl", content) == (rows, [], ["data"])


@pytest.mark.slow
def test_a_structure_of_parquet_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.Table.from_pylist([{"input": "t", "output": {"name": "a", "age": None}}]), path
    )
    [found] = read(path, path.read_bytes())[1]
    assert found.startswith('line 1: "output" is a structure, in which Parquet does not say')


@pytest.mark.django_db
def test_a_file_beside_others_that_is_not_read_is_named(tmp_path: Path) -> None:
    for name in ("train.jsonl", "valid.ndjson"):
        (tmp_path / name).write_text(LINES)
    (tmp_path / "test.xlsx").write_bytes(b"PK")
    (tmp_path / "notes.md").write_text("About the data.")
    dataset = register_dataset("beside", tmp_path)
    assert dataset.splits == {"train": 2, "valid": 2}
    assert "These files are not used: test.xlsx." in dataset.notes
