"""How many rows to write, and what later rows refer to."""

from __future__ import annotations

import datetime
import hashlib
import random
from dataclasses import dataclass, field

from registry.models import (
    Dataset,
)


@dataclass(frozen=True)
class Scale:
    """Rows of each kind. One model has a fifth of all versions; the others share the rest."""

    models: int = 1_000
    versions: int = 100_000
    metrics: int = 1_000_000
    datasets: int = 2_000
    requests: int = 100_000
    bases: int = 12


@dataclass
class Seeding:
    """One run: its random numbers, and the IDs and shared files that later rows refer to."""

    scale: Scale
    noise: random.Random
    start: datetime.datetime
    dataset: Dataset
    base_pks: list[int] = field(default_factory=list)
    dataset_pks: list[int] = field(default_factory=list)
    ready: list[tuple[int, int, str]] = field(default_factory=list)  # (model, version, number)
    job_pks: list[int] = field(default_factory=list)

    def moment(self, share: float) -> datetime.datetime:
        """A time in the two years before now; 1 is now."""
        return self.start + datetime.timedelta(days=730 * share)


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
