"""The page of a task, whatever it makes, and its retry."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django_htmx.http import HttpResponseClientRedirect

from registry.background import work
from registry.errors import HubError
from registry.models.work import Work
from registry.web.htmx import HtmxRequest, partial

type Link = tuple[str, str]
"""Text and URL."""


def task_page(
    request: HtmxRequest, task: Work, made: str, parents: list[Link], again: Link
) -> HttpResponse:
    """How far `task` is; once something is `made`, a redirect to it. `again` starts a new one."""
    if made:
        return HttpResponseClientRedirect(made) if request.htmx else redirect(made)
    context = {
        "task": task,
        "can_retry": work.can_retry(task),
        "parents": parents,
        "again": again,
    }
    return render(request, partial(request, "registry/task.html", "work"), context)


def retry_task(request: HttpRequest, task: Work) -> HttpResponse:
    """Do it again, and go back to its page, below which the address of its retry lies."""
    try:
        work.retry(task)
    except HubError as error:
        messages.error(request, str(error))
    return redirect(request.path.removesuffix("retry/"))
