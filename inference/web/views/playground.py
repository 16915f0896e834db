"""The playground."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET

from inference.models import Conversation, Feedback, InferenceRequest, Preset
from inference.playground import opened
from inference.playground.conversations import MAX_COLUMNS
from inference.playground.offered import grouped, newest, offered
from registry.datasets.snapshots import read_examples
from registry.errors import HubError
from registry.models import Dataset
from registry.promotion import resolve
from registry.web.numbers import whole

SUGGESTIONS = 3
PRESETS_OFFERED = 200
_OF_PRESETS = ("name", "model", "system", "sampling", "tools")


@require_GET
def playground(request: HttpRequest) -> HttpResponse:
    """`model` and `compare` (one to three) name the columns, `conversation` a kept chat, `request` one of
    the log. With `try` the first question of the model's data set is asked at once."""
    number = whole(request.GET.get("conversation", ""))
    conversation = get_object_or_404(Conversation, pk=number) if number else None
    suggested: dict[str, Any] = {}
    state: dict[str, Any]
    if conversation:
        fields = ("revision", "title", "system", "sampling", "tools", "columns")
        state = {"id": conversation.pk, **{name: getattr(conversation, name) for name in fields}}
    elif logged := request.GET.get("request"):
        row = get_object_or_404(InferenceRequest.objects.with_names(), request_id=logged)
        opened.fill(row, Feedback.objects.filter(request_id=logged).first())
        if opened.problem(row):
            return redirect(row)
        found = opened.state(row)
        column = {"model": found.pop("model"), "exchanges": found.pop("exchanges")}
        state = {"id": None, **found, "columns": [column]}
    else:
        models = [request.GET.get("model", ""), *request.GET.getlist("compare")]
        names = [name.strip() for name in models if name.strip()][:MAX_COLUMNS]
        names = names or [name for name in (newest(),) if name]
        suggested = _suggested(names[0] if names else "")
        tries = "try" in request.GET and bool(suggested.get("examples"))
        state = {
            "id": None,
            "system": suggested.get("system", ""),
            "sampling": {},
            "prompt": suggested["examples"][0]["prompt"]
            if tries
            else request.GET.get("prompt", ""),
            "send": tries,
            "columns": [{"model": name, "exchanges": []} for name in names],
        }
    state["presets"] = [
        {"id": preset.pk, **{name: getattr(preset, name) for name in _OF_PRESETS}}
        for preset in Preset.objects.all()[:PRESETS_OFFERED]
    ]
    state["feedback"] = _feedback(state["columns"])
    context = {
        "state": state,
        "state_json": json.dumps(state),
        "something": bool(state["columns"]),
        "conversation": conversation,
        **suggested,
    }
    return render(request, "inference/playground.html", context)


def _feedback(columns: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What was said of the answers in these columns, by their requests' ids."""
    answers = [one for column in columns for one in _every(column["exchanges"])]
    ids = {one["request_id"] for one in answers if one.get("request_id")}
    rows = Feedback.objects.filter(request_id__in=ids)
    return {row.request_id: {"rating": row.rating, "ideal": row.ideal} for row in rows}


def _every(exchanges: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those of all branches."""
    for one in exchanges:
        yield one
        for branch in one.get("others", ()):
            yield from _every(branch)


@require_GET
def playground_models(request: HttpRequest) -> HttpResponse:
    """The names that fit `q`, as the options of a list."""
    groups = grouped(offered(request.GET.get("q", "")))
    return render(request, "inference/_offered.html", {"groups": groups})


def _suggested(name: str) -> dict[str, Any]:
    """Questions to try: held-out examples of the version's data set, else of the newest one, with
    their system prompt."""
    asked = Dataset.objects.exclude(format=Dataset.Format.TEXT)
    dataset = _learned(name) or asked.order_by("-created_at", "-pk").first()
    if dataset is None or dataset.format == Dataset.Format.TEXT:
        return {}
    split = next((name for name in ("test", "valid") if dataset.splits.get(name)), None)
    if split is None:
        return {}
    try:
        rows = read_examples(dataset, split, limit=SUGGESTIONS)
    except (HubError, OSError):
        return {}
    examples = [_question(row) for row in rows]
    return {"examples": examples, "system": examples[0]["system"] if examples else ""}


def _learned(name: str) -> Dataset | None:
    """What the version of that name was trained on."""
    try:
        version = resolve.find(name).version
    except HubError:
        return None
    return version.dataset if version else None


def _question(row: dict[str, Any]) -> dict[str, str]:
    asked = row["prompt"] if "prompt" in row else row["messages"]
    if isinstance(asked, str):
        return {"prompt": asked, "system": ""}
    first: dict[str, str] = {}
    for turn in asked:
        first.setdefault(turn["role"], turn["content"])
    return {"prompt": first.get("user", ""), "system": first.get("system", "")}
