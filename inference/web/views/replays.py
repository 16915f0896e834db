"""Replays: one version's requests answered by another, differences side by side."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from inference.models import Replay
from inference.replay import marked, plan, start_of, version_named
from inference.web.forms import ReplayForm
from registry.background import work
from registry.errors import HubError
from registry.web.htmx import HtmxRequest, partial, refuse
from registry.web.lists import Column, Filter, Listing
from registry.web.lists.columns import STATUS, WHEN
from registry.web.lists.filters import SPAN

PER_PAGE = 20

REPLAYS = Listing[Replay](
    noun="replay",
    columns=(
        WHEN,
        Column("source", "Requests to", "brief", kind="wrap", phone="line"),
        Column("target", "Answered by", "brief", kind="wrap", phone="line"),
        replace(STATUS, label="State"),
        Column("total", "Requests", kind="n"),
        Column("agreement", "Same answer", kind="n", phone="line"),
        Column("similarity", "Similarity", "figure", kind="n"),
    ),
    sort="when",
    filters=(
        Filter("status", "State", hint="All states", options=Replay.Status.choices),
        SPAN,
    ),
)


@require_http_methods(["GET", "POST"])
def replays(request: HtmxRequest) -> HttpResponse:
    initial = {"source": request.GET.get("source"), "since": "24h", "limit": 200}
    form = ReplayForm(request.POST or None, initial=initial)
    shown = REPLAYS.asked(request)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            given = form.cleaned_data
            try:
                planned = plan(
                    version_named(given["source"]),
                    version_named(given["target"]),
                    start_of(given["since"]),
                    limit=given["limit"],
                )
                work.launch(planned)
            except HubError as error:
                status = refuse(form, error)
            else:
                return redirect(planned)
    found = Replay.objects.up_to_date().select_related("source__model", "target__model")
    found = found.filter(**shown.bounds.of("created_at"))
    if state := shown.query["status"]:
        found = found.filter(status=state)
    context = {"form": form, "keeps_texts": settings.LOG_PROMPTS}
    return shown.show(found).render("inference/replays.html", context, status)


@require_GET
def replay(request: HtmxRequest, pk: int) -> HttpResponse:
    """The figures, and each answer beside the one it is compared with, least alike first."""
    found = get_object_or_404(
        Replay.objects.up_to_date().select_related("source__model", "target__model"), pk=pk
    )
    answers = found.answers.exclude(after="", error="").order_by("similarity", "pk")
    every = request.GET.get("all") == "1"
    shown = answers if every else answers.filter(same=False)
    page = Paginator(shown, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "replay": found,
        "page": page,
        "all": every,
        "pairs": [(answer, *marked(answer.before, answer.after)) for answer in page],
    }
    return render(request, partial(request, "inference/replay.html", "rows"), context)
