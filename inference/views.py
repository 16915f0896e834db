"""The playground and the request log."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from inference.models import InferenceRequest
from registry.datasets import read_examples
from registry.errors import HubError
from registry.htmx import HtmxRequest, partial
from registry.models import Dataset
from registry.resolve import Served, served_names

PER_PAGE = 25
SUGGESTIONS = 3
_FILTERS = ("q", "status", "api", "version")


@require_GET
def playground(request: HttpRequest) -> HttpResponse:
    names = served_names()
    asked = request.GET.get("model", "")
    context = {
        "groups": _grouped(names),
        "model": asked,
        "compare": request.GET.get("compare", ""),
        "prompt": request.GET.get("prompt", ""),
        **_suggested(),
    }
    return render(request, "inference/playground.html", context)


def _suggested() -> dict[str, Any]:
    """Questions to try: held-out examples of the newest data set, with their system prompt."""
    asked = (Dataset.Format.CHAT, Dataset.Format.COMPLETIONS, Dataset.Format.TOOLS)
    newest = Dataset.objects.filter(format__in=asked).order_by("-created_at").first()
    split = next((name for name in ("test", "valid") if newest and newest.splits.get(name)), None)
    if newest is None or split is None:
        return {}
    try:
        rows = read_examples(newest, split, limit=SUGGESTIONS)
    except (HubError, OSError):
        return {}
    examples = [_question(row) for row in rows]
    return {"examples": examples, "system": examples[0]["system"] if examples else ""}


def _question(row: dict[str, Any]) -> dict[str, str]:
    if "prompt" in row:
        return {"prompt": row["prompt"], "system": ""}
    first: dict[str, str] = {}
    for turn in row["messages"]:
        first.setdefault(turn["role"], turn["content"])
    return {"prompt": first.get("user", ""), "system": first.get("system", "")}


def _grouped(names: list[Served]) -> dict[str, list[Served]]:
    """Names under a heading each: one per model, and one for the base models."""
    groups: dict[str, list[Served]] = {}
    for served in names:
        heading = served.version.model.name if served.version else "Base models"
        groups.setdefault(heading, []).append(served)
    return groups


@require_GET
def requests(request: HtmxRequest) -> HttpResponse:
    """The log, newest first; `before` is an id, so that a page costs the same at any depth."""
    query = {name: request.GET.get(name, "").strip() for name in _FILTERS}
    before = request.GET.get("before", "")
    rows = _find(query)
    if before.isdigit():
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PER_PAGE + 1])
    context: dict[str, Any] = {
        "rows": found[:PER_PAGE],
        "older": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else None,
        "before": before,
        "query": query,
        "filtered": any(query.values()),
        "statuses": InferenceRequest.Status.choices,
        "apis": InferenceRequest.Api.choices,
    }
    template = partial(request, "inference/requests.html", "rows")
    return render(request, template, context)


def _find(query: dict[str, str]) -> QuerySet[InferenceRequest]:
    rows = InferenceRequest.objects.select_related("version__model", "base_model").order_by("-pk")
    if query["q"]:
        rows = rows.filter(requested_model__icontains=query["q"])
    if query["status"]:
        rows = rows.filter(status=query["status"])
    if query["api"]:
        rows = rows.filter(api=query["api"])
    if query["version"].isdigit():
        rows = rows.filter(version_id=int(query["version"]))
    return rows
