"""`manage.py bench`: how fast the hub is on this machine, beside bare mlx-lm and beside before."""

from __future__ import annotations

import datetime
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from hub.config import ROOT
from hub.monitoring import speeds
from hub.monitoring.speeds import Compared, Run
from hub.processes import presence
from hub.selftest import terminal
from hub.selftest.items import ITEMS
from hub.selftest.report import Outcome
from hub.selftest.running import run_all
from hub.selftest.tried import readers
from registry.storage import paths
from registry.versions import lineage

# The items of the self-test that measure them, and where their figures have what is kept.
_ITEMS = ("bundled_model", "beside_mlx_lm", "first_token", "beside_mlx_lm_lora")
_FIGURES = {
    "one": ("beside_mlx_lm", "tokens_per_second", "one"),
    "eight": ("beside_mlx_lm", "tokens_per_second", "eight"),
    "cold": ("first_token", "cold_ms"),
    "cached": ("first_token", "cached_ms"),
    "training": ("beside_mlx_lm_lora", "tokens_per_second"),
}
_RIVALS = {
    "one": ("beside_mlx_lm", "tokens_per_second", "bare_one"),
    "eight": ("beside_mlx_lm", "tokens_per_second", "bare_eight"),
    "training": ("beside_mlx_lm_lora", "mlx_lm_tokens_per_second"),
}


class Command(BaseCommand):
    help = (
        "Measure the hub on this machine with the bundled model: tokens per second alone and in "
        "eight streams, the first token, the prefix cache, training; beside bare mlx-lm in the same "
        "run, and beside the run before. The page System › Speed shows all runs."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--quick",
            action="store_true",
            help="a tiny random model and few steps: only whether all can be measured; not kept",
        )

    def handle(self, *args: Any, quick: bool, **options: Any) -> None:
        paths.make_folders()
        facts = readers.facts()
        busy = presence.running() is not None or facts["load_a_core"] > terminal.BUSY
        if busy:
            self.stderr.write(
                "The hub or something else is running here; stop it for figures that can be compared."
            )
        run = self._measure(facts, quick=quick, busy=busy)
        earlier = None if quick else speeds.before(run, speeds.history())
        if run.figures and not quick:
            speeds.keep(run)
        self._show(speeds.compare(run, earlier), earlier)
        for problem in run.problems:
            self.stderr.write(self.style.ERROR(problem))
        if not run.figures:
            raise SystemExit(1)

    def _measure(self, facts: Mapping[str, Any], *, quick: bool, busy: bool) -> Run:
        items = [item for item in ITEMS if item.name in _ITEMS]
        found: dict[str, Outcome] = {}
        with (
            tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as folder,
            terminal.Progress(self._console()) as progress,
        ):
            for row in run_all(items, Path(folder), quick=quick, progress=progress):
                found[row.name] = row.outcome
        problems = [
            f"{name}: {outcome.said}" for name, outcome in found.items() if not outcome.figures
        ]
        commit, changed = lineage.checkout(ROOT)
        return Run(
            datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            commit[:10] + (" with changes" if changed else ""),
            _device(facts),
            busy,
            _read(found, _FIGURES),
            _read(found, _RIVALS),
            tuple(problems),
        )

    def _console(self) -> Console:
        # Django's wrapper ends every piece with a line end, which breaks a line that changes.
        return Console() if self.stdout.isatty() else Console(file=self.stdout)  # type: ignore[arg-type]

    def _show(self, rows: list[Compared], earlier: Run | None) -> None:
        table = Table("", "the hub", "bare mlx-lm", "times it", "times the run before", box=None)
        for row in rows:
            table.add_row(
                row.kind.label,
                f"{row.value:,.0f} {row.kind.unit}",
                "" if row.rival is None else f"{row.rival:,.0f}",
                "" if row.ratio is None else f"{row.ratio:.2f}",
                "" if row.change is None else f"{row.change:.2f}" + (" !" if row.worse else ""),
            )
        self._console().print(table)
        if earlier is not None:
            self.stdout.write(
                f"The run before: {earlier.made}, commit {earlier.commit or 'unknown'}."
            )


def _read(found: Mapping[str, Outcome], places: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """The figures that were measured."""
    read = {}
    for name, (item, *keys) in places.items():
        value: Any = found[item].figures if item in found else {}
        for key in keys:
            value = value.get(key, {})
        if isinstance(value, int | float):
            read[name] = round(float(value), 3)
    return read


def _device(facts: Mapping[str, Any]) -> str:
    """What runs are compared on: the chip where it has a name, else the machine's shape."""
    chip = facts["sysctl"].get("machdep.cpu.brand_string") or facts["architecture"]
    return f"{chip}, {facts['cores']} cores, {facts['memory_bytes'] / 1e9:.0f} GB"
