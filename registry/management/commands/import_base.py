"""`manage.py import_base SOURCE`: a base model from a hub id, a local folder or a GGUF file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.bases import registration
from registry.conversion import imports
from registry.errors import HubError
from registry.models import BaseImport, BaseModel

_BAR = 30


class Command(BaseCommand):
    help = (
        "Import a base model from a hub id (OWNER/NAME), a local folder or a GGUF file. A download "
        "that was interrupted goes on when the command is given again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", nargs="?", help="hub id, folder, or file that ends in .gguf")
        parser.add_argument("--name", default="", help="its name here; else the source's own")
        parser.add_argument("--revision", default="", help="branch, tag or commit on the hub")
        parser.add_argument("--row", type=int, help="do the work of this import's row")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            base = self._import(options)
        except HubError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{base.name} is imported: {base.architecture}, {base.quantization}.")

    def _import(self, options: dict[str, Any]) -> BaseModel:
        source, name = options["source"], options["name"]
        if options["row"] is not None:
            return imports.run(BaseImport.objects.get(pk=options["row"]))
        if not source:
            raise CommandError("Say what to import: a hub id, a folder or a GGUF file.")
        path = Path(source).expanduser()
        if path.is_dir():
            return registration.register_base(
                name or path.resolve().name, BaseModel.Source.FOLDER, source
            )
        if path.is_file() or path.suffix == ".gguf":
            return registration.register_base(name or path.stem, BaseModel.Source.GGUF, source)
        return imports.run(imports.start(source, name, options["revision"]), self._show)

    def _show(self, row: BaseImport) -> None:
        """A bar on a terminal, a line per stage elsewhere."""
        total = row.total_bytes or 0
        share = min(1.0, row.done_bytes / total) if total else 0.0
        if sys.stderr.isatty():
            bar = "#" * round(share * _BAR)
            self.stderr.write(
                f"\r{row.stage:<22} [{bar:<{_BAR}}] {share:4.0%} of {total / 1e6:,.0f} MB",
                ending="",
            )
            self.stderr.flush()
        elif getattr(self, "_stage", "") != row.stage:
            self._stage = row.stage
            self.stderr.write(row.stage)
