"""The playground."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from registry.datasets import read_examples
from registry.errors import HubError
from registry.models import Dataset, Model
from registry.resolve import Name, resolve, served_names

MODELS_OFFERED = 50
SUGGESTIONS = 3


@require_GET
def playground(request: HttpRequest) -> HttpResponse:
    asked, rival, q = (request.GET.get(name, "").strip() for name in ("model", "compare", "q"))
    names = served_names(q, MODELS_OFFERED)
    offered = {name.label for name in names}
    missing = [name for name in (asked, rival) if name and name not in offered]
    linked = [found for name in missing if (found := _named(name))]
    models = Model.objects.filter(archived_at=None).count()
    context = {
        "groups": ({"Asked for": linked} if linked else {}) | grouped(names),
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
        return resolve(label).name
    except HubError:
        return None


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


def grouped(names: list[Name]) -> dict[str, list[Name]]:
    """Names under a heading each: one per model, and one for the base models."""
    groups: dict[str, list[Name]] = {}
    for name in names:
        groups.setdefault(name.model or "Base models", []).append(name)
    return groups
