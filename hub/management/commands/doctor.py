"""`manage.py doctor`: checks this machine and this hub."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from hub.monitoring.doctor import Finding, examine


class Command(BaseCommand):
    help = "Check this machine and the hub; say what is wrong and how to fix it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON for programs")

    def handle(self, *args: Any, **options: Any) -> None:
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

    def _show(self, finding: Finding) -> None:
        signs = {
            "ok": self.style.SUCCESS("✓"),
            "warning": self.style.WARNING("!"),
            "failed": self.style.ERROR("✗"),
        }
        self.stdout.write(f"{signs[finding.state]} {finding.name:<10} {finding.found}")
        if finding.state != "ok" and finding.fix:
            self.stdout.write(f"  {'':<10} → {finding.fix}")
