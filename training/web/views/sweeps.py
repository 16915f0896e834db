"""The pages of sweeps, which compare the jobs of a grid."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from registry.versions.comparison import MOST
from registry.web.htmx import HtmxRequest, partial
from training.config.vocabulary import labelled
from training.models import Sweep
from training.queue import sweeps
from training.web import comparison
from training.web.views.job import run_label

PER_PAGE = 25


@require_GET
def sweep_list(request: HtmxRequest) -> HttpResponse:
    over = Q(jobs__status__in=["completed", "failed", "cancelled"])
    counted = Sweep.objects.annotate(count=Count("jobs"), over=Count("jobs", filter=over))
    rows = counted.select_related("model", "dataset").order_by("-created_at", "-pk")
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    return render(request, partial(request, "training/sweeps.html", "rows"), {"page": page})


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
