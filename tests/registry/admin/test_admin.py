"""The registry in the admin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from registry.datasets.examination import examine
from registry.models import (
    AliasMove,
    BaseImport,
    BundleImport,
    Dataset,
    DatasetTask,
    ExportTask,
    MLflowOutbox,
    Model,
    ModelVersion,
)
from registry.promotion.aliases import move_alias
from registry.storage import paths
from tests.registry.build import make_model, make_version

pytestmark = pytest.mark.django_db
TABLES = (
    "basemodel",
    "baseimport",
    "dataset",
    "datasettask",
    "bundleimport",
    "datasetreport",
    "model",
    "modelversion",
    "exporttask",
    "alias",
    "aliasmove",
    "mlflowoutbox",
)


@pytest.fixture
def admin() -> Client:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


@pytest.fixture
def version() -> ModelVersion:
    version = make_version()
    move_alias(version.model, "production", version)
    MLflowOutbox.objects.create(operation="end_run", run_key="1")
    BaseImport.objects.create(name="tiny", source="hub", origin="owner/tiny", done_bytes=5)
    DatasetTask.objects.create(kind="register", name="many", source="Upload: many.jsonl")
    BundleImport.objects.create(name="helper@0.1.0", source="helper.tar")
    ExportTask.objects.create(version=version, form="gguf")
    examine(Dataset.objects.get(), version.base_model, 64)
    return version


@pytest.mark.parametrize("table", TABLES)
def test_every_table_lists_searches_and_shows_its_rows(
    admin: Client, version: ModelVersion, table: str
) -> None:
    listing = reverse(f"admin:registry_{table}_changelist")
    assert admin.get(listing).status_code == 200
    assert admin.get(listing, {"q": "nothing like it"}).status_code == 200
    row = version._meta.apps.get_model("registry", table).objects.first()
    assert admin.get(reverse(f"admin:registry_{table}_change", args=[row.pk])).status_code == 200


@pytest.mark.any_database
@pytest.mark.parametrize("table", TABLES)
def test_nothing_is_added_or_deleted_by_hand(
    admin: Client, version: ModelVersion, table: str
) -> None:
    row = version._meta.apps.get_model("registry", table).objects.first()
    assert admin.get(reverse(f"admin:registry_{table}_add")).status_code == 403
    url = reverse(f"admin:registry_{table}_delete", args=[row.pk])
    assert admin.post(url, {"post": "yes"}).status_code == 403
    row.refresh_from_db()


def test_lineage_cannot_be_edited_but_notes_can(admin: Client, version: ModelVersion) -> None:
    url = reverse("admin:registry_modelversion_change", args=[version.pk])
    admin.post(url, {"notes": "Good one.", "seed": 99, "status": "failed", "version": "9.9.9"})
    changed = ModelVersion.objects.get()
    assert changed.notes == "Good one."
    assert (changed.seed, changed.status, changed.version) == (0, "ready", "0.1.0")


def test_a_model_keeps_its_name_and_base(admin: Client, version: ModelVersion) -> None:
    url = reverse("admin:registry_model_change", args=[version.model_id])
    body = {"name": "other", "task_type": "code", "description": "d", "tags": "[]"}
    inline = {"aliases-TOTAL_FORMS": 0, "aliases-INITIAL_FORMS": 0}
    assert admin.post(url, {**body, **inline}).status_code == 302
    model = Model.objects.get()
    assert (model.name, model.task_type, model.description) == ("helper", "code", "d")


def test_the_history_of_aliases_is_never_edited(admin: Client, version: ModelVersion) -> None:
    move = AliasMove.objects.get()
    url = reverse("admin:registry_aliasmove_change", args=[move.pk])
    assert admin.post(url, {"reason": "rewritten"}).status_code == 403
    move.refresh_from_db()
    assert move.reason == ""


def test_a_waiting_entry_can_be_tried_at_once(admin: Client, version: ModelVersion) -> None:
    entry = MLflowOutbox.objects.earliest("pk")
    later = timezone.now() + timedelta(hours=1)
    MLflowOutbox.objects.update(not_before=later)
    url = reverse("admin:registry_mlflowoutbox_changelist")
    admin.post(url, {"action": "try_now", "_selected_action": [entry.pk]})
    entry.refresh_from_db()
    assert entry.not_before <= timezone.now()


def act(admin: Client, table: str, action: str, pk: int) -> str:
    listing = reverse(f"admin:registry_{table}_changelist")
    answer = admin.post(listing, {"action": action, "_selected_action": [pk]}, follow=True)
    return " ".join(str(message) for message in answer.context["messages"])


def test_versions_are_verified_archived_and_restored(admin: Client) -> None:
    version = make_version()
    assert "1 verified" in act(admin, "modelversion", "verify", version.pk)
    assert "1 archived" in act(admin, "modelversion", "archive", version.pk)
    version.refresh_from_db()
    assert version.status == "archived"
    file = paths.absolute(version.artifact_path) / "adapters.safetensors"
    file.write_bytes(b"x")
    assert "is damaged" in act(admin, "modelversion", "verify", version.pk)
    assert "is damaged" in act(admin, "modelversion", "restore", version.pk)


def test_models_are_archived_and_restored_but_never_deleted(admin: Client) -> None:
    version = make_version()
    assert "1 archived" in act(admin, "model", "archive", version.model_id)
    assert Model.objects.exclude(archived_at=None).exists()
    assert "1 restored" in act(admin, "model", "restore", version.model_id)
    empty = make_model("empty")
    assert "no versions to archive" in act(admin, "model", "archive", empty.pk)
    assert Model.objects.filter(pk=empty.pk).exists()


def found(admin: Client, words: str) -> list[str]:
    page = admin.get(reverse("admin:registry_modelversion_changelist"), {"q": words})
    return sorted(str(row) for row in page.context["cl"].result_list)


def test_versions_are_found_by_what_a_word_looks_like(admin: Client) -> None:
    model = make_model("calendar")
    make_version(model)
    make_version(model)
    make_version(make_model("other"))
    ModelVersion.objects.filter(version="0.1.1").update(git_commit="abcdef1" + "2" * 33)
    assert found(admin, "ALEND") == ["calendar@0.1.0", "calendar@0.1.1"]
    assert found(admin, "0.1.0") == ["calendar@0.1.0", "other@0.1.0"]
    assert found(admin, "calendar 0.1.0") == found(admin, "Calendar@0.1.0") == ["calendar@0.1.0"]
    assert found(admin, "abcdef12") == ["calendar@0.1.1"]
    assert found(admin, "abcdef13") == found(admin, "nothing") == []
    dataset = Dataset.objects.order_by("pk")[0]
    assert len(found(admin, dataset.name)) == ModelVersion.objects.filter(dataset=dataset).count()


def test_a_model_may_be_named_like_a_commit(admin: Client) -> None:
    make_version(make_model("facade1"))
    assert found(admin, "facade1") == ["facade1@0.1.0"]


def test_versions_are_found_by_parts_of_names(admin: Client) -> None:
    for name in ("alpha-one", "alpha-two", "beta"):
        make_version(make_model(name))
    make_version(Model.objects.get(name="beta"))

    def count(words: str) -> str:
        listing = reverse("admin:registry_modelversion_changelist")
        return admin.get(listing, {"q": words}).content.decode()

    assert "2 model versions" in count("alpha")
    assert "4 model versions" in count("a")
    assert "2 model versions" in count("beta")
    assert "1 model version\n" in count("alpha one")
    assert "4 model versions" in count("notes")  # the data set
    assert "0 model versions" in count("nothing")


def test_a_list_reads_nothing_row_by_row(
    admin: Client, django_assert_num_queries: Callable[..., Any]
) -> None:
    listing = reverse("admin:registry_modelversion_changelist")
    model = make_version().model
    with CaptureQueriesContext(connection) as one:
        admin.get(listing, {"q": "helper"})
    for _ in range(3):
        make_version(model)
    with django_assert_num_queries(len(one)):
        assert "4 model versions" in admin.get(listing, {"q": "helper"}).content.decode()
