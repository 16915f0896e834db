"""`manage.py export-bundle NAME@VERSION FILE`: a version as one file for another hub."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from registry.bundles.writer import export
from registry.management.hub_command import HubCommand
from registry.versions.comparison import find_version


class Command(HubCommand):
    help = "Write a version with its lineage, digests and card into one file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME@VERSION")
        parser.add_argument("file", type=Path, metavar="FILE", help="must not exist yet")
        parser.add_argument("--with-data", action="store_true", help="also the training examples")

    def handle(self, *args: Any, name: str, file: Path, **options: Any) -> None:
        partial = file.with_name(f"{file.name}.partial")
        pieces = export(find_version(name), with_data=options["with_data"])
        if file.exists():
            raise CommandError(f"{file} exists already; choose another name.")
        try:
            with partial.open("wb") as out:
                for piece in pieces:
                    out.write(piece)
            partial.rename(file)
        except OSError as error:
            raise CommandError(str(error)) from None
        finally:
            partial.unlink(missing_ok=True)
        self.stdout.write(f"{name} is in {file} ({file.stat().st_size} bytes).")
