"""Pages of models, versions and data sets. The rules live in the functions they call."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry import artifacts, overview, paths
from registry.bases import register_starter
from registry.datasets import SPLITS, read_examples, register_starter_dataset
from registry.errors import HubError
from registry.forms import MoveAliasForm, RegisterDatasetForm, RegisterModelForm
from registry.htmx import HtmxRequest, form_page, partial
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.registration import register_model
from registry.uploads import register_upload
from registry.versions import move_alias

PER_PAGE = 25
EXAMPLES_PER_PAGE = 10


def refuse(form: Form, error: HubError) -> int:
    """Show the error beside the form; its HTTP status."""
    form.add_error(None, str(error))
    return error.status


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


@require_POST
def starter_base(request: HttpRequest) -> HttpResponse:
    try:
        base = register_starter()
    except HubError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{base.name} is imported.")
    return redirect("model_new")


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
        "compared_metrics": overview.compare_metrics(chosen),
        "compared_params": overview.compare_params(chosen),
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


@require_GET
def version(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    versions = ModelVersion.objects.select_related(
        "model", "base_model", "dataset", "parent", "job"
    ).prefetch_related("aliases")
    found = get_object_or_404(versions, model_id=pk, version=version)
    context = {
        "version": found,
        "job": getattr(found, "job", None),
        "metrics": overview.ordered_metrics(found),
        "params": overview.flat_params(found),
        "request_count": found.requests.count(),
        **_files(found),
    }
    return render(request, "registry/version.html", context)


def _files(version: ModelVersion) -> dict[str, Any]:
    """The manifest's files, or the sentence that says why they cannot be shown."""
    if not version.artifact_path:
        return {}
    try:
        manifest = artifacts.read_manifest(paths.root() / version.artifact_path)
    except (HubError, OSError, ValueError) as error:
        return {"files_error": str(error)}
    return {"files": manifest.files}


@require_GET
def datasets(request: HtmxRequest) -> HttpResponse:
    q = request.GET.get("q", "").strip()
    found: QuerySet[Dataset] = Dataset.objects.order_by("-created_at", "-pk")
    if q:
        found = found.filter(name__icontains=q) | found.filter(description__icontains=q)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    template = partial(request, "registry/datasets.html", "rows")
    return render(request, template, {"page": page, "q": q})


@require_http_methods(["GET", "POST"])
def dataset_new(request: HttpRequest) -> HttpResponse:
    form = RegisterDatasetForm(request.POST or None, request.FILES or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                fields = form.cleaned_data
                created = register_upload(fields["name"], fields["files"], fields["description"])
            except HubError as error:
                status = refuse(form, error)
            else:
                messages.success(request, f"{created.name} is kept: {created.examples} examples.")
                return redirect(created)
    return form_page(request, "registry/dataset_new.html", {"form": form}, status)


@require_POST
def starter_dataset(request: HttpRequest) -> HttpResponse:
    try:
        created = register_starter_dataset()
    except HubError as error:
        messages.error(request, str(error))
        return redirect("dataset_new")
    return redirect(created)


@require_GET
def dataset(request: HtmxRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Dataset, pk=pk)
    splits = {name: found.splits[name] for name in SPLITS if name in found.splits}
    split = request.GET.get("split", "")
    split = split if split in splits else next(iter(splits), "")
    total = splits.get(split, 0)
    page = Paginator(range(total), EXAMPLES_PER_PAGE).get_page(request.GET.get("page"))
    first = max(0, page.start_index() - 1)
    context = {
        "dataset": found,
        "splits": splits,
        "split": split,
        "page": page,
        **_examples(found, split, first),
        "versions": found.versions.select_related("model").order_by("-created_at")[:8],
    }
    template = partial(request, "registry/dataset.html", "rows")
    return render(request, template, context)


def _examples(dataset: Dataset, split: str, first: int) -> dict[str, Any]:
    if not split:
        return {"examples": []}
    try:
        read = read_examples(dataset, split, offset=first, limit=EXAMPLES_PER_PAGE)
    except (HubError, OSError) as error:
        return {"examples": [], "examples_error": str(error)}
    return {"examples": [_as_chat(number, row) for number, row in enumerate(read, first + 1)]}


def _as_chat(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """One example as chat messages, whatever its format."""
    if "messages" in row:
        turns = row["messages"]
    elif "prompt" in row:
        turns = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row.get("completion", "")},
        ]
    else:
        turns = [{"role": "text", "content": row.get("text", "")}]
    return {"number": number, "messages": turns}
