"""`manage.py lineage NAME@VERSION`: where a version comes from."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from registry.management.hub_command import HubCommand
from registry.versions.comparison import find_version
from registry.versions.drawing import draw
from registry.versions.graph import facts, graph


class Command(HubCommand):
    help = "Show where a version comes from and what was made from it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME@VERSION")
        parser.add_argument("--json", action="store_true", help="every recorded fact, as JSON")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        version = find_version(name)
        if options["json"]:
            self.stdout.write(_dump(facts(version)))
        else:
            self.stdout.write("\n".join(draw(graph(version)).sentences))


def _dump(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1, sort_keys=True)
