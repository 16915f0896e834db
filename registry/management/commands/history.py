"""`manage.py history NAME`: a model's alias moves and MLflow runs."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.catalog.overview import moves_of
from registry.catalog.registration import find_model
from registry.management.hub_command import HubCommand
from registry.mlflow import tracking
from registry.models import AliasMove


class Command(HubCommand):
    help = "Show who moved which alias of a model and why, then its runs as MLflow has them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--timeout", type=float, default=60.0, help="seconds MLflow may take")

    def handle(self, *args: Any, name: str, timeout: float, **options: Any) -> None:
        model = find_model(name)
        for move in moves_of(model):
            self.stdout.write(_sentence(move))
        for run in tracking.history(model, limit_s=timeout):
            figures = ", ".join(f"{key} {value}" for key, value in run["metrics"].items())
            began = f"{run['started_at']:%Y-%m-%d %H:%M}" if run["started_at"] else "unknown"
            self.stdout.write(f"{began} run {run['name']} {run['status']}: {figures or '–'}")


def _sentence(move: AliasMove) -> str:
    before = f"{move.from_version.version} → " if move.from_version else ""
    after = move.to_version.version if move.to_version else "deleted"
    said = f"{move.moved_at:%Y-%m-%d %H:%M} {move.name} {before}{after}"
    said += f" by {move.by}" if move.by else ""
    said += f": {move.reason}" if move.reason else ""
    return f"{said} (overriding a rule)" if move.forced else said
