"""The self-test on a terminal: what is asked, how far it is, and what came of it in words."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from hub.selftest import report
from hub.selftest.items import GROUPS, ITEMS, Item
from hub.selftest.report import Row
from hub.selftest.running import run_all
from hub.selftest.tried import readers

SAY_EVERY_S = 10.0  # without a terminal, which would show a line that changes
SIGNS = {"right": "[green]✓[/]", "not_right": "[red]✗[/]", "not_tried": "[yellow]–[/]"}
BUSY = 0.5  # processes a core, from which figures suffer


def run(
    console: Console, doctor: Mapping[str, str], *, quick: bool, hub_runs: bool
) -> dict[str, Any]:
    """Run every item and tell what becomes of it; the report. `doctor` has the states of the doctor's
    own checks."""
    facts = readers.facts() | {"hub_runs": hub_runs}
    _introduce(console, facts, quick=quick)
    began = time.monotonic()
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="hub-selftest-", ignore_cleanup_errors=True) as folder,
        Progress(console) as progress,
    ):
        for row in run_all(ITEMS, Path(folder), quick=quick, progress=progress):
            if not rows or rows[-1].group != row.group:
                progress.print(f"\n[bold]{GROUPS[row.group]}[/]")
            rows.append(row)
            _tell(progress, row)
    found = report.build(rows, facts, doctor, quick=quick, seconds=time.monotonic() - began)
    _conclude(console, found)
    return found


def _introduce(console: Console, facts: Mapping[str, Any], *, quick: bool) -> None:
    length = "half a minute; no speed is judged" if quick else "about five minutes on a Mac"
    console.print(f"[bold]Self-test[/]: {len(ITEMS)} items, {length}, longer without a GPU.")
    if facts["hub_runs"]:
        console.print("[yellow]![/] The hub is running. Stop it for figures that can be compared.")
    elif facts["load_a_core"] > BUSY and not quick:
        console.print(
            "[yellow]![/] This machine is busy with other work, which slows every figure."
        )
    if facts["on_battery"] or facts["low_power"]:
        console.print("[yellow]![/] On battery or in Low Power Mode a Mac is slower; connect it.")


def _tell(progress: Progress, row: Row) -> None:
    outcome = row.outcome
    progress.print(f"{SIGNS[outcome.state]} {row.asked} [dim]{row.seconds:.0f} s[/]")
    progress.print(f"    {escape(outcome.said)}")
    if outcome.state != "right" and outcome.todo:
        progress.print(f"    → {escape(outcome.todo)}")


def _conclude(console: Console, found: Mapping[str, Any]) -> None:
    counts = found["summary"]
    wrong = [item["asked"] for item in found["items"] if item["state"] == "not_right"]
    said = (
        f"\n{counts['right']} right, {counts['not_right']} not right, {counts['not_tried']} could "
    )
    console.print(f"{said}not be tried; {found['seconds']:.0f} s.", soft_wrap=True)
    if wrong:
        console.print("Not right: " + escape(" ".join(wrong)), soft_wrap=True)


class Progress:
    """A line that says what runs; without a terminal one every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("Starting…")
        self._said = time.monotonic()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, item: Item, text: str) -> None:
        line = f"{item.asked} {escape(text)}"
        if self._console.is_terminal:
            self._status.update(line)
        elif time.monotonic() - self._said >= SAY_EVERY_S:
            self.print(f"  … {line}")

    def print(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.print(text, highlight=False, soft_wrap=True)
