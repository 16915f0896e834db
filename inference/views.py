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
from registry.models import Dataset, Model
from registry.resolve import Name, resolve, served_names

PER_PAGE = 25
MODELS_OFFERED = 50
SUGGESTIONS = 3
_FILTERS = ("q", "status", "api", "version")


@require_GET
def playground(request: HttpRequest) -> HttpResponse:
    asked, rival, q = (request.GET.get(name, "").strip() for name in ("model", "compare", "q"))
    names = served_names(q, MODELS_OFFERED)
    offered = {name.label for name in names}
    missing = [name for name in (asked, rival) if name and name not in offered]
    linked = [found for name in missing if (found := _named(name))]
    models = Model.objects.filter(archived_at=None).count()
    context = {
        "groups": ({"Asked for": linked} if linked else {}) | _grouped(names),
        "many": models if models > MODELS_OFFERED else 0,
        "offered": MODELS_OFFERED,
        "model": asked,
        "compare": rival,
        "q": q,
        "prompt": request.GET.get("prompt", ""),
        **_suggested(),
    }
    return render(request, "inference/playground.html", context)


def _named(label: str) -> Name | None:
    """What a link asks for, when it can answer."""
    try:
        served = resolve(label)
    except HubError:
        return None
    row = served.version or served.base
    return Name(label, "", served.version.version if served.version else "", row.created_at)


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


def _grouped(names: list[Name]) -> dict[str, list[Name]]:
    """Names under a heading each: one per model, and one for the base models."""
    groups: dict[str, list[Name]] = {}
    for name in names:
        groups.setdefault(name.model or "Base models", []).append(name)
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
    version = int(query["version"]) if query["version"].isdigit() else None
    wanted = {name: query[name] for name in ("q", "status", "api")}
    rows = InferenceRequest.objects.with_names().matching(version=version, **wanted)
    return rows.order_by("-pk")
