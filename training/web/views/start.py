"""One page from examples to a trained model: what is in a file, and what is chosen for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry.datasets import uploads
from registry.datasets.examination import find_report, spoiled, warnings
from registry.datasets.preview import Preview, preview
from registry.datasets.revisions import newest
from registry.datasets.snapshots import check_columns, dataset_path, register_starter_dataset
from registry.datasets.tasks import AT_ONCE
from registry.errors import HubError, NotFound
from registry.models import Dataset, Model
from registry.web.forms import ChooseDataForm
from registry.web.htmx import HtmxRequest, form_page, partial, refuse
from registry.web.views.previews import chosen_columns, read_context
from registry.web.views.tasks import retry_task, task_page
from training.models import Setup
from training.queue import setup as setups
from training.web import guide

_DATASETS = 5  # offered beside a file
_BASES = 4  # shown before "more"
_LOOKS = frozenset({"way", "detect", "look"})  # buttons that only show what would be


@require_http_methods(["GET", "POST"])
def start(request: HttpRequest) -> HttpResponse:
    """Choose a file; one that was chosen before, a data set or the bundled examples do as well."""
    posted = request.method == "POST"
    form = ChooseDataForm(*((request.POST, request.FILES) if posted else ()))
    status = 200
    if posted:
        status = 422
        try:
            if "starter" in request.POST:
                return redirect("start_data", register_starter_dataset().pk)
            if form.is_valid():
                return redirect("start_file", uploads.stage(form.cleaned_data["files"]).key)
        except HubError as error:
            status = refuse(form, error)
    context = {
        "form": form,
        "waiting": uploads.waiting(),
        "datasets": newest().order_by("-created_at", "-pk")[:_DATASETS],
    }
    return form_page(request, "training/start.html", context, status)


@require_http_methods(["GET", "POST"])
def start_file(request: HtmxRequest, key: str) -> HttpResponse:
    """What a file holds, and what is chosen for it, which is kept with the file."""
    try:
        saved = uploads.staged(key)
    except NotFound as error:
        if taken := setups.earlier(key):
            return redirect(taken)
        messages.error(request, str(error))
        return redirect("start")
    sent = request.POST
    if "discard" in sent:
        uploads.discard(saved)
        messages.success(request, "The file is discarded; nothing was registered.")
        return redirect("start")
    columns: dict[str, str] = dict(saved.chosen.get("columns", {}))
    refused = []
    if request.method == "POST":
        try:
            wanted = chosen_columns(sent)
            check_columns(wanted)
            columns = wanted
        except HubError as error:
            refused = [str(error)]
    seen = _seen(key, tuple(columns.items()))
    typed = {name: sent[name] for name in guide.FIELDS if name in sent}
    chosen = {**saved.chosen, **typed, "columns": columns}
    shown = read_context(seen, sent, columns)
    # Without columns to choose from, only another file helps.
    hopeless = bool(seen.problems) and not shown["columns"] and not columns
    if hopeless:
        chosen["unreadable"] = True
    if request.method == "POST" or hopeless:
        with suppress(NotFound):  # another request takes it; whoever trains sees it
            uploads.remember(saved, chosen)
    context = {
        "upload": saved,
        "title": saved.title,
        "refused": refused,
        "blocked": bool(seen.problems or refused),
        "hopeless": hopeless,
        **shown,
    }
    proposed = guide.proposed_names(saved.suggested_name)
    return _page(request, saved, guide.Examples.of_preview(seen), proposed | chosen, context)


@lru_cache(maxsize=2 * uploads.STAGED)
def _seen(key: str, columns: tuple[tuple[str, str], ...]) -> Preview:
    """The preview of a staged upload, which never changes: it is read once and not for each choice."""
    saved = uploads.staged(key)
    return preview(saved.source, columns=dict(columns), names=saved.names, hub=saved.hub)


@require_http_methods(["GET", "POST"])
def start_data(request: HtmxRequest, pk: int) -> HttpResponse:
    """The same for a data set, whose choices are in the address."""
    dataset = get_object_or_404(Dataset, pk=pk)
    sent = request.POST if request.method == "POST" else request.GET
    chosen = {name: sent[name] for name in guide.FIELDS if name in sent}
    proposed = guide.proposed_names(dataset.name) | {"dataset": dataset.name}
    context = {
        "dataset": dataset,
        "title": str(dataset),
        "warnings": _warnings(dataset),
        "has_models": Model.objects.filter(archived_at=None).exists(),
    }
    return _page(request, dataset, guide.Examples.of_dataset(dataset), proposed | chosen, context)


def _warnings(dataset: Dataset) -> list[str]:
    """What the doctor found, or what is seen at once of a small data set."""
    if report := find_report(dataset):
        return list(warnings(report))
    folder = dataset_path(dataset)
    if dataset.size_bytes > AT_ONCE or not folder.is_dir():
        return []
    return spoiled(folder, dataset.splits)


def _page(
    request: HtmxRequest,
    source: uploads.Saved | Dataset,
    examples: guide.Examples,
    chosen: Mapping[str, Any],
    context: dict[str, Any],
) -> HttpResponse:
    presets = guide.presets(examples)
    usual = next(iter(presets), "")
    preset = presets.get(str(chosen.get("preset")), presets.get(usual))
    offered = guide.bases(examples, preset.config) if preset else []
    best = offered[0] if offered else None
    if best and not best.fits and "preset" not in chosen and "small-memory" in presets:
        preset = presets["small-memory"]
        offered = guide.bases(examples, preset.config)
        best = offered[0]
    named = {one.base.name: one for one in offered}
    base = named.get(str(chosen.get("base")), best)
    trains = request.method == "POST" and not (request.htmx or _LOOKS & request.POST.keys())
    form = guide.GuideForm({"task_type": examples.task_type, **chosen})
    status = 200
    if trains:
        status = 422
        ready = preset and base and base.fits and not context.get("blocked")
        if form.is_valid() and ready and preset and base:
            given = form.cleaned_data
            what = setups.Chosen(
                model=given["model"],
                base=base.base.name,
                task_type=given["task_type"],
                config=preset.config.model_dump(mode="json"),
                dataset=given["dataset"],
                columns=chosen.get("columns"),
            )
            try:
                made = setups.start(what, source)
                return redirect(made.job or made)
            except HubError as error:
                taken = setups.earlier(source.key) if isinstance(source, uploads.Saved) else None
                if taken and not taken.has_failed:  # a second click
                    return redirect(taken)
                status = refuse(form, error)
    context |= {
        "form": form,
        "examples": examples,
        "presets": presets.values(),
        "preset": preset,
        "bases": offered[:_BASES],
        "more": offered[_BASES:],
        "base": base,
        "best": best,
        "here": request.path,
    }
    template = partial(request, "training/guide.html", "seen")
    return render(request, template, context, status=status)


@require_GET
def setup(request: HtmxRequest, pk: int) -> HttpResponse:
    """How far a setup is; once its job is queued, that."""
    rows = Setup.objects.up_to_date().select_related("job", "dataset")
    found = get_object_or_404(rows, pk=pk)
    made = found.job.get_absolute_url() if found.job else ""
    return task_page(request, found, made, [("Start", reverse("start"))], _again(found))


def _again(found: Setup) -> tuple[str, str]:
    """Where what was chosen can be changed."""
    if uploads.is_staged(found.staged):
        return ("Change what you chose", reverse("start_file", args=[found.staged]))
    if found.dataset:
        chosen = {name: str(found.options.get(name, "")) for name in ("model", "base", "task_type")}
        url = reverse("start_data", args=[found.dataset.pk], query=chosen)
        return ("Change what you chose", url)
    return ("Start again", reverse("start"))


@require_POST
def setup_retry(request: HttpRequest, pk: int) -> HttpResponse:
    return retry_task(request, get_object_or_404(Setup, pk=pk))
