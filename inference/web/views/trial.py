"""Trying a version on its task: a text in, the label with its probabilities or the fields out."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods

from backends.reports import named_fields
from inference.gateway.answer import Answer
from inference.gateway.generation import generate
from inference.gateway.request import Caller
from inference.models import InferenceRequest
from inference.native.schemas import InferenceIn
from registry.errors import HubError
from registry.models import ModelVersion
from registry.web.htmx import HtmxRequest, partial

LONGEST = 100_000  # characters of a text
LABELS = 10  # with a bar of their own


@require_http_methods(["GET", "POST"])
def trial(request: HtmxRequest, pk: int, version: str) -> HttpResponse:
    versions = ModelVersion.objects.select_related("model")
    found = get_object_or_404(versions, model_id=pk, version=version)
    text = request.POST.get("text", "")[:LONGEST]
    context: dict[str, Any] = {"version": found, "form": found.model.task.form, "text": text}
    status = 200
    if request.method == "POST":
        try:
            context |= _outcome(found, _ask(request, found, text))
        except HubError as error:
            context["problem"], status = str(error), error.status
    template = partial(request, "inference/trial.html", "outcome")
    return render(request, template, context, status=200 if request.htmx else status)


def _ask(request: HttpRequest, version: ModelVersion, text: str) -> Answer | None:
    """The answer to a text. Raises HubError."""
    if not text.strip():
        return None
    asked = InferenceIn(model=str(version), prompt=text).request()
    [answer] = async_to_sync(generate)(asked, Caller.of(request, InferenceRequest.Api.NATIVE))
    return answer


def _outcome(version: ModelVersion, answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {"problem": "Write a text first."}
    labels = answer.done.labels
    return {
        "answer": answer.text,
        "labels": labels[:LABELS],
        "more": len(labels) - LABELS,
        "fields": named_fields(answer.text) if version.model.task.form == "fields" else None,
        "seconds": answer.done.total_ms / 1000,
        "cut": answer.done.finish_reason == "length",
    }
