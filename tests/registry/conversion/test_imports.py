"""Importing from a model hub: what arrives, what is refused, what a broken line costs."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from registry.background import work
from registry.background.progress import Progress
from registry.bases import downloads, registration
from registry.bases.speed import Speed
from registry.conversion import imports
from registry.errors import (
    Conflict,
    DiskFull,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from registry.models import BaseImport, BaseModel
from registry.models.bases import FINISHING
from registry.models.work import Work
from registry.storage import artifacts, paths
from tests.registry.build import make_base, recorder
from tests.registry.hub_server import COMMIT, REPO, FakeHub, serving

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
Status = BaseImport.Status


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """The rows whose child would have been started."""
    rows: list[Work] = []
    monkeypatch.setattr(work, "launch", recorder(rows))
    return rows


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, storage: Path) -> Iterator[FakeHub]:
    """A hub with one small model, beside files that an import leaves alone."""
    with serving(FakeHub(model_files())) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def model_files() -> dict[str, bytes]:
    from backends import get_backend

    source, folder = paths.root() / "hub.gguf", paths.staging_dir("hub")
    source.write_bytes(b"GGUF hub")
    get_backend("fake").import_gguf(source, folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    artifacts.discard(folder)
    return files | {"README.md": b"# Tiny", "onnx/model.onnx": b"x", "pytorch_model.bin": b"x"}


@pytest.mark.both_databases
def test_a_hub_id_becomes_a_base_pinned_to_its_commit(hub: FakeHub) -> None:
    row = imports.start(REPO)
    base = imports.run(row)
    assert (base.name, base.source, base.origin, base.revision) == ("tiny", "hub", REPO, COMMIT)
    assert artifacts.verify(registration.base_path(base)) == []
    names = {path.name for path in registration.base_path(base).iterdir()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors", "manifest.json"}
    assert (row.status, row.base_model) == (Status.COMPLETED, base)
    assert row.done_bytes == row.total_bytes == base.size_bytes
    assert list((paths.root() / "staging").iterdir()) == []


def test_a_line_cut_midway_is_taken_up_where_it_broke(hub: FakeHub) -> None:
    hub.cut_after, hub.cuts = 300, 2
    imports.run(imports.start(REPO))
    ranges = [asked for name, asked in hub.asked if name == "model.safetensors"]
    assert ranges == ["", "bytes=300-", "bytes=600-"]


def test_a_line_that_stays_away_fails_and_a_retry_goes_on(hub: FakeHub) -> None:
    hub.cut_after, hub.cuts = 10, 5
    row = imports.start(REPO)
    with pytest.raises(Unavailable, match="what has arrived is kept"):
        imports.run(row)
    row.refresh_from_db()
    assert row.status == Status.FAILED
    assert row.revision == COMMIT
    hub.asked.clear()
    base = imports.run(imports.retry(row))
    assert hub.asked == [("model.safetensors", "bytes=50-")]
    assert artifacts.verify(registration.base_path(base)) == []


def test_a_file_that_changed_meanwhile_is_read_from_its_beginning(hub: FakeHub) -> None:
    hub.cut_after, hub.cuts = 10, 5
    row = imports.start(REPO)
    with pytest.raises(Unavailable):
        imports.run(row)
    [part] = (paths.root() / "staging").glob("download-*/model.safetensors.part")
    part.with_name(f"{part.name}.etag").write_text('"another"')
    base = imports.run(imports.retry(row))
    stored = (registration.base_path(base) / "model.safetensors").read_bytes()
    assert stored == hub.files["model.safetensors"]


def test_other_bytes_than_promised_are_refused(hub: FakeHub) -> None:
    hub.digest = "0" * 64
    with pytest.raises(Invalid, match="does not match the checksum from the hub"):
        imports.run(imports.start(REPO))
    assert not BaseModel.objects.exists()


@pytest.mark.parametrize("key", ["auto_map", "model_file"])
def test_code_is_refused_before_weights_are_asked_for(hub: FakeHub, key: str) -> None:
    config = json.loads(hub.files["config.json"])
    hub.files["config.json"] = json.dumps(config | {key: "x.py"}).encode()
    with pytest.raises(Invalid, match=key):
        imports.run(imports.start(REPO))
    assert [name for name, _ in hub.asked] == ["config.json"]


def test_a_model_of_pickles_alone_is_refused(hub: FakeHub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(Invalid, match="only pickles"):
        imports.run(imports.start(REPO))
    assert hub.asked == []


def test_weights_under_another_name_are_refused_with_the_reason(hub: FakeHub) -> None:
    hub.files["weights.00.safetensors"] = hub.files.pop("model.safetensors")
    with pytest.raises(Invalid, match=r"in weights\.00\.safetensors, and mlx-lm reads only"):
        imports.run(imports.start(REPO))
    assert hub.asked == []


def test_an_index_of_other_weights_is_refused_before_any_weights_come(hub: FakeHub) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "consolidated.00.safetensors"}}
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    with pytest.raises(Invalid, match=r"names 'consolidated\.00\.safetensors'"):
        imports.run(imports.start(REPO))
    assert "model.safetensors" not in [name for name, _ in hub.asked]
    hub.commit = "b" * 40  # what a commit names never changes, and is not asked for again
    hub.files["model.safetensors.index.json"] = b'{"weight_map": []}'
    with pytest.raises(Invalid, match="not a readable index"):
        imports.run(imports.start(REPO, "again"))


def test_hostile_file_names_are_left_alone(hub: FakeHub) -> None:
    hub.files |= {"../evil.json": b"{}", "/tmp/evil.json": b"{}", ".evil.json": b"{}"}
    imports.run(imports.start(REPO))
    assert not any("evil" in name for name, _ in hub.asked)


def test_offline_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="cannot be reached"):
        imports.run(imports.start(REPO))
    assert "cannot be reached" in BaseImport.objects.get().error_message


def test_a_model_that_does_not_exist(hub: FakeHub) -> None:
    with pytest.raises(NotFound, match="no model owner/other"):
        imports.run(imports.start("owner/other"))


@pytest.mark.parametrize("repo", ["", "tiny", "a/b/c", "/etc/passwd", "../x", "a/"])
def test_what_is_no_hub_id(repo: str) -> None:
    with pytest.raises((Invalid, NotFound, Unavailable)):
        imports.run(imports.start(repo))
    assert not BaseModel.objects.exists()


@pytest.mark.both_databases
def test_a_name_that_is_taken_or_under_way() -> None:
    make_base("tiny")
    with pytest.raises(Conflict, match="already a base model"):
        imports.start(REPO)
    imports.start(REPO, "first")
    with pytest.raises(Conflict, match="already running"):
        imports.start(REPO, "second")
    with pytest.raises(Conflict, match="already running"):
        imports.start("owner/other", "FIRST")


@pytest.mark.both_databases
def test_a_silent_import_is_failed_and_can_be_retried(launched: list[Work]) -> None:
    row = imports.start(REPO)
    assert BaseImport.objects.fail_silent() == 0
    BaseImport.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=10))
    assert BaseImport.objects.fail_silent() == 1
    assert imports.retry(row).status == Status.RUNNING
    assert launched == [row]
    with pytest.raises(Conflict, match="nothing to retry"):
        imports.retry(row)


def test_the_command_takes_a_folder_a_file_or_a_hub_id(hub: FakeHub, tmp_path: Path) -> None:
    call_command("import_base", REPO, "--name", "one", stdout=StringIO(), stderr=StringIO())
    folder = registration.base_path(BaseModel.objects.get(name="one"))
    call_command("import_base", str(folder), "--name", "two", stdout=StringIO())
    file = tmp_path / "three.gguf"
    file.write_bytes(b"GGUF 3")
    call_command("import_base", str(file), stdout=StringIO())
    assert set(BaseModel.objects.values_list("name", "source")) == {
        ("one", "hub"),
        ("two", "folder"),
        ("three", "gguf"),
    }
    with pytest.raises(CommandError, match="not a hub id"):
        call_command("import_base", "nothing-here", stdout=StringIO())


def test_ctrl_c_pauses_the_commands_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(row: BaseImport, watch: Progress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(imports, "run", interrupt)
    with pytest.raises(CommandError, match="Give the command again to continue"):
        call_command("import_base", REPO)
    assert BaseImport.objects.get().status == "paused"
    BaseImport.objects.update(status=Status.RUNNING, stage=FINISHING, name="other", origin="a/b")
    monkeypatch.setattr(imports, "start", lambda *_: BaseImport.objects.get())
    with pytest.raises(CommandError, match="Stopped"):
        call_command("import_base", REPO)
    assert BaseImport.objects.get().status == Status.FAILED


def test_the_pages_show_bases_and_failed_imports(client: Client) -> None:
    base = make_base("tiny")
    BaseImport.objects.create(
        name="lost", source="hub", origin=REPO, status=Status.FAILED, error_message="No line."
    )
    done = BaseImport.objects.create(
        name="past", source="hub", origin=REPO, status=Status.COMPLETED
    )
    assert "past" in client.get("/bases/").content.decode()
    BaseImport.objects.filter(pk=done.pk).update(heartbeat_at=timezone.now() - timedelta(days=2))
    page = client.get("/bases/").content.decode()
    assert "past" not in page
    assert "tiny" in page
    assert "No line." in page
    assert "Retry" in page
    assert client.get(f"/bases/{base.pk}/").status_code == 200
    assert client.get("/bases/new/").status_code == 200
    refused = client.post("/bases/new/", {"repo": "/etc/passwd"})
    assert refused.status_code == 422
    assert "not a hub id" in refused.content.decode()


class Pausing(Progress):
    """Somebody pauses the import as soon as bytes arrive."""

    def part(self, share: float, **counts: int) -> None:
        if BaseImport.objects.get().can_pause:
            imports.pause(BaseImport.objects.get())


def test_a_paused_download_continues_from_what_has_arrived(hub: FakeHub, client: Client) -> None:
    row = imports.start(REPO)
    with pytest.raises(Conflict, match="was paused; resume it"):
        imports.run(row, Pausing())
    row.refresh_from_db()
    assert (row.status, row.error_message) == ("paused", "")
    assert not BaseModel.objects.exists()
    with pytest.raises(Conflict, match="nothing to pause"):
        imports.pause(row)
    page = client.get("/bases/").content.decode()
    assert ("Paused" in page, "Resume" in page) == (True, True)
    hub.asked.clear()
    assert imports.start(REPO) == row  # the same command again
    row.refresh_from_db()
    base = imports.run(row)
    assert hub.asked == []  # all files had arrived
    assert artifacts.verify(registration.base_path(base)) == []


@pytest.mark.both_databases
def test_it_is_paused_and_resumed_by_page_and_api(client: Client, launched: list[Work]) -> None:
    row = imports.start(REPO)
    assert "Pause" in client.get("/bases/").content.decode()
    client.post(f"/bases/imports/{row.pk}/pause/")
    assert client.get(f"/api/bases/imports/{row.pk}").json()["status"] == "paused"
    assert client.post(f"/api/bases/imports/{row.pk}/retry").json()["status"] == "running"
    assert client.post(f"/api/bases/imports/{row.pk}/pause").json()["status"] == "paused"
    client.post(f"/bases/imports/{row.pk}/retry/")
    assert launched == [row, row]
    BaseImport.objects.update(stage=FINISHING)
    assert client.post(f"/api/bases/imports/{row.pk}/pause").status_code == 409


class Watching(Progress):
    """Keeps what is reported while bytes arrive."""

    def __init__(self) -> None:
        self.seen: list[dict[str, int]] = []

    def part(self, share: float, **counts: int) -> None:
        self.seen.append(counts)


def test_bytes_of_an_earlier_run_are_counted_and_have_no_speed(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cut_after, hub.cuts = 10, 5
    row = imports.start(REPO)
    with pytest.raises(Unavailable):
        imports.run(row)
    row.refresh_from_db()
    assert row.bytes_per_second is None
    ticks = itertools.count(0.0, 5.0)
    monkeypatch.setattr(imports, "Speed", lambda: Speed(lambda: next(ticks)))
    watch = Watching()
    imports.run(imports.retry(row), watch)
    total = row.total_bytes or 0
    rest = len(hub.files["model.safetensors"]) - 50
    bytes_ = [seen["done_bytes"] for seen in watch.seen]
    assert bytes_ == sorted(bytes_)
    assert (bytes_[0], bytes_[-1]) == (total - rest, total)
    speeds = [seen["bytes_per_second"] for seen in watch.seen if "bytes_per_second" in seen]
    assert 0 < max(speeds) <= rest / 5
    row.refresh_from_db()
    assert row.bytes_per_second is None  # it is over


def test_pages_api_and_command_say_how_fast_it_is_and_how_long_it_takes(client: Client) -> None:
    row = imports.start(REPO)
    row.write(done_bytes=1_200_000_000, total_bytes=4_400_000_000, share=0.27)
    row.write(bytes_per_second=38_214_000)

    def said() -> tuple[str, str, list[int | None]]:
        out = StringIO()
        call_command("bases", "imports", stdout=out)
        found = client.get(f"/api/bases/imports/{row.pk}").json()
        page = client.get("/bases/").content.decode()
        figures = [found["bytes_per_second"], found["seconds_left"]]
        return page, out.getvalue().partition("running")[2].strip(), figures

    page, line, figures = said()
    words = "1.2 of 4.4 GB, 38 MB/s, about 1 min 20 s left"
    assert words in page
    assert (line, figures) == (f", {words}", [38_214_000, 84])
    BaseImport.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=9))
    page, line, figures = said()
    assert "1.2 of 4.4 GB, waiting for the hub" in page
    assert (line, figures) == (", 1.2 of 4.4 GB, waiting for the hub", [None, None])
    imports.pause(row)
    page, _, figures = said()
    assert "1.2 of 4.4 GB</span>" in page
    assert figures == [None, None]


@pytest.mark.both_databases
def test_two_processes_never_write_into_one_download(tmp_path: Path) -> None:
    folder, waited = tmp_path / "download", []

    def give_up() -> None:
        waited.append(1)
        raise Conflict("given up")

    with downloads.alone(folder, give_up), pytest.raises(Conflict):  # noqa: SIM117
        with downloads.alone(folder, give_up):
            pass
    assert waited == [1]
    with downloads.alone(folder, give_up):
        assert folder.is_dir()


def test_a_full_disk_is_told_before_weights_are_asked_for(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(total=10**9, used=0, free=downloads.SPARE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(DiskFull, match="500 MB free, and"):
        imports.run(imports.start(REPO))
    assert hub.asked == []
    with pytest.raises(DiskFull):
        make_base("large")
    file = paths.root() / "packed.gguf"
    file.write_bytes(b"GGUF")
    free.free = downloads.SPARE + 500  # enough for the file, not for what it becomes
    with pytest.raises(DiskFull):
        imports.run(imports.start_local(file))
    assert list((paths.root() / "staging").glob("import-*")) == []


def test_a_hub_that_limits_requests_is_asked_again_when_it_says(hub: FakeHub) -> None:
    model, folder = downloads.find(REPO), paths.staging_dir("limited")
    assert model.licence == "mit"
    hub.refusals = [(429, {"Retry-After": "0"})] * 9
    with pytest.raises(TooManyRequests, match="limits requests: try again in 0 s"):
        downloads.fetch(model, folder, lambda done: None)
    assert len(hub.refusals) == 4
    with pytest.raises(TooManyRequests):
        downloads.find(REPO)
    downloads.fetch(model, folder, lambda done: None)
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors"}
    artifacts.discard(folder)


def test_a_folder_or_file_of_this_machine_is_imported_in_the_background(
    tmp_path: Path, client: Client
) -> None:
    folder = Path(shutil.copytree(registration.base_path(make_base("one")), tmp_path / "two"))
    row = imports.start_local(folder)
    base = imports.run(row)
    assert (base.name, base.source, base.origin) == ("two", "folder", str(folder))
    assert row.done_bytes == row.total_bytes
    (tmp_path / "three.gguf").write_bytes(b"GGUF 3")
    third = imports.start_local(tmp_path / "three.gguf")
    assert imports.run(third).source == "gguf"
    assert third.done_bytes == third.total_bytes == 6
    with pytest.raises(NotFound):
        imports.start_local(tmp_path / "gone")
