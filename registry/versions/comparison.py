"""Versions side by side: where they differ, and which one is better at what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.base import in_new_words
from registry.errors import Invalid, NotFound
from registry.models import ModelVersion, ModelVersionQuerySet
from registry.task_types import METRICS

MOST = 8  # columns of a table that a person can still read
_FIRST = (
    *METRICS,
    *("val_loss", "test_loss", "perplexity", "base_perplexity", "train_loss"),
)
_HIGHER_IS_BETTER = (
    "exact_match",
    "accuracy",
    "tokens_per_second",
    "f1",
    "precision",
    "recall",
    "json",
    "contains",
    "_acc",
    "client_",
    "clients_passed",
)


@dataclass(frozen=True)
class ComparedRow:
    """One fact of several versions, None where it is unknown; `best` is the index of the best
    value, `differences` is each value less the first one's where both are numbers."""

    name: str
    values: tuple[Any, ...]
    best: int | None = None
    differences: tuple[float | None, ...] = ()

    @property
    def same(self) -> bool:
        return all(value == self.values[0] for value in self.values)

    @property
    def cells(self) -> list[tuple[Any, float | None]]:
        """(value, difference to the first) of each version, for a template."""
        missing = (None,) * (len(self.values) - len(self.differences))
        return list(zip(self.values, (*self.differences, *missing), strict=True))


@dataclass(frozen=True)
class Comparison:
    """A comparison of `versions`; every row has one value per version."""

    versions: tuple[ModelVersion, ...]
    metrics: list[ComparedRow]
    facts: list[ComparedRow]
    params: list[ComparedRow]
    packages: list[ComparedRow]
    hardware: list[ComparedRow]

    @property
    def differing(self) -> list[tuple[str, list[ComparedRow]]]:
        """What is not the same everywhere, under the titles of the page's tables."""
        titles = {
            "Where it comes from": self.facts,
            "Parameter": self.params,
            "Package": self.packages,
            "Machine": self.hardware,
        }
        differing = {title: [r for r in rows if not r.same] for title, rows in titles.items()}
        return [(title, rows) for title, rows in differing.items() if rows]


def find_versions(names: Sequence[str]) -> list[ModelVersion]:
    """The versions `NAME@1.2.0` or `NAME@alias`, in that order, each once.

    Raises Invalid unless there are 2 to MOST different ones, NotFound for one that is not there.
    """
    wanted = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if len(wanted) > MOST:
        raise Invalid(f"At most {MOST} versions can be compared; {len(wanted)} were given.")
    found = list({version.pk: version for version in map(find_version, wanted)}.values())
    if len(found) < 2:
        raise Invalid("Choose at least two different versions, each as NAME@VERSION.")
    return found


def find_version(name: str) -> ModelVersion:
    """The version `NAME@1.2.0` or `NAME@alias`, in any status. Raises Invalid and NotFound."""
    model, _, selector = name.partition("@")
    if not model or not selector:
        raise Invalid(f"{name!r} is not a version; write NAME@VERSION, such as calendar@0.1.0.")
    version = _with_related().selected(selector).filter(model__name__iexact=model).first()
    if version is None:
        raise NotFound(f"There is no version {name!r}.")
    return version


def compare(versions: Sequence[ModelVersion]) -> Comparison:
    """Compare versions of any models; differences are to the first."""
    return Comparison(
        versions=tuple(versions),
        metrics=compare_metrics(versions),
        facts=_rows([_facts(version) for version in versions], keep_order=True),
        params=_rows([flatten(version.params) for version in versions]),
        packages=_rows([version.packages for version in versions]),
        hardware=_rows([version.hardware for version in versions]),
    )


def compare_metrics(versions: Sequence[ModelVersion]) -> list[ComparedRow]:
    """Every metric that any of the versions has."""
    names = by_weight({name for version in versions for name in version.metrics})
    rows = []
    for name in names:
        values = tuple(version.metrics.get(name) for version in versions)
        rows.append(ComparedRow(name, values, _best(name, values), _differences(values)))
    return rows


def compare_params(versions: Sequence[ModelVersion]) -> list[ComparedRow]:
    """The parameters, seed and data set in which the versions differ."""
    flat = [
        {
            **flatten(version.params),
            "seed": version.seed,
            "data set": str(version.dataset) if version.dataset else None,
        }
        for version in versions
    ]
    return [row for row in _rows(flat) if not row.same]


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"lora": {"rank": 8}}` → `{"lora.rank": 8}`, with today's names of settings."""
    flat: dict[str, Any] = {}
    for name, value in in_new_words(params).items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def by_weight(names: Iterable[str]) -> list[str]:
    """Names of metrics, what decides about a version first."""
    first = {name: place for place, name in enumerate(_FIRST)}
    return sorted(names, key=lambda name: (first.get(name, len(first)), name))


def _with_related() -> ModelVersionQuerySet:
    related = ModelVersion.objects.select_related("model", "base_model", "dataset", "parent", "job")
    return related.prefetch_related("aliases")


def _facts(version: ModelVersion) -> dict[str, Any]:
    dataset = version.dataset
    return {
        "status": version.status,
        "data set": dataset.name if dataset else None,
        "data set revision": dataset.revision if dataset else None,
        "data set sha256": version.dataset_checksum or None,
        "base model": version.base_model.name,
        "base model sha256": version.base_checksum or None,
        "parent": str(version.parent) if version.parent else "none",
        "seed": version.seed,
        "size_bytes": version.size_bytes if version.manifest_sha256 else None,
        "git commit": version.git_commit or None,
        "uncommitted changes": version.git_dirty,
        "made": version.created_at.isoformat(timespec="seconds"),
    }


def _rows(columns: Sequence[Mapping[str, Any]], *, keep_order: bool = False) -> list[ComparedRow]:
    names = list(dict.fromkeys(name for column in columns for name in column))
    if not keep_order:
        names.sort()
    return [ComparedRow(name, tuple(column.get(name) for column in columns)) for name in names]


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return value if known else None


def _differences(values: tuple[Any, ...]) -> tuple[float | None, ...]:
    first = _number(values[0])
    rest = [
        None if first is None or (number := _number(value)) is None else number - first
        for value in values[1:]
    ]
    return (None, *rest)


def _best(name: str, values: tuple[Any, ...]) -> int | None:
    known = [
        (number, index)
        for index, value in enumerate(values)
        if (number := _number(value)) is not None
    ]
    if len(known) < 2 or len({value for value, _ in known}) == 1 or name.startswith("base_"):
        return None
    pick = max if any(word in name for word in _HIGHER_IS_BETTER) else min
    # The first of equals: `pick` would otherwise compare their indexes.
    value = pick(known)[0]
    return next(index for number, index in known if number == value)
