"""`manage.py doctor`: checks this machine and this hub."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from hub.monitoring.doctor import Finding, examine
from hub.monitoring.logs import PROCESSES
from hub.processes import presence
from hub.selftest import report, terminal


class Command(BaseCommand):
    help = "Check this machine and the hub; say what is wrong and how to fix it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON for programs")
        parser.add_argument(
            "--self-test",
            action="store_true",
            help="measure whether the hub is right and fast here: about five minutes on a Mac",
        )
        parser.add_argument(
            "--report",
            type=Path,
            metavar="FILE",
            help="with --self-test: write what was found as JSON, without prompts, names or paths",
        )
        parser.add_argument(
            "--quick",
            action="store_true",
            help="with --self-test: a tiny random model and few steps, no speed is judged",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["self_test"] and (options["report"] or options["quick"]):
            raise CommandError("--report and --quick belong to --self-test; add it.")
        if options["report"]:
            _check_place(options["report"])
        if options["self_test"]:
            self._test(options["report"], quick=options["quick"], as_json=options["json"])
            return
        findings = []
        for finding in examine():
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        if options["json"]:
            # Programs read `fix` under the key `mend`.
            rows = [
                {"name": f.name, "state": f.state, "found": f.found, "mend": f.fix}
                for f in findings
            ]
            self.stdout.write(json.dumps(rows, indent=2))
        if any(finding.state == "failed" for finding in findings):
            raise SystemExit(1)

    def _test(self, file: Path | None, *, quick: bool, as_json: bool) -> None:
        stream = self.stderr if as_json else self.stdout
        # Django's wrapper ends every piece with a line end, which breaks a line that changes.
        console = Console(stderr=as_json) if stream.isatty() else Console(file=stream)  # type: ignore[arg-type]
        states = {f.name: f.state for f in examine()}
        running = any(presence.alive(name) for name in PROCESSES)
        try:
            found = terminal.run(console, states, quick=quick, hub_runs=running)
        except KeyboardInterrupt:
            raise CommandError("Stopped; nothing was written.", returncode=130) from None
        if as_json:
            self.stdout.write(report.text(found))
        if file:
            file.write_text(report.text(found))
            said = f"The report is in {file}. It holds no prompts, names or paths."
            console.print(said, soft_wrap=True, markup=False)
        if found["summary"]["not_right"]:
            raise SystemExit(1)

    def _show(self, finding: Finding) -> None:
        signs = {
            "ok": self.style.SUCCESS("✓"),
            "warning": self.style.WARNING("!"),
            "failed": self.style.ERROR("✗"),
        }
        self.stdout.write(f"{signs[finding.state]} {finding.name:<10} {finding.found}")
        if finding.state != "ok" and finding.fix:
            self.stdout.write(f"  {'':<10} → {finding.fix}")


def _check_place(file: Path) -> None:
    """Raises CommandError when the report cannot be written there, before minutes of measuring."""
    if not file.absolute().parent.is_dir():
        raise CommandError(f"There is no folder for {file}; choose another place.")
    is_new = not file.exists()
    try:
        with file.open("a"):
            pass
        if is_new:
            file.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CommandError(f"{file} cannot be written ({reason}); choose another place.") from None
