"""The page `/styleguide/`: tokens and components as every page has them, each in its states, in light and
dark beside each other."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from registry.models.work import Work
from registry.web.same import Same

_TOKEN = re.compile(r"^  --([a-z0-9-]+): (.+);$", re.MULTILINE)
STATUSES = ("ready", "running", "queued", "failed", "archived")
LEVELS = ("success", "info", "warning", "error")


class ExampleForm(forms.Form):
    """One field of each kind."""

    name = forms.CharField(help_text="Letters, digits, dots, dashes, underscores.")
    steps = forms.IntegerField(min_value=1, initial=300)
    task = forms.ChoiceField(choices=[("chat", "Chat"), ("extraction", "Extraction")])
    notes = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))
    pack = forms.BooleanField(required=False, label="Pack short examples together")


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """For whoever builds pages, so only with HUB_DEBUG."""
    if not settings.DEBUG:
        raise Http404
    context = {
        "colours": [name for name, value in tokens() if "#" in value or "series" in name],
        "sizes": [(name, value) for name, value in tokens() if value.endswith("px")],
        "themes": [_theme("light"), _theme("dark")],
        "statuses": STATUSES,
        "levels": LEVELS,
        "same": Same("curl http://127.0.0.1:8000/api/models", f"{settings.COMMAND} list_models"),
        "tabs": [("Overview", "#", True, ()), ("Training", "#", False, ())],
    }
    return render(request, "hub/styleguide.html", context)


def tokens() -> list[tuple[str, str]]:
    """The custom properties at the top of the stylesheet, with their values."""
    return _TOKEN.findall((settings.BASE_DIR / "static/css/hub.css").read_text())


def _theme(name: str) -> dict[str, Any]:
    wrong = ExampleForm({"name": "", "steps": "0", "task": "chat"}, auto_id=f"{name}_wrong_%s")
    work = {
        "light": _work(Work.Status.RUNNING, 0.4, "Copying files"),
        "dark": _work(
            Work.Status.FAILED, 0.4, "Copying files", "The disk is full: make room, retry."
        ),
    }
    return {
        "name": name,
        "form": ExampleForm(auto_id=f"{name}_%s"),
        "wrong": wrong,
        "task": work[name],
    }


def _work(status: Work.Status, share: float, stage: str, error: str = "") -> SimpleNamespace:
    """As much of a row of long work as its part shows."""
    return SimpleNamespace(
        status=status,
        get_status_display=status.label,
        is_running=status == Work.Status.RUNNING,
        has_failed=status == Work.Status.FAILED,
        share=share,
        stage=stage,
        error_message=error,
    )
