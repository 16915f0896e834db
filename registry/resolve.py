"""From a name that a client gives to the files that answer.

`NAME` is the alias `production`, else the newest ready version; `NAME@1.2.0` one version;
`NAME@alias` what the alias points at; `base:NAME` a base model alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.db.models import OuterRef, Q, Subquery

from registry import paths
from registry.errors import Conflict, Damaged, NotFound
from registry.models import Alias, BaseModel, Model, ModelVersion
from registry.verification import check_sizes

PRODUCTION = "production"
_BASE = "base:"
_SHOWN = 10
_TOLD = (  # of a version, in a list of names; its parameters and environment are long
    "version",
    "created_at",
    "manifest_sha256",
    "artifact_path",
    "model__name",
    "base_model__name",
    "base_model__path",
)
LISTED = 500


@dataclass(frozen=True)
class Served:
    """What answers under the name `label`. Without a version it is the untouched base."""

    label: str
    base: BaseModel
    version: ModelVersion | None

    @property
    def base_path(self) -> Path:
        return paths.absolute(self.base.path)

    @property
    def adapter_path(self) -> Path | None:
        return paths.absolute(self.version.artifact_path) if self.version else None


def resolve(name: str) -> Served:
    """Raises NotFound (naming what exists), Conflict (the version cannot be served) and Damaged
    (files are missing or cut short; the engine reads every byte before it loads them)."""
    if name.startswith(_BASE):
        return _base(name)
    model_name, at, selector = name.partition("@")
    model = Model.objects.filter(name__iexact=model_name).first()
    if model is None:
        raise NotFound(f"There is no model {model_name!r}. {_models_that_exist()}")
    if model.archived_at is not None:
        raise Conflict(f"{model} is archived and not served; restore it first.")
    version = _selected(model, selector) if at else _default(model)
    if problems := check_sizes(paths.absolute(version.artifact_path), version.manifest_sha256):
        raise Damaged(f"{version} is damaged and cannot be loaded: {' '.join(problems[:3])}")
    return _named(name, version)


def served_names() -> list[Served]:
    """Everything that can be asked for: of each model its name, its aliases and its ready
    versions, then the base models. With more than LISTED ready versions only each model's newest
    and those that an alias names; the others still answer when they are asked for."""
    ready = (
        ModelVersion.objects.ready()
        .filter(moving_to="", model__archived_at=None)
        .select_related("model", "base_model")
        .only(*_TOLD)
        .order_by("model__name", "-major", "-minor", "-patch")
    )
    if len(ready.order_by().values_list("pk")[: LISTED + 1]) > LISTED:
        own = ready.filter(model=OuterRef("pk")).newest_first().values("pk")[:1]
        newest = Model.objects.annotate(newest=Subquery(own)).filter(newest__isnull=False)
        ready = ready.filter(
            Q(pk__in=newest.order_by().values("newest")) | Q(pk__in=Alias.objects.values("version"))
        )
    versions = {version.pk: version for version in ready}
    aliases: dict[int, list[Alias]] = {}
    for alias in Alias.objects.filter(version__in=versions).order_by("name"):
        aliases.setdefault(alias.model_id, []).append(alias)
    names: list[Served] = []
    seen: set[int] = set()
    for version in versions.values():
        if version.model_id not in seen:
            seen.add(version.model_id)
            named = {
                alias.name: versions[alias.version_id]
                for alias in aliases.get(version.model_id, [])
            }
            label = version.model.name
            names.append(_named(label, named.get(PRODUCTION, version)))
            names += [_named(f"{label}@{alias}", target) for alias, target in named.items()]
        names.append(_named(str(version), version))
    return names + [_base(f"{_BASE}{base.name}", base) for base in BaseModel.objects.all()]


def _base(name: str, base: BaseModel | None = None) -> Served:
    wanted = name.removeprefix(_BASE)
    base = base or BaseModel.objects.filter(name__iexact=wanted).first()
    if base is None:
        known = _listed(list(BaseModel.objects.values_list("name", flat=True)[: _SHOWN + 1]))
        raise NotFound(f"There is no base model {wanted!r}. {known}")
    return Served(name, base, None)


def _default(model: Model) -> ModelVersion:
    versions = model.versions.ready().filter(moving_to="").select_related("model", "base_model")
    version = versions.filter(aliases__name=PRODUCTION).first() or versions.newest_first().first()
    if version is None:
        raise Conflict(f"{model} has no version that is ready; train one first.")
    return version


def _selected(model: Model, selector: str) -> ModelVersion:
    versions = model.versions.select_related("model", "base_model")
    field = "version" if selector[:1].isdigit() else "aliases__name"
    version = versions.filter(**{field: selector}).first()
    if version is None:
        raise NotFound(f"{model} has no version or alias {selector!r}. {_selectors(model)}")
    if version.status != ModelVersion.Status.READY:
        raise Conflict(f"{version} is {version.status} and cannot be served.")
    if version.moving_to:
        raise Conflict(f"{version} is being moved to the archive and cannot be served.")
    return version


def _named(label: str, version: ModelVersion) -> Served:
    return Served(label, version.base_model, version)


def _models_that_exist() -> str:
    return _listed(
        list(Model.objects.order_by("name").values_list("name", flat=True)[: _SHOWN + 1])
    )


def _selectors(model: Model) -> str:
    aliases = list(model.aliases.values_list("name", flat=True)[: _SHOWN + 1])
    ready = model.versions.ready().newest_first()
    return _listed(aliases + list(ready.values_list("version", flat=True)[: _SHOWN + 1]))


def _listed(names: list[str]) -> str:
    if not names:
        return "There is none yet."
    more = ", …" if len(names) > _SHOWN else ""
    return f"There is: {', '.join(names[:_SHOWN])}{more}."
