"""Pages on which bundles from other hubs are imported."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry.bundles import tasks as bundle_tasks
from registry.errors import HubError
from registry.models import BundleImport, ModelVersion
from registry.web.forms import ImportBundleForm
from registry.web.htmx import HtmxRequest, form_page, refuse
from registry.web.views.tasks import retry_task, task_page

_TASKS_SHOWN = 10


@require_http_methods(["GET", "POST"])
def bundle_import(request: HttpRequest) -> HttpResponse:
    form = ImportBundleForm(request.POST or None, request.FILES or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                given = form.cleaned_data
                made = bundle_tasks.start_upload(
                    given["file"],
                    given["model"],
                    given["base"].name if given["base"] else "",
                    given["version_number"],
                )
            except HubError as error:
                status = refuse(form, error)
            else:
                if isinstance(made, ModelVersion):
                    messages.success(request, f"{made} is verified and ready.")
                return redirect(made)
    tasks = list(BundleImport.objects.recent()[:_TASKS_SHOWN])
    context = {"form": form, "tasks": tasks}
    return form_page(request, "registry/bundles/import.html", context, status)


@require_GET
def bundle_task(request: HtmxRequest, pk: int) -> HttpResponse:
    """How far the import is; once it is done, the version."""
    rows = BundleImport.objects.up_to_date().select_related("version__model")
    found = get_object_or_404(rows, pk=pk)
    return task_page(
        request,
        found,
        found.version.get_absolute_url() if found.version else "",
        [("Models", reverse("models")), ("Import a bundle", reverse("bundle_import"))],
        ("Send another", reverse("bundle_import")),
    )


@require_POST
def bundle_task_retry(request: HttpRequest, pk: int) -> HttpResponse:
    return retry_task(request, get_object_or_404(BundleImport, pk=pk))
