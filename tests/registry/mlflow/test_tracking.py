"""What MLflow is told: against its real embedded store."""

from __future__ import annotations

import datetime
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from registry.catalog.registration import register_model
from registry.errors import Unavailable
from registry.mlflow import outbox, tracking
from registry.mlflow.process import MLflowProcess, NoAnswer
from registry.mlflow.tracking import Point
from registry.models import Alias, MLflowOutbox, Model, ModelVersion
from registry.storage import paths
from registry.versions.lifecycle import complete_version
from tests.registry.build import begin, make_base, make_model, make_staging, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
NOW = datetime.datetime(2026, 11, 23, 12, 0, tzinfo=datetime.UTC)


def deliver() -> int:
    """Deliver everything, without waiting for a back-off."""
    MLflowOutbox.objects.filter(done_at__isnull=True).update(not_before=timezone.now())
    return outbox.flush()


def runs(model: Model) -> list[dict[str, Any]]:
    """The model's runs, its row read again: delivery wrote the experiment to it."""
    return tracking.history(Model.objects.get(pk=model.pk), limit_s=60)


def train(job: int = 1, model: Model | None = None) -> ModelVersion:
    """A whole job's entries, nothing delivered."""
    version = make_version(model, seed=3, lora={"rank": 8})
    tracking.start_run(job, version, tags={"mine": "yes"})
    for step in (1, 2, 3):
        tracking.log_metrics(job, [Point("train_loss", 3.0 / step, step, NOW)])
    tracking.finish_run(job, "completed", paths.absolute(version.artifact_path))
    return version


def test_a_job_is_a_run_with_everything_about_it(embedded_mlflow: Path) -> None:
    version = train()
    assert deliver() == 8
    version.refresh_from_db()
    (run,) = runs(version.model)
    assert run["run_id"] == version.mlflow_run_id
    assert (run["name"], run["status"]) == ("helper@0.1.0", "FINISHED")
    assert run["params"]["lora.rank"] == "8"
    assert run["metrics"] == {"train_loss": 1.0}
    assert run["tags"]["mlflow.source.git.commit"] == version.git_commit
    assert run["tags"]["hub.dataset.sha256"] == version.dataset_checksum
    assert (run["tags"]["hub.seed"], run["tags"]["mine"]) == ("3", "yes")
    assert run["started_at"] <= run["ended_at"]
    adapter = Path(run["artifact_uri"].removeprefix("file://")) / "adapter"
    assert (adapter / "adapters.safetensors").read_bytes() == b"helper@0.1.0"
    assert adapter.is_relative_to(paths.mlflow_artifacts())


def test_nothing_is_told_twice(embedded_mlflow: Path) -> None:
    version = train()
    deliver()
    MLflowOutbox.objects.update(done_at=None)  # as if each had been cut off before its row was
    assert deliver() == 8
    assert len(runs(version.model)) == 1
    with sqlite3.connect(embedded_mlflow) as store:
        assert store.execute("SELECT count(*) FROM metrics").fetchone() == (3,)
    store.close()


def test_every_step_of_a_metric_is_kept(embedded_mlflow: Path) -> None:
    train()
    deliver()
    with sqlite3.connect(embedded_mlflow) as store:
        rows = store.execute("SELECT step, value FROM metrics ORDER BY step").fetchall()
    store.close()
    assert rows == [(1, 3.0), (2, 1.5), (3, 1.0)]


def test_values_that_are_no_numbers_arrive_as_such(embedded_mlflow: Path) -> None:
    version = begin()
    tracking.start_run(1, version)
    tracking.log_metrics(1, [Point("loss", math.nan, 1, NOW), Point("top", math.inf, 1, NOW)])
    assert deliver() == 3
    (run,) = runs(version.model)
    assert run["metrics"]["loss"] is None
    assert json.dumps(run, default=str, allow_nan=False)


def test_a_job_tried_again_with_another_version_is_another_run(embedded_mlflow: Path) -> None:
    model = make_model()
    first = begin(model)
    tracking.start_run(7, first)
    tracking.finish_run(7, "failed")
    second = train(7, model)
    deliver()
    named = {run["name"]: run for run in runs(model)}
    assert named["helper@0.1.0"]["status"] == "FAILED"
    assert named["helper@0.2.0"]["metrics"] == {"train_loss": 1.0}
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.mlflow_run_id != second.mlflow_run_id


def test_a_job_that_never_started_a_run_ends_in_silence(embedded_mlflow: Path) -> None:
    tracking.finish_run(5, "cancelled")
    assert deliver() == 1
    assert not outbox.waiting()


def test_params_and_tags_may_follow(embedded_mlflow: Path) -> None:
    version = begin()
    tracking.start_run(1, version)
    tracking.log_params(1, {"trainable": 460_800, "long": "x" * 9000})
    tracking.set_tags(1, {"device": "cpu"})
    tracking.finish_run(1, "cancelled")
    deliver()
    (run,) = runs(version.model)
    assert run["params"]["trainable"] == "460800"
    assert len(run["params"]["long"]) == 6000
    assert run["tags"]["device"] == "cpu"
    assert run["status"] == "KILLED"


def test_a_text_becomes_an_artifact(embedded_mlflow: Path) -> None:
    version = begin()
    tracking.start_run(1, version)
    tracking.log_text(1, '{"accuracy": 0.5}', "evaluation/classes.json")
    deliver()
    (run,) = runs(version.model)
    folder = Path(run["artifact_uri"].removeprefix("file://"))
    assert (folder / "evaluation" / "classes.json").read_text() == '{"accuracy": 0.5}'


def test_one_run_waits_in_order_while_others_go_on(embedded_mlflow: Path) -> None:
    stuck = train(1, make_model("stuck"))
    fine = train(2, make_model("fine"))
    folder = paths.absolute(stuck.artifact_path)
    folder.rename(folder.with_name("away"))
    began = timezone.now()
    assert deliver() == 5 + 8
    waiting = MLflowOutbox.objects.filter(done_at__isnull=True)
    told = [entry.operation for entry in waiting]
    assert told == ["log_artifacts", "end_run", "register_version"]
    assert "no folder" in waiting[0].last_error
    assert waiting[0].not_before > began
    assert outbox.flush() == 0
    folder.with_name("away").rename(folder)
    assert deliver() == 3
    assert not outbox.waiting()
    assert {run["status"] for m in (stuck, fine) for run in runs(m.model)} == {"FINISHED"}


def test_an_entry_about_what_is_gone_stops_no_other(embedded_mlflow: Path) -> None:
    model = register_model("gone", make_base())
    model.delete()
    version = train()
    assert deliver() == 8
    assert not outbox.waiting()
    assert len(runs(version.model)) == 1


def refuse_for_good(entry: MLflowOutbox) -> None:
    for _ in range(outbox._MOST_ATTEMPTS):
        outbox._put_off(entry, "MLflow said no", final=True)


def test_what_is_refused_for_good_is_given_up_and_its_run_goes_on(embedded_mlflow: Path) -> None:
    version = begin()
    tracking.start_run(1, version)
    tracking.log_params(1, {"iters": "another"})  # MLflow never changes a parameter
    tracking.finish_run(1, "failed")
    for _ in range(outbox._MOST_ATTEMPTS):
        deliver()
    (refused,) = outbox.given_up()
    assert refused.operation == "log_params"
    assert "iters" in refused.last_error
    deliver()
    assert not outbox.waiting()
    (run,) = runs(version.model)
    assert run["status"] == "FAILED"
    MLflowOutbox.objects.filter(pk=refused.pk).update(payload={"params": {"other": "1"}})
    assert outbox.try_again(outbox.given_up()) == 1
    assert deliver() == 1
    assert runs(version.model)[0]["params"]["other"] == "1"


def test_a_run_whose_start_is_refused_is_kept_whole_until_it_is_tried_again(
    embedded_mlflow: Path,
) -> None:
    version = train(1)
    refuse_for_good(MLflowOutbox.objects.get(operation="start_run"))
    assert deliver() == 0
    assert outbox.waiting().count() == 7
    outbox.try_again(outbox.given_up())
    assert deliver() == 8
    assert len(runs(version.model)) == 1


def test_an_outage_is_never_given_up() -> None:
    entry = MLflowOutbox(operation="end_run", run_key="1", payload={})
    entry.save()
    for _ in range(100):
        outbox._put_off(entry, "down", final=False)
    assert not outbox.given_up()
    assert outbox.waiting().get() == entry


def test_an_alias_follows_the_hubs_also_when_it_was_moved_first(embedded_mlflow: Path) -> None:
    version = begin()
    Alias.objects.create(model=version.model, name="latest", version=version)
    tracking.alias_moved(version.model, "latest")
    assert deliver() == 1  # MLflow has no such version yet, nor an alias
    complete_version(version, make_staging(), {})
    tracking.start_run(1, version)
    tracking.finish_run(1, "completed", paths.absolute(version.artifact_path))
    deliver()
    deliver()
    assert mlflow_aliases(embedded_mlflow) == [("hub-latest", 1)]
    Alias.objects.all().delete()
    tracking.alias_moved(version.model, "latest")
    deliver()
    assert mlflow_aliases(embedded_mlflow) == []


def mlflow_aliases(store: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(store) as opened:
        found = opened.execute("SELECT alias, version FROM registered_model_aliases").fetchall()
    opened.close()
    return found


def test_archived_files_are_still_found(embedded_mlflow: Path) -> None:
    version = train()
    old = paths.absolute(version.artifact_path)
    new = paths.version_dir("helper", version.version, archived=True)
    new.parent.mkdir(parents=True)
    old.rename(new)
    ModelVersion.objects.filter(pk=version.pk).update(
        artifact_path=paths.relative(new), status="archived"
    )
    assert deliver() == 8


def test_the_pause_grows_with_each_failure() -> None:
    make_model()
    entry = MLflowOutbox(operation="end_run", run_key="1", payload={})
    entry.save()
    pauses = []
    for _ in range(12):
        before = timezone.now()
        outbox._put_off(entry, "down", final=False)
        pauses.append(round((entry.not_before - before).total_seconds()))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_registered_model_gets_its_experiment(embedded_mlflow: Path) -> None:
    model = register_model("helper", make_base())
    assert tracking.history(model) == []
    assert deliver() == 1
    model.refresh_from_db()
    with sqlite3.connect(embedded_mlflow) as store:
        found = store.execute("SELECT experiment_id, name FROM experiments").fetchall()
    store.close()
    assert (int(model.mlflow_experiment_id), "helper") in found


def test_two_flushes_do_not_deliver_at_once(embedded_mlflow: Path) -> None:
    train()
    with outbox._alone():
        assert outbox.flush() == 0
    assert outbox.flush() == 8


def test_delivered_entries_go_after_a_week_but_for_starts(embedded_mlflow: Path) -> None:
    train()
    deliver()
    assert outbox.prune() == 0
    MLflowOutbox.objects.update(done_at=timezone.now() - datetime.timedelta(days=8))
    assert outbox.prune() == 7
    assert MLflowOutbox.objects.get().operation == "start_run"


def test_a_dead_process_is_started_again(embedded_mlflow: Path) -> None:
    version = train()
    child = tracking.mlflow._child
    if child is None:
        tracking.mlflow.call(tracking.tracking_uri(), "ping", {}, limit_s=60)
        child = tracking.mlflow._child
    assert child
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    deliver()
    assert len(runs(version.model)) == 1


def test_a_question_ends_at_its_time_limit() -> None:
    cold = MLflowProcess()
    with pytest.raises(NoAnswer, match="still starting"):
        cold.call("sqlite:////nowhere", "ping", {}, limit_s=0.05)
    cold.close()


def test_what_mlflow_refuses_is_unavailable_with_its_words(embedded_mlflow: Path) -> None:
    embedded_mlflow.write_bytes(b"this is no database, and long enough to be read as one" * 20)
    with pytest.raises(Unavailable, match=r"its store in storage.*not a database"):
        tracking.history(make_model(mlflow_experiment_id="1"), limit_s=60)


def test_the_child_imports_little_of_mlflow_and_ends_with_its_parent(tmp_path: Path) -> None:
    """Importing all of MLflow takes twice as long."""
    with (tmp_path / "imports").open("w+") as said:
        child = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "registry.mlflow.child"],
            cwd=settings.BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        assert child.stdout
        assert json.loads(child.stdout.readline()) == {"ready": True}
        child.communicate(timeout=30)  # closes its input first
        assert child.returncode == 0
        said.seek(0)
        imported = {line.rpartition("|")[2].strip() for line in said}
    assert "mlflow.tracking.client" in imported
    assert not imported & {"fastapi", "mlflow.genai.evaluation", "numpy.linalg"}
