"""The list of models, and that of a model's versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.db.models import FloatField
from django.db.models.expressions import OrderBy
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from registry.catalog import overview
from registry.maintenance import archive, removal
from registry.models import BaseModel, Model, ModelVersion
from registry.promotion.resolve import PRODUCTION
from registry.versions import comparison
from registry.versions.measures import measure
from registry.web.htmx import HtmxRequest
from registry.web.lists import Action, Column, Filter, Listing, Order, Shown, act
from registry.web.lists.columns import DATASET, NAME, SIZE, STATUS, created

MEASURED = 25  # newest versions whose figures decide which one is listed
SORTED_BY_FIGURES = 1_000  # versions; no index has their figures


def _not_archived(found: Model) -> str:
    return "" if found.archived_at else "It is not archived."


def _archived(found: Model) -> str:
    return "It is archived already." if found.archived_at else ""


MODELS = Listing[Model](
    noun="model",
    columns=(
        NAME,
        Column("task", "Task", phone="line", room=True),
        Column("base", "Base model", kind="wrap", phone="line", room=True),
        Column("production", "Production", phone="end"),
        Column("newest", "Newest", room=True),
        Column(
            "version_count",
            "Versions",
            "count",
            kind="n",
            sort="versions",
            order=Order(overview.SORTS["versions"]),
        ),
        Column(
            "active_at",
            "Last activity",
            kind="fit",
            phone="line",
            sort="active",
            order=Order(overview.SORTS["active"]),
        ),
        created("Registered", phone="", room=True),
    ),
    sort="new",
    filters=(
        Filter("q", "Search", "search", "Search name, description or tag"),
        Filter("tag", "Tag", "text", "Tag"),
        Filter("task", "Task", hint="All tasks", options=Model.TaskType.choices),
        Filter(
            "base",
            "Base model",
            hint="All base models",
            options=lambda: BaseModel.objects.values_list("name", "name"),
        ),
        Filter(
            "status",
            "Status",
            options=(
                ("active", "Active"),
                ("archived", "Archived"),
                ("all", "Including archived"),
            ),
            default="active",
        ),
    ),
    actions=(
        Action(
            "archive",
            "Archive",
            "archived",
            "Each is archived with its versions: nothing of it is served until it is restored.",
            do=lambda found: " ".join(removal.archive_model(found).kept_active),
            refuses=_archived,
            danger=True,
        ),
        Action(
            "restore",
            "Restore",
            "restored",
            "Each is restored with the versions that were archived with it.",
            do=lambda found: " ".join(removal.unarchive_model(found).kept_active),
            refuses=_not_archived,
        ),
    ),
    acts_at="models_selected",
    summary=True,
)


@require_GET
def models(request: HtmxRequest) -> HttpResponse:
    shown = MODELS.asked(request)
    return shown.show(overview.find_models(**shown.query)).render("registry/models/list.html")


@require_POST
def models_selected(request: HtmxRequest, action: str) -> HttpResponse:
    """Do something with the models that are selected."""
    return act(request, MODELS, action, Model.objects.all(), reverse("models"))


def _ready(version: ModelVersion) -> str:
    ready = version.status == ModelVersion.Status.READY
    return "" if ready else f"It is {version.status}; only ready versions are archived."


def _put_away(version: ModelVersion) -> str:
    away = version.status == ModelVersion.Status.ARCHIVED
    return "" if away else f"It is {version.status}; only archived versions are restored."


def _compared(versions: Sequence[ModelVersion]) -> str:
    numbers = [("compare", version.version) for version in versions[: comparison.MOST]]
    return f"{versions[0].model.get_absolute_url()}?{urlencode(numbers)}#compare"


def _by_figure(name: str) -> Order:
    """The best first."""
    value = Cast(KeyTextTransform(name, "metrics"), FloatField())
    best = OrderBy(value, descending=measure(name).higher)
    return Order((best, "-pk"), needs=f"metrics__{name}")


def versions_of(headline: str = "perplexity", few: bool = False) -> Listing[ModelVersion]:
    """The list of a model's versions, with the figure by which they are compared. They are sorted
    by figures where they are few."""
    by = _by_figure if few else lambda name: None
    return Listing[ModelVersion](
        noun="version",
        columns=(
            Column("version", "Version", order=Order(("-major", "-minor", "-patch", "pk"))),
            STATUS,
            Column("val_loss", "Validation loss", kind="n", order=by("val_loss")),
            Column(
                "headline",
                measure(headline).label,
                kind="n",
                phone="line",
                order=by(headline),
            ),
            replace(DATASET, show="", room=True),
            replace(SIZE, shown=False),
            created("Created", sort="created"),
        ),
        sort="version",
        filters=(
            Filter("status", "Status", hint="All statuses", options=ModelVersion.Status.choices),
        ),
        actions=(
            Action("compare", "Compare", go=_compared, only_many=True),
            Action(
                "archive",
                "Archive",
                "archived",
                "Each moves to the archive and is not served until it is restored.",
                do=archive.archive_version,
                refuses=_ready,
                danger=True,
            ),
            Action(
                "restore",
                "Restore",
                "restored",
                "The files of each are verified and come back from the archive.",
                do=archive.restore_version,
                refuses=_put_away,
            ),
        ),
        acts_at="versions_selected",
        summary=True,
        menu=True,
        heading=lambda version: version.version,
        key="version",
    )


def versions_listed(
    request: HtmxRequest, found: Model
) -> tuple[Shown[ModelVersion], dict[str, Any]]:
    """The list of its versions, and what its cells need."""
    rows = overview.listed_versions_of(found)
    few = not found.versions.order_by()[SORTED_BY_FIGURES : SORTED_BY_FIGURES + 1].exists()
    newest = found.versions.newest_first().only("model", "metrics")[:MEASURED]
    headline = overview.headline(found, list(newest))
    listing = versions_of(headline, few)
    shown = listing.asked(request, found.get_absolute_url(), [found.pk])
    if status := shown.query["status"]:
        rows = rows.filter(status=status)
    shown.show(rows)
    named = {row.pk: [alias.name for alias in row.aliases.all()] for row in shown.rows}
    return shown, {
        "model": found,
        "headline": headline,
        "in_production": next((pk for pk, names in named.items() if PRODUCTION in names), None),
    }


@require_POST
def versions_selected(request: HtmxRequest, pk: int, action: str) -> HttpResponse:
    """Do something with the versions of a model that are selected."""
    found = get_object_or_404(Model, pk=pk)
    rows = found.versions.newest_first().reverse().select_related("model")
    return act(request, versions_of(), action, rows, found.get_absolute_url())
