"""The chaos benchmark: its checker finds broken invariants, and a few kills break none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos_training import Change, Outcome, problems
from benchmarks.setup.hub import ROOT

pytestmark = pytest.mark.any_database

GOOD = [
    Change(1, "queued", "running", "a"),
    Change(1, "running", "queued", None),
    Change(2, "queued", "running", "b"),
    Change(2, "running", "failed", "b"),
    Change(1, "queued", "running", "c"),
    Change(1, "running", "completed", "c"),
]
ENDED = [Outcome(1, "completed", adapter="f00"), Outcome(2, "failed", "It died three times.")]


def test_a_valid_history_has_no_problems() -> None:
    assert problems(GOOD, ENDED, [0.3, 44.0]) == []


@pytest.mark.parametrize(
    ("changes", "jobs", "orphaned_s", "words"),
    [
        (GOOD, [*ENDED, Outcome(3, "running")], [], "Job 3 ended running"),
        (GOOD, [*ENDED, Outcome(3, "queued")], [], "Job 3 ended queued"),
        (GOOD, [*ENDED, Outcome(3, "failed")], [], "failed without a reason"),
        (GOOD, [*ENDED, Outcome(3, "failed", "It did not start in time.")], [], "was healthy"),
        (GOOD, [*ENDED, Outcome(3, "completed")], [], "without an adapter"),
        (GOOD, [*ENDED, Outcome(3, "completed", adapter="bad")], [], "different adapters"),
        (GOOD, ENDED, [46.0], "stayed live for 46 s"),
        ([*GOOD, Change(1, "running", "completed", "c")], ENDED, [], "completed 2 times"),
        ([*GOOD, Change(1, "completed", "queued", None)], ENDED, [], "left its end"),
        ([*GOOD, Change(2, "running", "queued", None)], ENDED, [], "left running while it was"),
        ([*GOOD, Change(3, "queued", "running", None)], ENDED, [], "without a lease"),
        ([*GOOD, Change(3, "queued", "running", "a")], ENDED, [], "given before"),
        ([GOOD[0], GOOD[2]], ENDED, [], "had live leases at once"),
    ],
)
def test_a_broken_invariant_is_found(
    changes: list[Change], jobs: list[Outcome], orphaned_s: list[float], words: str
) -> None:
    assert words in " ".join(problems(changes, jobs, orphaned_s))


def test_a_few_kills_break_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HUB_", "COVERAGE_"))}
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.chaos_training"),
            *(
                "--kills",
                "3",
                "--waiting",
                "2",
                "--limit-s",
                "120",
                "--check",
                "--json",
                str(figures),
            ),
        ],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr[-2000:]
    found = json.loads(figures.read_text())
    assert found["problems"] == []
    assert sum(found["kills"].values()) >= 1
    assert found["jobs"].get("completed", 0) >= 1
