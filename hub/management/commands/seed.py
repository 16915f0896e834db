"""`manage.py seed`: fills a storage folder for benchmarks."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import fields
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub import seeding
from registry.storage import paths


class Command(BaseCommand):
    help = (
        "Fill a storage folder with made-up models, versions, jobs and requests, for benchmarks "
        "only: all versions share one empty adapter."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        for kind in fields(seeding.Scale):
            parser.add_argument(
                f"--{kind.name}",
                type=int,
                default=kind.default,
                metavar="N",
                help="number of rows; default: %(default)s",
            )
        parser.add_argument("--seed", type=int, default=0, help="random seed")
        parser.add_argument(
            "--yes", action="store_true", help="also seed a storage folder that already has rows"
        )

    def handle(self, *args: Any, seed: int, yes: bool, **options: Any) -> None:
        scale = seeding.Scale(**{kind.name: options[kind.name] for kind in fields(seeding.Scale)})
        if min(vars(scale).values()) < 1:
            raise CommandError("Every number of rows must be at least 1.")
        if not yes and not seeding.is_empty():
            raise CommandError(
                "This storage folder already has rows. Set HUB_STORAGE to an empty folder, or add "
                "--yes to add made-up rows to it."
            )
        paths.make_folders()
        seeding.seed(scale, seed, self.stdout.write)
        self.stdout.write(self.style.SUCCESS("Seeded."))
