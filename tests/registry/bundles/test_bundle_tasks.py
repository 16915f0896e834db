"""Large bundles: a row tells how far the import is, what became of it, and what may be retried."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from registry.background import work
from registry.background.progress import Progress
from registry.bundles import tasks as bundle_tasks
from registry.bundles.reader import import_bundle
from registry.bundles.writer import export
from registry.errors import Conflict, Invalid, NotFound
from registry.maintenance import gc
from registry.models import BaseModel, BundleImport, MLflowOutbox, Model, ModelVersion
from registry.models.work import SILENCE
from registry.storage import paths
from tests.registry.build import make_base, make_model, make_version, recorder

pytestmark = pytest.mark.django_db
Status = BundleImport.Status


@pytest.fixture(scope="module")
def made_bundles() -> list[bytes]:
    """Bundles that the tests of this file share, at most one."""
    return []


@pytest.fixture
def bundle(made_bundles: list[bytes]) -> bytes:
    """helper@0.1.0 with its data, which are no longer here; its base model is."""
    base = make_base("helper-base")
    if made_bundles:
        return made_bundles[0]
    version = make_version(make_model(base=base))
    content = b"".join(export(version, with_data=True))
    model, dataset = version.model, version.dataset
    for row in (version, model, dataset):
        assert row is not None
        row.delete()
    gc.sweep(timedelta(0))
    made_bundles.append(content)
    return content


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[BundleImport]:
    """Every bundle is a large one; the tasks whose child would have been started."""
    tasks: list[BundleImport] = []
    monkeypatch.setattr(bundle_tasks, "AT_ONCE", 0)
    monkeypatch.setattr(work, "launch", recorder(tasks))
    return tasks


def send(content: bytes, **fields: str) -> BundleImport:
    file = SimpleUploadedFile("helper.tar", content)
    task = bundle_tasks.start_upload(file, **fields)
    assert isinstance(task, BundleImport)
    return task


def upload_of(task: BundleImport) -> Path:
    return paths.upload_dir(task.options["upload"])


def left() -> list[str]:
    """What lies in staging and among the uploads."""
    places = (paths.root() / "staging", paths.root() / "uploads")
    return sorted(path.name for place in places for path in place.iterdir())


def test_a_task_takes_what_was_uploaded_and_clears_up(
    bundle: bytes, client: Client, launched: list[BundleImport]
) -> None:
    task = send(bundle)
    assert launched == [task]
    assert gc.leftovers(timedelta(0)) == []  # what a running task works on is no leftover
    version = bundle_tasks.run(task)
    assert (str(version), version.status) == ("helper@0.1.0", "ready")
    assert version.dataset is not None
    task.refresh_from_db()
    assert (task.status, task.share, task.version) == (Status.COMPLETED, 1.0, version)
    assert left() == []
    page = client.get(task.get_absolute_url())
    assert page["Location"] == version.get_absolute_url()
    polled = client.get(task.get_absolute_url(), headers={"HX-Request": "true"})
    assert polled["HX-Redirect"] == version.get_absolute_url()
    told = client.get(f"/api/bundles/{task.pk}").json()
    assert (told["status"], told["model_id"], told["version"]) == (
        "completed",
        version.model_id,
        "0.1.0",
    )
    version.delete()
    assert "has since been deleted" in client.get(task.get_absolute_url()).content.decode()


def test_what_the_beginning_tells_is_refused_at_once(bundle: bytes) -> None:
    with pytest.raises(Invalid, match="is not a semantic version"):
        send(bundle, number="one")
    with pytest.raises(Invalid, match=r"bundle\.json"):
        send(bundle.replace(b"helper@0.1.0", b"helper@0.1.9", 1))
    with pytest.raises(Invalid, match="not a bundle, or it is truncated"):
        send(b"x" * 4000)
    BaseModel.objects.all().delete()
    with pytest.raises(NotFound, match="is not on this hub"):
        send(bundle)
    assert left() == []
    assert not BundleImport.objects.exists()
    assert not Model.objects.exists()


def test_a_damaged_bundle_leaves_nothing_and_is_not_retried(bundle: bytes, client: Client) -> None:
    place = bundle.rindex(b"helper@0.1.0")
    task = send(bundle[:place] + b"X" + bundle[place + 1 :])
    with pytest.raises(Invalid, match=r"adapters\.safetensors differs from what was bundled"):
        bundle_tasks.run(task)
    page = client.get(task.get_absolute_url()).content.decode()
    assert "adapters.safetensors differs from what was bundled" in page
    assert ">Retry<" not in page
    assert left() == []
    assert not Model.objects.exists()
    assert not MLflowOutbox.objects.exists()
    with pytest.raises(Conflict, match="cannot be retried"):
        work.retry(task)
    assert "differs from what was bundled" in client.get("/models/import/").content.decode()


def test_a_task_whose_process_is_silent_has_failed_and_keeps_what_a_retry_needs(
    bundle: bytes, client: Client, launched: list[BundleImport]
) -> None:
    task = send(bundle)
    half = paths.staging_dir(f"bundle-{task.pk}")
    (half / "adapter").mkdir()
    long_ago = timezone.now() - SILENCE - timedelta(seconds=1)
    BundleImport.objects.update(heartbeat_at=long_ago)
    page = client.get(task.get_absolute_url()).content.decode()
    assert "nothing was kept. Retry" in page
    assert ">Retry<" in page
    assert half.exists()  # the process may only have slept, and not know yet
    listed = {leftover.path for leftover in gc.leftovers(timedelta(0))}
    assert listed == {f"{path.parent.name}/{path.name}" for path in (half, upload_of(task))}
    with pytest.raises(Conflict, match="marked as failed in the meantime"):
        bundle_tasks.run(task)  # a child that wakes up late does not go on
    assert not Model.objects.exists()
    client.post(f"{task.get_absolute_url()}retry/")
    assert launched == [task, task]
    task.refresh_from_db()
    assert task.is_running
    bundle_tasks.run(task)
    assert ModelVersion.objects.get().status == "ready"
    assert left() == []


def test_a_version_and_the_end_of_its_task_are_one(bundle: bytes) -> None:
    """Given up at the last moment, a version is not made: a retry would make a second one."""
    task = send(bundle)
    seen = work._Reporting.stage

    def give_up(progress: work._Reporting, text: str) -> None:
        seen(progress, text)
        if text == "Computing checksums":
            BundleImport.objects.update(status=Status.FAILED)

    work._Reporting.stage = give_up  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(Conflict, match="marked as failed in the meantime"):
            bundle_tasks.run(task)
    finally:
        work._Reporting.stage = seen  # type: ignore[method-assign]
    assert not ModelVersion.objects.exists()
    assert not Model.objects.exists()
    work.retry(task)
    bundle_tasks.run(task)
    assert ModelVersion.objects.count() == 1


def test_a_model_deleted_meanwhile_is_explained_and_made_by_the_retry(bundle: bytes) -> None:
    Model.objects.create(name="helper", base_model=BaseModel.objects.get())
    task = send(bundle)
    seen = work._Reporting.stage

    def delete(progress: work._Reporting, text: str) -> None:
        seen(progress, text)
        if text == "Saving the version":
            Model.objects.all().delete()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work._Reporting, "stage", delete)
        with pytest.raises(Conflict, match="helper was deleted during the import"):
            bundle_tasks.run(task)
    assert "try again" in BundleImport.objects.get().error_message
    work.retry(task)
    assert str(bundle_tasks.run(task)) == "helper@0.1.0"


def test_one_version_is_not_imported_twice_at_once(bundle: bytes) -> None:
    send(bundle)
    with pytest.raises(Conflict, match=r"helper@0\.1\.0 is already running"):
        send(bundle)
    send(bundle, model_name="other")
    assert len(left()) == 2


def test_a_running_task_shows_its_progress(bundle: bytes, client: Client) -> None:
    task = send(bundle)
    BundleImport.objects.update(stage="Verifying the bundle", share=0.41)
    page = client.get(task.get_absolute_url()).content.decode()
    assert 'hx-trigger="every 1s"' in page
    assert "41 %" in page
    assert "Verifying the bundle, 41 %" in client.get("/models/import/").content.decode()


def test_the_page_and_the_api_begin_a_task(bundle: bytes, client: Client) -> None:
    fields = {"file": SimpleUploadedFile("helper.tar", bundle), "version_number": "2.0.0"}
    made = client.post("/api/bundles", fields)
    assert made.status_code == 202, made.content
    assert (made.json()["name"], made.json()["source"]) == ("helper@0.1.0", "helper.tar")
    fields["file"].seek(0)  # type: ignore[attr-defined]
    assert client.post("/models/import/", fields).status_code == 409
    fields["file"].seek(0)  # type: ignore[attr-defined]
    page = client.post("/models/import/", {**fields, "model": "mine"})
    assert page["Location"].startswith("/models/import/")
    for task in BundleImport.objects.all():
        call_command("run_bundle_import", str(task.pk), stdout=io.StringIO())
    assert {str(v) for v in ModelVersion.objects.all()} == {"helper@2.0.0", "mine@2.0.0"}
    listed = client.get("/api/bundles").json()
    assert [one["version"] for one in listed["items"]] == ["2.0.0", "2.0.0"]
    assert client.post(f"/api/bundles/{task.pk}/retry").status_code == 409
    with pytest.raises(CommandError):
        call_command("run_bundle_import", "999")


@pytest.mark.parametrize("memory", [0, 10**9])  # in a file of Django's, and in memory
def test_an_upload_is_kept_whole(
    bundle: bytes, client: Client, settings: Any, memory: int, launched: list[BundleImport]
) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = memory
    client.post("/api/bundles", {"file": SimpleUploadedFile("helper.tar", bundle)})
    [task] = launched
    kept = upload_of(task) / "bundle.tar"
    assert kept.read_bytes() == bundle
    bundle_tasks.run(task)


def test_progress_is_told_while_a_bundle_is_read(bundle: bytes, tmp_path: Path) -> None:
    told: list[Any] = []

    class Listening(Progress):
        def stage(self, text: str) -> None:
            told.append(text)

        def part(self, share: float, **counts: int) -> None:
            told.append(share)

    (tmp_path / "b.tar").write_bytes(bundle)
    import_bundle(tmp_path / "b.tar", progress=Listening())
    assert [text for text in told if isinstance(text, str)] == [
        "Verifying the bundle",
        "Reading the examples",
        "Computing checksums",
        "Computing checksums",
        "Saving the version",
    ]
    shares = told[1 : told.index("Reading the examples")]
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] <= 1


# ------------------------------------------------------------------------ its number


def test_a_chosen_number_is_kept_or_refused_at_once(bundle: bytes, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    file.write_bytes(bundle)
    call_command("import_bundle", str(file), "--number", "1.0.0", stdout=io.StringIO())
    assert str(ModelVersion.objects.get()) == "helper@1.0.0"
    with pytest.raises(Conflict, match=r"already a version helper@1\.0\.0"):
        import_bundle(file, number="1.0.0")
    with pytest.raises(CommandError, match=r"below the newest version, helper@1\.0\.0"):
        call_command("import_bundle", str(file), "--number", "0.9.0")
    assert str(import_bundle(file)) == "helper@0.1.0"  # its own number is free


def test_a_number_taken_meanwhile_gives_what_is_proposed_with_a_note(bundle: bytes) -> None:
    task = send(bundle, number="1.0.0")
    model = Model.objects.create(name="helper", base_model=BaseModel.objects.get())
    ModelVersion.objects.create(model=model, base_model=model.base_model, version="1.0.0")
    version = bundle_tasks.run(task)
    assert version.version == "0.1.0"
    said = "1.0.0 was chosen for it. There is already a version helper@1.0.0, so it is 0.1.0."
    assert version.notes.startswith(said)
