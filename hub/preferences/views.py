"""The page Settings: every setting in its group, with a form for those that can be changed here."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from hub.preferences import changing, values
from hub.preferences.table import ENTRIES, GROUPS, Effect
from registry.errors import HubError

BROWSER = ("browser", "This browser")


@never_cache
@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    """One group of settings (`?in=`); a POST has the values of its form."""
    key, title, group = _group(request.GET.get("in", ""))
    typed: dict[str, str] = {}
    errors: dict[str, str] = {}
    general, status = "", 200
    if request.method == "POST":
        typed = {name: str(value) for name, value in request.POST.items() if name in ENTRIES}
        try:
            _say(request, changing.change(_different(typed)))
            return redirect(reverse("settings", query={"in": key}))
        except changing.Refused as error:
            errors, status = error.by_name, error.status
        except HubError as error:
            general, status = str(error), error.status
    context = {
        "key": key,
        "title": title,
        "entries": [(shown, _field(shown, typed, errors)) for shown in group],
        "can_save": any(shown.changeable for shown in group),
        "general": general,
        "tabs": [
            (name, reverse("settings", query={"in": one}), one == key, ())
            for one, name in (*((one, name) for one, name, _ in GROUPS), BROWSER)
        ],
    }
    return render(request, "hub/settings.html", context, status=status)


def _group(key: str) -> tuple[str, str, list[values.Shown]]:
    """The group that is asked for, else the first; the browser's own is none of the hub's."""
    if key == BROWSER[0]:
        return *BROWSER, []
    groups = values.every()
    return next((group for group in groups if group[0] == key), groups[0])


def _different(typed: dict[str, str]) -> dict[str, str]:
    """What was typed, without what the form showed already."""
    return {
        name: text.strip()
        for name, text in typed.items()
        if text.strip() != _chosen(values.one(name))
    }


def _chosen(shown: values.Shown) -> str:
    return shown.value if shown.waiting is None else shown.waiting


def _field(shown: values.Shown, typed: dict[str, str], errors: dict[str, str]) -> dict[str, Any]:
    name = shown.entry.name
    words = {"true": "On", "false": "Off"}
    return {
        "value": typed.get(name, _chosen(shown)),
        "error": errors.get(name, ""),
        "choices": [(choice, words.get(choice, choice)) for choice in shown.choices],
        "shown": words.get(shown.value, shown.value),
        "default": words.get(shown.default, shown.default),
        "waiting": words.get(shown.waiting or "", shown.waiting or "none"),
    }


def _say(request: HttpRequest, changed: list[str]) -> None:
    if not changed:
        messages.info(request, "Nothing was changed.")
        return
    names = ", ".join(ENTRIES[name].label for name in changed)
    effects = [
        effect.words for effect in Effect if any(ENTRIES[n].effect is effect for n in changed)
    ]
    messages.success(request, f"Saved: {names}. {'; '.join(effects)}.")
