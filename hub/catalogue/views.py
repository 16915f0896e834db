"""The page on which a base model is found and imported, and its parts, which are slow alone."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from hub.catalogue.cards import cards
from registry.background import work
from registry.bases import folders, local, searching
from registry.bases.registration import default_name, free_name
from registry.conversion import imports
from registry.errors import HubError
from registry.models import BaseImport
from registry.web.forms import ImportBaseForm
from registry.web.htmx import HtmxRequest, form_page, is_part, refuse
from registry.web.machine import at_the_machine

_PAGE = "hub/catalogue.html"


@require_http_methods(["GET", "POST"])
def base_new(request: HttpRequest) -> HttpResponse:
    """Nothing here waits: what is slow comes as a part."""
    form = ImportBaseForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                given = form.cleaned_data
                name = given["name"] or free_name(given["repo"].strip().rpartition("/")[2])
                return _launched(request, imports.start(given["repo"], name, given["revision"]))
            except HubError as error:
                status = refuse(form, error)
    return form_page(request, _PAGE, _context(request, form=form), status)


@require_http_methods(["GET"])
def hub_offers(request: HtmxRequest) -> HttpResponse:
    """What the hub's search gives, within its deadline."""
    words = request.GET.get("q", "").strip()
    found = searching.search(words)
    context = {"found": found, "hub_cards": cards(found.offers)}
    answer = _part(request, "hub", context)
    if is_part(request):
        answer["HX-Replace-Url"] = reverse("base_new", query={"q": words} if words else None)
    return answer


@require_http_methods(["GET", "POST"])
def local_offers(request: HtmxRequest) -> HttpResponse:
    """What other programs keep here; POST imports one by its key."""
    if request.method == "POST":
        try:
            offer = local.find(request.POST.get("key", ""))
            assert offer.path is not None
            return _launched(request, imports.start_local(offer.path, free_name(offer.name)))
        except HubError as error:
            messages.error(request, str(error))
            return redirect("base_new")
    offers = local.scan()
    context = {"local_cards": cards(offers), "reading": any(offer.reading for offer in offers)}
    return _part(request, "here", context)


@require_http_methods(["GET", "POST"])
def folder(request: HtmxRequest) -> HttpResponse:
    """A folder of this machine, for those who sit at it; POST imports a model in it."""
    try:
        at_the_machine(request)
        if request.method == "POST":
            path = folders.allowed(request.POST.get("path", ""))
            name = free_name(default_name(path))
            return _launched(request, imports.start_local(path, name))
        context: dict[str, Any] = {"listing": folders.look(request.GET.get("at", ""))}
    except HubError as error:
        if request.method == "POST":
            messages.error(request, str(error))
            return redirect("base_new")
        context = {"refused": str(error)}
    return _part(request, "folder", context)


def _launched(request: HttpRequest, row: BaseImport) -> HttpResponse:
    work.launch(row)
    messages.success(request, f"{row.name} is being imported.")
    return redirect("bases")


def _part(request: HtmxRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    if is_part(request):
        return form_page(request, f"{_PAGE}#{name}", context, 200)
    return form_page(request, _PAGE, _context(request, **context), 200)


def _context(request: HttpRequest, **more: Any) -> dict[str, Any]:
    return {
        "form": ImportBaseForm(),
        "words": request.GET.get("q", "").strip(),
        "picks": folders.roots() and _is_here(request),
        **more,
    }


def _is_here(request: HttpRequest) -> bool:
    try:
        at_the_machine(request)
    except HubError:
        return False
    return True
