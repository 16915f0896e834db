"""`manage.py export-bundle NAME@VERSION FILE`: a version as one file for another hub."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from registry.bundles.writer import export
from registry.errors import HubError
from registry.versions.comparison import find_version


class Command(BaseCommand):
    help = "Write a version with its lineage, digests and card into one file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME@VERSION")
        parser.add_argument("file", type=Path, metavar="FILE", help="must not exist yet")
        parser.add_argument("--with-data", action="store_true", help="also the training examples")

    def handle(self, *args: Any, name: str, file: Path, **options: Any) -> None:
        partial = file.with_name(f"{file.name}.partial")
        try:
            pieces = export(find_version(name), with_data=options["with_data"])
            if file.exists():
                raise CommandError(f"{file} exists already; choose another name.")
            with partial.open("wb") as out:
                for piece in pieces:
                    out.write(piece)
            partial.rename(file)
        except (HubError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise CommandError(str(error)) from None
        self.stdout.write(f"{name} is in {file} ({file.stat().st_size} bytes).")
