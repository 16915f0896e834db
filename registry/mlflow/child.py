"""The process that talks to MLflow: `python -m registry.mlflow.child`.

Importing MLflow takes seconds and its client may hang on a dead server, so the hub never does
either itself: `registry.mlflow.process` starts this module, which knows neither Django nor the
hub's tables. It reads one JSON request per line (`uri`, `operation`, `arguments`), answers each
with one line (`result` or `error`), and ends when its standard input is closed. Every operation
may be repeated: what is there already is found, not made again.
"""

from __future__ import annotations

import fcntl
import gc
import importlib.metadata
import json
import logging
import os
import queue
import signal
import sys
import threading
import urllib.parse
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_BATCH = 500  # MLflow takes at most 1000 metrics and 100 parameters a call
_PARAMS = 100
_LONGEST_PARAM = 6000
_DEFAULT_EXPERIMENT = "0"  # MLflow refuses to delete it
# MLflow imports these where they are installed, for data frames, which are never passed here, and does
# without them elsewhere (mlflow-skinny): half of its start, and half of its memory. Its libraries do
# the same with the last two, for texts in unknown encodings and for colours.
_UNUSED = ("numpy", "pandas", "pyarrow", "scipy", "chardet", "pygments")
# Packages of MLflow which import all that judges answers, and a web framework; its stores need a few of
# their modules.
_BARE = ("gateway", "genai", "genai/judges", "genai/scorers")


@cache
def _client(uri: str) -> Any:
    """MLflow's client; the tables of a new SQLite store are made by one process at a time."""
    from mlflow.tracking import MlflowClient

    if not uri.startswith("sqlite:///"):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Otherwise the default experiment of every store keeps its files in the working folder.
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(path.parent / "mlflow-artifacts")
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def create_experiment(client: Any, name: str, artifacts: str | None) -> str:
    """The id of the experiment `name`; created, or restored after a deletion, if needed."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = f"{artifacts}/{urllib.parse.quote(name)}" if artifacts else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def start_run(
    client: Any,
    experiment_id: str,
    key: str,
    name: str,
    start_ms: int,
    tags: dict[str, str],
    params: dict[str, str],
) -> str:
    """The id of the run that carries the tag `hub.run` = `key`."""
    runs = client.search_runs([experiment_id], f"tags.`hub.run` = '{key}'")
    # More than one: a server that stalled made it after the request was given up and repeated.
    run_id, *others = sorted(run.info.run_id for run in runs) or [""]
    for other in others:
        client.delete_run(other)
    if not run_id:
        all_tags = {**tags, "hub.run": key}
        run = client.create_run(experiment_id, start_ms, tags=all_tags, run_name=name)
        run_id = run.info.run_id
    log_params(client, run_id, params)
    return str(run_id)


def log_params(client: Any, run_id: str, params: dict[str, str]) -> None:
    from mlflow.entities import Param

    entries = [Param(key, value[:_LONGEST_PARAM]) for key, value in params.items()]
    for at in range(0, len(entries), _PARAMS):
        client.log_batch(run_id, params=entries[at : at + _PARAMS], synchronous=True)


def log_metrics(client: Any, run_id: str, points: list[list[Any]]) -> None:
    """`points` are [key, value, step, milliseconds]; MLflow keeps equal ones once."""
    from mlflow.entities import Metric

    entries = [Metric(key, float(value), int(ms), int(step)) for key, value, step, ms in points]
    for at in range(0, len(entries), _BATCH):
        client.log_batch(run_id, metrics=entries[at : at + _BATCH], synchronous=True)


def set_tags(client: Any, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()], synchronous=True)


def log_input(
    client: Any,
    run_id: str,
    name: str,
    digest: str,
    source_type: str,
    source: str,
    schema: str,
    profile: str,
    context: str,
) -> None:
    """Name a data set as the run's input. MLflow keeps an equal one once."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(name, digest, source_type, source, schema, profile)
    known = client.get_run(run_id).inputs.dataset_inputs
    if any((i.dataset.name, i.dataset.digest) == (name, digest) for i in known):
        return
    tag = InputTag("mlflow.data.context", context)
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [tag])])


def register_version(client: Any, run_id: str, name: str, under: str, tags: dict[str, str]) -> str:
    """The number of the registered model version made from the run's artifacts `under`."""
    from mlflow.exceptions import MlflowException

    found = _version_of(client, name, run_id)
    if found is not None:
        for key, value in tags.items():
            client.set_model_version_tag(name, found.version, key, value)
        return str(found.version)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"runs:/{run_id}/{under}"
    made = client.create_model_version(name, source, run_id, tags=tags, await_creation_for=0)
    return str(made.version)


def set_alias(client: Any, name: str, alias: str, run_id: str) -> None:
    """Point the registered model's alias at the version of `run_id`; where MLflow has none, or
    `run_id` is "", the alias goes, so that it never names another version than the hub's."""
    from mlflow.exceptions import MlflowException

    found = _version_of(client, name, run_id) if run_id else None
    if found is not None:
        client.set_registered_model_alias(name, alias, str(found.version))
        return
    try:
        client.delete_registered_model_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise


def _version_of(client: Any, name: str, run_id: str) -> Any:
    """The model version made from a run, the oldest if a stalled server made two, or None."""
    found = client.search_model_versions(f"name = '{name}'")
    ours = [version for version in found if version.run_id == run_id]
    return min(ours, key=lambda version: int(version.version), default=None)


def log_artifacts(client: Any, run_id: str, path: str, under: str) -> None:
    client.log_artifacts(run_id, path, under)


def log_text(client: Any, run_id: str, text: str, name: str) -> None:
    """Keep a text as the run's artifact `name`."""
    client.log_text(run_id, text, name)


def end_run(client: Any, run_id: str, status: str, end_ms: int) -> None:
    client.set_terminated(run_id, status, end_ms)


def retire(client: Any, name: str, before_ms: int, aside: str, kept: bool) -> None:
    """Retire what belonged to a deleted model: the experiment is renamed to `aside`, since MLflow
    keeps the name of a deleted one for ever, and deleted, so that it can be restored; the
    registered model goes. When another model has the name by now (`kept`), only older runs do."""
    found = client.get_experiment_by_name(name)
    if kept or (found is not None and found.experiment_id == _DEFAULT_EXPERIMENT):
        if found is not None:
            _retire_runs(client, name, found.experiment_id, before_ms)
        return
    _without(lambda: client.delete_registered_model(name))
    if found is not None:
        if found.lifecycle_stage == "deleted":  # by a person; only an active one can be renamed
            client.restore_experiment(found.experiment_id)
        client.rename_experiment(found.experiment_id, aside)
    put_aside = client.get_experiment_by_name(aside)
    if put_aside is not None and put_aside.lifecycle_stage != "deleted":
        client.delete_experiment(put_aside.experiment_id)


def _retire_runs(client: Any, name: str, experiment_id: str, before_ms: int) -> None:
    """Delete the runs that began earlier, and the versions of the registered model made of them."""
    older = f"attributes.start_time < {before_ms}"
    while runs := client.search_runs([experiment_id], older, max_results=500):
        gone = {run.info.run_id for run in runs}
        for version in client.search_model_versions(f"name = '{name}'"):
            if version.run_id in gone:
                client.delete_model_version(name, version.version)
        for run_id in gone:
            client.delete_run(run_id)


def _without(delete: Callable[[], object]) -> None:
    """Delete what may be deleted already."""
    from mlflow.exceptions import MlflowException

    try:
        delete()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def search_runs(client: Any, experiment_id: str, limit: int) -> list[dict[str, Any]]:
    """The newest runs of an experiment; times are milliseconds since 1970."""
    runs = client.search_runs(
        [experiment_id], max_results=limit, order_by=["attributes.start_time DESC"]
    )
    return [
        {
            "run_id": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "start_ms": run.info.start_time,
            "end_ms": run.info.end_time,
            "params": run.data.params,
            "metrics": run.data.metrics,
            "tags": {k: v for k, v in run.data.tags.items() if k != "mlflow.log-model.history"},
            "artifact_uri": run.info.artifact_uri,
        }
        for run in runs
    ]


def ping(client: Any) -> None:
    client.search_experiments(max_results=1)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        create_experiment,
        start_run,
        log_params,
        log_metrics,
        set_tags,
        log_input,
        log_artifacts,
        log_text,
        register_version,
        set_alias,
        end_run,
        retire,
        search_runs,
        ping,
    )
}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what one request asks. Every error becomes an `error` of one line."""
    try:
        operation = _OPERATIONS[request["operation"]]
        return {"result": operation(_client(request["uri"]), **request["arguments"])}
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return {"error": text[:500], "kind": getattr(error, "error_code", type(error).__name__)}


def _read(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the hub's process is gone; what was under way is repeated by the next one


def _import_mlflow() -> None:
    """MLflow's client without what it imports for other things than runs and models."""
    for name in _UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # "not installed", to what imports it
    spec = find_spec("mlflow")
    assert spec
    assert spec.submodule_search_locations
    for place in _BARE:  # what their modules hold without what their `__init__` imports
        name = f"mlflow.{place.replace('/', '.')}"
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(Path(folder, place)) for folder in spec.submodule_search_locations]
    # MLflow looks for plug-ins of seven kinds, each time in the metadata of every installed package.
    points = importlib.metadata.entry_points()
    patched: Any = importlib.metadata
    patched.entry_points = lambda **asked: points.select(**asked)
    import mlflow.entities
    import mlflow.tracking  # noqa: F401


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the hub; its pipe closes
    os.nice(5)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what MLflow prints is not an answer
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    gc.disable()  # nothing of what is imported is garbage
    _import_mlflow()
    logging.disable(logging.INFO)  # "Creating initial MLflow database tables" and the like
    print(json.dumps({"ready": True}), file=answers, flush=True)
    while True:
        print(json.dumps(answer(json.loads(requests.get()))), file=answers, flush=True)
        if not gc.isenabled():  # the first request has imported the rest
            gc.freeze()
            gc.enable()


if __name__ == "__main__":
    main()
