"""The models that the playground's search offers."""

from __future__ import annotations

from registry.models import BaseModel, ModelVersion
from registry.promotion.resolve import Name, served_names

MODELS_SEARCHED = 50
OFFERED = 120  # names of one answer


def offered(q: str) -> list[Name]:
    """Names with `q` in them, of at most MODELS_SEARCHED models and then the base models. A version or
    an alias follows an `@`: `calendar@0.2`."""
    model, at, selector = q.strip().partition("@")
    names = served_names(model.removeprefix("base:"), MODELS_SEARCHED)
    writing = (name for name in names if not name.pooling)
    found = [name for name in writing if q.strip().lower() in name.label.lower()]
    if at and not found:
        found = _numbered(model, selector)
    return found[:OFFERED]


def _numbered(model: str, selector: str) -> list[Name]:
    """The versions of one model; `served_names` leaves them out where there are very many."""
    versions = ModelVersion.objects.ready().filter(
        moving_to="",
        model__name__iexact=model,
        model__archived_at=None,
        version__startswith=selector,
    )
    columns = ("model__name", "version", "created_at", "base_model__context_length")
    rows = versions.newest_first().values_list(*columns)[:OFFERED]
    return [Name(f"{name}@{number}", name, number, *shown) for name, number, *shown in rows]


def newest() -> str:
    """The name of the newest version, else of a base model; empty when there is neither."""
    if (version := ModelVersion.objects.last_served()) is not None:
        return str(version)
    base = BaseModel.objects.filter(pooling="").order_by("pk").first()
    return f"base:{base.name}" if base else ""


def grouped(names: list[Name]) -> dict[str, list[Name]]:
    """Names under a heading each: one per model, and one for the base models."""
    groups: dict[str, list[Name]] = {}
    for name in names:
        groups.setdefault(name.model or "Base models", []).append(name)
    return groups
