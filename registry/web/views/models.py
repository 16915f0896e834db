"""Pages of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import FloatField
from django.db.models.expressions import OrderBy
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry.catalog import card, overview
from registry.catalog.registration import EDITABLE, register_model, update_model
from registry.errors import HubError
from registry.maintenance import archive, gc, removal
from registry.models import Alias, BaseModel, Model, ModelVersion
from registry.promotion import rules
from registry.promotion.aliases import previous_versions
from registry.promotion.resolve import PRODUCTION
from registry.versions import comparison
from registry.versions.gain import gain
from registry.versions.measures import measure
from registry.web.forms import ModelForm, MoveAliasForm, RegisterModelForm, RuleForm
from registry.web.htmx import HtmxRequest, form_page, is_part, refuse
from registry.web.lists import Action, Column, Filter, Listing, Order, Shown, act
from registry.web.paging import RowPages
from registry.web.views.versions import promoted

MOVES_PER_PAGE = 25
MOVES_SHOWN = 5
DETAIL = "registry/models/detail.html"
MEASURED = 25  # newest versions whose figures the forms propose
SORTED_BY_FIGURES = 1_000  # versions; no index has their figures


def _not_archived(found: Model) -> str:
    return "" if found.archived_at else "It is not archived."


def _archived(found: Model) -> str:
    return "It is archived already." if found.archived_at else ""


MODELS = Listing[Model](
    noun="model",
    columns=(
        Column("name", "Name", kind="wrap", order=Order(overview.SORTS["name"])),
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
        Column(
            "created_at",
            "Registered",
            "ago",
            kind="fit",
            sort="new",
            order=Order(overview.SORTS["new"]),
            room=True,
        ),
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


@require_http_methods(["GET", "POST"])
def model_new(request: HttpRequest) -> HttpResponse:
    task = request.GET.get("task_type", Model.TaskType.CHAT)
    initial = {"task_type": task, "base": request.GET.get("base")}
    form = RegisterModelForm(request.POST or None, initial=initial)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                created = register_model(**form.cleaned_data)
            except HubError as error:
                status = refuse(form, error)
            else:
                messages.success(request, f"{created.name} is registered. Train it next.")
                return redirect(created)
    context = {"form": form, "bases": BaseModel.objects.filter(pooling="").exists()}
    return form_page(request, "registry/models/new.html", context, status)


@require_http_methods(["GET", "POST"])
def model_edit(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Model, pk=pk)
    initial = {field: getattr(found, field) for field in EDITABLE}
    form = ModelForm(request.POST or None, initial={**initial, "tags": ", ".join(found.tags)})
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                update_model(found, **form.cleaned_data)
            except HubError as error:
                status = refuse(form, error)
            else:
                messages.success(request, f"{found.name} is updated.")
                return redirect(found)
    context = {"form": form, "model": found}
    return form_page(request, "registry/models/edit.html", context, status)


@require_GET
def model_card(request: HttpRequest, pk: int) -> HttpResponse:
    """The card as a file, README.md."""
    found = get_object_or_404(Model.objects.select_related("base_model"), pk=pk)
    text = card.write_card(found, _origin(request))
    return HttpResponse(
        text,
        content_type="text/markdown; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="README.md"'},
    )


TABS = {
    "": "Versions",
    "use": "Use from code",
    "promotion": "Promotion",
    "card": "Model card",
    "runs": "Runs in MLflow",
    "storage": "Storage",
}
"""By the end of their addresses; `use` is of `inference`."""
_PARTS = {"use": "call", "promotion": "rules", "card": "card", "runs": "runs", "storage": "storage"}
"""What stood on one page once, by the ids that links name."""


@require_GET
def model(request: HtmxRequest, pk: int) -> HttpResponse:
    found = _find(pk)
    asked = {name: request.GET.get(name) for name in ("name", "reason") if name in request.GET}
    chosen = request.GET.get("version") or request.GET.get("promote")
    form = MoveAliasForm(found, initial={**asked, "version": chosen})
    opened = bool(asked or chosen)
    if is_part(request) and request.htmx.target not in ("rows", "drawer"):  # the form alone
        context = {"model": found, "form": form, "opened": True}
        context |= _promote_context(request, found, form)
        return render(request, "registry/models/_promote.html", context)
    if is_part(request):
        versions, context = _versions(request, found)
        return versions.render(DETAIL, context)
    context = {**model_context(request, found, form), "opened": opened}
    return render(request, DETAIL, context)


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
            Column("status", "Status", phone="end"),
            Column("val_loss", "Validation loss", kind="n", order=by("val_loss")),
            Column(
                "headline",
                measure(headline).label,
                kind="n",
                phone="line",
                order=by(headline),
            ),
            Column("dataset", "Data set", kind="wrap", phone="line", room=True),
            Column("size_bytes", "Size", "size", kind="n", shown=False),
            Column(
                "created_at",
                "Created",
                "ago",
                kind="fit",
                phone="line",
                sort="created",
                order=Order(("-created_at", "-pk")),
            ),
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


def _versions(request: HtmxRequest, found: Model) -> tuple[Shown[ModelVersion], dict[str, Any]]:
    """The list of its versions, and what its cells need."""
    rows = overview.listed_versions_of(found)
    few = not found.versions.order_by()[SORTED_BY_FIGURES : SORTED_BY_FIGURES + 1].exists()
    newest = found.versions.newest_first().only("model", "metrics")[:MEASURED]
    headline = overview.headline(found, list(newest))
    listing = versions_of(headline, few)
    shown = listing.asked(request, found.get_absolute_url(), [found.pk])
    if status := shown.query["status"]:
        rows = rows.filter(status=status)
    production = Alias.objects.filter(model=found, name=PRODUCTION)
    return shown.show(rows), {
        "model": found,
        "headline": headline,
        "in_production": production.values_list("version_id", flat=True).first(),
    }


@require_POST
def versions_selected(request: HtmxRequest, pk: int, action: str) -> HttpResponse:
    """Do something with the versions of a model that are selected."""
    found = _find(pk)
    rows = found.versions.newest_first().reverse().select_related("model")
    return act(request, versions_of(), action, rows, found.get_absolute_url())


def _find(pk: int) -> Model:
    return get_object_or_404(Model.objects.select_related("base_model"), pk=pk)


def model_page(found: Model, tab: str = "") -> dict[str, Any]:
    """What every page of a model has: head, actions and tabs."""
    at = found.get_absolute_url()
    return {
        "model": found,
        "aliases": list(found.aliases.select_related("version__dataset")),
        "ready": found.versions.ready().exists,  # asked only by pages that do not know it already
        "tabs": [
            (title, f"{at}{name and f'{name}/'}", name == tab, _PARTS.get(name))
            for name, title in TABS.items()
        ],
    }


def model_context(request: HtmxRequest, found: Model, form: MoveAliasForm) -> dict[str, Any]:
    every = overview.versions_of(found)
    versions, needed = _versions(request, found)
    asked = request.GET.getlist("compare")[: comparison.MOST]
    chosen = list(every.filter(version__in=asked).reverse()) if asked else []
    context = {**model_page(found), **_promote_context(request, found, form)}
    return {
        **context,
        **versions.context(DETAIL, needed),
        **_answer(found, context["aliases"]),
        "moves": overview.moves_of(found, MOVES_SHOWN),
        "jobs": found.jobs.select_related("dataset")[:5],
        "form": form,
        "opened": form.is_bound,
        "compared": chosen if len(chosen) > 1 else [],
        "compared_metrics": comparison.compare_metrics(chosen),
        "compared_params": comparison.compare_params(chosen),
        "rollbacks": previous_versions(found),
    }


def _answer(found: Model, aliases: list[Alias]) -> dict[str, Any]:
    """Which version answers for the model's bare name and what it gained; and the newest, where that
    is another one."""
    production = next((alias.version for alias in aliases if alias.name == PRODUCTION), None)
    ready = found.versions.ready().newest_first().select_related("dataset")
    ready = ready.defer("git_diff", "packages", "hardware", "notes")
    newest = ready.first()
    answering = production or newest
    for version in (production, newest):
        if version is not None:
            version.model = found
    return {
        "production": production,
        "answering": answering,
        "gain": gain(answering, production) if answering else None,
        "newest": newest if production and newest and newest.pk != production.pk else None,
        "newest_gain": gain(newest, production) if newest else None,
    }


@require_GET
def model_promotion(request: HttpRequest, pk: int) -> HttpResponse:
    """Rules, aliases and every move of them."""
    context = promotion_context(request, _find(pk))
    return render(request, "registry/models/promotion.html", context)


def promotion_context(
    request: HttpRequest, found: Model, rule_form: RuleForm | None = None
) -> dict[str, Any]:
    kept = list(found.promotion_rules.all())
    measured = overview.listed_versions_of(found)[:MEASURED]
    moves = overview.all_moves_of(found)
    return {
        **model_page(found, "promotion"),
        "rules": kept,
        "rule_form": rule_form or RuleForm(),
        "known_metrics": comparison.by_weight(
            {*found.task.metrics}.union(*(v.metrics for v in measured))
        ),
        "proposed_rules": rules.proposed(found, kept),
        "rollbacks": previous_versions(found),
        "page": RowPages(moves, MOVES_PER_PAGE).get_page(request.GET.get("page")),
    }


@require_GET
def model_about(request: HttpRequest, pk: int) -> HttpResponse:
    """The card as a page."""
    found = _find(pk)
    body = card.render(card.write_body(found, _origin(request)))
    shown = mark_safe(body)  # noqa: S308  # nosec B308, B703  # `render` lets nothing through that runs
    return render(
        request, "registry/models/card.html", {**model_page(found, "card"), "card": shown}
    )


@require_GET
def model_storage(request: HttpRequest, pk: int) -> HttpResponse:
    """What it takes on disk; archive and delete it."""
    found = _find(pk)
    context = {**model_page(found, "storage"), "disk": gc.disk_use(found)[0]}
    return render(request, "registry/models/storage.html", context)


def _promote_context(request: HttpRequest, found: Model, form: MoveAliasForm) -> dict[str, Any]:
    """The choices, and what the rules say of the one that is chosen."""
    aliases = list(found.aliases.select_related("version"))
    ready = found.versions.ready().newest_first().select_related("model")
    pointing = {alias.name: alias.version for alias in aliases}
    name = str(form["name"].value() or "")
    number = form["version"].value()
    version = (ready.filter(version=number).first() if number else None) or ready.first()
    current = pointing.get(name)
    moves = version is not None and (current is None or version.pk != current.pk)
    verdicts = rules.judge(found, name, version, current) if version and moves else []
    return {
        "ready": version is not None,
        "same": promoted(request, version, form) if version else None,
        "chosen": version,
        "already": version if version and not moves else None,
        "verdicts": verdicts,
        "refused": bool(rules.refusals(verdicts)),
    }


def _origin(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")
