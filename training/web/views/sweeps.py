"""The pages of sweeps, which compare the jobs of a grid."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from registry.versions.comparison import MOST
from registry.web.htmx import HtmxRequest, partial
from registry.web.lists import Action, Column, Filter, Listing, act
from registry.web.lists.columns import DATASET, MODEL, created
from registry.web.lists.filters import SPAN
from training.config.vocabulary import labelled
from training.models import Sweep, TrainingJob
from training.queue import sweeps
from training.web import comparison
from training.web.views.job import run_label

_ALIVE = ("queued", "running")


def _over(found: Sweep) -> str:
    alive = found.jobs.filter(status__in=_ALIVE).exists()
    return "" if alive else "All its jobs have finished."


SWEEPS = Listing[Sweep](
    noun="sweep",
    columns=(
        Column("name", "Sweep", kind="wrap"),
        MODEL,
        DATASET,
        Column("jobs_over", "Jobs finished", kind="n", phone="end"),
        created("Queued"),
    ),
    sort="new",
    filters=(Filter("q", "Search", "search", "Search names"), SPAN),
    actions=(
        Action(
            "cancel",
            "Cancel",
            "cancelled",
            "Their waiting jobs leave the queue at once; one that runs stops at its next step and"
            " keeps its checkpoint.",
            do=sweeps.cancel,
            refuses=_over,
            danger=True,
        ),
    ),
    acts_at="sweeps_selected",
    heading=lambda found: found.name,
)


@require_GET
def sweep_list(request: HtmxRequest) -> HttpResponse:
    shown = SWEEPS.asked(request)
    jobs = TrainingJob.objects.filter(sweep=OuterRef("pk")).order_by().values("sweep")
    jobs = jobs.annotate(n=Count("*"))
    over = jobs.exclude(status__in=_ALIVE)
    found = Sweep.objects.select_related("model", "dataset").annotate(
        count=Coalesce(Subquery(jobs.values("n")), 0), over=Coalesce(Subquery(over.values("n")), 0)
    )
    found = found.filter(**shown.bounds.of("created_at"))
    if q := shown.query["q"]:
        found = found.filter(name__icontains=q)
    return shown.show(found).render("training/sweeps.html")


@require_POST
def selected(request: HtmxRequest, action: str) -> HttpResponse:
    """Do something with the sweeps that are selected."""
    return act(request, SWEEPS, action, Sweep.objects.all(), reverse("sweeps"))


@require_GET
def sweep(request: HtmxRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Sweep.objects.select_related("model", "dataset"), pk=pk)
    table = comparison.Table.of(found, sweeps.compare(found))
    context = {"sweep": found, "table": table}
    if not request.htmx:
        curves = table.best(comparison.MAX_CURVES)
        context |= {
            "curves": [(row.job, run_label(row.job)) for row in curves],
            "versions": [row.version for row in table.best(MOST) if row.version is not None],
            "settings": labelled(found.config),
        }
    return render(request, partial(request, "training/sweep.html", "live"), context)


@require_POST
def sweep_cancel(request: HtmxRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Sweep, pk=pk)
    count = sweeps.cancel(found)
    messages.success(request, f"Cancelled {count} job{'' if count == 1 else 's'} of this sweep.")
    return redirect(found)
