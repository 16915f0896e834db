"""`manage.py bases`: what could become a base model, and the imports of those that do."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from hub.catalogue.cards import Card, cards
from registry.bases import local, searching
from registry.bases.speed import received
from registry.conversion import imports
from registry.management.hub_command import HubCommand, find_row
from registry.models import BaseImport
from registry.storage.sizes import human


class Command(HubCommand):
    help = (
        "Find base models on a model hub and on this machine, and pause or resume their downloads; "
        "`import_base` imports one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        search = verbs.add_parser("search", help="search a model hub, mlx-community's models first")
        search.add_argument("words", nargs="+")
        verbs.add_parser("here", help="list what other programs keep on this machine")
        verbs.add_parser("imports", help="list imports, the newest first")
        verbs.add_parser("pause", help="pause a download").add_argument("id", type=int)
        verbs.add_parser("resume", help="continue a paused or failed import").add_argument(
            "id", type=int
        )

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _search(self, options: dict[str, Any]) -> None:
        found = searching.search(" ".join(options["words"]), deadline_s=30.0)
        for card in cards(found.offers):
            self._print(card)
        if found.note:
            self.stderr.write(found.note)

    def _here(self, options: dict[str, Any]) -> None:
        offers = local.scan(deadline_s=120.0)
        for card in cards(offers):
            self._print(card)
        if not offers:
            self.stderr.write("No other program keeps models in the places that are known.")

    def _imports(self, options: dict[str, Any]) -> None:
        for row in BaseImport.objects.up_to_date()[:25]:
            said = ", ".join(filter(None, (row.status, received(row))))
            self.stdout.write(f"{row.pk}: {row.name} from {row.origin}, {said}")

    def _pause(self, options: dict[str, Any]) -> None:
        row = imports.pause(find_row(BaseImport, options["id"]))
        self.stdout.write(f"{row} is paused.")

    def _resume(self, options: dict[str, Any]) -> None:
        row = imports.retry(find_row(BaseImport, options["id"]))
        self.stdout.write(f"{row} continues in the background.")

    def _print(self, card: Card) -> None:
        offer, model = card.offer, card.offer.prospect
        parts = [
            human(offer.size_bytes) if offer.size_bytes else "size unknown",
            model.quantization if model else "",
            f"{model.context_length:,} tokens" if model else "",
            offer.licence,
            "gated" if offer.gated else "",
        ]
        name = offer.title if offer.path is None else f"{offer.title} ({offer.path})"
        self.stdout.write(f"{name}\n  {', '.join(filter(None, parts))}\n  {card.sentence}")
