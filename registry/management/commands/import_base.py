"""`manage.py import_base SOURCE`: a base model from a hub id, a local folder or a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from registry.bases import registration
from registry.conversion import imports
from registry.management.hub_command import Bar, HubCommand, find_row
from registry.models import BaseImport, BaseModel


class Command(HubCommand):
    help = (
        "Import a base model from a hub id (OWNER/NAME), a local folder or a GGUF file. Give the "
        "command again to continue an interrupted download."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", nargs="?", help="hub id, folder, or file that ends in .gguf")
        parser.add_argument("--name", default="", help="its name here; else the source's own")
        parser.add_argument("--revision", default="", help="branch, tag or commit on the hub")
        parser.add_argument("--row", type=int, help="do the work of this import's row")

    def handle(self, *args: Any, **options: Any) -> None:
        base = self._import(options)
        self.stdout.write(f"{base.name} is imported: {base.architecture}, {base.quantization}.")
        if base.embeds_only:
            use = f"embeddings only ({base.vectors})"
            if base.reranks:
                use = "reranking only (/v1/rerank)"
            self.stdout.write(f"It is for {use}: it cannot be trained or chatted with.")

    def _import(self, options: dict[str, Any]) -> BaseModel:
        source, name = options["source"], options["name"]
        if options["row"] is not None:
            return imports.run(find_row(BaseImport, options["row"]))
        if not source:
            raise CommandError("Name what to import: a hub id, a folder or a GGUF file.")
        path = Path(source).expanduser()
        if path.is_dir():
            return registration.register_base(
                name or registration.default_name(path), BaseModel.Source.FOLDER, source
            )
        if path.is_file() or path.suffix == ".gguf":
            return registration.register_base(name or path.stem, BaseModel.Source.GGUF, source)
        row = imports.start(source, name, options["revision"])
        try:
            with Bar(self.stderr) as bar:
                return imports.run(row, bar)
        except KeyboardInterrupt:
            row.refresh_from_db()
            if row.can_pause:
                imports.pause(row)
                raise CommandError("Paused. Give the command again to continue.") from None
            row.fail(row.lost)
            raise CommandError("Stopped. Give the command again.") from None
