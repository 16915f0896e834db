"""The doctor's page of a data set."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from registry.datasets.examination import DEFAULT_LENGTH, find_report, warnings
from registry.datasets.tasks import start_examine
from registry.errors import HubError
from registry.models import BaseModel, Dataset, DatasetReport, DatasetTask
from registry.web.forms import ExamineForm
from registry.web.htmx import form_page, refuse
from registry.web.numbers import whole

_HEIGHT = 120.0  # of the histogram, in its own units
_BAR = 20.0


@require_http_methods(["GET", "POST"])
def dataset_doctor(request: HttpRequest, pk: int) -> HttpResponse:
    dataset = get_object_or_404(Dataset, pk=pk)
    status = 200
    if request.method == "POST":
        form = ExamineForm(request.POST)
        status = 422
        if form.is_valid():
            fields = form.cleaned_data
            try:
                made = start_examine(dataset, fields["base"], fields["max_seq_length"])
            except HubError as error:
                status = refuse(form, error)
            else:
                if isinstance(made, DatasetTask):
                    return redirect(made)
                return redirect(f"{reverse('dataset_doctor', args=[pk])}?report={made.pk}")
    report = _chosen(request, dataset)
    if request.method == "GET":
        initial = {"max_seq_length": DEFAULT_LENGTH}
        if report is not None:
            initial = {"base": report.base_model_id, "max_seq_length": report.max_seq_length}
        form = ExamineForm(initial=initial)
    context = {
        "dataset": dataset,
        "form": form,
        "report": report,
        "reports": dataset.reports.select_related("base_model")[:10],
        "bases": BaseModel.objects.exists(),
        **(_findings(report) if report else {}),
    }
    return form_page(request, "registry/datasets/doctor.html", context, status)


def _chosen(request: HttpRequest, dataset: Dataset) -> DatasetReport | None:
    asked = whole(request.GET.get("report", ""))
    if asked is not None:
        return get_object_or_404(dataset.reports.select_related("base_model"), pk=asked)
    return find_report(dataset)


def _findings(report: DatasetReport) -> dict[str, Any]:
    found = report.report
    return {
        "warnings": list(warnings(report)),
        "tokens": [
            {"split": split, **tokens, "bars": _bars(tokens["histogram"])}
            for split, tokens in found["tokens"].items()
        ],
        "duplicates": {
            split: same for split, same in found["duplicates"].items() if same["examples"]
        },
        "leaks": [
            {
                **leak,
                "pairs": [
                    {"first": shown[one], "second": shown[other], "text": shown["text"]}
                    for one, other in [leak["splits"]]
                    for shown in leak["shown"]
                ],
            }
            for leak in found["leaks"]
            if leak["prompts"] or leak["exact"]
        ],
        "rendered": found["rendered"],
    }


def _bars(histogram: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bars with their place in the drawing; one that is not empty can always be seen."""
    highest = max((bar["count"] for bar in histogram), default=0) or 1
    return [
        {
            "low": bar["from"],
            "high": bar["to"],
            "count": bar["count"],
            "over": bar["over"],
            "x": round(n * _BAR, 1),
            "height": (height := max(2.0, _HEIGHT * bar["count"] / highest) if bar["count"] else 0),
            "y": round(_HEIGHT - height, 1),
        }
        for n, bar in enumerate(histogram)
    ]
