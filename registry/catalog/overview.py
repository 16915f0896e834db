"""What the pages ask of the registry: lists with their figures."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Count, F, Max, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.expressions import OrderBy
from django.db.models.functions import Coalesce, Greatest, Lower

from registry.catalog.tags import Tagged
from registry.models import Alias, AliasMove, Model, ModelVersion

SORTS: dict[str, tuple[str | OrderBy, ...]] = {
    "new": ("-created_at", "-pk"),
    "name": (Lower("name").asc(), "pk"),
    "versions": ("-version_count", "-pk"),
    "active": ("-active_at", "-pk"),
}


def find_models(
    q: str = "",
    task: str = "",
    base: str = "",
    tag: str = "",
    status: str = "active",
    sort: str = "new",
) -> QuerySet[Model]:
    """Models whose name, description or tags contain `q`, each with `version_count`, `newest`
    (version text or None), `active_at` (registered, newest version made or alias moved, whichever
    was last) and its aliases. `status` is active, archived or all; `tag` is a whole tag."""
    found = Model.objects.select_related("base_model").prefetch_related(
        Prefetch("aliases", Alias.objects.select_related("version"))
    )
    if status in ("active", "archived"):
        found = found.filter(archived_at__isnull=status == "active")
    if q:
        found = found.filter(
            Q(name__icontains=q) | Q(description__icontains=q) | Q(Tagged(q, part=True))
        )
    if tag:
        found = found.filter(Tagged(tag))
    if task:
        found = found.filter(task_type=task)
    if base:
        found = found.filter(base_model__name=base)
    return _with_figures(found).order_by(*SORTS.get(sort, SORTS["new"]))


def _with_figures(found: QuerySet[Model]) -> QuerySet[Model]:
    """Subqueries alone: a join would multiply the rows. Counting the list drops them."""
    own = ModelVersion.objects.filter(model=OuterRef("pk"))
    moves = AliasMove.objects.filter(model=OuterRef("pk"))
    counted = own.order_by().values("model").annotate(n=Count("*")).values("n")
    made = own.order_by("-created_at").values("created_at")[:1]
    moved = moves.order_by().values("model").annotate(last=Max("moved_at")).values("last")
    return found.annotate(
        version_count=Coalesce(Subquery(counted), 0),
        newest=Subquery(own.ready().newest_first().values("version")[:1]),
        active_at=Greatest(
            F("created_at"),
            Coalesce(Subquery(made), F("created_at")),
            Coalesce(Subquery(moved), F("created_at")),
        ),
    )


def versions_of(model: Model) -> QuerySet[ModelVersion]:
    """All versions, highest first, with their aliases and data set. May be thousands."""
    return (
        ModelVersion.objects.filter(model=model)
        .newest_first()
        .select_related("dataset", "model")
        .prefetch_related("aliases")
        .defer("git_diff", "packages", "hardware", "notes")
        .defer("dataset__schema", "dataset__token_stats", "dataset__changes")
    )


def listed_versions_of(model: Model) -> QuerySet[ModelVersion]:
    """`versions_of` with no more than a table of them shows, and the jobs that made them."""
    return (
        versions_of(model)
        .select_related(None)
        .select_related("dataset", "job")
        .only(
            *("model", "version", "status", "metrics", "size_bytes", "created_at"),
            *("dataset__name", "job__iteration", "job__result_version"),
        )
    )


def moves_of(model: Model, limit: int = 20) -> QuerySet[AliasMove]:
    """The last moves of any of the model's aliases, newest first."""
    last = model.alias_moves.values("pk")[:limit]  # else the versions of all moves are joined
    moves = AliasMove.objects.filter(pk__in=last).select_related("from_version", "to_version")
    return moves.only(
        *("model", "name", "by", "reason", "gate", "forced", "moved_at"),
        *("from_version__version", "to_version__version"),
    )


def all_moves_of(model: Model) -> QuerySet[AliasMove]:
    """Every move of the model's aliases, newest first, for pages of them."""
    return model.alias_moves.select_related("from_version", "to_version").order_by("-pk")


def headline(model: Model, versions: Sequence[ModelVersion]) -> str:
    """The metric by which a list compares the versions: what decides for the model's task, where
    one of them was scored, else the perplexity."""
    wanted = (*model.task.metrics, "exact_match")
    return next((m for m in wanted if any(m in v.metrics for v in versions)), "perplexity")
