"""What the hub sends to MLflow, and what it reads back.

Everything goes through the outbox: the functions below only insert rows, so they are fast, work within the caller's
transaction and never meet MLflow. `outbox.flush` (called by the sampler) delivers the rows, those of one
run in order, with a back-off when MLflow does not answer; each may be delivered twice without
harm.

| operation         | payload                                                    | enqueued by       |
|-------------------|------------------------------------------------------------|-------------------|
| create_experiment | model (id)                                                 | `make_experiment` |
| start_run         | version (id), name, start_ms, tags, params                 | `start_run`       |
| log_params        | params                                                     | `log_params`      |
| log_metrics       | points: [key, value, step, ms]; a value may be "nan", "inf" | `log_metrics`     |
| set_tags          | tags                                                       | `set_tags`        |
| log_input         | name, digest, source_type, source, schema, profile, context | `start_run`      |
| log_text          | text, name                                                 | `log_text`        |
| log_artifacts     | path (below storage), under                                | `finish_run`      |
| end_run           | status, end_ms                                             | `finish_run`      |
| register_version  | under                                                      | `finish_run`      |
| describe_version  | version (id)                                               | `version_changed` |
| set_alias         | model (id), alias                                          | `alias_moved`     |
| retire            | model (name), before_ms, aside                             | `model_deleted`   |

`job_id` names the run in all of them; a version that a bundle brought has a run of its own
(`version_imported`) with its parameters, metrics and files. A job that is tried again with another version calls
`start_run` again, which begins another run; what follows belongs to that one. Metrics of a job
that never started a run are dropped. The run's id is written to `ModelVersion.mlflow_run_id`, the
number of the registered model's version to `ModelVersion.mlflow_version`. `set_alias` and
`describe_version` say what is so when they are delivered, not when they were enqueued.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.utils import timezone

from registry.errors import Unavailable
from registry.mlflow import values
from registry.mlflow.process import MLflowProcess, NoAnswer, Refused, Starting
from registry.models import MLflowOutbox, Model, ModelVersion
from registry.storage import paths

Status = Literal["completed", "failed", "cancelled"]

_STATUSES: dict[Status, str] = {
    "completed": "FINISHED",
    "failed": "FAILED",
    "cancelled": "KILLED",
}

mlflow = MLflowProcess()


class MLflowStarting(Unavailable):
    """MLflow's process was not running; it has been started and needs some seconds."""


@dataclass(frozen=True)
class Point:
    """One measurement. `at` is when it was taken: a repeated delivery must say the same."""

    key: str
    value: float
    step: int
    at: datetime.datetime


# ------------------------------------------------------------------ runs, through the outbox


def start_run(
    job_id: int,
    version: ModelVersion,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Start the run of a job that makes `version`. `params` None takes the version's own."""
    flat = values.flat(version.params if params is None else params)
    _begin(job_id, version, flat, {"hub.job": str(job_id), **(tags or {})})


def version_imported(version: ModelVersion) -> None:
    """Show a version that was trained elsewhere: as a finished run, and as a version of the
    registered model. Of what another hub measured, only what MLflow can keep."""
    key, now = f"version:{version.pk}", timezone.now()
    params = values.keepable(values.flat(version.params))
    _begin(key, version, params, {"hub.imported": "true"})
    figures = values.figures(values.keepable(version.metrics))
    log_metrics(key, [Point(f"final_{name}", value, 0, now) for name, value in figures.items()])
    finish_run(key, "completed", paths.absolute(version.artifact_path))


def _begin(
    run: int | str, version: ModelVersion, params: dict[str, str], tags: dict[str, str]
) -> None:
    payload = {
        "version": version.pk,
        "name": str(version),
        "start_ms": values.milliseconds(timezone.now()),
        "tags": {**values.lineage_tags(version), **tags},
        "params": params,
    }
    enqueue("start_run", payload, run)
    if version.dataset is not None:
        enqueue("log_input", values.dataset_input(version.dataset), run)


def log_params(job_id: int | str, params: Mapping[str, Any]) -> None:
    """Parameters that were not known at the start; nested ones become `lora.rank`."""
    enqueue("log_params", {"params": values.flat(params)}, job_id)


def log_metrics(job_id: int | str, points: Iterable[Point]) -> None:
    """Measurements of one or more steps."""
    rows = [[p.key, values.json_number(p.value), p.step, values.milliseconds(p.at)] for p in points]
    if rows:
        enqueue("log_metrics", {"points": rows}, job_id)


def set_tags(job_id: int | str, tags: Mapping[str, str]) -> None:
    enqueue("set_tags", {"tags": dict(tags)}, job_id)


def log_text(job_id: int | str, text: str, name: str) -> None:
    """Keep a small text, such as a report as JSON, as the run's artifact `name`."""
    enqueue("log_text", {"text": text, "name": name}, job_id)


def finish_run(job_id: int | str, status: Status, artifact_path: Path | None = None) -> None:
    """End the run; the folder `artifact_path` (a version's own) is logged as `adapter` before, and
    becomes a version of MLflow's registered model after."""
    if artifact_path is not None:
        stored = paths.relative(artifact_path)
        enqueue("log_artifacts", {"path": stored, "under": "adapter"}, job_id)
    end_ms = values.milliseconds(timezone.now())
    enqueue("end_run", {"status": _STATUSES[status], "end_ms": end_ms}, job_id)
    if artifact_path is not None:
        enqueue("register_version", {"under": "adapter"}, job_id)


def version_changed(version: ModelVersion) -> None:
    """Have the tags of MLflow's model version follow the version's status."""
    if version.mlflow_version:
        _keep("describe_version", {"version": version.pk}, f"model:{version.model_id}")


def alias_moved(model: Model, alias: str) -> None:
    """Have MLflow's alias follow the hub's, which was moved or deleted."""
    _keep("set_alias", {"model": model.pk, "alias": alias}, f"model:{model.pk}")


def model_deleted(model: Model, jobs: Iterable[int], versions: Iterable[int]) -> None:
    """Have MLflow retire what it has of a model that is deleted in this transaction, with its `jobs`
    and `versions` (ids). Updates of them that were not sent yet are dropped."""
    now = timezone.now()
    keys = [f"model:{model.pk}", *map(str, jobs), *(f"version:{pk}" for pk in versions)]
    for some in batched(keys, 500):
        untold = MLflowOutbox.objects.filter(run_key__in=some, done_at__isnull=True)
        untold.update(done_at=now, last_error=f"{model} was deleted.")
    payload = {
        "model": model.name,
        "before_ms": values.milliseconds(now),
        "aside": f"{model.name} (deleted {now:%Y-%m-%d %H:%M:%S} UTC, {model.pk})",
    }
    _keep("retire", payload, f"model:{model.pk}")


def enqueue(operation: str, payload: dict[str, Any], job_id: int | str) -> None:
    """Queue one operation of the table above until it is sent to MLflow."""
    _keep(operation, payload, str(job_id))


def _keep(operation: str, payload: dict[str, Any], run_key: str) -> None:
    MLflowOutbox.objects.create(operation=operation, payload=payload, run_key=run_key)


def make_experiment(model: Model) -> None:
    """Have the experiment of a model that has none yet created; one of its name is used again."""
    if not model.mlflow_experiment_id:
        _keep("create_experiment", {"model": model.pk}, f"model:{model.pk}")


# ------------------------------------------------------------------ questions, answered directly


def history(model: Model, limit: int = 100, limit_s: float = 4.0) -> list[dict[str, Any]]:
    """The newest MLflow runs of a model: run_id, name, status, started_at, ended_at, params,
    metrics (latest values; None is not a number), tags, artifact_uri.

    Raises Unavailable after `limit_s` at the latest.
    """
    if not model.mlflow_experiment_id:
        return []
    arguments = {"experiment_id": model.mlflow_experiment_id, "limit": limit}
    runs = _ask("search_runs", arguments, limit_s)
    return [
        {
            **{k: v for k, v in run.items() if k not in ("start_ms", "end_ms", "metrics")},
            "metrics": {k: v if math.isfinite(v) else None for k, v in run["metrics"].items()},
            "started_at": values.time_of(run["start_ms"]),
            "ended_at": values.time_of(run["end_ms"]),
        }
        for run in runs
    ]


def ping(limit_s: float = 2.0) -> str | None:
    """None when MLflow answers, else a sentence that says what is wrong.

    A server is asked for an experiment; the embedded store is only checked for its folder, since it
    cannot be down.
    """
    uri = settings.MLFLOW_TRACKING_URI
    if not uri:
        folder = paths.root()
        return None if folder.is_dir() else f"The storage folder {folder} does not exist."
    if not _is_server(uri):
        return None
    from registry.mlflow import server

    return server.trouble(uri, limit_s)


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded store: also what `mlflow ui` takes."""
    return settings.MLFLOW_TRACKING_URI or f"sqlite:///{paths.mlflow_database()}"


def artifact_root() -> str | None:
    """Where artifacts of the embedded store lie; a server decides itself."""
    return None if settings.MLFLOW_TRACKING_URI else paths.mlflow_artifacts().as_uri()


def _ask(operation: str, arguments: dict[str, Any], limit_s: float) -> Any:
    try:
        return mlflow.call(tracking_uri(), operation, arguments, limit_s)
    except Starting as error:
        raise MLflowStarting(f"{error} Try again in a few seconds.") from error
    except NoAnswer as error:
        raise Unavailable(f"{error} Try again in a few seconds.") from error
    except Refused as error:
        where = settings.MLFLOW_TRACKING_URI or "its store in storage"
        raise Unavailable(f"MLflow ({where}) failed: {error}") from error
