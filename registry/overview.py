"""What the pages ask of the registry: lists with their figures, and two versions compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import CharField, Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Cast, Coalesce, Lower

from registry.models import Alias, AliasMove, Model, ModelVersion

SORTS = {"new": ("-created_at", "-pk"), "name": (Lower("name"),)}
_FIRST = ("exact_match", "val_loss", "test_loss", "perplexity", "base_perplexity", "train_loss")
_HIGHER_IS_BETTER = ("exact_match", "accuracy", "tokens_per_second", "f1")


def find_models(q: str = "", task: str = "", base: str = "", sort: str = "new") -> QuerySet[Model]:
    """Models whose name, description or tags contain `q`, each with `version_count`, `newest`
    (version text or None) and its aliases."""
    found = Model.objects.select_related("base_model").prefetch_related(
        Prefetch("aliases", Alias.objects.select_related("version"))
    )
    if q:
        found = found.annotate(tag_text=Cast("tags", CharField())).filter(
            Q(name__icontains=q) | Q(description__icontains=q) | Q(tag_text__icontains=q)
        )
    if task:
        found = found.filter(task_type=task)
    if base:
        found = found.filter(base_model__name=base)
    own = ModelVersion.objects.filter(model=OuterRef("pk"))
    counted = own.order_by().values("model").annotate(n=Count("pk")).values("n")
    return found.annotate(
        version_count=Coalesce(Subquery(counted), 0),
        newest=Subquery(own.ready().newest_first().values("version")[:1]),
    ).order_by(*SORTS.get(sort, SORTS["new"]))


def versions_of(model: Model) -> list[ModelVersion]:
    """All versions, highest first, with their aliases, data set and parent."""
    return list(
        ModelVersion.objects.filter(model=model)
        .newest_first()
        .select_related("dataset", "parent", "model", "job")
        .prefetch_related("aliases")
    )


def moves_of(model: Model, limit: int = 20) -> QuerySet[AliasMove]:
    """The last moves of any of the model's aliases, newest first."""
    return model.alias_moves.select_related("from_version", "to_version")[:limit]


@dataclass(frozen=True)
class ComparedRow:
    """One metric or parameter of several versions; `best` is the index of the best value."""

    name: str
    values: tuple[Any, ...]
    best: int | None = None


def compare_metrics(versions: Sequence[ModelVersion]) -> list[ComparedRow]:
    """Every metric that any of the versions has."""
    names = _by_weight({name for version in versions for name in version.metrics})
    rows = []
    for name in names:
        values = tuple(version.metrics.get(name) for version in versions)
        rows.append(ComparedRow(name, values, _best(name, values)))
    return rows


def compare_params(versions: Sequence[ModelVersion]) -> list[ComparedRow]:
    """The parameters, seed and data set in which the versions differ."""
    flat = [
        {
            **_flatten(version.params),
            "seed": version.seed,
            "data set": version.dataset.name if version.dataset else None,
        }
        for version in versions
    ]
    names = sorted({name for params in flat for name in params})
    rows = [ComparedRow(name, tuple(params.get(name) for params in flat)) for name in names]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def _best(name: str, values: tuple[Any, ...]) -> int | None:
    known = [(value, index) for index, value in enumerate(values) if isinstance(value, int | float)]
    if len(known) < 2 or len({value for value, _ in known}) == 1 or name.startswith("base_"):
        return None
    pick = max if any(word in name for word in _HIGHER_IS_BETTER) else min
    return pick(known)[1]


def _flatten(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"lora": {"rank": 8}}` → `{"lora.rank": 8}`."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def flat_params(version: ModelVersion) -> dict[str, Any]:
    """The version's parameters with dotted names, by name: PostgreSQL keeps no order of keys."""
    return dict(sorted(_flatten(version.params).items()))


def ordered_metrics(version: ModelVersion) -> dict[str, Any]:
    """The version's metrics, what decides about it first."""
    return {name: version.metrics[name] for name in _by_weight(version.metrics)}


def _by_weight(names: Iterable[str]) -> list[str]:
    first = {name: place for place, name in enumerate(_FIRST)}
    return sorted(names, key=lambda name: (first.get(name, len(first)), name))
