"""Pages of a version: what it gained and some of its answers, and a tab for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry.errors import HubError
from registry.models import Alias, ModelVersion
from registry.names import validate_alias
from registry.promotion import rules
from registry.promotion.aliases import move_alias
from registry.promotion.resolve import PRODUCTION
from registry.storage import artifacts, paths
from registry.versions import drawing, graph, reports
from registry.versions.gain import gain, table, telling
from registry.versions.lifecycle import write_notes
from registry.web.actor import who
from registry.web.forms import MoveAliasForm, NotesForm
from registry.web.htmx import HtmxRequest, partial, refuse
from registry.web.same import Same, alias_moved

TABS = {
    "": "Overview",
    "scores": "Scores",
    "training": "Training",
    "lineage": "Lineage",
    "files": "Files",
    "use": "Use from code",
}
"""By the end of their addresses; `use` is of `inference`."""
_PARTS = {
    "scores": "evaluation clients",
    "training": "curve params",
    "lineage": "picture lineage hardware packages reproduction",
    "files": "files",
}
"""What stood on one page once, by the ids that links name."""
_OTHERS = 25  # versions offered for a comparison


def find(pk: int, version: str) -> ModelVersion:
    """A version with what its pages show. Raises Http404."""
    versions = ModelVersion.objects.select_related(
        "model__base_model", "base_model", "dataset", "parent__model", "job"
    ).prefetch_related("aliases")
    return get_object_or_404(versions, model_id=pk, version=version)


def page(found: ModelVersion, tab: str = "") -> dict[str, Any]:
    """What every page of a version has: head, actions and tabs."""
    pointing = Alias.objects.filter(model=found.model_id, name=PRODUCTION)
    alias = pointing.select_related("version__dataset").first()
    production = alias.version if alias else None
    if production and production.pk == found.pk:
        production = found
    at = found.get_absolute_url()
    return {
        "version": found,
        "job": getattr(found, "job", None),
        "production": production,
        "others": _others(found),
        "trial": _trial(found),
        "tabs": [
            (title, f"{at}{name and f'{name}/'}", name == tab, _PARTS.get(name))
            for name, title in TABS.items()
        ],
    }


def _others(found: ModelVersion) -> list[str]:
    """Numbers of the model's other ready versions, the nearest below it first."""
    numbers = found.model.versions.ready().newest_first().exclude(pk=found.pk)
    own = (found.major, found.minor, found.patch)
    offered = [tuple(row) for row in numbers.values_list("major", "minor", "patch")[:_OTHERS]]
    nearest = [number for number in offered if number < own]
    nearest += [number for number in reversed(offered) if number > own]
    return [".".join(map(str, number)) for number in nearest]


@require_GET
def version(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    return render(request, "registry/versions/detail.html", _overview(find(pk, version)))


def _overview(found: ModelVersion) -> dict[str, Any]:
    context = page(found)
    return {
        **context,
        "gain": gain(found, context["production"]),
        "samples": _samples(found),
        "notes_form": NotesForm(initial={"notes": found.notes}),
    }


def _samples(found: ModelVersion) -> list[dict[str, Any]]:
    """The answers that say most; where scoring kept none, the last ones that training took, which
    have no answer of the base."""
    if kept := telling(found.evaluation.get("samples", [])):
        return [{**one, "scored": True} for one in kept]
    job = getattr(found, "job", None)
    newest: dict[int, dict[str, Any]] = {}
    for row in job.samples.order_by("line", "-iteration") if job else ():
        shown = {"prompt": row.prompt, "expected": row.expected, "tuned": row.answer}
        newest.setdefault(row.line, {**shown, "iteration": row.iteration})
    return list(newest.values())[:3]


def _trial(version: ModelVersion) -> dict[str, str]:
    """The form to try it that its task has, with a text to begin with; {} for the playground alone."""
    form = version.model.task.form
    if version.status != ModelVersion.Status.READY or form == "chat":
        return {}
    if form == "labels" and not version.labels:
        return {}
    [first] = version.evaluation.get("samples", [])[:1] or [{}]
    return {"form": form, "text": first.get("prompt", "")[:500]}


@require_GET
def version_tab(request: HttpRequest, pk: int, version: str, tab: str) -> HttpResponse:
    """One of `scores`, `training`, `lineage` and `files`."""
    found = find(pk, version)
    context = page(found, tab) | _TABS[tab](found)
    if tab == "scores":
        production = context["production"]
        other = production if production and production.pk != found.pk else None
        context |= {"figures": table(found, other), "beside": other}
    return render(request, f"registry/versions/{tab}.html", context)


def _files(version: ModelVersion) -> dict[str, Any]:
    """The manifest's files, or the sentence that says why they cannot be shown."""
    if not version.artifact_path:
        return {}
    try:
        manifest = artifacts.read_manifest(paths.root() / version.artifact_path)
    except (HubError, OSError, ValueError) as error:
        return {"files_error": str(error)}
    return {"files": manifest.files}


_TABS: dict[str, Callable[[ModelVersion], dict[str, Any]]] = {
    "scores": lambda found: {"reports": reports.prepared(found.evaluation)},
    "training": lambda _: {},
    "lineage": lambda found: {"picture": drawing.draw(graph.graph(found))},
    "files": _files,
}


# ------------------------------------------------------------------------------ actions


@require_http_methods(["GET", "POST"])
def version_promote(request: HtmxRequest, pk: int, version: str) -> HttpResponse:
    """The form to promote it, in place above the tabs; the promotion rules decide as everywhere."""
    found = find(pk, version)
    sent = request.POST if request.method == "POST" else None
    asked = {name: request.GET[name] for name in ("name", "reason") if name in request.GET}
    fixed = {"version": found.version}
    form = MoveAliasForm(found.model, sent and {**sent.dict(), **fixed}, initial={**asked, **fixed})
    status = 200
    if sent is not None:
        status = 422
        if form.is_valid():
            name, reason = form.cleaned_data["name"], form.cleaned_data["reason"]
            try:
                move_alias(
                    found.model, name, found, who(request), reason, form.cleaned_data["force"]
                )
            except HubError as error:
                status = refuse(form, error)
            else:
                messages.success(request, f"{found.model.name}@{name} is now version {version}.")
                return redirect(found)
    context = {**verdict(found, form), "form": form, "version": found}
    context["same"] = promoted(request, found, form)
    if partial(request, "", "promote"):  # htmx asks for the form alone
        return render(request, "registry/versions/_promote.html", context, status=status)
    context = {**_overview(found), **context, "promoting": True}
    return render(request, "registry/versions/detail.html", context, status=status)


def promoted(request: HttpRequest, found: ModelVersion, form: MoveAliasForm) -> Same | None:
    """The same as the form, with what it says now; None for an alias that there cannot be."""
    name, reason = (str(form[field].value() or "") for field in ("name", "reason"))
    try:
        validate_alias(name)
    except ValidationError:
        return None
    force = bool(form["force"].value())
    return alias_moved(request, found.model, name, found.version, reason, force)


def verdict(found: ModelVersion, form: MoveAliasForm) -> dict[str, Any]:
    """What the rules say of the version and the alias that the form names."""
    aliases = list(found.model.aliases.select_related("version"))
    name = str(form["name"].value() or "")
    current = next((alias.version for alias in aliases if alias.name == name), None)
    moves = current is None or current.pk != found.pk
    verdicts = rules.judge(found.model, name, found, current) if moves else []
    return {
        "aliases": aliases,
        "current": current,
        "already": None if moves else found,
        "verdicts": verdicts,
        "refused": bool(rules.refusals(verdicts)),
    }


@require_POST
def notes(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    found = get_object_or_404(ModelVersion, model_id=pk, version=version)
    form = NotesForm(request.POST)
    if form.is_valid():
        write_notes(found, form.cleaned_data["notes"])
        messages.success(request, f"The notes on {found} are saved.")
    else:
        messages.error(request, " ".join(map(str, form.errors["notes"])))
    return redirect(found)


@require_GET
def version_diff(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    """What the hub's code differed by from its commit, as a file."""
    found = get_object_or_404(
        ModelVersion.objects.select_related("model"), model_id=pk, version=version
    )
    if not found.git_diff:
        raise Http404
    name = f"{found.model.name}-{found.version}.diff"
    return HttpResponse(
        found.git_diff,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
