"""`manage.py register_dataset NAME SOURCE`: keep a data set from files or from a hub."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from registry.datasets.examples import BadExamples
from registry.datasets.hub_files import PREFIX
from registry.datasets.snapshots import register_dataset, register_hub_dataset
from registry.errors import Invalid
from registry.management.hub_command import Bar, HubCommand


class Command(HubCommand):
    help = "Register a JSONL, JSON, Parquet or CSV file (or .gz, .zst), a folder of them, or hub:OWNER/NAME[@REVISION]."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the data set; a known name gets its next revision")
        parser.add_argument("source", help="file, folder or hub:OWNER/NAME[@REVISION]")
        parser.add_argument("--description", default="")
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="FIELD=COLUMN",
            help="which column holds a field that training reads, e.g. prompt=question",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        register = register_hub_dataset if options["source"].startswith(PREFIX) else _register_files
        try:
            with Bar(self.stderr) as bar:
                dataset = register(
                    options["name"],
                    options["source"],
                    options["description"],
                    columns=_columns(options["map"]),
                    progress=bar,
                )
        except BadExamples as error:
            more = error.total - len(error.problems)
            shown = error.problems + ([f"And {more} more."] if more else [])
            raise CommandError("\n".join(shown)) from None
        counts = ", ".join(f"{count} {split}" for split, count in dataset.splits.items())
        self.stdout.write(f"{dataset.name}, revision {dataset.revision}: {counts}")
        self.stdout.write(f"Read as: {'; '.join(dataset.read_as)}")
        for note in dataset.notes:
            self.stdout.write(note)


def _register_files(name: str, source: str, description: str, **options: Any) -> Any:
    return register_dataset(name, Path(source).expanduser(), description, **options)


def _columns(pairs: list[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise Invalid(f"Write --map as FIELD=COLUMN, not {pair!r}.")
        columns[field] = column
    return columns
