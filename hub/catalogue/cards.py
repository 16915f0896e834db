"""Offers as pages, the API and the command show them: with what each could do here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hub.catalogue.prospects import Here, prospects
from registry.bases.offers import Offer
from registry.models import BaseImport, BaseModel
from registry.models.work import PAUSED


@dataclass(frozen=True)
class Card:
    """An offer, with the base model or the import that was made of it already."""

    offer: Offer
    here: Here | None
    base: BaseModel | None = None
    task: BaseImport | None = None

    @property
    def sentence(self) -> str:
        """What it can do here, or why it cannot be used."""
        return self.here.sentence if self.here else self.offer.why

    @property
    def tone(self) -> str:
        if self.here is None:
            return "" if self.offer.reading else "bad"
        return self.here.tone

    @property
    def can_import(self) -> bool:
        return self.here is not None and self.base is None and self.task is None


def cards(offers: Iterable[Offer]) -> list[Card]:
    """In the order of the offers."""
    offers = list(offers)
    origins = [offer.origin for offer in offers]
    known = {base.origin.lower(): base for base in BaseModel.objects.filter(origin__in=origins)}
    states = (BaseImport.Status.RUNNING, PAUSED)
    rows = BaseImport.objects.filter(origin__in=origins, status__in=states)
    tasks = {row.origin.lower(): row for row in rows}
    return [
        Card(
            offer,
            prospects(offer.prospect) if offer.prospect else None,
            known.get(offer.origin.lower()),
            tasks.get(offer.origin.lower()),
        )
        for offer in offers
    ]
