"""What MLflow is told of versions that bundles bring, and of models that are deleted: against its
real embedded store."""

from __future__ import annotations

import datetime
import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from registry.bundles.reader import take_bundle
from registry.bundles.writer import export
from registry.catalog.registration import register_model
from registry.maintenance.removal import remove_model
from registry.mlflow import outbox
from registry.models import MLflowOutbox, Model, ModelVersion
from registry.storage import paths
from tests.registry.build import make_base, make_model, make_version
from tests.registry.mlflow.test_tracking import deliver, runs, train

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def experiments(store: Path) -> dict[str, str]:
    """Lifecycle by name, but for MLflow's own."""
    return dict(
        ask(store, "SELECT name, lifecycle_stage FROM experiments WHERE experiment_id != 0")
    )


def registered(store: Path) -> list[tuple[str, int]]:
    return list(ask(store, "SELECT name, version FROM model_versions").items())


def ask(store: Path, query: str) -> Any:
    with sqlite3.connect(store) as connection:
        rows = dict(connection.execute(query).fetchall())
    connection.close()
    return rows


def test_an_imported_version_appears_as_a_run_and_a_registered_version(
    embedded_mlflow: Path,
) -> None:
    source = make_version(seed=3, lora={"rank": 8})
    ModelVersion.objects.filter(pk=source.pk).update(
        metrics={"val_loss": 0.5, "odd name!": 1.0, "words": "many", "huge": 10**400, "yes": True}
    )
    source.refresh_from_db()
    bundle = io.BytesIO(b"".join(export(source)))
    version = take_bundle(bundle, "brought")
    deliver()
    assert not outbox.waiting().exists()
    assert not outbox.given_up().exists()
    version.refresh_from_db()
    (run,) = runs(version.model)
    assert (run["name"], run["status"]) == ("brought@0.1.0", "FINISHED")
    assert run["run_id"] == version.mlflow_run_id
    assert run["metrics"] == {"final_val_loss": 0.5}
    assert run["params"]["lora.rank"] == "8"
    assert run["tags"]["hub.imported"] == "true"
    assert run["tags"]["hub.dataset.sha256"] == source.dataset_checksum
    adapter = Path(run["artifact_uri"].removeprefix("file://")) / "adapter"
    assert (adapter / "adapters.safetensors").read_bytes() == b"helper@0.1.0"
    assert version.mlflow_version == "1"
    assert registered(embedded_mlflow) == [("brought", 1)]


def test_a_deleted_models_experiment_is_put_away_and_its_name_is_free(
    embedded_mlflow: Path,
) -> None:
    old = train()
    deliver()
    pk = old.model_id
    remove_model(old.model, "helper")
    assert deliver() == 1
    ((name, lifecycle),) = experiments(embedded_mlflow).items()
    assert (name.startswith("helper (deleted 20"), name.endswith(f", {pk})")) == (True, True)
    assert lifecycle == "deleted"
    assert registered(embedded_mlflow) == []
    MLflowOutbox.objects.update(done_at=None)  # as if it had been cut off before its row was
    deliver()
    assert experiments(embedded_mlflow) == {name: "deleted"}

    again = register_model("helper", old.base_model)
    new = train(2, again)
    deliver()
    assert [run["name"] for run in runs(again)] == ["helper@0.1.0"]
    assert experiments(embedded_mlflow) == {name: "deleted", "helper": "active"}
    new.refresh_from_db()
    assert new.mlflow_version == "1"
    remove_model(again, "helper")
    deliver()
    assert sorted(experiments(embedded_mlflow).values()) == ["deleted", "deleted"]


def test_a_name_that_was_taken_again_before_mlflow_is_told_keeps_its_experiment(
    embedded_mlflow: Path,
) -> None:
    old = train()
    deliver()
    remove_model(old.model, "helper")
    later = timezone.now() + datetime.timedelta(hours=1)
    MLflowOutbox.objects.filter(operation="retire").update(not_before=later)
    again = register_model("helper", old.base_model)
    new = train(2, again)
    outbox.flush()
    assert len(runs(again)) == 2  # the experiment is the old one still
    deliver()
    (run,) = runs(again)
    new.refresh_from_db()
    assert run["run_id"] == new.mlflow_run_id
    assert experiments(embedded_mlflow) == {"helper": "active"}
    assert registered(embedded_mlflow) == [("helper", int(new.mlflow_version))]


def test_what_was_not_told_of_a_deleted_model_is_dropped(embedded_mlflow: Path) -> None:
    old, other = train(1), train(2, make_model("other"))
    deleted = old.model
    deleted.jobs.create(pk=1, dataset=old.dataset, config={}, status="completed")
    remove_model(deleted, "helper")
    waiting = list(outbox.waiting().values_list("operation", "run_key"))
    assert {key for _, key in waiting} == {"2", f"model:{deleted.pk or old.model_id}"}
    deliver()
    assert experiments(embedded_mlflow) == {"other": "active"}
    assert len(runs(other.model)) == 1
    assert not outbox.given_up().exists()


def test_a_model_named_like_mlflows_own_experiment_leaves_it_there(embedded_mlflow: Path) -> None:
    model = register_model("Default", make_base())
    train(1, model)
    deliver()
    (run,) = runs(model)
    assert "/mlflow-artifacts/0/" in run["artifact_uri"]  # and not in the folder that we are in
    remove_model(model, "Default")
    deliver()
    assert not outbox.given_up().exists()
    assert not outbox.waiting().exists()
    again = register_model("Default", model.base_model)
    deliver()
    assert runs(Model.objects.get(pk=again.pk)) == []


def test_an_empty_model_goes_with_its_experiment(embedded_mlflow: Path) -> None:
    model = register_model("empty", make_base())
    deliver()
    remove_model(model)
    deliver()
    assert list(experiments(embedded_mlflow).values()) == ["deleted"]
    assert not paths.version_dir("empty", "0.1.0").exists()
