"""Delivery of the MLflow outbox: in order within a run, with a back-off, never lost.

While MLflow does not answer, an entry is retried for ever, in the end every five minutes. One that
MLflow refuses for good is given up after 16 attempts: the rest of its run is sent without it,
except when it was the run's start, for which all of the run waits. What was given up stays, is
shown on the system page, and can be retried.
"""

from __future__ import annotations

import datetime
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from registry.mlflow import tracking, values
from registry.mlflow.process import NoAnswer, Refused
from registry.models import Alias, MLflowOutbox, Model, ModelVersion
from registry.storage import paths

_LIMIT_S = 60.0
_UPLOAD_LIMIT_S = 600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_MOST_ATTEMPTS = 16
_MOST_UNANSWERED = 10  # so that a long outage does not count towards giving up
_KEPT = datetime.timedelta(days=7)

log = structlog.get_logger(__name__)


def flush(limit: int = 100) -> int:
    """Deliver up to `limit` due entries; how many were. Returns 0 while another process does."""
    with _alone() as alone:
        return _flush(limit) if alone else 0


def waiting() -> QuerySet[MLflowOutbox]:
    """The entries that are not sent yet."""
    return MLflowOutbox.objects.filter(done_at__isnull=True, attempts__lt=_MOST_ATTEMPTS)


def given_up() -> QuerySet[MLflowOutbox]:
    """The entries that MLflow refused for good."""
    return MLflowOutbox.objects.filter(done_at__isnull=True, attempts__gte=_MOST_ATTEMPTS)


def try_again(entries: QuerySet[MLflowOutbox]) -> int:
    """Retry the undelivered ones of `entries` at the next delivery; returns how many."""
    undelivered = entries.filter(done_at__isnull=True)
    return undelivered.update(attempts=0, not_before=timezone.now())


def prune() -> int:
    """Delete entries that were delivered a week ago; returns how many. Starts stay: they name their run."""
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
    pending = waiting()
    # Only the first entry of a run is ever tried and put off, so one that is put off is its run's
    # first, and all of that run waits for it.
    held_up = pending.filter(not_before__gt=timezone.now()).values("run_key")
    unstarted = given_up().filter(operation="start_run").values("run_key")
    stopped: set[str] = set()
    delivered = 0
    due = pending.exclude(run_key__in=held_up).exclude(run_key__in=unstarted)
    for entry in due.order_by("pk")[:limit]:
        if entry.run_key in stopped:
            continue
        try:
            _deliver(entry)
        except ObjectDoesNotExist as error:  # the hub's own row is gone: nothing is left to send
            entry.done_at, entry.last_error = timezone.now(), str(error)
            entry.save(update_fields=["done_at", "last_error"])
        except (NoAnswer, Refused, paths.UnsafePath) as error:
            final = not isinstance(error, NoAnswer) and getattr(error, "final", True)
            _put_off(entry, str(error), final)
            stopped.add(entry.run_key)
            if not final:
                break  # nor will it answer for the other runs
        else:
            delivered += 1
    return delivered


def _put_off(entry: MLflowOutbox, reason: str, final: bool) -> None:
    entry.attempts += 1
    if not final:
        entry.attempts = min(entry.attempts, _MOST_UNANSWERED)
    pause = min(_FIRST_PAUSE_S * 2 ** min(entry.attempts - 1, 20), _LONGEST_PAUSE_S)
    entry.not_before = timezone.now() + datetime.timedelta(seconds=pause)
    entry.last_error = reason
    entry.save(update_fields=["attempts", "not_before", "last_error"])
    log.warning("mlflow_not_sent", entry=entry.pk, operation=entry.operation, reason=reason)


def _deliver(entry: MLflowOutbox) -> None:
    learned: dict[str, str] = {}  # what MLflow's answer says about the run's version
    start: MLflowOutbox | None = None
    match entry.operation:
        case "create_experiment":
            _experiment(Model.objects.get(pk=entry.payload["model"]))
        case "set_alias":
            _set_alias(Model.objects.get(pk=entry.payload["model"]), entry.payload["alias"])
        case "describe_version":
            _register(ModelVersion.objects.get(pk=entry.payload["version"]))
        case "retire":
            _retire(entry)
        case "start_run":
            start, entry.run_id = entry, _start_run(entry)
            learned["mlflow_run_id"] = entry.run_id
        case _:
            start = _start_of(entry)
            entry.run_id = start.run_id if start else ""
            if start and entry.run_id and entry.operation == "register_version":
                version = ModelVersion.objects.get(pk=start.payload["version"])
                learned["mlflow_version"] = _register(version, entry.payload["under"])
            elif entry.run_id:
                _send(entry)
    entry.done_at = timezone.now()
    entry.last_error = ""
    with transaction.atomic():
        if start and learned:
            ModelVersion.objects.filter(pk=start.payload["version"]).update(**learned)
        if start and "mlflow_version" in learned:
            # An alias that was moved here before MLflow knew the version could not be mirrored.
            for alias in Alias.objects.filter(version=start.payload["version"]):
                tracking.alias_moved(alias.model, alias.name)
        entry.save(update_fields=["run_id", "done_at", "last_error"])


def _start_run(entry: MLflowOutbox) -> str:
    payload = entry.payload
    version = ModelVersion.objects.select_related("model").get(pk=payload["version"])
    # The key holds when the version was made: ids start over with a new database, MLflow may not.
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
    """By name, since the id changes with MLFLOW_TRACKING_URI."""
    arguments = {"name": model.name, "artifacts": tracking.artifact_root()}
    found = str(_call("create_experiment", arguments))
    if found != model.mlflow_experiment_id:
        Model.objects.filter(pk=model.pk).update(mlflow_experiment_id=found)
    return found


def _register(version: ModelVersion, under: str = "adapter") -> str:
    """The number of MLflow's model version for `version`, created if needed, with current tags."""
    arguments = {
        "run_id": version.mlflow_run_id,
        "name": version.model.name,
        "under": under,
        "tags": values.version_tags(version),
    }
    return str(_call("register_version", arguments))


def _set_alias(model: Model, name: str) -> None:
    """As it is now: an alias whose version MLflow does not know yet follows that version."""
    alias = Alias.objects.filter(model=model, name=name).select_related("version").first()
    run_id = alias.version.mlflow_run_id if alias else ""
    arguments = {"name": model.name, "alias": values.alias_name(name), "run_id": run_id}
    _call("set_alias", arguments)


def _retire(entry: MLflowOutbox) -> None:
    """A new model with the name may have the experiment by now, and keeps it."""
    payload = entry.payload
    arguments = {
        "name": payload["model"],
        "before_ms": payload["before_ms"],
        "aside": payload["aside"],
        "kept": Model.objects.filter(name=payload["model"]).exists(),
    }
    _call("retire", arguments)


def _start_of(entry: MLflowOutbox) -> MLflowOutbox | None:
    """The last run started before this entry; None when its job ended before it started one."""
    started = MLflowOutbox.objects.filter(
        operation="start_run", run_key=entry.run_key, pk__lt=entry.pk
    )
    return started.order_by("-pk").first()


def _send(entry: MLflowOutbox) -> None:
    arguments = {"run_id": entry.run_id, **entry.payload}
    if entry.operation != "log_artifacts":
        _call(entry.operation, arguments)
        return
    # A version's files may have been archived since.
    version = ModelVersion.objects.filter(mlflow_run_id=entry.run_id).first()
    folder = paths.absolute((version and version.artifact_path) or entry.payload["path"])
    if not folder.is_dir():
        raise Refused(f"There is no folder {folder} to log.", "MISSING")
    _call("log_artifacts", {**arguments, "path": str(folder)}, _UPLOAD_LIMIT_S)


def _call(operation: str, arguments: dict[str, Any], limit_s: float = _LIMIT_S) -> Any:
    return tracking.mlflow.call(tracking.tracking_uri(), operation, arguments, limit_s)
