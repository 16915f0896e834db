"""Dropped, edited, moved and redacted rows make the next revision, which knows where they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.datasets import tasks
from registry.datasets.examination import examine
from registry.datasets.snapshots import dataset_path, read_examples, register_dataset
from registry.datasets.workbench import fixes, origins
from registry.datasets.workbench.findings import Findings, find
from registry.datasets.workbench.fixes import Fix
from registry.datasets.workbench.rows import Wanted
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Dataset, DatasetTask
from registry.storage import artifacts
from tests.registry.build import make_base, write_jsonl
from tests.registry.datasets.workbench.build import TRAIN, chat, make_findings

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def found(tmp_path: Path) -> Findings:
    return make_findings(tmp_path / "source")


def trail(dataset: Dataset, split: str, line: int) -> list[tuple[int, str, int, str]]:
    return [
        (one.dataset.revision, one.split, one.line, one.how)
        for one in origins.trail(dataset, split, line)
    ]


def test_rows_with_an_issue_are_dropped_and_the_others_remember_their_line(
    found: Findings,
) -> None:
    before = (dataset_path(found.dataset) / "train.jsonl").read_bytes()
    wanted = Wanted(split="train", issue="personal")
    made = fixes.apply(found, Fix("drop", "No customers' data", wanted=wanted))
    assert (made.revision, made.previous, made.splits["train"]) == (2, found.dataset, 7)
    assert made.fixes["message"] == "No customers' data"
    assert (made.fixes["dropped"], made.fixes["edited"]) == (3, 0)
    assert made.changes["train"]["removed"] == 3
    assert read_examples(made, "train", 6)[0] == TRAIN[9]
    assert trail(made, "train", 7) == [(1, "train", 10, "kept")]
    assert trail(made, "train", 1) == [(1, "train", 1, "kept")]
    gone, count = origins.differences(made, "dropped")
    assert ([one.before.line for one in gone], count) == ([7, 8, 9], 3)
    assert gone[0].before.row == TRAIN[6]
    assert (dataset_path(found.dataset) / "train.jsonl").read_bytes() == before
    assert artifacts.verify(dataset_path(made)) == []


def dropped(folder: Path, rows: list[dict[str, Any]], words: str) -> tuple[Dataset, Dataset]:
    """A data set of these rows, and its next revision, without those that have the words."""
    write_jsonl(folder / "rows.jsonl", rows)
    dataset = register_dataset("rows", folder / "rows.jsonl")
    findings = find(examine(dataset, make_base(), 64))
    return dataset, fixes.apply(findings, Fix("drop", wanted=Wanted(q=words)))


def test_classes_are_those_of_the_rows_that_are_left(tmp_path: Path) -> None:
    names = ("bill", "parcel", "other")
    rows = [{"text": f"ticket {n}", "label": names[n % 3]} for n in range(60)]
    before, after = dropped(tmp_path, rows, "other")
    assert set(before.labels) == set(names)
    left = {label: sum(counts.values()) for label, counts in after.labels.items()}
    assert left == {"bill": 20, "parcel": 20}


def test_good_and_bad_are_counted_in_the_rows_that_are_left(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "label": n % 3 > 0} for n in range(60)]
    before, after = dropped(tmp_path, rows, "false")
    assert (before.one_label, after.one_label) == ("", "true")


def test_personal_data_is_redacted_and_nothing_else_changes(found: Findings) -> None:
    made = fixes.apply(found, Fix("redact", wanted=Wanted(issue="any")))
    texts = [row["messages"][0]["content"] for row in read_examples(made, "train", 6, 3)]
    assert texts == [
        "write to [mail address]",
        "call [phone number] today",
        "pay with [card number]",
    ]
    said = read_examples(made, "train", 7)[0]["messages"][1]["content"]
    assert said == "I called [phone number]"
    pairs, count = origins.differences(made, "redacted", 1, 1)
    assert count == made.fixes["redacted"] == 3
    assert (pairs[0].before.line, pairs[0].after.line) == (8, 8)
    assert "736-5000" in pairs[0].before.text
    assert read_examples(made, "train", 0, 6) == TRAIN[:6]
    with pytest.raises(Invalid, match="none of these rows has personal data"):
        fixes.apply(fresh(made), Fix("redact", keys=("train:1",)))


def fresh(dataset: Dataset) -> Findings:
    from registry.datasets.examination import examine
    from registry.datasets.workbench.findings import find
    from registry.models import BaseModel

    return find(examine(dataset, BaseModel.objects.get(), 64))


def test_rows_move_to_another_split_and_an_emptied_test_split_ends(found: Findings) -> None:
    keys = ("test:2", "test:1", "train:3", "valid:1")  # the last stays where it is
    made = fixes.apply(found, Fix("move", keys=keys, to="valid"))
    assert trail(made, "valid", 1) == [(1, "valid", 1, "kept")]
    assert made.splits == {"train": 9, "valid": 5}
    assert trail(made, "valid", 3) == [(1, "train", 3, "moved")]
    assert trail(made, "valid", 5) == [(1, "test", 2, "moved")]
    assert trail(made, "train", 3) == [(1, "train", 4, "kept")]
    assert made.fixes["moved"] == 3
    back = fixes.apply(fresh(made), Fix("move", keys=("valid:3",), to="test"))
    assert back.splits == {"train": 9, "valid": 4, "test": 1}
    assert trail(back, "test", 1) == [(2, "valid", 3, "moved"), (1, "train", 3, "moved")]
    with pytest.raises(Invalid, match="are in test already"):
        fixes.apply(fresh(back), Fix("move", keys=("test:1",), to="test"))


def test_an_edited_row_is_read_in_any_dialect(found: Findings) -> None:
    text = json.dumps({"instruction": "Say", "output": "Größe"}, indent=1)
    made = fixes.apply(found, Fix("edit", keys=("train:2",), text=text))
    assert read_examples(made, "train", 1, 1) == [chat("Say", "Größe")]
    assert trail(made, "train", 2) == [(1, "train", 2, "edited")]
    assert made.format == "chat"
    tools = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
        ]
    }
    next_one = fixes.apply(fresh(made), Fix("edit", keys=("train:2",), text=json.dumps(tools)))
    assert next_one.format == "tools"


CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "Lima"}}}


@pytest.mark.parametrize(
    ("fix", "reason"),
    [
        (Fix("edit", keys=("train:1",), text='{"text": "plain"}'), "is a text example in a data"),
        (Fix("edit", keys=("train:1",), text="{"), "The row is not JSON"),
        (Fix("edit", keys=("train:1",), text='{"mood": 1}'), "The row has none of"),
        (Fix("edit", keys=("train:1", "train:2"), text="{}"), "one row at a time"),
        (Fix("edit", keys=("train:1",), text=json.dumps(TRAIN[0])), "it is as before"),
        (Fix("drop", wanted=Wanted(split="valid")), "No row would be left in valid"),
        (Fix("drop"), "Name the rows to change"),
        (Fix("drop", keys=("train:0",)), "has no row train 0"),
        (Fix("drop", keys=("train",)), "as SPLIT:LINE"),
        (Fix("move", keys=("train:1",), to="dev"), "not to 'dev'"),
        (Fix("burn", keys=("train:1",)), "not 'burn'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    found: Findings, storage: Path, fix: Fix, reason: str
) -> None:
    with pytest.raises((Invalid, NotFound), match=reason):
        fixes.apply(found, fix)
    assert Dataset.objects.count() == 1
    assert list((storage / "staging").iterdir()) == []


@pytest.mark.both_databases
def test_only_the_newest_revision_is_changed(found: Findings) -> None:
    fixes.apply(found, Fix("drop", keys=("train:1",)))
    with pytest.raises(Conflict, match=r"change rows of troubled \(revision 2\)"):
        fixes.apply(found, Fix("drop", keys=("train:2",)))


@pytest.mark.both_databases
def test_a_small_data_set_is_fixed_at_once_and_its_rows_are_checked_again(
    found: Findings, started: list[DatasetTask]
) -> None:
    made = tasks.start_fix(found.dataset, Fix("drop", keys=("train:2",)))
    assert isinstance(made, Dataset)
    (check,) = started
    assert (check.kind, check.dataset) == ("rows", made)
    tasks.run(check)
    assert tasks.checked(made).summary["issues"]["train"]["duplicate"] == 0


@pytest.mark.both_databases
def test_a_large_one_is_fixed_in_a_task(
    found: Findings, started: list[DatasetTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "AT_ONCE", 0)
    fix = Fix("drop", "Twice", wanted=Wanted(issue="duplicate"))
    with pytest.raises(Invalid, match="Name the rows"):
        tasks.start_fix(found.dataset, Fix("drop"))
    task: Any = tasks.start_fix(found.dataset, fix)
    assert started == [task]
    made = tasks.run(task)
    assert isinstance(made, Dataset)
    task.refresh_from_db()
    assert (task.status, task.dataset, made.revision) == ("completed", made, 2)
    assert made.fixes["message"] == "Twice"
    assert tasks.checked(made).dataset == made
