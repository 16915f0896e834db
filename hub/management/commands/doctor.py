"""`manage.py doctor`: one screen about this machine and this hub."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from hub.monitoring.doctor import Finding, examine


class Command(BaseCommand):
    help = "Say what the hub found on this machine, what is wrong, and how to mend it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for a program to read")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in examine():
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        if any(finding.state == "failed" for finding in findings):
            raise SystemExit(1)

    def _show(self, finding: Finding) -> None:
        signs = {
            "ok": self.style.SUCCESS("✓"),
            "warning": self.style.WARNING("!"),
            "failed": self.style.ERROR("✗"),
        }
        self.stdout.write(f"{signs[finding.state]} {finding.name:<10} {finding.found}")
        if finding.state != "ok" and finding.mend:
            self.stdout.write(f"  {'':<10} → {finding.mend}")
