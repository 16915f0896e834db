"""What the pages of every app need of htmx: the request's type, and forms that came back."""

from __future__ import annotations

from typing import Any

from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django_htmx.middleware import HtmxDetails

from registry.errors import HubError


class HtmxRequest(HttpRequest):
    """A request after HtmxMiddleware."""

    htmx: HtmxDetails


def is_part(request: HtmxRequest) -> bool:
    """Whether htmx asks for a part of a page."""
    htmx = request.htmx
    return bool(htmx) and not htmx.boosted and not htmx.history_restore_request


def partial(request: HtmxRequest, template: str, name: str) -> str:
    """The template to render: only its partial `name` when htmx asks, else the whole page.

    htmx also asks when it restores a page from history, and for links that it follows in the
    browser's stead, and then needs the whole.
    """
    part = is_part(request)
    return f"{template}#{name}" if part else template


def form_page(
    request: HttpRequest, template: str, context: dict[str, Any], status: int
) -> HttpResponse:
    """A page with a form. `htmx-config` in base.html has htmx show one with mistakes (409, 422)."""
    return render(request, template, context, status=status)


def refuse(form: Form, error: HubError) -> int:
    """Show the error beside the form; its HTTP status."""
    form.add_error(None, str(error))
    return error.status
