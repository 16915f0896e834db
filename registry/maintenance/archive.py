"""Versions are archived and restored, with their checksums verified before and after the move.

The row says first where the files are going (`moving_to`), then the folder is renamed, then the
row says that they have arrived. Whatever dies in between leaves a row with `moving_to`, which
`finish_move` completes from either side of the rename; any number of processes may try at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from django.db import transaction

from backends.durable import fsync
from registry.audit import Action, audit
from registry.errors import Conflict, Damaged
from registry.mlflow import tracking
from registry.models import Model, ModelVersion
from registry.storage import artifacts, paths
from registry.storage.checks import check_folder

Status = ModelVersion.Status

log = structlog.get_logger(__name__)


def archive_version(version: ModelVersion, *, with_model: bool = False) -> ModelVersion:
    """ready → archived: the files move to `storage/archive` and the version is not served.

    `with_model` says that the whole model goes: then aliases do not matter, and the row records
    that it is restored with the model. Raises Conflict when it is not ready or an alias points at
    it, Damaged when the files are not those that were recorded.
    """
    return _move(version, Status.READY, with_model=with_model)


def restore_version(version: ModelVersion) -> ModelVersion:
    """archived → ready: the files come back to `storage/active`. Raises Conflict and Damaged."""
    return _move(version, Status.ARCHIVED, with_model=False)


def finish_moves(model: Model | None = None) -> list[ModelVersion]:
    """Complete every move that was interrupted; returns the versions that have arrived.

    One that cannot be completed stays where its row says, and the log says why.
    """
    moving = ModelVersion.objects.exclude(moving_to="").select_related("model")
    if model is not None:
        moving = moving.filter(model=model)
    arrived = []
    for version in moving:
        try:
            finish_move(version)
        except Damaged as damage:
            log.error("move not finished", version=str(version), reason=str(damage))
        else:
            arrived.append(version)
    return arrived


def finish_move(version: ModelVersion) -> None:
    """Bring the files where `moving_to` says and let the row say so; nothing to do at rest.

    Raises Damaged when they are not whole there: then they lie where they were before, and the
    move is given up.
    """
    version.refresh_from_db()
    target = version.moving_to
    if not target:
        return
    if problems := _rename(version, target) or check_folder(
        paths.absolute(target), version.manifest_sha256
    ):
        if _give_up(version, target):
            raise _damaged(version, problems)
    else:
        moving = ModelVersion.objects.filter(pk=version.pk, status=version.status, moving_to=target)
        arrived: dict[str, Any] = {"status": Status.ARCHIVED}
        if version.status == Status.ARCHIVED:
            arrived = {"status": Status.READY, "archived_with_model": False}
        with transaction.atomic():
            if moving.update(**arrived, artifact_path=target, moving_to=""):
                tracking.version_changed(version)
                restored = version.status == Status.ARCHIVED
                audit(Action.VERSION_RESTORED if restored else Action.VERSION_ARCHIVED, version)
    version.refresh_from_db()


def _move(version: ModelVersion, leaves: Status, *, with_model: bool) -> ModelVersion:
    finish_move(version)
    if version.status != leaves:
        raise _wrong_status(version, leaves)
    if problems := check_folder(paths.absolute(version.artifact_path), version.manifest_sha256):
        version.refresh_from_db()
        if version.status != leaves or version.moving_to:  # another process moved it meanwhile
            raise _wrong_status(version, leaves)
        raise _damaged(version, problems)
    target = paths.version_dir(version.model.name, version.version, archived=leaves == Status.READY)
    _announce(version, leaves, paths.relative(target), with_model=with_model)
    finish_move(version)
    return version


def _announce(version: ModelVersion, leaves: Status, target: str, *, with_model: bool) -> None:
    """Write down the move, as long as the version is at rest, where it was and without alias."""
    intent: dict[str, Any] = {"moving_to": target}
    if leaves == Status.READY:
        intent["archived_with_model"] = with_model
    with transaction.atomic():
        Model.objects.select_for_update().get(pk=version.model_id)  # as moving an alias does
        names = list(version.aliases.values_list("name", flat=True))
        if names and leaves == Status.READY and not with_model:
            raise Conflict(
                f"{version} has the alias {', '.join(names)}; "
                "move the alias to another version first."
            )
        at_rest = ModelVersion.objects.filter(pk=version.pk, status=leaves, moving_to="")
        if not at_rest.update(**intent):
            version.refresh_from_db()
            raise _wrong_status(version, leaves)


def _rename(version: ModelVersion, target: str) -> list[str]:
    """Move the folder while the row stays locked, so that only one process does; or say why not."""
    there = paths.absolute(target)
    with transaction.atomic():
        row = ModelVersion.objects.select_for_update().get(pk=version.pk)
        if row.moving_to != target:
            return []
        here = paths.absolute(row.artifact_path)
        if not here.exists():
            return [] if there.exists() else [f"{row.artifact_path} is missing."]
        if there.exists():  # no row names what lies there
            old = paths.staging_dir("replaced") / there.name
            there.rename(old)
            artifacts.discard(old.parent)
        _rename_durably(here, there)
    return []


def _give_up(version: ModelVersion, target: str) -> bool:
    """Put the files back and end the move; False when another process has ended it already."""
    there = paths.absolute(target)
    with transaction.atomic():
        row = ModelVersion.objects.select_for_update().get(pk=version.pk)
        if row.moving_to != target:
            return False
        here = paths.absolute(row.artifact_path)
        if there.exists() and not here.exists():
            _rename_durably(there, here)
        row.moving_to = ""
        row.archived_with_model &= row.status == Status.ARCHIVED  # a ready one has not gone
        row.save(update_fields=["moving_to", "archived_with_model"])
    return True


def _rename_durably(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    for folder in (target.parent, target.parent.parent, source.parent):
        fsync(folder)


def _wrong_status(version: ModelVersion, leaves: Status) -> Conflict:
    if version.moving_to:
        return Conflict(f"{version} is being moved to {version.moving_to}; try again soon.")
    wanted = "archived" if leaves == Status.READY else "restored"
    needed = "a ready" if leaves == Status.READY else "an archived"
    return Conflict(f"{version} is {version.status}; only {needed} version can be {wanted}.")


def _damaged(version: ModelVersion, problems: list[str]) -> Damaged:
    return Damaged(f"{version} is damaged and stays where it is: {' '.join(problems[:3])}")
