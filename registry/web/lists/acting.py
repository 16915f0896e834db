"""What is done with the rows that are selected: asked once, done one by one, told for each.

An action that is not confirmed yet is answered with a page, or for htmx a dialog, that names the
rows and what becomes of them. What one of them refuses doesn't keep the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import messages
from django.db.models import Model, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from registry.errors import HubError
from registry.web.htmx import HtmxRequest, is_part
from registry.web.lists.actions import Action
from registry.web.lists.listing import Listing

MOST = 100


def act[T: Model](
    request: HtmxRequest, listing: Listing[T], name: str, found: QuerySet[T], back: str
) -> HttpResponse:
    """Do the list's action of that name with the rows of `found` that the form names in `pick`.
    `back` is the address of the list, for a form that doesn't say where it comes from.

    Raises Http404 for an action that the list doesn't have.
    """
    key, noun = listing.key, (listing.noun, listing.nouns)
    action = next((one for one in listing.actions if one.name == name), None)
    if action is None:
        raise Http404(f"There is nothing called {name} to do here.")
    back = _back(request, back)
    picks = request.POST.getlist("pick")[:MOST]
    rows = _picked(found, picks, key)
    if not rows:
        messages.warning(request, f"Select at least one {noun[0]}: those are gone or none was.")
        return _leave(request, back)
    if action.go is not None:
        return _leave(request, action.go(rows))
    if "confirmed" not in request.POST:
        asked = [(listing.heading(row), getattr(row, key), action.refuses(row)) for row in rows]
        possible = sum(not refused for _, _, refused in asked)
        context = {
            "action": action,
            "possible": possible,
            "count": _counted(possible or len(rows), noun),
            "rows": asked,
            "back": back,
        }
        template = "_confirm.html#ask" if is_part(request) else "_confirm.html"
        return render(request, template, context)
    _do(request, listing, action, rows, len(picks) - len(rows))
    return redirect(back)


def _picked[T: Model](found: QuerySet[T], picks: Sequence[str], key: str) -> list[T]:
    if key == "pk":
        picks = [pick for pick in picks if pick.isdecimal() and len(pick) < 19]
    return list(found.filter(**{f"{key}__in": picks})) if picks else []


def _do[T: Model](
    request: HtmxRequest, listing: Listing[T], action: Action[T], rows: list[T], gone: int
) -> None:
    assert action.do is not None
    noun, done, refused, partly = (listing.noun, listing.nouns), 0, [], []
    for row in rows:
        name = listing.heading(row)
        try:
            told = action.do(row)
        except HubError as error:
            said = str(error)
            refused.append(said if name.lower() in said.lower() else f"{name}: {said}")
        else:
            done += 1
            partly += [told] if isinstance(told, str) and told else []
    if done:
        messages.success(request, f"{_counted(done, noun)} {action.done}.")
    if refused:
        count = _counted(len(refused), noun)
        messages.error(request, f"{count} not {action.done}. {' '.join(refused)}")
    for told in partly:
        messages.error(request, told)
    if gone > 0:
        messages.warning(request, f"{_counted(gone, noun)} gone meanwhile.")


def _counted(count: int, noun: tuple[str, str]) -> str:
    return f"{count} {noun[0] if count == 1 else noun[1]}"


def _leave(request: HtmxRequest, url: str) -> HttpResponse:
    """Go there, also when htmx asks, which would follow a redirect and show that page in a dialog."""
    if is_part(request):
        return HttpResponse(status=204, headers={"HX-Redirect": url})
    return redirect(url)


def _back(request: HtmxRequest, otherwise: str) -> str:
    """The list as the person left it; never a page of another site."""
    back = request.POST.get("back", "") or (request.htmx.current_url_abs_path or "")
    local = back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return back if local else otherwise
