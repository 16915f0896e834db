"""Models are archived or deleted, over the API, the pages and the command line."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from registry.errors import Conflict, Invalid
from registry.maintenance import gc
from registry.maintenance.archive import archive_version
from registry.maintenance.removal import remove_model, unarchive_model
from registry.models import Model, ModelVersion
from registry.promotion.aliases import move_alias
from registry.promotion.resolve import resolve, served_names
from registry.storage import paths
from tests.registry.build import begin, make_dataset, make_model, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


def make_job(version: ModelVersion, status: str) -> Any:
    finished = {} if status != "running" else {"lease": "0" * 32}
    return version.model.jobs.create(
        dataset=version.dataset, config={}, status=status, result_version=version, **finished
    )


def test_a_model_without_versions_is_deleted() -> None:
    assert remove_model(make_model()).outcome == "deleted"
    assert not Model.objects.exists()


def test_a_model_with_versions_is_archived_and_comes_back() -> None:
    version = make_version()
    model = version.model
    move_alias(model, "production", version)
    assert remove_model(model).outcome == "archived"
    version.refresh_from_db()
    assert version.status == "archived"
    assert [served.label for served in served_names()] == ["base:helper-base"]
    with pytest.raises(Conflict, match="helper is archived"):
        resolve("helper")
    assert remove_model(model).outcome == "archived"
    assert unarchive_model(model).outcome == "restored"
    assert resolve("helper").version == version
    with pytest.raises(Conflict, match="not archived"):
        unarchive_model(model)


def test_a_version_archived_by_itself_stays_there_when_its_model_comes_back() -> None:
    alone = make_version()
    model = alone.model
    with_it = make_version(model)
    archive_version(alone)
    remove_model(model)
    unarchive_model(model)
    alone.refresh_from_db()
    with_it.refresh_from_db()
    assert (alone.status, with_it.status) == ("archived", "ready")
    archive_version(with_it)  # by itself, this time
    remove_model(model)
    unarchive_model(model)
    with_it.refresh_from_db()
    assert with_it.status == "archived"


def test_what_is_damaged_is_told_and_kept() -> None:
    version = make_version()
    (paths.absolute(version.artifact_path) / "adapter_config.json").unlink()
    (reason,) = remove_model(version.model).kept_active
    assert "adapter_config.json is missing" in reason
    version.refresh_from_db()
    assert version.status == "ready"


@pytest.mark.parametrize("force", ["", "Helper", "other"])
def test_force_must_name_the_model_exactly(force: str) -> None:
    version = make_version()
    with pytest.raises(Invalid, match="its exact name"):
        remove_model(version.model, force)
    assert resolve("helper").version == version


def test_force_drops_rows_and_files() -> None:
    first = make_version()
    model = first.model
    second = make_version(model)
    ModelVersion.objects.filter(pk=second.pk).update(parent=first)
    for version in (first, second):
        move_alias(model, "production", version)
    job = make_job(first, "completed")
    paths.job_dir(job.pk).mkdir(parents=True)
    other = make_version(make_model("other"))
    done = remove_model(model, "helper")
    assert (done.outcome, done.freed_bytes) == ("deleted", first.size_bytes + second.size_bytes)
    assert list(ModelVersion.objects.all()) == [other]
    assert not paths.version_dir("helper", "0.1.0").exists()
    assert not paths.job_dir(job.pk).exists()
    assert resolve("other").version == other
    assert gc.sweep(gc.AGE * 0) == []


@pytest.mark.parametrize("status", ["queued", "running"])
@pytest.mark.parametrize("force", [None, "helper"])
def test_nothing_happens_while_a_job_waits_or_runs(status: str, force: str | None) -> None:
    version = make_version()
    make_job(version, status)
    with pytest.raises(Conflict, match="cancel it first"):
        remove_model(version.model, force)
    version.model.refresh_from_db()
    assert version.model.archived_at is None
    assert resolve("helper").version == version


def test_what_others_were_made_from_is_not_deleted() -> None:
    version = make_version()
    child = make_version(make_model("child"))
    ModelVersion.objects.filter(pk=child.pk).update(parent=version)
    with pytest.raises(Conflict, match=r"child@0\.1\.0 continues training from"):
        remove_model(version.model, "helper")
    assert resolve("helper").version == version


def test_a_version_is_archived_verified_and_restored_over_the_api(client: Client) -> None:
    version = make_version()
    place = f"/api/models/{version.model_id}/versions/0.1.0"
    assert client.post(f"{place}/archive", content_type="application/json").json()["status"] == (
        "archived"
    )
    assert client.get(f"{place}/verify").json()["problems"] == []
    answer = client.post(f"{place}/archive", content_type="application/json")
    assert answer.status_code == 409
    assert client.post(f"{place}/restore", content_type="application/json").json()["status"] == (
        "ready"
    )
    (paths.absolute(version.artifact_path) / "adapter_config.json").unlink()
    assert client.get(f"{place}/verify").json()["problems"] == ["adapter_config.json is missing."]
    assert client.post(f"{place}/archive", content_type="application/json").status_code == 500


def test_a_model_is_archived_hidden_restored_and_deleted_over_the_api(client: Client) -> None:
    version = make_version()
    place = f"/api/models/{version.model_id}"
    assert client.get(place).json()["disk_bytes"] == version.size_bytes
    assert client.delete(place).json()["outcome"] == "archived"
    assert client.get("/api/models").json()["count"] == 0
    use = client.get("/api/storage").json()["models"]
    assert use[0]["archived_bytes"] == version.size_bytes
    restored = client.post(f"{place}/restore", content_type="application/json")
    assert restored.json()["outcome"] == "restored"
    assert client.delete(f"{place}?force=nope").status_code == 422
    assert client.delete(f"{place}?force=helper").json()["outcome"] == "deleted"
    assert client.get(place).status_code == 404


def test_the_pages_have_working_buttons(client: Client) -> None:
    version = make_version()
    model = version.model
    page = version.get_absolute_url()
    assert f'action="{page}archive/"' in client.get(f"{page}files/").content.decode()
    for action, status in (("archive", "archived"), ("verify", "archived"), ("restore", "ready")):
        assert client.post(f"{page}{action}/").status_code == 302
        version.refresh_from_db()
        assert version.status == status
    home = model.get_absolute_url()
    assert f'action="{home}remove/"' in client.get(f"{home}storage/").content.decode()
    client.post(f"{home}remove/")
    assert f'action="{home}restore/"' in client.get(f"{home}storage/").content.decode()
    client.post(f"{home}restore/")
    assert resolve("helper").version == version
    client.post(f"{home}remove/", {"force": "wrong"})
    assert Model.objects.exists()
    client.post(f"{home}remove/", {"force": "helper"})
    assert not Model.objects.exists()


def test_the_commands_archive_and_restore() -> None:
    version = make_version()
    call_command("archive", "helper@0.1.0")
    version.refresh_from_db()
    assert version.status == "archived"
    call_command("restore", "helper@0.1.0")
    call_command("archive", "helper")
    call_command("restore", "helper")
    assert resolve("helper").version == version
    for name in ("nope", "helper@9.9.9", "nope@1.0.0"):
        with pytest.raises(CommandError):
            call_command("archive", name)
        with pytest.raises(CommandError):
            call_command("restore", name)


def test_training_versions_go_with_force() -> None:
    make_dataset()
    version = begin(make_model())
    remove_model(version.model, "helper")
    assert not Model.objects.exists()
