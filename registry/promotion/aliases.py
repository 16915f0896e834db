"""Aliases: moved whole with who and why, judged by promotion rules, rolled back, deleted.

Every change is a row of the history, a deletion too: its `to_version` is empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from registry.audit import Action, audit
from registry.errors import Conflict, Invalid, NotFound
from registry.mlflow import tracking
from registry.models import Alias, AliasMove, Model, ModelVersion
from registry.names import validate_alias
from registry.promotion import rules


def move_alias(
    model: Model,
    name: str,
    version: ModelVersion,
    by: str = "",
    reason: str = "",
    force: bool = False,
) -> AliasMove:
    """Point the alias `name` at `version` and keep the move in the history, both or neither.

    An alias that points there already stays, and its last move is returned. Raises Invalid for a
    bad name or another model's version, Conflict when the version is not ready or a promotion
    rule refuses it. `force` overrides the rules, which the history records.
    """
    try:
        validate_alias(name)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages)) from None
    if version.model_id != model.pk:
        raise Invalid(f"{version} is not a version of {model}.")
    with transaction.atomic():
        current = _lock(model, name)
        return _move(model, name, current, version, by, reason, force)


def rollback_alias(
    model: Model,
    name: str,
    by: str = "",
    reason: str = "",
    to: str | None = None,
) -> AliasMove:
    """Undo the last move of the alias, which is a move of its own; a deleted alias comes back.

    Promotion rules do not stop it, since what it returns to was serving before, but what they
    say is kept. `to` is the version that the caller expects to return to: raises Conflict when it
    would be another, as after a second click. Raises NotFound when the alias never existed and
    Conflict when it has no earlier version, or that one is no longer ready.
    """
    with transaction.atomic():
        current = _lock(model, name)
        last = AliasMove.objects.filter(model=model, name=name).first()
        if last is None:
            raise NotFound(f"{model} has no alias {name!r}.")
        target = last.from_version
        if target is None:
            raise Conflict(f"{model}@{name} had no earlier version to roll back to.")
        if to is not None and target.version != to:
            raise Conflict(f"{model}@{name} was moved in the meantime; reload and try again.")
        return _move(model, name, current, target, by, reason or "Rolled back", force=True)


def delete_alias(model: Model, name: str, by: str = "", reason: str = "") -> AliasMove:
    """Delete the alias and record that in its history, which stays. Raises NotFound."""
    with transaction.atomic():
        current = _lock(model, name)
        if current is None:
            raise NotFound(f"{model} has no alias {name!r}.")
        return _write(model, name, current, None, by, reason, [])


def previous_versions(model: Model) -> dict[str, ModelVersion]:
    """Alias → the ready version that a rollback returns to, of those aliases that have one."""
    # A model's moves are made one after the other (`_lock`), so the last has the highest number.
    last = model.alias_moves.order_by().values("name").annotate(last=Max("pk"))
    moves = AliasMove.objects.filter(pk__in=last.values("last"))
    return {
        move.name: move.from_version
        for move in moves.select_related("from_version__model").order_by("name")
        if move.from_version and move.from_version.status == ModelVersion.Status.READY
    }


def _lock(model: Model, name: str) -> ModelVersion | None:
    """The version the alias points at, with the model's row locked: that serializes all moves of
    its aliases, the first one of a name included."""
    Model.objects.select_for_update().get(pk=model.pk)
    alias = Alias.objects.select_related("version__model").filter(model=model, name=name).first()
    return alias.version if alias else None


def _move(
    model: Model,
    name: str,
    current: ModelVersion | None,
    version: ModelVersion,
    by: str,
    reason: str,
    force: bool,
) -> AliasMove:
    """Judge and move, inside the transaction that holds the lock."""
    target = ModelVersion.objects.select_for_update().get(pk=version.pk)
    if target.status != ModelVersion.Status.READY:
        raise Conflict(f"{target} is {target.status}; only a ready version can be aliased.")
    if target.moving_to:
        raise Conflict(f"{target} is being moved to the archive and cannot be aliased.")
    moves = AliasMove.objects.filter(model=model, name=name, to_version=target)
    if current and current.pk == target.pk and (last := moves.first()):
        return last
    verdicts = rules.judge(model, name, target, current)
    refused = rules.refusals(verdicts)
    if refused and not force:
        raise Conflict(f"{model}@{name} was not moved: {' '.join(refused)}")
    return _write(model, name, current, target, by, reason, verdicts)


def _write(
    model: Model,
    name: str,
    current: ModelVersion | None,
    target: ModelVersion | None,
    by: str,
    reason: str,
    verdicts: Sequence[rules.Verdict],
) -> AliasMove:
    """The one place where an alias changes; what depends on it is notified from here."""
    if target is None:
        Alias.objects.filter(model=model, name=name).delete()
    else:
        Alias.objects.update_or_create(model=model, name=name, defaults={"version": target})
    tracking.alias_moved(model, name)
    _record(model, name, current, target, reason, forced=bool(rules.refusals(verdicts)))
    return AliasMove.objects.create(
        model=model,
        name=name,
        from_version=current,
        to_version=target,
        by=by,
        reason=reason,
        gate=[verdict.as_json() for verdict in verdicts],
        forced=bool(rules.refusals(verdicts)),
    )


def _record(
    model: Model,
    name: str,
    current: ModelVersion | None,
    target: ModelVersion | None,
    reason: str,
    *,
    forced: bool,
) -> None:
    before, now = (version.version if version else "none" for version in (current, target))
    detail = f"{before} → {now}" + (", overriding a promotion rule" if forced else "")
    action = Action.ALIAS_MOVED if target else Action.ALIAS_DELETED
    audit(action, f"{model}@{name}", f"{detail}: {reason}" if reason else detail)
