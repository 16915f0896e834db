"""`manage.py export NAME[@VERSION] TARGET`: a version's files in a folder of the person's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from registry.conversion import exports
from registry.management.commands.quantize import add_limits, limits
from registry.management.hub_command import HubCommand, find_row
from registry.models import ExportTask


class Command(HubCommand):
    help = "Write a version as an adapter, fused safetensors or GGUF into a new or empty folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", nargs="?", help="NAME, NAME@1.2.0 or NAME@alias")
        parser.add_argument("target", nargs="?", type=Path, help="new or empty folder")
        parser.add_argument("--form", choices=exports.FORMS, default="adapter")
        parser.add_argument(
            "--stored", action="store_true", help="keep it in storage/exports for download instead"
        )
        parser.add_argument("--row", type=int, help="do the work of this export's row")
        add_limits(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        form, target = options["form"], options["target"]
        if options["row"] is not None:
            task = find_row(ExportTask, options["row"])
            self.stdout.write(f"{task.version} is exported to {exports.run(task)}.")
            return
        if not options["version"]:
            raise CommandError("Name the version to export.")
        if (target is None) != options["stored"]:
            raise CommandError("Give a folder to write to, or --stored.")
        version = exports.find_version(options["version"])
        if options["stored"]:
            written = exports.store(version, form, limits(options))
        else:
            written = exports.write(version, form, target.expanduser(), limits(options))
        self.stdout.write(f"{version} is exported to {written}.")
