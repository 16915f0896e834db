"""`manage.py register_dataset NAME SOURCE`: keep a data set from files or from a hub."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from registry.background.progress import Progress
from registry.datasets.formats import COLUMNS
from registry.datasets.hub_files import PREFIX, download
from registry.datasets.preview import Preview, preview
from registry.datasets.reading.examples import BadExamples
from registry.datasets.snapshots import register_dataset, register_hub_dataset
from registry.errors import Invalid
from registry.management.hub_command import Bar, HubCommand
from registry.storage import artifacts, paths


class Command(HubCommand):
    help = "Register a JSONL, JSON, Parquet or CSV file (or .gz, .zst), a folder of them, or hub:OWNER/NAME[@REVISION]."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the data set; a known name gets its next revision")
        parser.add_argument("source", help="file, folder or hub:OWNER/NAME[@REVISION]")
        parser.add_argument("--description", default="")
        parser.add_argument(
            "--map",
            "--columns",
            action="append",
            default=[],
            metavar="FIELD=COLUMN",
            help="which column holds a field that training reads, e.g. prompt=question",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="show how the rows are read and what they become, and register nothing",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self._show(options["source"], _columns(options["map"]))
            return
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

    def _show(self, source: str, columns: dict[str, str]) -> None:
        """Print a preview. Raises CommandError when the source could not be registered so."""
        with Bar(self.stderr) as bar:
            seen = _previewed(source, columns, bar)
        about = "" if seen.exact else "about "
        counts = ", ".join(f"{about}{count} {split}" for split, count in seen.splits.items())
        self.stdout.write(f"{seen.format_name}: {counts}" if counts else "No example can be read.")
        for line in (*(f"Read as {why}" for why in seen.why), *seen.notes, *seen.warnings):
            self.stdout.write(line)
        for column, use in seen.uses.items():
            self.stdout.write(f"  {column}: {COLUMNS.get(use, 'not used')}")
        for way in seen.others:
            mapped = " ".join(f"--map {key}={column}" for key, column in way.columns.items())
            self.stdout.write(f"It could also be read as {way.name}: {mapped}")
        for sample in seen.samples:
            self.stdout.write(f"{sample.file} {sample.place}: {json.dumps(sample.given)}")
            self.stdout.write(f"  becomes {json.dumps(sample.becomes)}" if sample.becomes else "")
        if seen.problems:
            more = seen.wrong - len(seen.problems)
            shown = [*seen.problems, *([f"And {more} more."] if more else [])]
            raise CommandError("\n".join(shown))
        self.stdout.write("Nothing was registered.")


def _previewed(source: str, columns: dict[str, str], progress: Progress) -> Preview:
    if not source.startswith(PREFIX):
        return preview(Path(source).expanduser(), columns=columns)
    place = paths.staging_dir("hub-dataset")
    progress.stage("Downloading")
    try:
        return preview(download(source, place, progress.part)[1], columns=columns, hub=True)
    finally:
        artifacts.discard(place)


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
