"""Pages of a data set's rows: the list with its fixes, one row, and what a fix changed."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from registry.datasets.examination import DEFAULT_LENGTH, find_report
from registry.datasets.revisions import newest_named
from registry.datasets.splits import SPLITS
from registry.datasets.tasks import start_fix, start_rows
from registry.datasets.workbench import findings, issues, origins, rows, texts
from registry.datasets.workbench.findings import Findings
from registry.datasets.workbench.fixes import Fix
from registry.errors import HubError, Invalid, NotFound
from registry.models import BaseModel, Dataset, DatasetTask
from registry.web.forms import ExamineForm
from registry.web.htmx import HtmxRequest, form_page, partial, refuse
from registry.web.row_forms import FixForm, RowsForm
from registry.web.views.datasets import as_chat

PER_PAGE = 20
_DIFFERENCES = 10
_AROUND = 150  # characters that stayed, shown before and after a change


@require_http_methods(["GET", "POST"])
def dataset_rows(request: HtmxRequest, pk: int) -> HttpResponse:
    """The rows that the filters choose; a POST changes them."""
    dataset = get_object_or_404(Dataset, pk=pk)
    found = findings.newest_findings(dataset)
    if found is None:
        return _not_checked(request, dataset)
    form = RowsForm(request.GET)
    wanted = form.wanted(dataset.splits)
    if request.method == "POST":
        try:
            return redirect(_fixed(request, dataset, _sent_fix(request, wanted)))
        except HubError as error:
            messages.error(request, str(error))
            return redirect(request.get_full_path())
    context = {
        **_about(dataset),
        "report": found.report,
        "form": form,
        "wanted": wanted,
        "issues": _counted(found, wanted.split),
        "every_issue": issues.ISSUES,
        **_page(found, form, wanted),
    }
    return render(request, partial(request, "registry/datasets/rows.html", "rows"), context)


def _page(found: Findings, form: RowsForm, wanted: rows.Wanted) -> dict[str, Any]:
    """A page of rows: with a number, or where words are looked for, from a place on."""
    order: rows.Order = form.given("order") or ""
    try:
        if wanted.q:
            return {"shown": rows.page(found, wanted, form.given("first") or 0, PER_PAGE, order)}
        total = len(rows.select(found, wanted))
        page = Paginator(range(total), PER_PAGE).get_page(form.given("page"))
        first = max(0, page.start_index() - 1)
        return {"shown": rows.page(found, wanted, first, PER_PAGE, order), "page": page}
    except HubError as error:
        return {"shown": rows.Page([], 0, 0, None), "problem": str(error)}


def _counted(found: Findings, split: str) -> list[tuple[issues.Issue, int]]:
    """The issues that a split has, or any, with how many rows have them."""
    counted = found.summary["issues"]
    chosen = [counted[split]] if split in counted else list(counted.values())
    counts = [(issue, sum(one[issue.name] for one in chosen)) for issue in issues.ISSUES]
    return [(issue, count) for issue, count in counts if count]


def _about(dataset: Dataset) -> dict[str, Any]:
    """What every page of rows says of the data set."""
    newest = newest_named(dataset.name)
    return {
        "dataset": dataset,
        "splits": [split for split in SPLITS if split in dataset.splits],
        "targets": SPLITS,
        "newest": None if newest == dataset else newest,
    }


def _not_checked(request: HttpRequest, dataset: Dataset) -> HttpResponse:
    """The rows are shown once they are checked: a form to start that, or the task that does it."""
    if task := _checking(dataset):
        return redirect(task)
    return _check_page(request, dataset, ExamineForm(initial=_initial(dataset)), 200)


def _initial(dataset: Dataset) -> dict[str, Any]:
    report = find_report(dataset)
    if report is None:
        return {"max_seq_length": DEFAULT_LENGTH}
    return {"base": report.base_model_id, "max_seq_length": report.max_seq_length}


def _checking(dataset: Dataset) -> DatasetTask | None:
    running = DatasetTask.objects.up_to_date().filter(status=DatasetTask.Status.RUNNING)
    return running.filter(kind=DatasetTask.Kind.ROWS, dataset=dataset).first()


def _check_page(
    request: HttpRequest, dataset: Dataset, form: ExamineForm, status: int
) -> HttpResponse:
    context = {**_about(dataset), "form": form, "bases": BaseModel.objects.exists()}
    return form_page(request, "registry/datasets/check.html", context, status)


@require_http_methods(["GET", "POST"])
def dataset_check(request: HttpRequest, pk: int) -> HttpResponse:
    """Start the check of every row."""
    dataset = get_object_or_404(Dataset, pk=pk)
    if request.method == "GET":
        return _check_page(request, dataset, ExamineForm(initial=_initial(dataset)), 200)
    form, status = ExamineForm(request.POST), 422
    if form.is_valid():
        fields = form.cleaned_data
        try:
            return redirect(start_rows(dataset, fields["base"], fields["max_seq_length"]))
        except HubError as error:
            status = refuse(form, error)
    return _check_page(request, dataset, form, status)


@require_http_methods(["GET", "POST"])
def dataset_row(request: HtmxRequest, pk: int, split: str, line: int) -> HttpResponse:
    """One row; `?tokens=1` has its tokens, too, once rows are checked. A POST changes it."""
    dataset = get_object_or_404(Dataset, pk=pk)
    found = findings.newest_findings(dataset)
    try:
        number = findings.number(dataset, split, line)
    except NotFound as error:
        raise Http404(str(error)) from None
    try:
        row = rows.row_at(found, split, line) if found else rows.unchecked_row(dataset, split, line)
    except NotFound as error:  # its file is gone
        messages.error(request, str(error))
        return redirect(dataset)
    status, problem = 200, ""
    text = json.dumps(row.row, ensure_ascii=False, indent=2)
    if request.method == "POST":
        text = request.POST.get("text", text)
        try:
            return redirect(_fixed(request, dataset, _sent_fix(request, rows.Wanted())))
        except HubError as error:
            status, problem = error.status, str(error)
    context = {
        **_about(dataset),
        "report": found.report if found else None,
        "checking": None if found else _checking(dataset),
        "row": row,
        "example": as_chat(line, row.row),
        "text": text,
        "problem": problem,
        "trail": list(origins.trail(dataset, split, line)),
        "earlier": findings.place(dataset.splits, number - 1) if number else None,
        "later": findings.place(dataset.splits, number + 1)
        if number + 1 < dataset.examples
        else None,
        **(_tokens(found, split, line) if found and "tokens" in request.GET else {}),
    }
    template = partial(request, "registry/datasets/row.html", "tokens")
    return render(request, template, context, status=status)


def _tokens(found: Findings, split: str, line: int) -> dict[str, Any]:
    try:
        return {"rendered": rows.tokens_of(found, split, line)}
    except HubError as error:
        return {"tokens_error": str(error)}


def _sent_fix(request: HttpRequest, wanted: rows.Wanted) -> Fix:
    """Raises Invalid."""
    form = FixForm(request.POST)
    if not form.is_valid():
        raise Invalid("Choose what to do with the rows, and write at most 500 characters.")
    fix = form.fix(request.POST, wanted)
    if not fix.keys and form.cleaned_data["scope"] != "all":
        raise Invalid("No row is ticked: tick some, or choose all that match the filters.")
    return fix


def _fixed(request: HttpRequest, dataset: Dataset, fix: Fix) -> Dataset | DatasetTask:
    """Where to go on after a fix: the task that makes the revision or checks its rows, or the
    revision's page. Raises what `start_fix` raises."""
    made = start_fix(dataset, fix)
    if isinstance(made, DatasetTask):
        return made
    done = [f"{made.fixes[how]} {how}" for how in origins.CHANGES if made.fixes[how]]
    messages.success(request, f"Revision {made.revision} is made: rows {', '.join(done)}.")
    return _checking(made) or made


@require_GET
def dataset_changes(request: HtmxRequest, pk: int) -> HttpResponse:
    """The rows that a fix dropped, edited, moved or redacted, before and after."""
    dataset = get_object_or_404(Dataset.objects.select_related("previous"), pk=pk)
    counts: dict[str, int] = {
        name: count for name in origins.CHANGES if (count := dataset.fixes.get(name))
    }
    how = request.GET.get("how", "")
    how = how if how in counts else next(iter(counts), "dropped")
    page = Paginator(range(counts.get(how, 0)), _DIFFERENCES).get_page(request.GET.get("page"))
    context: dict[str, Any] = {"dataset": dataset, "counts": counts, "how": how, "page": page}
    try:
        first = max(0, page.start_index() - 1)
        found, _ = origins.differences(dataset, how, first, _DIFFERENCES)
        context["changes"] = [(one, _compared(one)) for one in found]
    except HubError as error:
        context["problem"] = str(error)
    template = partial(request, "registry/datasets/changes.html", "rows")
    return render(request, template, context)


def _compared(change: origins.Difference) -> list[tuple[str, str]]:
    """The parts of a row's text with what was done to them, long ones that stayed cut short."""
    before = json.dumps(change.before.row, ensure_ascii=False, indent=1)
    if change.after is None or change.after.text == change.before.text:
        return [("equal", before)]
    after = json.dumps(change.after.row, ensure_ascii=False, indent=1)
    return [
        (how, f"{part[:_AROUND]} … {part[-_AROUND:]}" if _is_long(how, part) else part)
        for how, part in texts.compared(before, after)
    ]


def _is_long(how: str, part: str) -> bool:
    return how == "equal" and len(part) > 3 * _AROUND
