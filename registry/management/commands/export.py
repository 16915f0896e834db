"""`manage.py export NAME[@VERSION] TARGET`: a version's files in a folder of the person's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.conversion import exports
from registry.errors import HubError
from registry.management.commands.quantize import add_limits, limits


class Command(BaseCommand):
    help = "Write a version as an adapter, fused safetensors or GGUF into a new or empty folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", help="NAME, NAME@1.2.0 or NAME@alias")
        parser.add_argument("target", nargs="?", type=Path, help="new or empty folder")
        parser.add_argument("--form", choices=exports.FORMS, default="adapter")
        parser.add_argument(
            "--stored", action="store_true", help="keep it in storage/exports for download instead"
        )
        add_limits(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        form, target = options["form"], options["target"]
        if (target is None) != options["stored"]:
            raise CommandError("Give a folder to write to, or --stored.")
        try:
            version = exports.find_version(options["version"])
            if options["stored"]:
                written = exports.store(version, form, limits(options))
            else:
                written = exports.write(version, form, target.expanduser(), limits(options))
        except HubError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{version} is exported to {written}.")
