"""The registry over JSON: one router for base models, models, versions, aliases and data sets."""

from __future__ import annotations

from ninja import Router

from registry.web.api import (
    aliases,
    audit,
    base_uploads,
    bases,
    bundles,
    compare,
    datasets,
    lineage,
    models,
    previews,
    rows,
    storage,
    versions,
)

router = Router()
for part in (
    models,
    versions,
    storage,
    aliases,
    compare,
    lineage,
    bundles,
    previews,
    datasets,
    rows,
    base_uploads,
    bases,
    audit,
):
    router.add_router("", part.router)
