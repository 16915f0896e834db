"""The registry over JSON: one router for base models, models, versions, aliases and data sets."""

from __future__ import annotations

from ninja import Router

from registry.web.api import (
    aliases,
    bases,
    bundles,
    compare,
    datasets,
    lineage,
    models,
    rows,
    storage,
    versions,
)

router = Router()
for part in (models, versions, storage, aliases, compare, lineage, bundles, datasets, rows, bases):
    router.add_router("", part.router)
