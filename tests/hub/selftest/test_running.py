"""One item that fails, crashes or hangs ends no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from hub.selftest.items import GROUPS, ITEMS, Item
from hub.selftest.report import Row
from hub.selftest.running import run_all
from tests.running import ROOT, wait_until

pytestmark = pytest.mark.any_database


def item(name: str, *, fresh: bool = False, limit_s: float = 60) -> Item:
    place = f"tests.hub.selftest.trying:{name}"
    return Item(name, "readers", f"Is {name} fine?", place, fresh, limit_s)


def run(items: Sequence[Item], folder: Path, quick: bool = False) -> tuple[list[Row], list[str]]:
    said: list[str] = []
    rows = list(run_all(items, folder, quick=quick, progress=lambda item, text: said.append(text)))
    return rows, said


def test_every_item_has_its_outcome_whatever_the_others_do(tmp_path: Path) -> None:
    names = ("fine", "raises", "cannot", "crashes")
    (*rows, late, last), said = run(
        [*map(item, names), item("hangs", limit_s=1), item("fine")], tmp_path, quick=True
    )
    states = [row.outcome.state for row in rows]
    assert states == ["right", "not_right", "not_tried", "not_right"]
    assert "half of it" in said
    assert "ValueError: nothing is right" in rows[1].outcome.said
    assert (rows[2].outcome.said, rows[2].outcome.todo) == ("There is no harbour here.", "Move.")
    assert "SIGSEGV" in rows[3].outcome.said
    assert re.search(r"not done after \d+ s", late.outcome.said)
    assert last.outcome.state == "right"
    assert all(row.outcome.todo for row in (rows[1], rows[3], late))
    assert "a library that prints" in (tmp_path / "log.txt").read_text()


def test_a_fresh_item_has_a_process_of_its_own(tmp_path: Path) -> None:
    rows, _ = run([item("fine"), item("fine"), item("fine", fresh=True)], tmp_path)
    first, second, third = (row.outcome.figures["process"] for row in rows)
    assert first == second != third


def test_nothing_outlives_a_self_test_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "import django; django.setup()\n"
        "from tests.hub.selftest.test_running import item, run\n"
        "run([item('hangs')], Path(sys.argv[1]))"
    )
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    started = subprocess.Popen([sys.executable, "-c", program, tmp_path], cwd=ROOT, env=environment)
    parent = psutil.Process(started.pid)
    log = tmp_path / "log.txt"
    wait_until(lambda: log.exists() and "it hangs" in log.read_text())
    children = parent.children(recursive=True)
    started.kill()
    started.wait()
    gone, _ = psutil.wait_procs(children, timeout=20)
    assert children
    assert len(gone) == len(children)


def test_the_items_have_names_of_their_own_and_known_groups() -> None:
    assert len({item.name for item in ITEMS}) == len(ITEMS)
    assert list(dict.fromkeys(item.group for item in ITEMS)) == list(GROUPS)
