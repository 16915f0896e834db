"""Pages of models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_GET, require_http_methods

from registry.catalog import card, overview
from registry.catalog.registration import EDITABLE, register_model, update_model
from registry.errors import HubError
from registry.maintenance import gc
from registry.models import Alias, BaseModel, Model
from registry.promotion import rules
from registry.promotion.aliases import previous_versions
from registry.promotion.resolve import PRODUCTION
from registry.versions import comparison
from registry.versions.gain import gain
from registry.web.forms import ModelForm, MoveAliasForm, RegisterModelForm, RuleForm
from registry.web.htmx import HtmxRequest, form_page, is_part, refuse
from registry.web.paging import RowPages
from registry.web.views.model_lists import MEASURED, versions_listed
from registry.web.views.versions import promoted

MOVES_PER_PAGE = 25
MOVES_SHOWN = 5
DETAIL = "registry/models/detail.html"


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
        aliases = found.aliases.select_related("version")
        context |= _promote_context(request, found, form, aliases)
        return render(request, "registry/models/_promote.html", context)
    if is_part(request):
        versions, context = versions_listed(request, found)
        return versions.render(DETAIL, context)
    context = {**model_context(request, found, form), "opened": opened}
    return render(request, DETAIL, context)


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
    versions, needed = versions_listed(request, found)
    asked = request.GET.getlist("compare")[: comparison.MOST]
    chosen = list(every.filter(version__in=asked).reverse()) if asked else []
    context = model_page(found)
    context |= _promote_context(request, found, form, context["aliases"])
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


def _promote_context(
    request: HttpRequest, found: Model, form: MoveAliasForm, aliases: Iterable[Alias]
) -> dict[str, Any]:
    """The choices, and what the rules say of the one that is chosen."""
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
