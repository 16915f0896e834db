"""Pages of data sets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from backends.thoughts import FIELD, written
from registry.datasets import uploads
from registry.datasets.fitness import fitness
from registry.datasets.revisions import newest, revisions
from registry.datasets.snapshots import SPLITS, read_examples, register_starter_dataset
from registry.errors import HubError
from registry.maintenance import gc
from registry.maintenance.removal import remove_dataset
from registry.models import Dataset, DatasetTask, ModelVersion
from registry.versions.gain import gain
from registry.web.htmx import HtmxRequest, partial
from registry.web.lists import Action, Column, Filter, Listing, act
from registry.web.lists.columns import NAME, SIZE, created
from registry.web.views.tasks import retry_task, task_page

EXAMPLES_PER_PAGE = 10
_TASKS_SHOWN = 10

DATASETS = Listing[Dataset](
    noun="data set",
    columns=(
        NAME,
        Column("format", "Format", phone="end"),
        Column("train", "Train", kind="n", phone="line p-train"),
        Column("valid", "Valid", kind="n"),
        Column("test", "Test", kind="n"),
        replace(SIZE, phone="line"),
        Column("checksum", "Checksum", "short", room=True),
        created("Added"),
    ),
    sort="new",
    filters=(
        Filter("q", "Search", "search", "Search name or description"),
        Filter("format", "Format", hint="All formats", options=Dataset.Format.choices),
    ),
    actions=(
        Action(
            "delete",
            "Delete",
            "deleted",
            "Each is deleted for good with its files and all its revisions. One that a job, a sweep"
            " or a version was made with stays.",
            do=remove_dataset,
            danger=True,
        ),
    ),
    acts_at="datasets_selected",
    summary=True,
    menu=True,
    heading=lambda found: found.name,
)


@require_GET
def datasets(request: HtmxRequest) -> HttpResponse:
    shown = DATASETS.asked(request)
    found: QuerySet[Dataset] = newest()
    if q := shown.query["q"]:
        found = found.filter(name__icontains=q) | found.filter(description__icontains=q)
    if kind := shown.query["format"]:
        found = found.filter(format=kind)
    tasks = list(DatasetTask.objects.recent()[:_TASKS_SHOWN])
    context = {"tasks": tasks, "running": any(task.is_running for task in tasks)}
    if request.htmx.target == "tasks":
        return render(request, "registry/datasets/list.html#tasks", context)
    return shown.show(found).render("registry/datasets/list.html", context)


@require_POST
def selected(request: HtmxRequest, action: str) -> HttpResponse:
    """Do something with the data sets that are selected."""
    return act(request, DATASETS, action, newest(), reverse("datasets"))


@require_GET
def dataset_task(request: HtmxRequest, pk: int) -> HttpResponse:
    """How far the work is; once it is done, what it made."""
    rows = DatasetTask.objects.up_to_date().select_related("dataset", "report")
    found = get_object_or_404(rows, pk=pk)
    made, parents = "", [("Data sets", reverse("datasets"))]
    again = ("Send it again", reverse("dataset_new"))
    if found.dataset:
        parents.append((str(found.dataset), found.dataset.get_absolute_url()))
    if found.kind == DatasetTask.Kind.ROWS:
        made = reverse("dataset_rows", args=[found.dataset_id])
        again = ("Check again", reverse("dataset_check", args=[found.dataset_id]))
    elif found.kind == DatasetTask.Kind.FIX and found.dataset:
        made = found.dataset.get_absolute_url()
        again = ("Back to the rows", reverse("dataset_rows", args=[found.dataset_id]))
    elif found.kind == DatasetTask.Kind.EXAMINE:
        doctor = reverse("dataset_doctor", args=[found.dataset_id])
        again = ("Back to the doctor", doctor)
        made = f"{doctor}?report={found.report_id}" if found.report_id else doctor
    elif found.dataset:
        made = found.dataset.get_absolute_url()
    elif uploads.is_staged(found.staged):
        made = reverse("dataset_preview", args=[found.staged])
        again = ("Change how it is read", made)
    done = found.status == DatasetTask.Status.COMPLETED
    return task_page(request, found, made if done else "", parents, again)


@require_POST
def dataset_task_retry(request: HttpRequest, pk: int) -> HttpResponse:
    return retry_task(request, get_object_or_404(DatasetTask, pk=pk))


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
    versions = list(found.versions.select_related("model").order_by("-created_at")[:8])
    scored = next((one for one in versions if one.status == "ready"), None)
    if scored is not None:
        scored.dataset = found
    context = {
        "dataset": found,
        "fitness": fitness(found),
        "scored": scored,
        "gain": gain(scored) if scored else None,
        "tokens_bytes": gc.tokens_bytes(found.checksum),
        "splits": splits,
        "split": split,
        "page": page,
        "revisions": revisions(found),
        **_examples(found, split, first),
        "versions": versions,
        # A first model is proposed as a whole; a known one gets its next version.
        "trained": ModelVersion.objects.filter(dataset__name=found.name).exists(),
    }
    template = partial(request, "registry/datasets/detail.html", "rows")
    return render(request, template, context)


def _examples(dataset: Dataset, split: str, first: int) -> dict[str, Any]:
    if not split:
        return {"examples": []}
    try:
        read = read_examples(dataset, split, offset=first, limit=EXAMPLES_PER_PAGE)
    except (HubError, OSError) as error:
        return {"examples": [], "examples_error": str(error)}
    return {"examples": [as_chat(number, row) for number, row in enumerate(read, first + 1)]}


def as_chat(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """One example as chat messages, whatever its format."""
    if "messages" in row:
        turns = [_with_calls(message) for message in row["messages"]]
    elif "chosen" in row:
        turns = [
            *_turns(row["prompt"], "user"),
            *_turns(row["chosen"], "chosen"),
            *_turns(row["rejected"], "rejected"),
        ]
    elif "prompt" in row:
        answer = _turns(row.get("completion", ""), "assistant")
        turns = [
            *_turns(row["prompt"], "user"),
            *({**turn, "label": row.get("label")} for turn in answer),
        ]
    else:
        turns = [{"role": "text", "content": row.get("text", "")}]
    return {"number": number, "messages": [{**turn, "said_by": _said_by(turn)} for turn in turns]}


def _said_by(turn: dict[str, Any]) -> str:
    """The role, and that the message is not learned when its weight says so, or is good or bad."""
    if isinstance(label := turn.get("label"), bool):
        return f"{turn['role']}, {'good' if label else 'bad'} answer"
    return f"{turn['role']}, not learned" if turn.get("weight") == 0 else str(turn["role"])


def _with_calls(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its thoughts before its text and its tool calls as JSON below."""
    said, thoughts = message["content"], message.get(FIELD)
    calls = [
        json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls") or ()
    ]
    said = written(thoughts, said) if thoughts and isinstance(thoughts, str) else said
    return {**message, "content": "\n".join(filter(None, [said, *calls]))}


def _turns(value: Any, role: str) -> list[dict[str, Any]]:
    """A text or messages of a preference; the answers' role says which of both they are."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    shown = [_with_calls(message) for message in value]
    return shown if role == "user" else [{**message, "role": role} for message in shown]
