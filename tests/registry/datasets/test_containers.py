"""Files of every kind and packing hold the same examples; hostile ones fill no memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.datasets import uploads
from registry.datasets.dialects.table import DIALECTS, Dialect
from registry.datasets.files import documents, values
from registry.datasets.files.unpacking import opened
from registry.datasets.reading import limited
from registry.datasets.reading.file import Asked
from registry.datasets.snapshots import read_examples, register_dataset
from registry.errors import Invalid
from registry.models import Dataset
from registry.storage import paths
from tests.registry.build import write_jsonl
from tests.running import often

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("unmeasured_children")]

type Row = dict[str, Any]
type Chat = list[tuple[str, str]]
"""What was asked and what was answered, turn by turn."""


def everything(dataset: Dataset) -> list[Row]:
    return [row for split in dataset.splits for row in read_examples(dataset, split, 0, 10_000)]


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


# ---------------------------------------------------------------- one property over all of them


def messages(system: str, chat: Chat) -> list[Row]:
    turns = [{"role": "system", "content": system}] if system else []
    for asked, answered in chat:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return turns


def openai(system: str, chat: Chat) -> Row:
    return {"messages": messages(system, chat)}


def developer(system: str, chat: Chat) -> Row:
    turns = messages(system, chat)
    return {
        "messages": [
            {
                "role": "developer" if turn["role"] == "system" else turn["role"],
                "content": [{"type": "text", "text": turn["content"]}],
            }
            for turn in turns
        ]
    }


def anthropic(system: str, chat: Chat) -> Row:
    return {"system": system, **developer("", chat)}


def sharegpt(system: str, chat: Chat) -> Row:
    names = {"user": "human", "assistant": "gpt"}
    turns = messages("", chat)
    return {
        "system": system,
        "conversations": [{"from": names[t["role"]], "value": t["content"]} for t in turns],
    }


def conversation(system: str, chat: Chat) -> Row:
    return {"system_prompt": system, "conversation": messages("", chat)}


def paired(dialect: Dialect) -> Callable[[str, Chat], Row]:
    """A question and an answer in the columns of this dialect, after what came before."""

    def written(system: str, chat: Chat) -> Row:
        *history, (asked, answered) = chat
        question, answer, *label = dialect.needs
        return {
            "system": system,
            "history": [list(turn) for turn in history],
            question: asked,
            answer: {"text": [answered]} if dialect.name == "SQuAD" else answered,
            **dict.fromkeys(label, True),
        }

    return written


def preference(system: str, chat: Chat) -> Row:
    *prompt, chosen = messages(system, chat)
    return {"prompt": prompt, "chosen": [chosen], "rejected": chosen["content"] + "!"}


def openai_preference(system: str, chat: Chat) -> Row:
    row = preference(system, chat)
    return {
        "input": {"messages": row["prompt"]},
        "preferred_output": row["chosen"],
        "non_preferred_output": [{"role": "assistant", "content": row["rejected"]}],
    }


def trl(system: str, chat: Chat) -> Row:
    turns = messages(system, chat)
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def as_lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
                for k, v in row.items()
            }
        )
    return text.getvalue().encode()


def as_parquet(rows: list[Row]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


WRITERS: list[Callable[[str, Chat], Row]] = [
    *(openai, developer, anthropic, sharegpt, conversation, trl, preference, openai_preference),
    *(paired(dialect) for dialect in DIALECTS if dialect.paired),
]
SMALL: dict[str, Callable[[list[Row]], bytes]] = {
    "a.jsonl": as_lines,
    "a.json": lambda rows: json.dumps(rows).encode(),
    "pretty.json": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False).encode(),
    "data.json": lambda rows: json.dumps({"version": 1, "data": rows}, indent=1).encode(),
    "small.json": lambda rows: json.dumps({"data": rows}).encode(),
    "several.json": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows).encode(),
    "a.csv": as_csv,
}
BY_A_CHILD: dict[str, Callable[[list[Row]], bytes]] = {
    "a.jsonl.gz": lambda rows: gzip.compress(as_lines(rows)),
    "a.json.zst": lambda rows: zstd(json.dumps(rows).encode()),
    "a.csv.zst": lambda rows: zstd(as_csv(rows)),
    "a.parquet": as_parquet,
    "a.parquet.gz": lambda rows: gzip.compress(as_parquet(rows)),
    "a.parquet.zst": lambda rows: zstd(as_parquet(rows)),
}
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
).filter(lambda text: bool(text.strip()))
CHATS = st.lists(
    st.tuples(TEXT | st.just(""), st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)),
    min_size=3,
    max_size=8,
    unique_by=repr,
)


@settings(max_examples=often(5, 10), deadline=None)
@given(chats=CHATS)
def test_a_chat_is_the_same_in_every_dialect_and_every_container(
    chats: list[tuple[str, Chat]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("chats")
    for write in WRITERS:
        for name, pack in SMALL.items():
            check_same(chats, write, folder / name, pack)


@settings(max_examples=often(2, 8), deadline=None)
@given(chats=CHATS, write=st.sampled_from(WRITERS))
@pytest.mark.parametrize("name", BY_A_CHILD)
def test_a_chat_is_the_same_when_a_child_reads_it(
    name: str,
    chats: list[tuple[str, Chat]],
    write: Callable[[str, Chat], Row],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("chats") / name
    check_same(chats, write, path, BY_A_CHILD[name])


def check_same(
    chats: list[tuple[str, Chat]],
    write: Callable[[str, Chat], Row],
    path: Path,
    pack: Callable[[list[Row]], bytes],
) -> None:
    path.write_bytes(pack([write(*chat) for chat in chats]))
    *events, last = limited.read(path, Asked())
    assert [event.problem for event in events if event.problem] == []
    found = [as_chat(json.loads(event.line)) for event in events]
    assert [[(m["role"], m["content"]) for m in chat] for chat in found] == [
        [(m["role"], m["content"]) for m in messages(*chat)] for chat in chats
    ]
    assert last.found
    assert last.found.unused == (["version"] if path.name == "data.json" else [])
    ignored = [m for chat in found for m in chat if m.get("weight") == 0]
    earlier = [m for chat in found for m in chat[:-1] if m["role"] == "assistant"]
    assert ignored == (earlier if write is trl else [])


def as_chat(row: Row) -> list[Row]:
    """The messages of an example whatever its format; of a preference, to the better answer."""
    if "completion" in row:
        return messages("", [(row["prompt"], row["completion"])])
    found: list[Row] = row["messages"] if "messages" in row else [*row["prompt"], *row["chosen"]]
    return found


# ---------------------------------------------------------------- JSON documents


def problems(path: Path) -> list[str]:
    return [event.problem for event in limited.read(path, Asked()) if event.problem]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"text": "a"}, 3]', "item 2: is not a JSON object."),
        ('[{"text": "a"} {"text": "b"}]', "item 2: is not JSON (] is missing)."),
        ('[{"text": "a"}, {"text": }]', "item 2: is not JSON (Expecting value)."),
        ('[{"text": "a"},', "item 2: is not JSON (Expecting value)."),
        ('[{"text": "a"}', "item 2: is not JSON (] is missing)."),
        ('[{"text": NaN}]', "item 1: holds NaN or an infinite number, which is not JSON."),
        ('[{"text": "\\ud800"}]', "item 1: holds half of a surrogate pair, which is not"),
        ('[{"text": "a"}] x', "item 2: is followed by something that is not JSON."),
        ('{"data": [{"text": "a"}], 3: 4}', "item 2: is not JSON (a name must be a text)."),
        ('{\n"data": [{"text": "a"}],\n"more": ' + "[" * 100_000, "item 2: is nested too deeply."),
        ("[" * 100_000, "item 1: is nested too deeply."),
        ('[{"text": ' + "1" * 5_000 + "}]", "item 1: holds a number that is too long."),
    ],
)
def test_what_is_wrong_in_a_json_document_is_named_with_its_place(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    [problem] = problems(path)
    assert problem.startswith(said)


def test_an_item_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "LONGEST_LINE", 600_000)
    path = tmp_path / "a.json"
    for text in ('[{"text": "' + "x" * 900_000, '[{"text": "' + "x" * 700_000 + '"}]'):
        path.write_text(text)
        [problem] = problems(path)
        assert problem.startswith("item 1: is longer than")


def test_text_of_a_document_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"text": "\xff"}]')
    assert problems(path) == ["item 1: the text is not UTF-8."]


def test_json_lines_in_a_json_file_stay_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"text" :"a", "data": ["x"]}\n{"text": "b"\n')
    first = next(limited.read(path, Asked()))
    assert first.line == '{"text" :"a", "data": ["x"]}'
    assert problems(path) == ["line 2: is not JSON (Expecting ',' delimiter at column 13)."]


def test_a_long_list_is_read_with_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write('{"data": [')
        for number in range(4_000):
            file.write(json.dumps({"text": f"{number} " + "x" * 5200}, indent=2) + ",\n")
        file.write('{"text": "last"}], "version": 2}')
    left: list[str] = []
    tracemalloc.start()
    try:
        with opened(path, "", path.name) as source:
            count = sum(1 for _ in documents.items(source, lambda _: None, left.append))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (count, left) == (4_001, ["version"])
    assert peak < 4e6 < path.stat().st_size / 5


# ---------------------------------------------------------------- compressed files
@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_file_that_unpacks_to_much_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl.{suffix}"
    content = b'{"text": "a"}\n' + (b" " * 1_000_000 + b"\n") * 80
    path.write_bytes((gzip.compress if suffix == "gz" else zstd)(content))
    with pytest.raises(Invalid, match=r"a\.jsonl\.\w+ unpacks to more than 200 times its size"):
        list(limited.read(path, Asked()))


def test_a_compressed_parquet_file_that_unpacks_to_much_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(b"PAR1" + b"x" * (65 << 20), 1))
    with pytest.raises(Invalid, match=r"a\.parquet\.gz unpacks to more than 20 times its size"):
        list(limited.read(path, Asked()))
    path.write_bytes(gzip.compress(as_parquet([{"text": f"t{n}"} for n in range(9)])))
    events = limited.read(path, Asked())
    next(events)
    del events  # no more of it: the child is killed
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_file_that_is_damaged_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl.{suffix}"
    packed = (gzip.compress if suffix == "gz" else zstd)(
        b"".join(b'{"text": "%d"}\n' % (n * 7919) for n in range(20_000))
    )
    for content in (b"no such thing", packed[: len(packed) // 2]):
        path.write_bytes(content)
        with pytest.raises(Invalid, match=r"a\.jsonl\.\w+ is not a readable (gzip|zstd) file"):
            list(limited.read(path, Asked()))


def test_a_file_of_several_compressed_pieces_is_read_whole(tmp_path: Path) -> None:
    for pack, name in ((gzip.compress, "a.jsonl.gz"), (zstd, "a.jsonl.zst")):
        path = tmp_path / name
        path.write_bytes(pack(b'{"text": "a"}\n') + pack(b'{"text": "b"}\n'))
        lines = [event.line for event in limited.read(path, Asked()) if event.line]
        assert lines == ['{"text": "a"}', '{"text": "b"}']


# ---------------------------------------------------------------- the limited child
def test_a_hostile_line_fills_the_child_and_not_this_process(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    many, some = (
        '{"text": "a", "b": [' + ",".join(["[]"] * count) + "]}" for count in (4_000_000, 400_000)
    )
    path.write_text(f"{many}\n{some}\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, second, last = limited.read(path, Asked())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert first.problem == "line 1: holds more than 500,000 lists and objects."
    assert second.line == some
    assert last.found
    assert last.found.unused == ["b"]
    assert grown * (1 if sys.platform == "darwin" else 1024) < 100e6


@pytest.mark.parametrize("limits", [True, False], ids=["limited", "watched"])
def test_a_file_that_needs_too_much_memory_ends_in_a_sentence(limits: bool, tmp_path: Path) -> None:
    """On a system that limits address space, and on one that refuses to, as macOS does."""
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        file.write('{"text": "a", "b": ' + "[" + ",".join(["{}"] * 5_400_000) + "]}\n")
    code = Path(limited.__file__).read_text().replace("MEMORY = 2 << 30", "MEMORY = 300 << 20")
    changed = tmp_path / "changed.py"
    if not limits:
        code = code.replace("    limit_memory(", "    resource.RLIMIT_AS = 99\n    limit_memory(")
    changed.write_text(code)
    asked = json.dumps({"columns": {}, "kind": None, "name": "a.jsonl"})
    ended = subprocess.run(
        [sys.executable, str(changed), str(path)],
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": "."},
        input=asked,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("a.jsonl needs more than")


def test_what_a_child_was_writing_when_it_was_killed_is_no_example(tmp_path: Path) -> None:
    said = io.BytesIO(b'={"text": "a"}\n={"text": "b"}')
    assert [event.line for event in limited._events(said)] == ['{"text": "a"}']


@pytest.mark.django_db
def test_a_large_file_is_read_in_the_child_like_a_small_one(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + "x" * 400, "id": n} for n in range(3_000)]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows, {"text": ""}])
    assert path.stat().st_size > limited.HERE
    with pytest.raises(Invalid, match=r'a\.jsonl line 3001: "text" must be a non-empty text\.'):
        register_dataset("large", path)
    dataset = register_dataset("large", write_jsonl(path, rows))
    assert (dataset.examples, dataset.unused) == (3_000, ["id"])
    assert sorted(row["id"] for row in everything(dataset)) == list(range(3_000))


@pytest.mark.django_db
def test_the_kind_of_the_first_file_holds_for_those_that_a_child_reads(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a"}])
    large = [{"prompt": f"{n} " + "x" * 400, "completion": "a"} for n in range(3_000)]
    write_jsonl(tmp_path / "valid.jsonl", large)
    with pytest.raises(Invalid, match=r"valid\.jsonl line 1: is a completions example in a data"):
        register_dataset("mixed", tmp_path)


# ---------------------------------------------------------------- names of files


def lines(text: str) -> bytes:
    return (json.dumps({"text": text}) + "\n").encode()


@pytest.mark.django_db
@pytest.mark.parametrize("valid", ["validation", "val", "eval", "dev", "Dev", "my-val-0001"])
def test_a_validation_file_by_any_name_is_the_valid_split(valid: str, tmp_path: Path) -> None:
    (tmp_path / "training.jsonl").write_bytes(lines("a"))
    (tmp_path / f"{valid}.jsonl").write_bytes(lines("b"))
    dataset = register_dataset("named", tmp_path)
    assert dataset.splits == {"train": 1, "valid": 1}
    assert f"The valid split was read from {valid}.jsonl." in dataset.notes
    sent = [
        SimpleUploadedFile("training.jsonl", lines("a")),
        SimpleUploadedFile(f"{valid}.jsonl.gz", gzip.compress(lines("b"))),
    ]
    uploaded = uploads.register_upload("sent", sent)
    assert uploaded.checksum == dataset.checksum
    assert f"The valid split was read from {valid}.jsonl.gz." in uploaded.notes
    assert list((paths.root() / "uploads").iterdir()) == []


@pytest.mark.django_db
def test_errors_name_an_uploaded_file_as_the_client_does() -> None:
    sent = [
        SimpleUploadedFile("train.jsonl", lines("a")),
        SimpleUploadedFile("dev.jsonl", b"{}\n"),
    ]
    with pytest.raises(Invalid, match=r"dev\.jsonl line 1: has none of"):
        uploads.register_upload("sent", sent)


@pytest.mark.django_db
def test_a_file_without_a_split_beside_others_is_named(tmp_path: Path) -> None:
    for name in ("train", "valid", "notes"):
        (tmp_path / f"{name}.jsonl").write_bytes(lines(name))
    assert register_dataset("three", tmp_path).notes == ["These files are not used: notes.jsonl."]
    sent = [SimpleUploadedFile(f"{n}.jsonl", lines(n)) for n in ("train", "valid", "notes")]
    with pytest.raises(Invalid, match="or send a single file, which is split"):
        uploads.register_upload("sent", sent)


@pytest.mark.django_db
def test_a_csv_file_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,text\na,b\n")
    with pytest.raises(Invalid, match="two columns named 'text'"):
        register_dataset("twice", path)


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_same_examples_with_other_columns_say_what_is_not_used(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": "a"} for n in range(9)]
    first = register_dataset("again", write_jsonl(tmp_path / "a.jsonl", rows))
    more = [{**row, "id": 1} for row in rows]
    second = register_dataset("again", write_jsonl(tmp_path / "a.jsonl", more))
    assert (first, first.unused, second.unused) == (second, [], ["id"])
