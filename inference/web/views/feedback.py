"""What people say of answers: said on a request's page, listed, and made into examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods, require_POST

from inference import feedback
from inference.models import Feedback, InferenceRequest
from inference.web.forms import ExamplesForm, FeedbackForm
from registry.errors import HubError
from registry.web.htmx import HtmxRequest, refuse
from registry.web.lists import Column, Filter, Listing, Order
from registry.web.lists.columns import WHEN

RATED = Listing[Feedback](
    noun="rated answer",
    columns=(
        replace(WHEN, order=Order(("-pk",))),
        Column("rating", "Rating", phone="end"),
        Column("asked", "Asked", kind="wrap", phone="line"),
        Column("answer", "Answered", kind="wrap"),
        Column("ideal", "Should be", kind="wrap"),
        Column("answered_by", "By", "brief", kind="wrap", phone="line"),
    ),
    sort="when",
    filters=(Filter("rating", "Rating", hint="All ratings", options=Feedback.Rating.choices),),
    size=20,
)


@require_POST
def request_feedback(request: HttpRequest, request_id: str) -> HttpResponse:
    """Rate an answer, or say what it should have been."""
    row = get_object_or_404(InferenceRequest, request_id=request_id)
    form = FeedbackForm(request.POST)
    if form.is_valid():
        said = Feedback.objects.filter(request_id=request_id).first()
        rating, ideal = (said.rating, said.ideal) if said else ("", "")
        sent = form.cleaned_data
        if "rate" in request.POST:
            rating = "" if sent["rate"] == rating else sent["rate"]
        else:
            answer = row.completion if row.prompt is not None or said is None else said.answer
            same = sent["ideal"].strip() == (answer or "").strip()
            ideal = "" if same or "unedit" in request.POST else sent["ideal"]
        feedback.rate(request_id, rating, ideal)
    return redirect(row)


@require_http_methods(["GET", "POST"])
def rated(request: HtmxRequest) -> HttpResponse:
    """Every answer that somebody rated or edited; a POST makes examples of them."""
    form = ExamplesForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            given = form.cleaned_data
            try:
                saved = feedback.stage(given["kind"], given["model"])
            except HubError as error:
                status = refuse(form, error)
            else:
                return redirect("dataset_preview", saved.key)
    shown = RATED.asked(request)
    found = Feedback.objects.select_related("version__model")
    if shown.query["rating"] in Feedback.Rating.values:
        found = found.filter(rating=shown.query["rating"])
    shown.show(found)
    logged = InferenceRequest.objects.filter(request_id__in=[row.request_id for row in shown.rows])
    context: dict[str, Any] = {
        "logged": set(logged.values_list("request_id", flat=True)),
        "form": form,
        "most": feedback.MOST,
        "kinds": [(kind, title, about) for kind, (title, about) in feedback.KINDS.items()],
    }
    return shown.render("inference/rated.html", context, status)
