"""`manage.py promotion_rules NAME`: what a version must show before an alias points at it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from registry.catalog.registration import find_model
from registry.management.hub_command import HubCommand
from registry.models import Model
from registry.promotion.rules import add_rule, delete_rule


class Command(HubCommand):
    help = "List a model's promotion rules, add one or delete one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--alias", default="production")
        change = parser.add_mutually_exclusive_group()
        change.add_argument("--at-least", nargs=2, metavar=("METRIC", "VALUE"))
        change.add_argument(
            "--at-most",
            nargs=2,
            metavar=("METRIC", "VALUE"),
            help="VALUE may be `current`: the figure of the alias's current version",
        )
        change.add_argument("--delete", type=int, metavar="NUMBER", help="as the list shows it")

    def handle(self, *args: Any, name: str, alias: str, **options: Any) -> None:
        model = find_model(name)
        for comparison, asked in ((">=", options["at_least"]), ("<=", options["at_most"])):
            if asked:
                add_rule(model, asked[0], comparison, _bound(asked[1]), alias)
        if options["delete"] is not None:
            _delete(model, options["delete"])
        for rule in model.promotion_rules.all():
            self.stdout.write(f"{rule.pk}: {rule.alias} needs {rule}")
        if not model.promotion_rules.exists():
            self.stdout.write(f"{model} has no rule: any ready version may take any alias.")


def _bound(text: str) -> float | None:
    if text == "current":
        return None
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a number; give one, or `current`.") from None


def _delete(model: Model, number: int) -> None:
    rule = model.promotion_rules.filter(pk=number).first()
    if rule is None:
        raise CommandError(f"{model} has no promotion rule {number}.")
    delete_rule(rule)
