"""Delivery of the MLflow outbox: in order within a run, with a back-off, never lost."""

from __future__ import annotations

import datetime
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.utils import timezone

from registry import paths, tracking
from registry.mlflow_process import NoAnswer, Refused
from registry.models import MLflowOutbox, Model, ModelVersion

_LIMIT_S = 60.0
_UPLOAD_LIMIT_S = 600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_KEPT = datetime.timedelta(days=7)

log = structlog.get_logger(__name__)


def flush(limit: int = 100) -> int:
    """Deliver up to `limit` due entries; how many were. Returns 0 while another process does."""
    with _alone() as alone:
        return _flush(limit) if alone else 0


def waiting() -> int:
    """How many entries MLflow has yet to be told."""
    return MLflowOutbox.objects.filter(done_at__isnull=True).count()


def prune() -> int:
    """Delete entries that were delivered a week ago; how many. Starts stay: they name their run."""
    old = MLflowOutbox.objects.filter(done_at__lt=timezone.now() - _KEPT)
    return old.exclude(operation="start_run").delete()[0]


@contextmanager
def _alone() -> Iterator[bool]:
    paths.run_dir().mkdir(parents=True, exist_ok=True)
    with (paths.run_dir() / "outbox.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _flush(limit: int) -> int:
    pending = MLflowOutbox.objects.filter(done_at__isnull=True)
    # Only the first entry of a run is ever tried and put off, so one that is put off is its run's
    # first, and all of that run waits for it.
    held_up = pending.filter(not_before__gt=timezone.now()).values("run_key")
    stopped: set[str] = set()
    delivered = 0
    for entry in pending.exclude(run_key__in=held_up).order_by("pk")[:limit]:
        if entry.run_key in stopped:
            continue
        try:
            _deliver(entry)
        except (NoAnswer, Refused, ObjectDoesNotExist, paths.UnsafePath) as error:
            _put_off(entry, str(error))
            stopped.add(entry.run_key)
            if isinstance(error, NoAnswer):
                break  # nor will it answer for the other runs
        else:
            delivered += 1
    return delivered


def _put_off(entry: MLflowOutbox, reason: str) -> None:
    entry.attempts += 1
    pause = min(_FIRST_PAUSE_S * 2 ** min(entry.attempts - 1, 20), _LONGEST_PAUSE_S)
    entry.not_before = timezone.now() + datetime.timedelta(seconds=pause)
    entry.last_error = reason
    entry.save(update_fields=["attempts", "not_before", "last_error"])
    log.warning("mlflow_not_told", entry=entry.pk, operation=entry.operation, reason=reason)


def _deliver(entry: MLflowOutbox) -> None:
    match entry.operation:
        case "create_experiment":
            _experiment(Model.objects.get(pk=entry.payload["model"]))
        case "start_run":
            entry.run_id = _start_run(entry)
        case _:
            entry.run_id = _run_id(entry)
            if entry.run_id:
                _tell(entry)
    entry.done_at = timezone.now()
    entry.last_error = ""
    with transaction.atomic():
        if entry.operation == "start_run":
            versions = ModelVersion.objects.filter(pk=entry.payload["version"])
            versions.update(mlflow_run_id=entry.run_id)
        entry.save(update_fields=["run_id", "done_at", "last_error"])


def _start_run(entry: MLflowOutbox) -> str:
    payload = entry.payload
    version = ModelVersion.objects.select_related("model").get(pk=payload["version"])
    # The key holds when the version was made: ids begin anew with a new database, MLflow may not.
    arguments = {
        "experiment_id": _experiment(version.model),
        "key": f"{entry.run_key}/{version}/{version.created_at:%Y%m%dT%H%M%S%f}",
        "name": payload["name"],
        "start_ms": payload["start_ms"],
        "tags": payload["tags"],
        "params": payload["params"],
    }
    return str(_call("start_run", arguments))


def _experiment(model: Model) -> str:
    """By name, since the id is another one after MLFLOW_TRACKING_URI has changed."""
    arguments = {"name": model.name, "artifacts": tracking.artifact_root()}
    found = str(_call("create_experiment", arguments))
    if found != model.mlflow_experiment_id:
        Model.objects.filter(pk=model.pk).update(mlflow_experiment_id=found)
    return found


def _run_id(entry: MLflowOutbox) -> str:
    """The run begun last before this entry; "" when its job ended before it began one."""
    started = MLflowOutbox.objects.filter(
        operation="start_run", run_key=entry.run_key, pk__lt=entry.pk
    ).order_by("-pk")
    return started.values_list("run_id", flat=True).first() or ""


def _tell(entry: MLflowOutbox) -> None:
    arguments = {"run_id": entry.run_id, **entry.payload}
    if entry.operation != "log_artifacts":
        _call(entry.operation, arguments)
        return
    folder = paths.absolute(_where_now(entry.payload["path"], entry.run_id))
    if not folder.is_dir():
        raise Refused(f"There is no folder {folder} to log.", "MISSING")
    _call("log_artifacts", {**arguments, "path": str(folder)}, _UPLOAD_LIMIT_S)


def _where_now(path: str, run_id: str) -> str:
    """A version's files may have been archived since."""
    version = ModelVersion.objects.filter(mlflow_run_id=run_id).first()
    return (version.artifact_path if version else "") or path


def _call(operation: str, arguments: dict[str, Any], limit_s: float = _LIMIT_S) -> Any:
    return tracking.mlflow.call(tracking.tracking_uri(), operation, arguments, limit_s)
