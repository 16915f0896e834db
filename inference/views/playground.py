"""The playground."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from registry.datasets import read_examples
from registry.errors import HubError
from registry.models import Dataset
from registry.resolve import Served, served_names

SUGGESTIONS = 3


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
