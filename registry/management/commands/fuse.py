"""`manage.py fuse NAME[@VERSION]`: a version as a base model of its own, if it stays faithful."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from registry.conversion import conversions
from registry.conversion.exports import find_version
from registry.management.commands.quantize import add_limits, limits, report
from registry.management.hub_command import HubCommand


class Command(HubCommand):
    help = (
        "Fuse a version's adapter into its base as a new base model. It is kept only when it still "
        "answers like the adapter."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", help="NAME, NAME@1.2.0 or NAME@alias")
        parser.add_argument("--name", default="", help="name of the new base model")
        add_limits(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        version = find_version(options["version"])
        made = conversions.fuse_version(version, name=options["name"], limits=limits(options))
        report(self, made)
