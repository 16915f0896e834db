"""Offers as pages, the API and the command show them: with what each could do here."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from hub.catalogue.prospects import Here, prospects
from registry.bases.downloads import SPARE
from registry.bases.offers import Offer
from registry.models import BaseImport, BaseModel
from registry.models.work import PAUSED
from registry.storage import paths


@dataclass(frozen=True)
class Card:
    """An offer, with the base model or the import that was made of it already. `lacking` are bytes that
    the disk of the storage folder has too few for it."""

    offer: Offer
    here: Here | None
    base: BaseModel | None = None
    task: BaseImport | None = None
    lacking: int = 0

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
        return self.here is not None and not (self.base or self.task or self.lacking)


def cards(offers: Iterable[Offer]) -> list[Card]:
    """In the order of the offers."""
    offers = list(offers)
    origins = [offer.origin for offer in offers]
    known = {base.origin.lower(): base for base in BaseModel.objects.filter(origin__in=origins)}
    states = (BaseImport.Status.RUNNING, PAUSED)
    rows = BaseImport.objects.filter(origin__in=origins, status__in=states)
    tasks = {row.origin.lower(): row for row in rows}
    room = shutil.disk_usage(paths.root()).free - SPARE
    return [
        Card(
            offer,
            prospects(offer.prospect) if offer.prospect else None,
            known.get(offer.origin.lower()),
            tasks.get(offer.origin.lower()),
            max(0, offer.size_bytes - room),
        )
        for offer in offers
    ]
