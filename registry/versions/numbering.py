"""Which number a version gets: the one rule, for forms, API, commands, training and imports.

A version's number is proposed, and a person may choose another one that is free and greater than
every number that the model has: a name means its newest version, so a new one is never below an
old one. What was checked when a job was queued is checked again when its version is made; if the
choice no longer holds by then, the version gets what is proposed, and says so.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError

from backends.base import as_recorded
from registry.errors import Conflict, HubError, Invalid
from registry.models import Dataset, Model
from registry.names import parse_semver

FIRST = "0.1.0"
_MOST = 999_999  # of each part, as `parse_semver` reads them
_MOST_CHOSEN = 99_999  # so that there is room for what is proposed after a choice


def propose(model: Model, dataset: Dataset, config: dict[str, Any]) -> str:
    """0.1.0 at first; a new patch for the same data, base and parameters (but for the seed);
    else a new minor."""
    newest = model.versions.newest_first().first()
    if newest is None:
        return FIRST
    same = (
        newest.dataset_checksum == dataset.checksum
        and newest.base_checksum == model.base_model.manifest_sha256
        and _without_seed(newest.params) == _without_seed(config)
    )
    numbers = newest.major, newest.minor, newest.patch
    return _next_patch(*numbers) if same else _next_minor(*numbers)


def check(model: Model, number: str) -> None:
    """Raises Invalid when `number` is no semantic version or not above the newest of `model`,
    Conflict when a version has it. A model that is not saved yet has no versions."""
    try:
        parts = parse_semver(number)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages)) from None
    if max(parts) > _MOST_CHOSEN:
        raise Invalid(f"{number} is too high: each part goes to {_MOST_CHOSEN} at most.")
    if model.pk is None:
        return
    if model.versions.filter(version=number).exists():
        raise Conflict(f"There is already a version {model}@{number}; choose a higher number.")
    newest = model.versions.newest_first().first()
    if newest is not None and parts < (newest.major, newest.minor, newest.patch):
        raise Invalid(f"{number} is below the newest version, {newest}; choose a higher number.")


def settle(model: Model, dataset: Dataset, config: dict[str, Any], chosen: str) -> tuple[str, str]:
    """The number of the version that is made now, and what its notes say of it: `chosen` while it
    may be had, else what is proposed."""
    return _settled(model, chosen, propose(model, dataset, config))


def brought(model: Model, own: str, chosen: str) -> tuple[str, str]:
    """As `settle`, for a version from another hub: its own number is what is proposed, and where
    that is taken the patch after the newest."""
    newest = model.versions.newest_first().first()
    if newest is not None and model.versions.filter(version=own).exists():
        own = _next_patch(newest.major, newest.minor, newest.patch)
    return _settled(model, chosen, own)


def _settled(model: Model, chosen: str, proposed: str) -> tuple[str, str]:
    if not chosen:
        return proposed, ""
    try:
        check(model, chosen)
    except HubError as error:
        why = str(error).partition(";")[0].removesuffix(".")
        return proposed, f"{chosen} was chosen for it. {why}, so it is {proposed}."
    return chosen, ""


def _next_patch(major: int, minor: int, patch: int) -> str:
    return f"{major}.{minor}.{patch + 1}" if patch < _MOST else _next_minor(major, minor, patch)


def _next_minor(major: int, minor: int, patch: int) -> str:
    return f"{major}.{minor + 1}.0" if minor < _MOST else f"{major + 1}.0.0"


def _without_seed(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in as_recorded(config).items() if key != "seed"}
