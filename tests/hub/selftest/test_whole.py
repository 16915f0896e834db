"""The whole self-test as a person starts it, with a tiny model and few steps."""

from __future__ import annotations

import getpass
import json
import re
import socket
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from hub.selftest import terminal
from hub.selftest.items import ITEMS
from hub.selftest.report import Row, judged, right
from tests.running import ROOT

pytestmark = pytest.mark.any_database

NOT_HERE = {"first_token_7b", "allocation"}  # a CPU has neither the speed nor the check


@pytest.mark.django_db
def test_every_item_runs_and_the_report_names_nobody(tmp_path: Path) -> None:
    file, output = tmp_path / "report.json", StringIO()
    with suppress(SystemExit):  # the states say which item is why
        call_command("doctor", "--self-test", "--quick", "--report", file, stdout=output)
    written = file.read_text()
    items = {item["name"]: item for item in json.loads(written)["items"]}
    assert list(items) == [item.name for item in ITEMS]
    states = {name: item["state"] for name, item in items.items()}
    assert "not_right" not in states.values(), output.getvalue()
    assert states == {name: "not_tried" if name in NOT_HERE else "right" for name in items}
    assert items["resume"]["figures"]["same"]
    assert items["engine"]["figures"]["status"] == 503
    assert items["estimate"]["figures"]["measured_bytes"] > 1e8
    assert items["beside_mlx_lm"]["figures"]["ratio_one"] > 0
    for item in items.values():
        assert item["said"] in output.getvalue()
    for private in (str(Path.home()), str(ROOT), str(tmp_path), socket.gethostname()):
        assert private not in written
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", written)
    assert not re.search(r"/(tmp|home|root|Users|private|var)/", written)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Rows that `run_all` gives in place of real ones."""
    rows: list[Row] = []
    monkeypatch.setattr(terminal, "run_all", lambda *given, **named: iter(rows))
    return rows


def row(outcome: Any) -> Row:
    return Row("files", "readers", "Is there room?", 1.0, 0.5, outcome)


@pytest.mark.django_db
def test_what_is_not_right_is_said_with_what_to_do_and_is_the_exit_code(played: list[Row]) -> None:
    played.append(row(judged(False, "256 descriptors [allowed].", "Allow more: ulimit -n 2000.")))
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--self-test", stdout=output)
    assert ended.value.code == 1
    said = output.getvalue()
    assert "✗ Is there room?" in said
    assert "256 descriptors [allowed]." in said
    assert "→ Allow more: ulimit -n 2000." in said
    assert "0 right, 1 not right" in said


@pytest.mark.django_db
def test_json_goes_to_stdout_and_words_elsewhere(played: list[Row]) -> None:
    played.append(row(right("Enough.")))
    output, words = StringIO(), StringIO()
    call_command("doctor", "--self-test", "--json", stdout=output, stderr=words)
    assert json.loads(output.getvalue())["summary"]["right"] == 1
    assert "✓ Is there room?" in words.getvalue()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--report", "x.json"], "belong to --self-test"),
        (["--quick"], "belong to --self-test"),
        (["--self-test", "--report", "/nowhere/at/all.json"], "There is no folder"),
    ],
)
def test_options_that_do_nothing_are_refused(options: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command("doctor", *options)


@pytest.mark.django_db
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    played: list[Row], tmp_path: Path
) -> None:
    output = StringIO()
    with pytest.raises(CommandError, match=r"cannot be written \(Is a directory\)"):
        call_command("doctor", "--self-test", "--report", tmp_path, stdout=output)
    assert output.getvalue() == ""


@pytest.mark.django_db
@pytest.mark.parametrize("before", [None, "an older report"])
def test_what_was_there_stays_when_it_is_stopped(
    before: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "report.json"
    if before:
        file.write_text(before)
    monkeypatch.setattr(terminal, "run_all", stopped)
    with pytest.raises(CommandError, match="nothing was written"):
        call_command("doctor", "--self-test", "--report", file, stdout=StringIO())
    assert (file.read_text() if file.exists() else None) == before


def test_the_page_for_macs_names_every_item_and_tests_that_exist() -> None:
    page = (ROOT / "docs" / "mac.md").read_text()
    table = page[page.index("## What only a Mac") : page.index("## What no item shows")]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| **")]
    assert all("test_" in row[5] for row in rows)
    for path in re.findall(r"`([\w/]+/test_\w+\.py)`", table):
        assert (ROOT / "tests" / path).is_file(), path
    cells = [row[4] for row in rows]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert all(re.search(r"`\w+`", cell) for cell in cells)
    assert named == {item.name for item in ITEMS}
