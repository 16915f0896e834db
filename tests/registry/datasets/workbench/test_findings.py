"""Every row is looked at once, and what is wrong with it is kept in a file."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from registry.background import work
from registry.datasets import tasks
from registry.datasets.examination import examine
from registry.datasets.workbench import findings, rows
from registry.datasets.workbench.findings import Findings, find
from registry.datasets.workbench.rows import Wanted
from registry.errors import Conflict, Invalid
from registry.maintenance import gc
from registry.models import DatasetReport, DatasetTask
from registry.storage import paths
from tests.registry.build import make_base, recorder
from tests.registry.datasets.workbench.build import LIMIT, make_findings, make_troubled

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def found(tmp_path: Path) -> Findings:
    return make_findings(tmp_path / "source")


def named(found: Findings, split: str) -> dict[int, set[str]]:
    """The issues of each row of a split that has any."""
    page = rows.page(found, Wanted(split=split), limit=100)
    return {row.line: {issue.name for issue in row.issues} for row in page.rows if row.issues}


def test_every_kind_of_problem_is_found_at_its_row(found: Findings) -> None:
    assert named(found, "train") == {
        2: {"duplicate"},
        4: {"near"},
        5: {"cut", "unended"},
        6: {"special"},
        7: {"mail"},
        8: {"phone"},
        9: {"card"},
        10: {"language"},
    }
    assert named(found, "valid") == {1: {"leak"}}
    assert named(found, "test") == {2: {"empty"}}
    assert found.summary["issues"]["train"]["any"] == 8
    assert found.summary["issues"]["train"]["mail"] == 1


def test_a_row_names_the_ones_that_it_is_like(found: Findings) -> None:
    def like(split: str, line: int) -> list[tuple[str, str, int]]:
        found_like = rows.row_at(found, split, line).like
        return [(one.how.name, one.split, one.line) for one in found_like]

    assert like("train", 2) == [("duplicate", "train", 1)]
    assert like("train", 4) == [("near", "train", 3)]
    assert like("valid", 1) == [("leak", "train", 1)]
    assert 80 <= rows.row_at(found, "train", 4).like[0].share < 100
    assert rows.row_at(found, "train", 7).personal == [("Mail address", "ana.lopez@example.com")]


def test_rows_are_paged_by_split_issue_length_and_words(found: Findings) -> None:
    def keys(wanted: Wanted, **more: Any) -> list[str]:
        return [row.key for row in rows.page(found, wanted, **more).rows]

    assert keys(Wanted(issue="personal")) == ["train:7", "train:8", "train:9"]
    assert keys(Wanted(issue="any", split="valid")) == ["valid:1"]
    assert keys(Wanted(shortest=LIMIT + 1)) == ["train:5"]
    assert keys(Wanted(), order="longest", limit=1) == ["train:5"]
    assert keys(Wanted(longest=LIMIT, q="SEVEN WIZARDS")) == ["train:3", "train:4"]
    assert keys(Wanted(q="möchte")) == ["train:10"]  # the line has an escape of JSON
    page = rows.page(found, Wanted(split="train"), 4, 3)
    assert [row.line for row in page.rows] == [5, 6, 7]
    assert (page.total, page.next) == (10, 7)
    assert rows.page(found, Wanted(split="train"), 7, 3).next is None
    with pytest.raises(Invalid, match="no issue 'spelling'"):
        rows.page(found, Wanted(issue="spelling"))


@pytest.mark.slow
def test_a_search_that_takes_long_goes_on_where_it_stopped(
    found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "SEARCH_S", -1)
    page = rows.page(found, Wanted(q="wizards"))
    assert (page.rows, page.next) == ([], 1)
    lines = []
    first: int | None = 0
    while first is not None:
        page = rows.page(found, Wanted(q="wizards"), first)
        lines += [row.line for row in page.rows]
        first = page.next
    assert lines == [3, 4]


def test_a_row_is_rendered_with_what_is_learned(found: Findings) -> None:
    (example,) = rows.tokens_of(found, "train", 1).examples
    trained = ["".join(p.text for p in example.pieces if p.trained) for _ in [0]]
    assert trained == ["plain answer </s> "]


@pytest.mark.both_databases
def test_the_check_is_work_with_progress_and_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, base, started = make_troubled(tmp_path / "source"), make_base(), list[DatasetTask]()
    monkeypatch.setattr(work, "launch", recorder(started))
    tasks.start_rows(dataset, base, LIMIT)
    with pytest.raises(Conflict, match="already running"):
        tasks.start_rows(dataset, base, LIMIT)
    with pytest.raises(Conflict, match="not checked yet"):
        tasks.checked(dataset)
    report = tasks.run(started[0])
    assert isinstance(report, DatasetReport)
    assert (started[0].status, started[0].share, started[0].report) == ("completed", 1.0, report)
    assert tasks.checked(dataset).report == report
    assert list((paths.root() / "staging").iterdir()) == []


@pytest.mark.both_databases
def test_findings_go_with_their_report(found: Findings) -> None:
    now = datetime.timedelta(0)
    assert gc.leftovers(now) == []
    place = paths.relative(paths.findings_dir(found.report.pk))
    found.report.delete()
    assert [(one.path, one.reason) for one in gc.sweep(now)] == [(place, "no examination names it")]


def test_the_rows_are_those_that_were_checked_last(found: Findings) -> None:
    dataset, base = found.dataset, found.report.base_model
    longer = find(examine(dataset, base, 512))
    assert findings.newest_findings(dataset).report == longer.report
    find(found.report)  # once more, with the same result
    assert findings.newest_findings(dataset).report == found.report
    assert longer.summary["issues"]["train"]["cut"] == 0


def test_a_damaged_file_of_findings_counts_as_none(found: Findings) -> None:
    path = paths.findings_dir(found.report.pk) / findings.ROWS
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    assert findings.newest_findings(found.dataset) is None
