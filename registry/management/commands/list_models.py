"""`manage.py list_models [TEXT]`: the models, as their page lists them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.catalog.overview import SORTS, find_models
from registry.management.hub_command import HubCommand
from registry.models import Model


class Command(HubCommand):
    help = (
        "List models, one a line, with tabs between name, task, base model, aliases, newest ready "
        "version, number of versions, and tags."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("q", nargs="?", default="", metavar="TEXT", help="in name, text or tag")
        parser.add_argument("--task", default="", choices=Model.TaskType.values)
        parser.add_argument("--base", default="", help="name of the base model")
        parser.add_argument("--tag", default="", help="a whole tag")
        parser.add_argument("--status", default="active", choices=("active", "archived", "all"))
        parser.add_argument("--sort", default="new", choices=tuple(SORTS))

    def handle(self, *args: Any, **options: Any) -> None:
        query = {name: options[name] for name in ("q", "task", "base", "tag", "status", "sort")}
        for model in find_models(**query).iterator(chunk_size=500):
            aliases = (f"{alias.name} {alias.version.version}" for alias in model.aliases.all())
            cells = (
                f"{model.name} (archived)" if model.archived_at else model.name,
                model.task_type,
                model.base_model.name,
                ", ".join(aliases),
                getattr(model, "newest", None) or "",
                str(getattr(model, "version_count", 0)),
                ", ".join(model.tags),
            )
            self.stdout.write("\t".join(cells))
