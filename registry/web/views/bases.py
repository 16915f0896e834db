"""Pages of base models, of their imports, and of the exports of versions."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry.background import work
from registry.bases.registration import register_starter
from registry.conversion import exports, imports
from registry.errors import HubError
from registry.models import BaseImport, BaseModel, ModelVersion
from registry.models.work import WorkQuerySet
from registry.web.forms import FuseForm, QuantizeForm
from registry.web.htmx import HtmxRequest, form_page, partial, refuse
from registry.web.lists import Column, Filter, Listing, Order
from registry.web.lists.columns import NAME, SIZE, created

_IMPORTS_SHOWN = 10
_DONE_SHOWN = datetime.timedelta(days=1)
_VERSIONS_SHOWN = 10


BASES = Listing[BaseModel](
    noun="base model",
    columns=(
        NAME,
        Column("source", "From", room=True),
        Column("architecture", "Architecture", "known", phone="line", room=True),
        Column("quantization", "Weights", "known", phone="line"),
        Column("parameters", "Parameters", "count", kind="n", order=Order(("-parameters", "-pk"))),
        Column("context_length", "Context", "count", kind="n", room=True),
        # A small table.
        replace(SIZE, phone="end", sort="size", order=Order(("-size_bytes", "-pk"))),
        Column("licence", "Licence", "known", kind="wrap", shown=False),
        created("Added"),
    ),
    sort="name",
    filters=(
        Filter("q", "Search", "search", "Search names"),
        Filter("source", "From", hint="All sources", options=BaseModel.Source.choices),
    ),
    summary=True,
    menu=True,
)


@require_GET
def bases(request: HtmxRequest) -> HttpResponse:
    shown = BASES.asked(request)
    found = BaseModel.objects.filter(name__icontains=shown.query["q"])
    if source := shown.query["source"]:
        found = found.filter(source=source)
    long_ago = timezone.now() - _DONE_SHOWN
    rows = BaseImport.objects.exclude(status=BaseImport.Status.COMPLETED, heartbeat_at__lt=long_ago)
    context = _imports(rows)
    if request.htmx.target == "work":
        return render(request, "registry/bases/list.html#work", context)
    context["live"] = context["running"]
    return shown.show(found).render("registry/bases/list.html", context)


@require_GET
def base(request: HtmxRequest, pk: int) -> HttpResponse:
    context = _base_context(pk, QuantizeForm())
    return render(request, partial(request, "registry/bases/detail.html", "conversions"), context)


@require_POST
def base_quantize(request: HtmxRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(BaseModel, pk=pk)
    form = QuantizeForm(request.POST)
    status = 422
    if form.is_valid():
        try:
            row = work.launch(imports.start_quantize(found, **form.cleaned_data))
        except HubError as error:
            status = refuse(form, error)
        else:
            messages.success(request, f"{row.name} is being created.")
            return redirect("base", pk)
    return form_page(request, "registry/bases/detail.html", _base_context(pk, form), status)


def _base_context(pk: int, form: QuantizeForm) -> dict[str, Any]:
    related = BaseModel.objects.select_related("derived_from", "fused_version__model")
    found = get_object_or_404(related, pk=pk)
    return {
        "base": found,
        "models": found.models.all()[:50],
        "versions": _trained_on(found),
        "derived": found.derived.all(),
        "form": form,
        **_imports(found.conversions.all()),
    }


def _trained_on(base: BaseModel) -> QuerySet[ModelVersion]:
    """The newest versions that were trained on it."""
    versions = ModelVersion.objects.filter(base_model=base).ready()
    return versions.select_related("model").order_by("-pk")[:_VERSIONS_SHOWN]


def _imports(rows: WorkQuerySet[BaseImport]) -> dict[str, Any]:
    """The newest of `rows`, and whether the page should ask again."""
    shown = list(rows.up_to_date().select_related("base_model")[:_IMPORTS_SHOWN])
    return {
        "imports": shown,
        "running": any(row.is_running for row in shown),
    }


@require_POST
def import_retry(request: HttpRequest, pk: int) -> HttpResponse:
    try:
        imports.retry(get_object_or_404(BaseImport, pk=pk))
    except HubError as error:
        messages.error(request, str(error))
    return redirect("bases")


@require_POST
def import_pause(request: HttpRequest, pk: int) -> HttpResponse:
    try:
        imports.pause(get_object_or_404(BaseImport, pk=pk))
    except HubError as error:
        messages.error(request, str(error))
    return redirect("bases")


@require_POST
def starter_base(request: HttpRequest) -> HttpResponse:
    try:
        base = register_starter()
    except HubError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{base.name} is imported.")
    return redirect("bases" if request.POST.get("next") == "bases" else "model_new")


@require_http_methods(["GET", "POST"])
def version_exports(request: HtmxRequest, pk: int, version: str) -> HttpResponse:
    found = _version(pk, version)
    if request.method == "POST":
        try:
            exports.request(found, request.POST.get("form", ""))
        except HubError as error:
            messages.error(request, str(error))
        return redirect("version_exports", pk, version)
    context = _exports_context(found, FuseForm())
    return render(request, partial(request, "registry/versions/exports.html", "work"), context)


@require_POST
def version_fuse(request: HtmxRequest, pk: int, version: str) -> HttpResponse:
    found = _version(pk, version)
    form = FuseForm(request.POST)
    status = 422
    if form.is_valid():
        try:
            row = work.launch(imports.start_fuse(found, **form.cleaned_data))
        except HubError as error:
            status = refuse(form, error)
        else:
            messages.success(request, f"{row.name} is being created.")
            return redirect("version_exports", pk, version)
    context = _exports_context(found, form)
    return form_page(request, "registry/versions/exports.html", context, status)


def _exports_context(version: ModelVersion, form: FuseForm) -> dict[str, Any]:
    made = {export.form: export for export in exports.exports_of(version)}
    fusing = _imports(version.conversions.all())
    exporting = any(export.status == "running" for export in made.values())
    return {
        "version": version,
        "forms": [(name, text, made.get(name)) for name, text in _FORMS.items()],
        "form": form,
        **fusing,
        "running": fusing["running"] or exporting,
    }


_FORMS = {
    "adapter": "The adapter alone, for mlx-lm with the same base model.",
    "fused": "The whole model as safetensors, adapter included.",
    "gguf": "One file for llama.cpp, 16 bits a weight.",
}


@require_GET
def export_file(request: HttpRequest, pk: int, version: str, form: str) -> HttpResponse:
    try:
        file = exports.open_file(_version(pk, version), form)
    except HubError as error:
        messages.error(request, str(error))
        return redirect("version_exports", pk, version)
    return FileResponse(file, as_attachment=True)  # type: ignore[return-value]


def _version(pk: int, version: str) -> ModelVersion:
    versions = ModelVersion.objects.select_related("model", "base_model", "dataset")
    return get_object_or_404(versions, model_id=pk, version=version)
