"""`manage.py compare NAME@VERSION NAME@VERSION …`: versions side by side."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import IO, Any, cast

from rich.console import Console
from rich.table import Table

from registry.management.hub_command import HubCommand
from registry.versions import comparison


class Command(HubCommand):
    help = "Show where versions differ: metrics, data, parameters, packages and commits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("versions", nargs="+", metavar="NAME@VERSION", help="two or more")
        parser.add_argument("--all", action="store_true", help="also what they agree in")

    def handle(self, *args: Any, versions: list[str], all: bool, **options: Any) -> None:
        found = comparison.compare(comparison.find_versions(versions))
        table = Table("", *map(str, found.versions))
        for row in found.metrics:
            table.add_row(
                row.name, *(_text(v, place == row.best) for place, v in enumerate(row.values))
            )
        for rows in (found.facts, found.params, found.packages, found.hardware):
            table.add_section()
            for row in rows:
                if all or not row.same:
                    table.add_row(row.name, *map(_text, row.values))
        Console(file=cast(IO[str], self.stdout)).print(table)


def _text(value: Any, best: bool = False) -> str:
    text = (
        "unknown" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    )
    return f"{text} (best)" if best else text
