"""`manage.py check-clients NAME`: what agents and client libraries need, asked of a version."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import IO, Any, cast

from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Table

from inference.clients import checks
from inference.clients.suite import Outcome
from inference.clients.table import APIS, Report, report
from inference.models import ClientCheck
from registry.management.hub_command import Bar, HubCommand

_SHOWN = {"passed": "yes", "failed": "no", "broken": "BROKEN", "skipped": "skipped"}


class Command(HubCommand):
    help = (
        "Ask a version, or a base model, over every API, for what agents need: calls of tools, JSON, thoughts, streams, "
        "and recorded sessions of agents; the hub must be running. Exits with 1 where the hub itself "
        "did not keep its contract."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "name",
            metavar="NAME",
            help="NAME, NAME@VERSION, NAME@ALIAS, base:NAME or the name of a base model",
        )
        parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        planned = checks.plan(name)
        if options["json"]:
            done = checks.run(planned)
        else:
            with Bar(self.stdout) as bar:
                done = checks.run(planned, bar)
        made = report(done)
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(done, made)))
        else:
            self._show(done, made)
        if made.broken:
            raise CommandError(
                f"{len(made.broken)} times the hub did not keep its contract; please report that."
            )

    def _show(self, done: ClientCheck, made: Report) -> None:
        console = Console(file=cast(IO[str], self.stdout))
        table = Table(f"{done.name}", *APIS)
        for row in made.rows:
            cells = [_SHOWN[cell.state] if cell else "–" for cell in row.cells]
            table.add_row(row.title, *cells)
        console.print(table)
        for title, api, outcome in made.reasons:
            line = f"{_SHOWN[outcome.state]}: {title} ({api}): {outcome.reason}"
            console.print(line, markup=False, highlight=False)
        self.stdout.write(f"{done.name}: {made.passed} of {made.judged} passed.")
        base = f"base:{done.base_model.name}"
        for other, lost in ((base, made.lost), ("production", made.lost_to_production)):
            if lost:
                named = ", ".join(f"{one.name} ({one.face})" for one in lost)
                self.stdout.write(f"Passed by {other}, not by this: {named}.")


def _as_json(done: ClientCheck, made: Report) -> dict[str, Any]:
    def listed(outcomes: list[Outcome]) -> list[str]:
        return [f"{one.name}/{one.face}" for one in outcomes]

    return {
        "id": done.pk,
        "name": done.name,
        "passed": made.passed,
        "judged": made.judged,
        "lost": listed(made.lost),
        "lost_to_production": listed(made.lost_to_production),
        "broken": listed(made.broken),
        "outcomes": done.outcomes,
    }
