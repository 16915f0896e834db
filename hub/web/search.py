"""Search over everything that has a page: what the palette and the search page offer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from django.http import HttpRequest
from django.urls import reverse

from hub.preferences.table import GROUPS
from hub.web import permissions
from inference import lookup
from inference.models import Conversation
from registry.datasets.workbench.words import rows_with
from registry.models import Alias, BaseModel, Dataset, Model, ModelVersion
from training.config.vocabulary import SETTINGS
from training.models import TrainingJob

MOST = 5  # of each kind
READING_S = 0.08  # for looking through texts, of requests and of rows each

_PAGES = (  # name of the route, label, words under which it is found, too
    ("dashboard", "Dashboard", "home overview"),
    ("models", "Models", "list"),
    ("bases", "Base models", "list"),
    ("datasets", "Data sets", "list"),
    ("jobs", "Training", "jobs queue list"),
    ("sweeps", "Sweeps", "grid hyperparameters"),
    ("playground", "Playground", "chat try ask"),
    ("conversations", "Saved conversations", "chats playground"),
    ("requests", "Requests", "log history traces"),
    ("replays", "Replays", "requests again"),
    ("compare", "Compare versions", "difference"),
    ("system", "System", "health memory disk processes"),
    ("audit", "Audit log", "who changed system history"),
    ("speed", "Speed", "benchmark system tokens"),
    ("loaded", "Models in memory", "loaded pin unload"),
    ("keys", "API keys", "tokens access"),
    ("settings", "Settings", "configuration environment retention backups"),
    ("api:openapi-view", "API reference", "openapi documentation"),
)
_ACTIONS = (
    ("start", "Train a model on a file", "start guide drop fine-tune"),
    ("job_new", "Train a new version", "new training job fine-tune"),
    ("dataset_new", "Add a data set", "upload new examples file"),
    ("model_new", "Register a model", "new create"),
    ("base_new", "Add a base model", "new download import hugging face gguf"),
    ("bundle_import", "Import a version from a file", "bundle"),
)


@dataclass(frozen=True)
class Hit:
    """One thing that was found: a link with its icon's name and what distinguishes it."""

    icon: str
    label: str
    detail: str
    href: str


@dataclass(frozen=True)
class Group:
    """Hits of one kind."""

    title: str
    hits: list[Hit]


def search(request: HttpRequest, q: str) -> list[Group]:
    """What fits `q`, newest first in each group; without one the newest jobs and models, actions and
    pages. A person who is signed in finds only what they may open."""
    words = q.lower().split()
    found: list[tuple[str, str, Callable[[], Iterable[Hit]]]] = [
        ("Models", "/models", lambda: _models(q)),
        ("Versions", "/compare", lambda: _versions(q)),
        ("Jobs", "/training", lambda: _jobs(q)),
        ("Data sets", "/datasets", lambda: _datasets(q)),
        ("Base models", "/bases", lambda: _bases(q)),
        ("Conversations", "/playground/conversations/", lambda: _conversations(q)),
        ("Actions", "", lambda: _routes(_ACTIONS, "plus", words)),
        ("Pages", "", lambda: _routes(_PAGES, "", words)),
        ("Settings of a training", "/training", lambda: _settings(words)),
        ("Settings of the hub", "/settings/", lambda: _hub_settings(words)),
        ("Requests", "/requests/", lambda: _requests(q)),
        ("Rows of data sets", "/datasets", lambda: _rows(q)),
    ]
    groups = [Group(title, list(find())) for title, path, find in found if _may(request, path)]
    for group in groups:
        if group.title in ("Actions", "Pages"):
            group.hits[:] = [hit for hit in group.hits if _may(request, hit.href)]
    return [group for group in groups if group.hits]


def _may(request: HttpRequest, path: str) -> bool:
    """Nobody is asked at the machine itself, and a token opens everything."""
    user = request.user
    return not (path and user.is_authenticated) or permissions.allows(user, "GET", path)


def _models(q: str) -> Iterator[Hit]:
    models = Model.objects.filter(archived_at=None).select_related("base_model").order_by("-pk")
    for model in models.filter(name__icontains=q)[:MOST]:
        detail = f"{model.get_task_type_display()} on {model.base_model.name}"
        yield Hit("models", model.name, detail, model.get_absolute_url())


def _versions(q: str) -> Iterator[Hit]:
    """`0.2` finds numbers, `calendar@0.2` a model's, `calendar@production` an alias, and a model's
    name its newest."""
    if not q:
        return
    name, at, number = q.rpartition("@")
    is_number = re.fullmatch(r"[0-9.]+", number) is not None
    aliases = Alias.objects.select_related("model", "version")
    if at or not is_number:
        wanted, alias = (name, number) if at else (q, "")
        named = list(
            Model.objects.filter(name__icontains=wanted)
            .order_by("-pk")
            .values_list("pk", flat=True)[: 4 * MOST]
        )
        for row in aliases.filter(model__in=named, name__startswith=alias)[:MOST]:
            label = f"{row.model.name}@{row.name}"
            yield Hit(
                "models", label, f"version {row.version.version}", row.version.get_absolute_url()
            )
        versions = ModelVersion.objects.filter(model__in=named)
    else:
        versions = ModelVersion.objects.all()
    if is_number:
        versions = versions.filter(version__startswith=number)
    elif at and number:
        return
    for version in versions.select_related("model").order_by("-pk")[:MOST]:
        yield Hit("models", str(version), version.get_status_display(), version.get_absolute_url())


def _datasets(q: str) -> Iterator[Hit]:
    newest = Dataset.objects.filter(next=None, name__icontains=q).order_by("-pk")
    for dataset in newest.defer("schema", "token_stats", "changes")[:MOST]:
        detail = f"{dataset.get_format_display()}, {dataset.examples:,} examples"
        yield Hit("datasets", str(dataset), detail, dataset.get_absolute_url())


def _jobs(q: str) -> Iterator[Hit]:
    """By number (`7`, `job 7`), else of models whose name fits."""
    jobs = TrainingJob.objects.select_related("model", "dataset").order_by("-created_at", "-pk")
    if number := re.fullmatch(r"(?:job\s*)?#?(\d{1,15})", q.strip().lower()):
        jobs = jobs.filter(pk=int(number[1]))
    elif q and q.strip().lower() not in ("job", "jobs"):
        jobs = jobs.filter(model__in=Model.objects.filter(name__icontains=q))
    # First which ones, by an index alone; they are sorted without all that they hold.
    for job in jobs.filter(pk__in=list(jobs.values_list("pk", flat=True)[:MOST])):
        detail = f"{job.get_status_display()} · {job.model.name} on {job.dataset}"
        yield Hit("training", f"Job {job.pk}", detail, job.get_absolute_url())


def _bases(q: str) -> Iterator[Hit]:
    for base in BaseModel.objects.filter(name__icontains=q).order_by("-pk")[:MOST] if q else ():
        detail = ", ".join(filter(None, (base.architecture, base.quantization)))
        yield Hit("models", base.name, detail, reverse("base", args=[base.pk]))


def _conversations(q: str) -> Iterator[Hit]:
    for kept in Conversation.objects.filter(title__icontains=q).order_by("-pk")[:MOST] if q else ():
        yield Hit("playground", kept.title, "", kept.get_absolute_url())


def _requests(q: str) -> Iterator[Hit]:
    """By id, by name and, where texts are kept, by what was asked and answered."""
    for row in lookup.by_id(q, MOST):
        detail = f"{row.get_status_display()} · {row.answered_by or row.requested_model}"
        yield Hit("requests", f"Request {row.request_id[:12]}", detail, row.get_absolute_url())
    for row, text in lookup.by_text(q, MOST, READING_S):
        yield Hit("requests", text, f"asked {row.requested_model}", row.get_absolute_url())
    if q:
        href = f"{reverse('requests')}?{urlencode({'q': q})}"
        yield Hit("requests", f"Requests to “{q}”", "in the log", href)


def _rows(q: str) -> Iterator[Hit]:
    for row in rows_with(q, MOST, READING_S):
        place = reverse("dataset_row", args=[row.dataset.pk, row.split, row.line])
        # A browser scrolls to the words and marks them.
        href = f"{place}#:~:text={quote(q, safe='').replace('-', '%2D')}"
        yield Hit("datasets", row.text, f"{row.dataset}, {row.split} {row.line}", href)


def _routes(routes: Iterable[tuple[str, str, str]], icon: str, words: list[str]) -> Iterator[Hit]:
    for name, label, also in routes:
        known = f"{label} {also}".lower()
        if all(word in known for word in words):
            yield Hit(icon or _ICONS.get(name, "first"), label, "", reverse(name))


_ICONS = {
    **{
        name: name
        for name in ("dashboard", "models", "datasets", "playground", "requests", "system")
    },
    "bases": "models",
    "jobs": "training",
    "sweeps": "training",
    "api:openapi-view": "api",
    "conversations": "playground",
    "replays": "requests",
    "compare": "models",
    "loaded": "system",
    "audit": "system",
    "speed": "system",
    "keys": "system",
    "settings": "sliders",
}


def _settings(words: list[str]) -> Iterator[Hit]:
    if not words:
        return
    found = (s for s in SETTINGS if all(word in f"{s.label} {s.name}".lower() for word in words))
    for setting in list(found)[:MOST]:
        href = f"{reverse('job_new')}#id_{setting.name}"
        yield Hit("sliders", setting.label, setting.help, href)


def _hub_settings(words: list[str]) -> Iterator[Hit]:
    known = ((group, title, entry) for group, title, entries in GROUPS for entry in entries)
    found = [
        (group, entry)
        for group, title, entry in known
        if words
        and all(word in f"{entry.label} {title} {entry.variable}".lower() for word in words)
    ]
    for group, entry in found[:MOST]:
        yield Hit(
            "sliders",
            entry.label,
            entry.variable,
            f"{reverse('settings', query={'in': group})}#{entry.name}",
        )
