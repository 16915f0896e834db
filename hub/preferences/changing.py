"""Changing settings while the hub runs: checked by the rule that reads the environment, kept in a file in
storage that every process of the hub reads, and recorded in the audit log."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from pydantic import ValidationError

from backends.durable import fsync, sync_folder
from hub.config import SAVED, Config, alone, config, read_saved
from hub.preferences import values
from hub.preferences.table import ENTRIES, Effect
from registry.audit import Action, audit
from registry.errors import Conflict, HubError, Invalid
from registry.problems import problems
from registry.storage import paths

log = structlog.get_logger(__name__)

_Stamp = tuple[int, int] | None
_read: _Stamp = None
"""Which file this process has read last."""


class Refused(Invalid):
    """Some values cannot be; `by_name` has the sentence for each."""

    def __init__(self, by_name: Mapping[str, str]) -> None:
        super().__init__(" ".join(by_name.values()))
        self.by_name = dict(by_name)


def change(asked: Mapping[str, Any]) -> list[str]:
    """Change settings; None or an empty text stands for the default. Returns the names of those that are
    different now.

    Raises Refused where a value cannot be, and Conflict for a setting that something outside the hub
    sets. Then none is changed.
    """
    wanted = {_known(name): value for name, value in asked.items()}
    for name in wanted:
        _require_changeable(name)
    with alone(paths.root()), transaction.atomic():
        saved = read_saved(paths.root())
        before = {name: values.one(name) for name in wanted}
        given = {name: value for name, value in wanted.items() if value not in (None, "")}
        fresh = _checked(given)
        for name in wanted:
            saved.pop(name, None)
            if name in given and getattr(fresh, name) != values.default(name):
                saved[name] = fresh.model_dump(mode="json", include={name})[name]
        changed = []
        for name, old in before.items():
            value = getattr(fresh, name) if name in given else values.default(name)
            was, is_now = _last(old), values.as_text(name, value)
            if was != is_now:
                changed.append(name)
                audit(
                    Action.SETTING_CHANGED,
                    ENTRIES[name].variable,
                    f"{was or 'none'} → {is_now or 'none'}",
                )
        _write(saved)
    refresh()
    return changed


def refresh() -> None:
    """Take over what was saved meanwhile, by this process or another one, as far as it counts at once."""
    global _read
    if (stamp := _stamp()) == _read:
        return
    _read = stamp
    try:
        fresh = Config(storage=paths.root())
    except ValidationError as error:
        log.warning("settings_not_read", file=str(paths.root() / SAVED), errors=error.error_count())
        return
    for name, entry in ENTRIES.items():
        if entry.effect is Effect.NOW:
            # Frozen is what the code sees: nothing else writes to it.
            config.__dict__[name] = getattr(fresh, name)
            if entry.django:
                setattr(settings, entry.django, getattr(fresh, name))


def _stamp() -> _Stamp:
    try:
        found = os.stat(f"{paths.root()}/{SAVED}")  # noqa: PTH116  # for each request
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _known(name: str) -> str:
    plain = name.lower().removeprefix("hub_")
    if plain not in ENTRIES:
        raise Refused({name: f"{name} is no setting; {_LISTED}."})
    return plain


_LISTED = "the page Settings and GET /api/settings list them"


def _require_changeable(name: str) -> None:
    shown = values.one(name)
    if shown.entry.effect is Effect.FIXED:
        raise Conflict(
            f"{shown.entry.variable} can only be set in the environment or in a file such as .env, "
            "before the hub starts."
        )
    if shown.source == "environment":
        raise Conflict(
            f"{shown.entry.variable} is set in the environment, which takes precedence: change it "
            "there, or remove it from there to change it here."
        )
    if shown.source == "file":
        raise Conflict(
            f"{shown.entry.variable} is set in {shown.origin}, which takes precedence: change it "
            "there, or remove it from there to change it here."
        )


def _checked(given: dict[str, Any]) -> Config:
    try:
        return Config(storage=paths.root(), **given)
    except ValidationError as error:
        found = {}
        for problem in problems(error.errors(), given):
            name = problem.place.partition(".")[0] or _named(problem.sentence, given)
            found[name] = problem.sentence.replace(name, ENTRIES[name].label, 1)
        raise Refused(found) from None


def _named(sentence: str, given: Mapping[str, Any]) -> str:
    """The setting that a rule about several of them speaks of."""
    said = [one.lower().removeprefix("hub_") for one in re.findall(r"HUB_[A-Z_]+", sentence)]
    return next((name for name in said if name in given), next(iter(given)))


def _last(shown: values.Shown) -> str:
    """What was chosen last, even if it does not count yet."""
    return shown.value if shown.waiting is None else shown.waiting


def _write(saved: dict[str, Any]) -> None:
    path = paths.root() / SAVED
    beside = path.with_name(f".{SAVED}")
    try:
        beside.write_text(json.dumps(dict(sorted(saved.items())), indent=2) + "\n")
        beside.chmod(0o600)
        fsync(beside)
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise HubError(
            f"{path} cannot be written ({error.strerror}); nothing was changed."
        ) from error
