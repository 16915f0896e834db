"""Pages of models and of their aliases."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry import comparison, overview
from registry.aliases import move_alias
from registry.errors import HubError
from registry.forms import MoveAliasForm, RegisterModelForm
from registry.htmx import HtmxRequest, form_page, partial, refuse
from registry.models import BaseModel, Model, ModelVersion
from registry.registration import register_model

PER_PAGE = 25


@require_GET
def models(request: HtmxRequest) -> HttpResponse:
    query = {name: request.GET.get(name, "").strip() for name in ("q", "task", "base", "sort")}
    page = Paginator(overview.find_models(**query), PER_PAGE).get_page(request.GET.get("page"))
    template = partial(request, "registry/models.html", "rows")
    context = {
        "page": page,
        "query": query,
        "filtered": any(query[name] for name in ("q", "task", "base")),
        "tasks": Model.TaskType.choices,
        "bases": BaseModel.objects.values_list("name", flat=True),
    }
    return render(request, template, context)


@require_http_methods(["GET", "POST"])
def model_new(request: HttpRequest) -> HttpResponse:
    form = RegisterModelForm(request.POST or None)
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
    context = {"form": form, "bases": BaseModel.objects.exists()}
    return form_page(request, "registry/model_new.html", context, status)


@require_GET
def model(request: HtmxRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Model.objects.select_related("base_model"), pk=pk)
    form = MoveAliasForm(found, initial={"version": request.GET.get("promote")})
    template = partial(request, "registry/model.html", "promote")
    return render(request, template, _model_context(request, found, form))


def _model_context(request: HttpRequest, found: Model, form: MoveAliasForm) -> dict[str, Any]:
    versions = overview.versions_of(found)
    chosen = [v for v in reversed(versions) if v.version in request.GET.getlist("compare")]
    return {
        "model": found,
        "versions": versions,
        "scored": any("exact_match" in v.metrics for v in versions),
        "ready": [v for v in versions if v.status == ModelVersion.Status.READY],
        "aliases": found.aliases.select_related("version"),
        "moves": overview.moves_of(found),
        "jobs": found.jobs.select_related("dataset")[:5],
        "form": form,
        "promote": request.GET.get("promote"),
        "compared": chosen if len(chosen) > 1 else [],
        "compared_metrics": comparison.compare_metrics(chosen),
        "compared_params": comparison.compare_params(chosen),
        "origin": request.build_absolute_uri("/").rstrip("/"),
    }


@require_POST
def alias_move(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Model.objects.select_related("base_model"), pk=pk)
    form = MoveAliasForm(found, request.POST)
    status = 422
    if form.is_valid():
        name, target = form.cleaned_data["name"], form.cleaned_data["version"]
        by = request.user.get_username() if request.user.is_authenticated else ""
        try:
            move_alias(found, name, target, by=by, reason=form.cleaned_data["reason"])
        except HubError as error:
            status = refuse(form, error)
        else:
            messages.success(request, f"{found.name}@{name} is now version {target.version}.")
            return redirect(found)
    return form_page(request, "registry/model.html", _model_context(request, found, form), status)
