"""Pages on which data is chosen and looked at before it becomes a data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from registry.datasets import tasks as dataset_tasks
from registry.datasets import uploads
from registry.datasets.dialects.table import DIALECTS
from registry.datasets.formats import COLUMNS
from registry.datasets.preview import Preview, preview
from registry.datasets.reading.examples import BadExamples
from registry.datasets.snapshots import check_columns
from registry.errors import HubError, Invalid, NotFound
from registry.models import Dataset
from registry.web.forms import ChooseDataForm, RegisterDatasetForm
from registry.web.htmx import HtmxRequest, form_page, partial, refuse
from registry.web.same import Same, dataset_registered
from registry.web.views.datasets import as_chat

_TYPED = frozenset({"name", "description"})
_REFUSED = 20  # mistakes that are listed


@require_http_methods(["GET", "POST"])
def dataset_new(request: HttpRequest) -> HttpResponse:
    """Choose files or a hub id; what was chosen is staged, and shown on a page of its own."""
    posted = request.method == "POST"
    form = ChooseDataForm(*((request.POST, request.FILES) if posted else ()))
    status = 200
    if posted:
        status = 422
        if form.is_valid():
            hub, files = form.cleaned_data["hub"], form.cleaned_data["files"]
            try:
                if hub:
                    return redirect(dataset_tasks.start_download(hub))
                return redirect("dataset_preview", uploads.stage(files).key)
            except HubError as error:
                status = refuse(form, error)
    context = {"form": form, "dialects": DIALECTS}
    return form_page(request, "registry/datasets/new.html", context, status)


@require_http_methods(["GET", "POST"])
def dataset_preview(request: HtmxRequest, key: str) -> HttpResponse:
    """What was staged and what it would become; its columns are mapped here, and it is registered
    or discarded."""
    try:
        saved = uploads.staged(key)
    except NotFound as error:
        messages.error(request, str(error))
        return redirect("dataset_new")
    sent = request.POST
    if "discard" in sent:
        uploads.discard(saved)
        messages.success(request, "The upload is discarded; nothing was registered.")
        return redirect("datasets")
    registers = "register" in sent
    form = RegisterDatasetForm(
        sent if registers else None,
        initial={"name": saved.suggested_name, **{key: sent[key] for key in _TYPED & sent.keys()}},
    )
    status, columns = 200, dict[str, str]()
    refused: list[str] = []
    try:
        chosen = chosen_columns(sent)
        check_columns(chosen)
        columns = chosen
        if registers and form.is_valid():
            given = form.cleaned_data
            made = dataset_tasks.start_staged(given["name"], saved, given["description"], columns)
            if isinstance(made, Dataset):
                registered = f"{made} is registered: {made.examples} examples."
                messages.success(request, " ".join([registered, *made.notes]))
            return redirect(made)
    except BadExamples as error:
        status, refused = error.status, error.problems
    except HubError as error:
        status, refused = error.status, [str(error)]
    if form.errors:
        status = max(status, 422)
    seen = preview(saved.source, columns=columns, names=saved.names, hub=saved.hub)
    context = {
        "upload": saved,
        "form": form,
        "refused": refused[:_REFUSED],
        "same": _same(request, form, saved, columns),
        "here": request.path,
        **read_context(seen, sent, columns),
    }
    template = partial(request, "registry/datasets/preview.html", "seen")
    return render(request, template, context, status=status)


def _same(
    request: HttpRequest, form: RegisterDatasetForm, saved: uploads.Saved, columns: dict[str, str]
) -> Same | None:
    """The same as the form; None until it has a name."""
    name, about = (str(form[field].value() or "") for field in ("name", "description"))
    files, hub = sorted(saved.names.values()), saved.origin if saved.hub else ""
    if not name or not (files or hub):
        return None
    return dataset_registered(request, name, about, files, hub, columns)


def read_context(seen: Preview, sent: QueryDict, columns: dict[str, str]) -> dict[str, Any]:
    """What the parts of the preview's page show of a file that was read with these `columns`."""
    return {
        "preview": seen,
        "by_hand": bool(columns),
        "problems": _grouped(seen.problems),
        "targets": list(COLUMNS.items()),
        "columns": _rows(seen, sent),
        "samples": [_shown(n, sample, seen) for n, sample in enumerate(seen.samples, start=1)],
        "ways": [(way.name, json.dumps(way.columns)) for way in seen.others],
    }


def chosen_columns(sent: QueryDict) -> dict[str, str]:
    """The columns that were chosen by hand; none while all are as they were found.

    Raises Invalid when two are chosen for the same.
    """
    if "detect" in sent:
        return {}
    if "way" in sent:
        return _way(sent.get("way", ""))
    names, uses = sent.getlist("column"), sent.getlist("as")
    if "by_hand" not in sent and uses == sent.getlist("was"):
        return {}
    columns: dict[str, str] = {}
    for name, use in zip(names, uses, strict=False):
        if use and use in columns:
            raise Invalid(
                f"{columns[use]} and {name} are both chosen as {COLUMNS.get(use, use)}; "
                "choose one of them."
            )
        if use:
            columns[use] = name
    if not columns:
        raise Invalid("No column is used; choose what at least one of them is.")
    return columns


def _way(text: str) -> dict[str, str]:
    """A mapping as one of the page's buttons has it. Raises Invalid."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise Invalid("This way to read the file is unknown; choose its columns.")
    return found


def _grouped(problems: list[str]) -> list[str]:
    """Each mistake at its first place, and whether other rows have it, too."""
    same: dict[str, list[str]] = {}
    for problem in problems:
        same.setdefault(problem.partition(": ")[2] or problem, []).append(problem)
    return [
        f"{first} Other rows have the same error." if rest else first
        for first, *rest in same.values()
    ]


def _rows(seen: Preview, sent: QueryDict) -> list[dict[str, str]]:
    """Each column with a value of it, what it becomes, and what it is chosen for."""
    chosen = {}
    if not {"way", "detect"} & sent.keys():
        chosen = dict(zip(sent.getlist("column"), sent.getlist("as"), strict=False))
    values: dict[str, str] = {}
    for sample in seen.samples:
        for name, value in sample.given.items():
            if value.strip():
                values.setdefault(name, value)
    return [
        {
            "name": name,
            "value": values.get(name, ""),
            "was": use,
            "as": chosen.get(name, use),
        }
        for name, use in seen.uses.items()
    ]


def _shown(number: int, sample: Any, seen: Preview) -> dict[str, Any]:
    """A row as its columns and as the chat that it becomes."""
    given = [
        (name, COLUMNS.get(seen.uses.get(name, ""), ""), value)
        for name, value in sample.given.items()
    ]
    becomes = as_chat(number, sample.becomes) if sample.becomes else None
    tools = (sample.becomes or {}).get("tools", [])
    return {**asdict(sample), "columns": given, "chat": becomes, "tools": len(tools)}
