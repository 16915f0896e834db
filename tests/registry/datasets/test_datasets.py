"""Data sets: formats, splits, errors that name the line, and snapshots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.datasets import revisions, snapshots
from registry.datasets.reading.examples import Reader
from registry.errors import Invalid, NotFound
from registry.models import Dataset
from registry.storage import artifacts, paths
from tests.registry.build import chat, make_dataset, write_jsonl

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def lines(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    return snapshots.read_examples(dataset, split, 0, 10_000)


def test_a_folder_keeps_its_splits() -> None:
    dataset = make_dataset(train=8, valid=3, test=2)
    assert dataset.splits == {"train": 8, "valid": 3, "test": 2}
    assert dataset.format == "chat"
    assert dataset.examples == 13


def test_the_test_split_may_be_missing(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [chat(1)])
    write_jsonl(tmp_path / "valid.jsonl", [chat(2)])
    assert snapshots.register_dataset("two", tmp_path).splits == {"train": 1, "valid": 1}


def test_one_file_is_split_by_content_and_nothing_is_lost(tmp_path: Path) -> None:
    examples = [chat(n) for n in range(300)]
    dataset = snapshots.register_dataset("one", write_jsonl(tmp_path / "a.jsonl", examples))
    split = {name: lines(dataset, name) for name in ("train", "valid", "test")}
    assert {name: len(rows) for name, rows in split.items()} == dataset.splits
    assert 210 <= dataset.splits["train"] <= 270
    everything = sorted(json.dumps(row) for rows in split.values() for row in rows)
    assert everything == sorted(json.dumps(row) for row in examples)


def test_an_example_stays_in_its_split_when_others_are_added(tmp_path: Path) -> None:
    few = snapshots.register_dataset(
        "few", write_jsonl(tmp_path / "a.jsonl", [chat(n) for n in range(200)])
    )
    more = snapshots.register_dataset(
        "more", write_jsonl(tmp_path / "b.jsonl", [chat(n) for n in range(400)])
    )
    tested = [json.dumps(row) for row in lines(more, "test")]
    assert all(json.dumps(row) in tested for row in lines(few, "test"))


def test_equal_examples_never_lie_in_two_splits(tmp_path: Path) -> None:
    examples = [chat(n % 20) for n in range(200)]
    dataset = snapshots.register_dataset("twins", write_jsonl(tmp_path / "a.jsonl", examples))
    seen = [{json.dumps(row) for row in lines(dataset, s)} for s in ("train", "valid", "test")]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


@settings(max_examples=25, deadline=None)
@given(numbers=st.lists(st.integers(0, 50), min_size=3, max_size=30))
def test_no_split_of_a_small_file_is_empty(
    numbers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths.make_folders()
    folder = tmp_path_factory.mktemp("small")
    path = write_jsonl(folder / "a.jsonl", [{"text": f"t{n}"} for n in numbers])
    Dataset.objects.all().delete()
    if len(set(numbers)) < 3:
        with pytest.raises(Invalid, match="at least 3 different"):
            snapshots.register_dataset("small", path)
        return
    dataset = snapshots.register_dataset("small", path)
    assert all(dataset.splits.values())
    assert dataset.examples == len(numbers)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: is a list and not a JSON object"),
        ('{"text": NaN}', "line 2: holds NaN"),
        ('{"text": "\\ud800"}', "line 2: holds half of a surrogate pair"),
        ("{}", 'line 2: has none of "messages"'),
        ('{"text": " "}', 'line 2: "text" must be a non-empty text'),
        ('{"prompt": "a", "completion": "b"}', "line 2: is a completions example in a data set"),
        (
            '{"prompt": "a"}',
            'line 2: has "prompt" and no "completion"; map its columns yourself: prompt.',
        ),
        ('{"messages": []}', 'line 2: "messages" must be a non-empty list'),
        ('{"messages": [{"role": "nobody", "content": "x"}]}', "line 2: message 1 needs a role"),
        (
            '{"messages": [{"role": "user", "content": 3}]}',
            "line 2: message 1 needs text as its content",
        ),
        ('{"messages": [{"role": "user", "content": "x"}]}', "line 2: the last message must be"),
        ("[" * 100_000, "line 2: is nested too deeply"),
    ],
)
def test_errors_name_the_line(bad: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "good"}}\n{bad}\n{{"text": "better"}}\n')
    with pytest.raises(Invalid) as caught:
        snapshots.register_dataset("bad", path)
    assert f"a.jsonl {named}" in str(caught.value)
    assert not Dataset.objects.exists()
    assert list((paths.root() / "staging").iterdir()) == []


def test_several_errors_are_shown_at_once(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}, *([{}] * 7)])
    with pytest.raises(Invalid, match=r"line 2: .* line 6: .* And 2 more\."):
        snapshots.register_dataset("bad", path)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(Invalid, match="line 1: the text is not UTF-8"):
        snapshots.register_dataset("bad", path)


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n{"text": "c"}')
    assert snapshots.register_dataset("windows", path).examples == 3


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.datasets.files.values.LONGEST_LINE", 64)
    reader = Reader()
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x" * 100}) + "\n")
    assert list(reader.read(path)) == []
    with pytest.raises(Invalid, match="line 1: the line is longer"):
        reader.check()


@pytest.mark.parametrize("missing", ["train", "valid"])
def test_a_folder_needs_training_and_validation(missing: str, tmp_path: Path) -> None:
    for split in {"train", "valid", "test"} - {missing}:
        write_jsonl(tmp_path / f"{split}.jsonl", [chat(1)])
    with pytest.raises(Invalid, match=f"needs a {missing}.jsonl"):
        snapshots.register_dataset("half", tmp_path)
    (tmp_path / f"{missing}.jsonl").write_text("\n")
    with pytest.raises(Invalid, match=f"{missing}.jsonl holds no example"):
        snapshots.register_dataset("half", tmp_path)


@pytest.mark.both_databases
def test_the_same_bytes_under_the_same_name_are_the_same_data_set() -> None:
    assert make_dataset() == make_dataset()
    assert Dataset.objects.count() == 1


@pytest.mark.both_databases
def test_other_bytes_under_the_same_name_are_the_next_revision() -> None:
    first = make_dataset()
    second = make_dataset(first=7)
    assert (second.name, second.revision, second.previous) == ("notes", 2, first)
    assert list(revisions.newest()) == [second]
    assert make_dataset(first=7) == second
    assert lines(first, "train") != lines(second, "train")


@pytest.mark.both_databases
def test_a_revision_says_what_changed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "valid.jsonl", [chat(90)])
    write_jsonl(tmp_path / "train.jsonl", [chat(1), chat(1), chat(2)])
    snapshots.register_dataset("grown", tmp_path)
    write_jsonl(tmp_path / "train.jsonl", [chat(1), chat(3), chat(4)])
    changes = snapshots.register_dataset("Grown", tmp_path).changes
    counts = {name: changes["train"][name] for name in ("added", "removed", "kept")}
    assert counts == {"added": 2, "removed": 2, "kept": 1}
    assert changes["train"]["added_examples"] == [json.dumps(chat(3)), json.dumps(chat(4))]
    assert changes["train"]["removed_examples"] == [json.dumps(chat(2))]
    assert changes["valid"]["kept"] == 1


@pytest.mark.both_databases
def test_the_same_bytes_are_stored_once_for_two_names() -> None:
    one, other = make_dataset("one"), make_dataset("other")
    assert (one.path, one.checksum) == (other.path, other.checksum)
    assert one != other
    assert len(list((paths.root() / "datasets").iterdir())) == 1


def test_the_snapshot_outlives_the_source() -> None:
    dataset = make_dataset()
    before = lines(dataset, "train")
    source = paths.root() / "source-notes"
    write_jsonl(source / "train.jsonl", [chat(99)])
    assert lines(dataset, "train") == before
    assert artifacts.verify(snapshots.dataset_path(dataset)) == []
    assert artifacts.read_manifest(snapshots.dataset_path(dataset)).sha256 == dataset.checksum


def test_a_lost_snapshot_comes_back_with_the_same_bytes() -> None:
    dataset = make_dataset()
    (snapshots.dataset_path(dataset) / "train.jsonl").unlink()
    with pytest.raises(NotFound, match="missing from storage"):
        lines(dataset, "train")
    make_dataset()
    assert artifacts.verify(snapshots.dataset_path(dataset)) == []


def test_examples_are_paged() -> None:
    dataset = make_dataset(train=8)
    whole = lines(dataset, "train")
    assert snapshots.read_examples(dataset, "train", 2, 3) == whole[2:5]
    assert snapshots.read_examples(dataset, "train", 8, 3) == []
    with pytest.raises(NotFound, match=r"no split '\.\./x'"):
        snapshots.read_examples(dataset, "../x")


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing at"):
        snapshots.register_dataset("none", tmp_path / "none")
    with pytest.raises(Invalid, match="not a valid name"):
        snapshots.register_dataset("../none", tmp_path)


@pytest.mark.both_databases
def test_the_starter_is_large_enough_and_registered_once() -> None:
    dataset = snapshots.register_starter_dataset()
    assert dataset.name == "calendar-requests"
    assert dataset.splits["train"] >= 400
    assert dataset.splits["valid"] >= 50
    assert dataset.splits["test"] >= 50
    assert snapshots.register_starter_dataset() == dataset
