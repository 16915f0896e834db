"""From the name in a request to the files that answer it.

`NAME` is the alias `production`, else the newest ready version; `NAME@1.2.0` one version;
`NAME@alias` what the alias points at; `base:NAME` a base model alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from django.db.models import CharField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Concat

from registry.errors import Conflict, Damaged, NotFound
from registry.models import Alias, BaseModel, Model, ModelVersion, ModelVersionQuerySet
from registry.storage import paths
from registry.storage.checks import check_sizes

PRODUCTION = "production"
_BASE = "base:"
_SHOWN = 10
LISTED = 500


@dataclass(frozen=True)
class Served:
    """What answers under the name `label`. Without a version it is the base model alone."""

    label: str
    base: BaseModel
    version: ModelVersion | None

    @property
    def name(self) -> Name:
        row = self.version or self.base
        which = (self.version.model.name, self.version.version) if self.version else ("", "")
        base = self.base
        return Name(self.label, *which, row.created_at, base.context_length, base.pooling)

    @property
    def base_path(self) -> Path:
        return paths.absolute(self.base.path)

    @cached_property  # its look for links out of storage takes longer than all of `check`
    def adapter_path(self) -> Path | None:
        return paths.absolute(self.version.artifact_path) if self.version else None


class _Number(NamedTuple):
    version: str
    created_at: datetime.datetime
    context_length: int


class Name(NamedTuple):
    """A name that can be requested. `model` and the number of the `version` that answers are empty
    for a base model."""

    label: str
    model: str
    version: str
    created_at: datetime.datetime
    context_length: int  # tokens; 0 when the base model does not say
    pooling: str = ""  # of a base model for embeddings only


def resolve(name: str) -> Served:
    """Raises NotFound (naming what exists), Conflict (the version cannot be served) and Damaged
    (files are missing or cut short; the engine reads every byte before it loads them)."""
    served = find(name)
    check(served)
    return served


def check(served: Served) -> None:
    """Raises Damaged."""
    version, folder = served.version, served.adapter_path
    if version is None or folder is None:
        return
    if problems := check_sizes(folder, version.manifest_sha256):
        raise Damaged(f"{version} is damaged and cannot be loaded: {' '.join(problems[:3])}")


def find(name: str) -> Served:
    """What the rows say, without a look at the files. Raises NotFound and Conflict."""
    if name.startswith(_BASE):
        wanted = name.removeprefix(_BASE)
        base = BaseModel.objects.filter(name__iexact=wanted).first()
        if base is None:
            raise NotFound(f"There is no base model {wanted!r}. {_available(_base_names())}")
        return Served(name, base, None)
    model_name, at, selector = name.partition("@")
    model = Model.objects.filter(name__iexact=model_name).first()
    if model is None:
        models = Model.objects.order_by("name").values_list("name", flat=True)
        raise NotFound(f"There is no model {model_name!r}. {_available(models, _base_names())}")
    if model.archived_at is not None:
        raise Conflict(f"{model} is archived and not served; restore it first.")
    version = _selected(model, selector) if at else _default(model)
    return Served(name, version.base_model, version)


def served_names(q: str = "", most: int | None = None) -> list[Name]:
    """Every name that can be requested: of each model its name, its aliases and its ready
    versions, then the base models. `q` is part of the models' names, and only the first `most`
    of them are taken. With more than LISTED ready versions their numbers are left out, and the
    alias that the bare name means; they still answer."""
    models = Model.objects.filter(archived_at=None).order_by("name")
    if q:
        models = models.filter(name__icontains=q)
    if most is not None:
        models = models.filter(pk__in=list(models.values_list("pk", flat=True)[:most]))
    ready = ModelVersion.objects.ready().filter(moving_to="", model__in=models)
    few = len(ready.order_by().values_list("pk")[: LISTED + 1]) <= LISTED
    aliases: dict[str, dict[str, _Number]] = {}
    pointing = Alias.objects.filter(
        version__status=ModelVersion.Status.READY, version__moving_to="", model__in=models
    )
    shown = ("version__version", "version__created_at", "version__base_model__context_length")
    for model, alias, *number in pointing.order_by("name").values_list(
        "model__name", "name", *shown
    ):
        aliases.setdefault(model, {})[alias] = _Number(*number)
    # A name that the alias answers needs no look for its newest version.
    answered = [model for model, named in aliases.items() if PRODUCTION in named]
    others = models.exclude(pk__in=pointing.filter(name=PRODUCTION).values("model"))
    numbers: dict[str, list[_Number]] = {}
    for model, *number in _each(ready) if few else _newest(others):
        numbers.setdefault(model, []).append(_Number(*number))
    names: list[Name] = []
    for model in sorted(numbers.keys() | set(answered)):
        named, own = aliases.get(model, {}), numbers.get(model, [])
        names.append(Name(model, model, *(named.get(PRODUCTION) or own[0])))
        names += [
            Name(f"{model}@{alias}", model, *target)
            for alias, target in named.items()
            if few or alias != PRODUCTION
        ]
        names += [Name(f"{model}@{one.version}", model, *one) for one in own if few]
    bases = BaseModel.objects.values_list("name", "created_at", "context_length", "pooling")
    return names + [
        Name(f"{_BASE}{base}", "", "", made, most, pooling) for base, made, most, pooling in bases
    ]


_COLUMNS = ("model__name", "version", "created_at", "base_model__context_length")


def _each(ready: ModelVersionQuerySet) -> Iterable[tuple[str, str, datetime.datetime, int]]:
    """Model, number, time and context of all of them, the highest numbers first."""
    return ready.newest_first().values_list(*_COLUMNS)


def _newest(models: QuerySet[Model]) -> Iterable[tuple[str, str, datetime.datetime, int]]:
    """The same of each model's highest alone."""
    own = ModelVersion.objects.ready().filter(moving_to="", model=OuterRef("pk")).newest_first()
    highest = models.order_by().values_list(Subquery(own.values("pk")[:1]), flat=True)
    found = ModelVersion.objects.filter(pk__in=[pk for pk in highest if pk]).order_by()
    return found.values_list(*_COLUMNS)


def _default(model: Model) -> ModelVersion:
    versions = model.versions.ready().filter(moving_to="").select_related("model", "base_model")
    version = versions.filter(aliases__name=PRODUCTION).first() or versions.newest_first().first()
    if version is None:
        raise Conflict(f"{model} has no version that is ready; train one first.")
    return version


def _selected(model: Model, selector: str) -> ModelVersion:
    versions = model.versions.select_related("model", "base_model")
    version = versions.selected(selector).first()
    if version is None:
        aliases = model.aliases.values_list("name", flat=True)
        ready = model.versions.ready().newest_first().values_list("version", flat=True)
        raise NotFound(
            f"{model} has no version or alias {selector!r}. {_available(aliases, ready)}"
        )
    if version.status != ModelVersion.Status.READY:
        raise Conflict(f"{version} is {version.status} and cannot be served.")
    if version.moving_to:
        raise Conflict(f"{version} is being moved to the archive and cannot be served.")
    return version


def _base_names() -> QuerySet[BaseModel, str]:
    """Base models as they are requested."""
    name = Concat(Value(_BASE), "name", output_field=CharField())
    return BaseModel.objects.order_by("name").values_list(name, flat=True)


def _available(*sources: QuerySet[Any, str]) -> str:
    """The first names of `sources`, for a sentence."""
    names = [name for source in sources for name in source[: _SHOWN + 1]]
    if not names:
        return "There is none yet."
    more = ", …" if len(names) > _SHOWN else ""
    return f"Available: {', '.join(names[:_SHOWN])}{more}."
